package kinesis

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
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
	now   func() time.Time

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
	c.current.Store(cacheOf(cfg))
	return c
}

func cacheOf(cfg aws.Config) *aws.CredentialsCache {
	if cache, ok := cfg.Credentials.(*aws.CredentialsCache); ok {
		return cache
	}
	return aws.NewCredentialsCache(cfg.Credentials)
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
	if len(c.files) == 0 || c.now().UnixNano() < c.nextCheck.Load() || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	now := c.now()
	c.nextCheck.Store(now.Add(checkInterval).UnixNano())
	if states := stat(c.files); changed(c.seen, states) && settled(c.seen, states, now) {
		c.reload(ctx, states)
	}
}

// renew replaces credentials that were rejected. generation is the chain's
// generation when the request was signed. renew reports whether it replaced them.
func (c *chain) renew(ctx context.Context, generation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if generation != c.generation.Load() || !c.renewed.IsZero() && now.Sub(c.renewed) < renewInterval {
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
	if err == nil && fromFile(c.current.Load()) && !fromFile(cacheOf(cfg)) {
		// The SDK ignores incomplete keys and missing files, and continues with the
		// role of the host, which may belong to another account.
		err = errNoneLeft
	}
	if err != nil {
		c.failure.Store(&err)
		return
	}
	c.current.Store(cacheOf(cfg))
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

// sharedFiles returns the files that the chain reads. If the settings contain keys,
// it reads none.
func sharedFiles(s Settings) []string {
	if s.KeyID != "" {
		return nil
	}
	files := config.DefaultSharedConfigFiles
	if file := os.Getenv("AWS_CONFIG_FILE"); file != "" {
		files = []string{file}
	}
	switch {
	case s.CredentialsPath != "":
		return append(files[:len(files):len(files)], s.CredentialsPath)
	case os.Getenv("AWS_SHARED_CREDENTIALS_FILE") != "":
		return append(files[:len(files):len(files)], os.Getenv("AWS_SHARED_CREDENTIALS_FILE"))
	}
	return append(files[:len(files):len(files)], config.DefaultSharedCredentialsFiles...)
}

// stat returns the state of each file, nil for a file that does not exist. It follows
// symbolic links, because Kubernetes replaces a mounted secret by changing a link.
func stat(files []string) []os.FileInfo {
	states := make([]os.FileInfo, len(files))
	for i, file := range files {
		if info, err := os.Stat(file); err == nil {
			states[i] = info
		}
	}
	return states
}

func changed(before, after []os.FileInfo) bool {
	for i := range after {
		if !sameState(before[i], after[i]) {
			return true
		}
	}
	return false
}

// settled reports whether each changed file is at least settleTime old. A file with
// a modification time in the future counts as settled, because its age is unknown.
func settled(before, after []os.FileInfo, now time.Time) bool {
	for i, info := range after {
		if info == nil || sameState(before[i], info) {
			continue
		}
		if age := now.Sub(info.ModTime()); 0 <= age && age < settleTime {
			return false
		}
	}
	return true
}

func sameState(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
