package kinesis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
)

const (
	// checkInterval is the time between two checks of the shared files for changes.
	// A check is two stat calls, whatever the number of requests.
	checkInterval = time.Second

	// settleTime is the minimum age of a changed file before it is read. Programs
	// that write the file in place take less time, so a partly written file is
	// rarely read.
	settleTime = time.Second

	// renewInterval is the minimum time between two renewals of rejected
	// credentials. Without it, credentials that stay invalid would cost a request
	// to STS or to the metadata service for each PutRecord. It is below the
	// engine's shortest wait before a retry, which is 5 s by default.
	renewInterval = 4 * time.Second
)

// chain is the SDK's credential chain. The SDK reads the shared files only once;
// chain loads them again when a file has changed and when credentials were
// rejected. It is safe for concurrent use.
type chain struct {
	load  func(context.Context) (aws.Config, error)
	files []string
	// now is time.Now, except in tests. They use connections and the modification times
	// of files, for which testing/synctest has no clock.
	now func() time.Time

	current atomic.Pointer[aws.CredentialsCache]
	// generation counts loads and renewals. A request reads it before it is
	// signed. If many requests are rejected with the same credentials, only the
	// first one renews them.
	generation atomic.Uint64
	nextCheck  atomic.Int64 // when to check the files, in Unix nanoseconds

	mu      sync.Mutex // held while files are read
	seen    []os.FileInfo
	renewed time.Time
	failure atomic.Pointer[error] // of the latest load; nil if it succeeded
}

// newChain returns a chain that starts with the credentials of cfg and gets
// later ones from load.
func newChain(cfg aws.Config, files []string, seen []os.FileInfo, load func(context.Context) (aws.Config, error)) *chain {
	c := &chain{load: load, files: files, seen: seen, now: time.Now}
	c.current.Store(cfg.Credentials.(*aws.CredentialsCache))
	return c
}

// Retrieve implements aws.CredentialsProvider. It does not read the shared files;
// check and renew do.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	return c.current.Load().Retrieve(ctx)
}

// check loads the chain again if a file has changed. While one request checks, the
// others continue with the current credentials, so a file system that hangs blocks
// only one request.
func (c *chain) check(ctx context.Context) {
	if len(c.files) == 0 || waits(time.Duration(c.nextCheck.Load()-c.now().UnixNano()), checkInterval) || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	now := c.now()
	c.nextCheck.Store(now.Add(checkInterval).UnixNano())
	if states := stat(c.files); changed(c.seen, states) && settled(c.seen, states, now) {
		c.reload(ctx, states)
	}
}

// waits reports whether a wait with this time left goes on. If more is left than the
// wait takes, the clock was set back.
func waits(left, wait time.Duration) bool { return 0 < left && left <= wait }

// renew replaces credentials that were rejected. generation is the chain's
// generation when the request was signed. renew reports whether it replaced them.
func (c *chain) renew(ctx context.Context, generation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if generation != c.generation.Load() || waits(renewInterval-now.Sub(c.renewed), renewInterval) {
		return false
	}
	c.renewed = now
	c.generation.Add(1)
	// Drop them even if there are no files: the source may have new ones, for
	// example credential_process or EC2.
	c.current.Load().Invalidate()
	if len(c.files) > 0 {
		c.reload(ctx, stat(c.files))
	}
	return true
}

var errNoneLeft = errors.New("the profile has no complete credentials")

// reload loads the chain again. If that fails, the current credentials stay in use,
// and the next check tries again, because seen is not changed: the file may be
// partly written, or missing for a moment.
func (c *chain) reload(ctx context.Context, states []os.FileInfo) {
	cfg, err := c.load(ctx)
	if err == nil && fromFile(c.current.Load()) && !fromFile(cfg.Credentials.(*aws.CredentialsCache)) {
		// The SDK ignores incomplete keys and missing files, and continues with the
		// role of the host, which may belong to another account.
		err = errNoneLeft
	}
	if err != nil {
		c.failure.Store(&err)
		return
	}
	c.current.Store(cfg.Credentials.(*aws.CredentialsCache))
	c.generation.Add(1)
	c.seen = states
	c.failure.Store(nil)
}

// failed returns the error of the latest load, nil if it succeeded.
func (c *chain) failed() error {
	if err := c.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fromFile reports whether credentials come from a profile in a shared file.
func fromFile(cache *aws.CredentialsCache) bool {
	for _, source := range cache.ProviderSources() {
		switch source {
		case aws.CredentialSourceProfile, aws.CredentialSourceProfileSourceProfile, aws.CredentialSourceProfileNamedProvider,
			aws.CredentialSourceProfileSTSWebIDToken, aws.CredentialSourceProfileSSO, aws.CredentialSourceProfileSSOLegacy,
			aws.CredentialSourceProfileProcess, aws.CredentialSourceProfileLogin:
			return true
		}
	}
	return false
}

// stsClient is the client for AssumeRole and for web identity. The credential chain
// needs a client before the configuration exists that the client is made from. Open
// therefore sets the embedded client later.
type stsClient struct{ *sts.Client }

// loader loads the SDK's configuration with its credential chain.
type loader struct {
	settings Settings
	roles    stsClient
	hidden   *secrets
	// processes is locked for reading while a credential_process runs.
	processes sync.RWMutex
}

// load loads the configuration from the settings, the environment and the shared
// files, in this order of priority.
func (l *loader) load(ctx context.Context) (aws.Config, error) {
	s := l.settings
	if err := checkKeys(s); err != nil {
		return aws.Config{}, err
	}
	if err := checkEnvironment(s); err != nil {
		return aws.Config{}, err
	}
	configPath, credentialsPath := sharedPaths(s)
	configFile, err := configPath.open()
	if err != nil {
		return aws.Config{}, err
	}
	defer configFile.Close()
	credentialsFile, err := credentialsPath.open()
	if err != nil {
		return aws.Config{}, err
	}
	defer credentialsFile.Close()
	name := wantedProfile(s)
	if usesProfile(s) {
		if err := checkProfile(name, configFile, credentialsFile); err != nil {
			return aws.Config{}, err
		}
	}
	// LoadDefaultConfig returns the same error, if it matters.
	profile, _ := config.LoadSharedConfigProfile(ctx, name, func(o *config.LoadSharedConfigOptions) {
		o.ConfigFiles, o.CredentialsFiles = configFile.paths(), credentialsFile.paths()
	})
	bundle, err := caBundle(profile)
	if err != nil {
		return aws.Config{}, err
	}
	options := append(l.options(),
		config.WithSharedConfigFiles(configFile.paths()),
		config.WithSharedCredentialsFiles(credentialsFile.paths()))
	if bundle != nil {
		options = append(options, config.WithCustomCABundle(bytes.NewReader(bundle)))
	}
	if s.Profile != "" || s.CredentialsPath != "" {
		// The SDK prefers the file to keys in the environment only if a profile is
		// set. A configured path has priority over the environment.
		options = append(options, config.WithSharedConfigProfile(name))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, profileError(s, err)
	}
	if !setsAccountEndpointMode(cfg) {
		cfg.AccountIDEndpointMode = aws.AccountIDEndpointModeDisabled
	}
	l.hidden.noteConfig(cfg)
	if cfg.Region == "" {
		return aws.Config{}, &SettingError{"Region", errors.New("not set, and neither AWS_REGION nor the profile provides it")}
	}
	if err := checkProfileValues(profile, cfg); err != nil {
		return aws.Config{}, err
	}
	cache := cfg.Credentials.(*aws.CredentialsCache)
	if sources := cache.ProviderSources(); slices.Contains(sources, aws.CredentialSourceProcess) {
		p := &process{start: s.Shell, running: &l.processes, sources: sources}
		if p.start == nil {
			p.start = startShell
		}
		cfg.Credentials = newCache(processProvider(profile, cfg, p))
	} else if !cache.IsCredentialsProvider((*ec2rolecreds.Provider)(nil)) {
		cfg.Credentials = newCache(uncached{cache})
	}
	return cfg, nil
}

// options returns the options that do not depend on the shared files.
func (l *loader) options() []func(*config.LoadOptions) error {
	s := l.settings
	client := credentialsClient(s)
	options := []func(*config.LoadOptions) error{
		config.WithRegion(s.Region),
		config.WithHTTPClient(client),
		config.WithCredentialsCacheOptions(func(o *aws.CredentialsCacheOptions) { o.ExpiryWindow = renewBefore }),
		config.WithWebIdentityRoleCredentialOptions(func(o *stscreds.WebIdentityRoleOptions) {
			o.Client = &l.roles
			// The SDK also calls this function before there is a token.
			if path, ok := o.TokenRetriever.(stscreds.IdentityTokenFile); ok {
				o.TokenRetriever = tokenFile{string(path), l.hidden}
			}
		}),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) {
			// Otherwise the SDK uses a client without our limits.
			o.HTTPClient = client
			if path := os.Getenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); path != "" {
				o.AuthorizationTokenProvider = endpointcreds.TokenProviderFunc(func() (string, error) {
					token, err := readToken(path, l.hidden)
					return string(token), err
				})
			}
		}),
		// The engine retries, and its backoff does not block a worker.
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		// The SDK's default writes warnings to stderr instead of the engine's log.
		config.WithLogger(logging.Nop{}),
		// The mode "auto", which the environment can set, would call the metadata
		// service here. A mode only selects defaults for settings that are set above.
		config.WithDefaultsMode(aws.DefaultsModeLegacy),
		config.WithAPIOptions([]func(*middleware.Stack) error{
			awsmiddleware.AddUserAgentKeyValue("out_kinesis_agg", s.Version),
			checkResponses(s.MaxResponseBytes),
			l.hidden.noteRequests,
		}),
	}
	if s.KeyID != "" {
		options = append(options, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(s.KeyID, s.SecretKey, s.SessionToken)))
	}
	return options
}

// readToken reads a token and adds it to secrets.
func readToken(path string, hidden *secrets) ([]byte, error) {
	token, err := readFile(path)
	token = bytes.TrimSpace(token)
	hidden.note(string(token))
	return token, err
}

// tokenFile reads the token of a web identity, for each request for credentials.
type tokenFile struct {
	path    string
	secrets *secrets
}

// GetIdentityToken implements stscreds.IdentityTokenRetriever.
func (f tokenFile) GetIdentityToken() ([]byte, error) {
	token, err := readToken(f.path, f.secrets)
	if err != nil {
		return nil, &tokenFileError{err}
	}
	return token, nil
}

// tokenFileError is the error of reading the token of a web identity.
type tokenFileError struct{ err error }

func (e *tokenFileError) Error() string { return e.err.Error() }
func (e *tokenFileError) Unwrap() error { return e.err }

// profileError explains err if it says that a profile is missing. A missing profile
// aborts startup, because its name is probably misspelled.
func profileError(s Settings, err error) error {
	var missing config.SharedConfigProfileNotExistError
	if !errors.As(err, &missing) {
		return err
	}
	configuration, credentials := sharedPaths(s)
	err = fmt.Errorf("%q is not in the files %s, as [profile %s], and %s, as [%s]",
		missing.Profile, configuration.path, missing.Profile, credentials.path, missing.Profile)
	if name, v := firstSet("AWS_PROFILE", "AWS_DEFAULT_PROFILE"); s.Profile == "" && v != "" {
		return fmt.Errorf("environment variable %s: %w", name, err)
	}
	return &SettingError{"Profile", err}
}

// setsAccountEndpointMode reports whether the environment or the profile sets the
// account ID endpoint mode. If neither does, load disables the mode, so the host
// is always kinesis.REGION.amazonaws.com. By default, the SDK sends to
// ACCOUNT.data-kinesis.REGION.amazonaws.com if the credentials contain the account,
// as those of a role do. An allow-list or a VPC endpoint that works with keys would
// then not work with a role. For a stream's ARN, the SDK always uses the host
// with the account.
func setsAccountEndpointMode(cfg aws.Config) bool {
	for _, source := range cfg.ConfigSources {
		switch c := source.(type) {
		case config.EnvConfig:
			if c.AccountIDEndpointMode != "" {
				return true
			}
		case config.SharedConfig:
			if c.AccountIDEndpointMode != "" {
				return true
			}
		}
	}
	return false
}
