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
	// lookEvery is how often the shared files are checked for a change: two
	// stat calls a second, however many requests are signed.
	lookEvery = time.Second

	// settleTime is how old a changed file has to be before it is read. A
	// program that writes the file in place needs less than this, so that a
	// half-written file is rarely seen.
	settleTime = time.Second

	// renewEvery is the shortest time between two renewals for rejected
	// credentials. Credentials that stay wrong would otherwise cost a request
	// to STS or to the metadata service for each PutRecord. It is below the
	// engine's shortest wait before a retry, which is 5 s by default.
	renewEvery = 4 * time.Second
)

// chain is the SDK's credential chain, which reads the shared files only once,
// with what it lacks: it is loaded again when a file has changed, and when
// credentials were rejected. It is safe for concurrent use.
type chain struct {
	load  func(context.Context) (aws.Config, error)
	files []string
	now   func() time.Time

	current atomic.Pointer[aws.CredentialsCache]
	// generation counts loads and renewals. A request notes it before it is
	// signed, so that of many requests rejected for the same credentials only
	// the first renews them.
	generation atomic.Uint64
	lookAt     atomic.Int64 // when to check the files, in Unix nanoseconds

	mu      sync.Mutex // held while files are read
	seen    []os.FileInfo
	renewed time.Time
	failure atomic.Pointer[error] // of the latest load, nil where it worked
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

// Retrieve implements aws.CredentialsProvider. It reads no shared file: look
// and renew do.
func (c *chain) Retrieve(ctx context.Context) (aws.Credentials, error) {
	return c.current.Load().Retrieve(ctx)
}

// look loads the chain again if a file has changed. Requests that come while
// another one looks go on with the credentials that are there, so that a file
// system that hangs holds up one request and not all.
func (c *chain) look(ctx context.Context) {
	if len(c.files) == 0 || c.now().UnixNano() < c.lookAt.Load() || !c.mu.TryLock() {
		return
	}
	defer c.mu.Unlock()
	now := c.now()
	c.lookAt.Store(now.Add(lookEvery).UnixNano())
	if states := stat(c.files); changed(c.seen, states) && settled(c.seen, states, now) {
		c.reload(ctx, states)
	}
}

// renew replaces credentials that were rejected when the chain was at this
// generation. It reports whether it did.
func (c *chain) renew(ctx context.Context, generation uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	if generation != c.generation.Load() || !c.renewed.IsZero() && now.Sub(c.renewed) < renewEvery {
		return false
	}
	c.renewed = now
	c.generation.Add(1)
	// The rejected ones go even if nothing can be loaded: the chain's source
	// may have others by now, as credential_process and EC2 do.
	c.current.Load().Invalidate()
	if len(c.files) > 0 {
		c.reload(ctx, stat(c.files))
	}
	return true
}

var errNoneLeft = errors.New("the profile has no complete credentials")

// reload puts the chain together anew. If that fails, the credentials that are
// there stay, and seen stays too, so that the next look tries again: the file
// may be half written, or about to come back.
func (c *chain) reload(ctx context.Context, states []os.FileInfo) {
	cfg, err := c.load(ctx)
	if err == nil && fromFile(c.current.Load()) && !fromFile(cacheOf(cfg)) {
		// The SDK passes over incomplete keys and missing files and goes on to
		// the host's own role, which may belong to another account.
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

// failed returns why the shared files that are there now cannot be used; nil
// if they can.
func (c *chain) failed() error {
	if err := c.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// fromFile tells whether credentials come from a profile in a shared file.
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

// sharedFiles lists the files that the chain reads for these settings; none
// where the settings have the keys.
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

// stat returns the state of each file, nil for one that is not there. It
// follows symbolic links, which is how Kubernetes replaces a mounted secret.
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

// settled tells whether each changed file has been left alone for settleTime. A
// time in the future says nothing, so such a file is read.
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
