package kinesis

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// keysFile returns a shared credentials file with the same key in each profile.
func keysFile(key string) string {
	profile := "aws_access_key_id = " + key + "\naws_secret_access_key = secret-of-" + key + "\naws_session_token = token-of-" + key + "\n"
	return "[default]\n" + profile + "[other]\n" + profile
}

// The keys have the same length, so that a file's size does not change.
const oldKey, newKey = "AKIDOLD", "AKIDNEW"

// onlyKey accepts requests that are signed with one key. To others it returns an
// error.
type onlyKey struct {
	key  atomic.Value
	code string // of the error
}

func accept(key string) *onlyKey {
	o := &onlyKey{code: "ExpiredTokenException"}
	o.key.Store(key)
	return o
}

func (o *onlyKey) fault(r *fakekinesis.Request) fakekinesis.Fault {
	if key, _, _ := r.Signer(); key != o.key.Load() {
		return fakekinesis.Error(400, o.code, "The security token included in the request is expired")
	}
	return fakekinesis.OK
}

func (o *onlyKey) put(_ int, r *fakekinesis.Request) fakekinesis.Fault { return o.fault(r) }

// frozen gives the sender a clock that only the test advances.
func frozen(s *Sender) *atomic.Int64 {
	var now atomic.Int64
	now.Store(time.Now().UnixNano())
	s.signer.chain.now = func() time.Time { return time.Unix(0, now.Load()) }
	return &now
}

// pass advances the clock until files are checked again and have settled.
func pass(now *atomic.Int64) { now.Add(int64(time.Minute)) }

// overwrite changes a file in place. It sets the modification time a second later,
// because two writes within the resolution of the file system's clock would have the
// same time.
func overwrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now().Add(time.Second)
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// fileSettings returns settings without keys, so that credentials come from files.
func fileSettings(server *fakekinesis.Server) Settings {
	s := settings(server)
	s.KeyID, s.SecretKey = "", ""
	return s
}

// openOnFile opens a sender whose credentials file has oldKey, which the server accepts,
// and sends a record. The clock of the chain is *now.
func openOnFile(t *testing.T) (path string, valid *onlyKey, sender *Sender, now *atomic.Int64) {
	t.Helper()
	path = write(t, "credentials", keysFile(oldKey))
	valid = accept(oldKey)
	s := fileSettings(start(t, fakekinesis.Options{Fault: valid.put}))
	s.CredentialsPath = path
	sender = open(t, s)
	now = frozen(sender)
	put(t, sender)
	return path, valid, sender, now
}

// fileSources are the ways to configure a credentials file, for readFrom.
var fileSources = []string{"credentials_path", "profile", "environment"}

// readFrom configures path as the credentials file.
func readFrom(t *testing.T, s *Settings, source, path string) {
	switch source {
	case "credentials_path":
		s.CredentialsPath = path
	case "profile":
		s.Profile = "other"
		fallthrough
	default:
		t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestReload_FileChanges(t *testing.T) {
	isolate(t)
	const linked = "directory replaced by a link"
	for name, change := range map[string]func(t *testing.T, path string){
		"written in place": func(t *testing.T, path string) { overwrite(t, path, keysFile(newKey)) },
		"renamed over, same size and time": func(t *testing.T, path string) {
			was, err := os.Stat(path)
			must(t, err)
			must(t, os.WriteFile(path+".new", []byte(keysFile(newKey)), 0o600))
			must(t, os.Chtimes(path+".new", was.ModTime(), was.ModTime()))
			must(t, os.Rename(path+".new", path))
		},
		linked: func(t *testing.T, path string) {
			// As the kubelet does: credentials -> ..data/credentials, ..data -> a directory.
			was, err := os.Stat(path)
			must(t, err)
			root := filepath.Dir(filepath.Dir(path))
			must(t, os.Mkdir(filepath.Join(root, "second"), 0o700))
			file := filepath.Join(root, "second", "credentials")
			must(t, os.WriteFile(file, []byte(keysFile(newKey)), 0o600))
			must(t, os.Chtimes(file, was.ModTime(), was.ModTime()))
			must(t, os.Symlink("second", filepath.Join(root, "next")))
			must(t, os.Rename(filepath.Join(root, "next"), filepath.Join(root, "data")))
		},
	} {
		for _, from := range fileSources {
			t.Run(name+", "+from, func(t *testing.T) {
				root := t.TempDir()
				folder := filepath.Join(root, "data")
				if name == linked {
					folder = filepath.Join(root, "first")
					must(t, os.Symlink("first", filepath.Join(root, "data")))
				}
				must(t, os.Mkdir(folder, 0o700))
				must(t, os.WriteFile(filepath.Join(folder, "credentials"), []byte(keysFile(oldKey)), 0o600))
				path := filepath.Join(root, "data", "credentials")

				valid := accept(oldKey)
				server := start(t, fakekinesis.Options{Fault: valid.put})
				s := fileSettings(server)
				readFrom(t, &s, from, path)
				sender := open(t, s)
				now := frozen(sender)
				put(t, sender)
				change(t, path)
				valid.key.Store(newKey)
				pass(now)
				put(t, sender) // no request fails
			})
		}
	}
}

func TestReload_ConfigFileChanges(t *testing.T) {
	isolate(t)
	path := write(t, "config", keysFile(oldKey))
	t.Setenv("AWS_CONFIG_FILE", path)
	valid := accept(oldKey)
	sender := open(t, fileSettings(start(t, fakekinesis.Options{Fault: valid.put})))
	now := frozen(sender)
	put(t, sender)
	overwrite(t, path, keysFile(newKey))
	valid.key.Store(newKey)
	pass(now)
	put(t, sender)
}

// A change that stat does not show is found after the old key is rejected.
func TestReload_KeyIsRejected(t *testing.T) {
	isolate(t)
	for _, code := range []string{"ExpiredTokenException", "ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId", "InvalidSignatureException"} {
		t.Run(code, func(t *testing.T) {
			path := write(t, "credentials", keysFile(oldKey))
			valid := accept(oldKey)
			valid.code = code
			s := fileSettings(start(t, fakekinesis.Options{Fault: valid.put}))
			s.CredentialsPath = path
			sender := open(t, s)
			frozen(sender)
			put(t, sender)
			was, err := os.Stat(path)
			must(t, err)
			must(t, os.WriteFile(path, []byte(keysFile(newKey)), 0o600))
			must(t, os.Chtimes(path, was.ModTime(), was.ModTime()))
			valid.key.Store(newKey)
			putFails(t, sender)
			put(t, sender)
		})
	}
}

func TestReload_BadFileKeepsCredentials(t *testing.T) {
	isolate(t)
	for name, spoil := range map[string]func(path string) error{
		"deleted": os.Remove,
		"empty":   func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"no secret": func(path string) error {
			return os.WriteFile(path, []byte("[default]\naws_access_key_id = X\n"), 0o600)
		},
		"truncated":       func(path string) error { return os.WriteFile(path, []byte("[defau"), 0o600) },
		"a directory":     func(path string) error { _ = os.Remove(path); return os.Mkdir(path, 0o700) },
		"profile removed": func(path string) error { return os.WriteFile(path, []byte("[third]\nregion = x\n"), 0o600) },
		"other profile": func(path string) error {
			return os.WriteFile(path, []byte("[third]\naws_access_key_id = X\naws_secret_access_key = Y\n"), 0o600)
		},
	} {
		for _, from := range fileSources {
			t.Run(name+", "+from, func(t *testing.T) {
				path := write(t, "credentials", keysFile(oldKey))
				valid := accept(oldKey)
				server := start(t, fakekinesis.Options{Fault: valid.put})
				// The SDK would use this source next.
				t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
				t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL())
				s := fileSettings(server)
				readFrom(t, &s, from, path)
				sender := open(t, s)
				now := frozen(sender)
				put(t, sender)
				must(t, spoil(path))
				pass(now)
				put(t, sender)

				// Once the old key is rejected, the error says why it is still used.
				valid.key.Store(newKey)
				if _, err := putFails(t, sender); !strings.Contains(err.Error(), "the shared AWS files have changed but cannot be used") {
					t.Errorf("got %v", err)
				}
				must(t, os.RemoveAll(path))
				overwrite(t, path, keysFile(newKey))
				pass(now)
				put(t, sender)
			})
		}
	}
}

// A file that has just changed may be written only in part, even if it is valid.
func TestReload_WaitsForFileToSettle(t *testing.T) {
	isolate(t)
	path, valid, sender, now := openOnFile(t)
	overwrite(t, path, keysFile("AKIDNE")) // a truncated key
	info, err := os.Stat(path)
	must(t, err)
	now.Store(info.ModTime().Add(settleTime - time.Nanosecond).UnixNano())
	sender.signer.chain.nextCheck.Store(0)
	put(t, sender)
	overwrite(t, path, keysFile(newKey))
	valid.key.Store(newKey)
	pass(now)
	put(t, sender)
}

func TestSettled(t *testing.T) {
	info, err := os.Stat(write(t, "credentials", ""))
	must(t, err)
	for age, want := range map[time.Duration]bool{-1: true, 0: false, settleTime - 1: false, settleTime: true} {
		if got := settled([]os.FileInfo{nil}, []os.FileInfo{info}, info.ModTime().Add(age)); got != want {
			t.Errorf("%s after the change: %t", age, got)
		}
	}
}

func TestReload_FileAppearsLater(t *testing.T) {
	isolate(t)
	path := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	sender := open(t, fileSettings(start(t, fakekinesis.Options{})))
	now := frozen(sender)
	if c, _ := putFails(t, sender); c != CauseNoCredentials {
		t.Errorf("got %v", c)
	}
	overwrite(t, path, keysFile(newKey))
	pass(now)
	put(t, sender)
}

// roleOf lets STS accept the requests that valid accepts.
func roleOf(valid *onlyKey) func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
	return func(_ int, r fakekinesis.RoleRequest) fakekinesis.RoleResponse {
		return fakekinesis.RoleResponse{Fault: valid.fault(&r.Request)}
	}
}

func TestReload_RoleFromFile(t *testing.T) {
	isolate(t)
	for _, code := range []string{"ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"} {
		t.Run(code, func(t *testing.T) {
			path := write(t, "credentials", keysFile(oldKey))
			valid := accept(oldKey)
			valid.code = code
			server := start(t, fakekinesis.Options{Role: func(_ int, r fakekinesis.RoleRequest) fakekinesis.RoleResponse {
				return fakekinesis.RoleResponse{Fault: valid.fault(&r.Request)}
			}})
			s := fileSettings(server)
			s.CredentialsPath, s.RoleARN = path, "arn:aws:iam::123456789012:role/writer"
			sender := open(t, s)
			frozen(sender)
			put(t, sender)
			sender.signer.role.Invalidate() // as if the session had expired
			overwrite(t, path, keysFile(newKey))
			valid.key.Store(newKey)
			putFails(t, sender)
			put(t, sender)
			if n := server.Counts().RoleRequests; n != 3 {
				t.Errorf("%d requests to STS", n)
			}
		})
	}
}

func TestReload_SourceProfile(t *testing.T) {
	isolate(t)
	path := write(t, "credentials", keysFile(oldKey))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", path)
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile writer]\nrole_arn = arn:aws:iam::123456789012:role/writer\nsource_profile = other\n"))
	base := accept(oldKey)
	session := accept(fakekinesis.RoleKeyID(1))
	server := start(t, fakekinesis.Options{Role: roleOf(base), Fault: session.put})
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL())
	s := fileSettings(server)
	s.Profile = "writer"
	sender := open(t, s)
	now := frozen(sender)
	put(t, sender)
	overwrite(t, path, keysFile(newKey))
	base.key.Store(newKey)
	session.key.Store(fakekinesis.RoleKeyID(2))
	pass(now)
	put(t, sender)
	// The same after the credentials of the role were revoked.
	session.key.Store(fakekinesis.RoleKeyID(3))
	putFails(t, sender)
	put(t, sender)
}

func TestReload_WebIdentityToken(t *testing.T) {
	isolate(t)
	token := write(t, "token", "first")
	var session atomic.Value
	session.Store(fakekinesis.RoleKeyID(1))
	valid := "first"
	server := start(t, fakekinesis.Options{
		Role: func(_ int, r fakekinesis.RoleRequest) fakekinesis.RoleResponse {
			if r.WebIdentityToken != valid {
				return fakekinesis.RoleResponse{Fault: fakekinesis.Error(400, "ExpiredTokenException", "Token expired")}
			}
			return fakekinesis.RoleResponse{}
		},
		Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
			if key, _, _ := r.Signer(); key != session.Load() {
				return fakekinesis.Error(400, "UnrecognizedClientException", "The security token included in the request is invalid.")
			}
			return fakekinesis.OK
		},
	})
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
	sender := open(t, fileSettings(server))
	now := frozen(sender)
	put(t, sender)
	// The token was replaced and the session is revoked.
	must(t, os.WriteFile(token, []byte("second"), 0o600))
	valid = "second"
	session.Store(fakekinesis.RoleKeyID(2))
	putFails(t, sender)
	put(t, sender)
	// The token is replaced too late: STS rejects the old one first.
	valid = "third"
	session.Store(fakekinesis.RoleKeyID(4))
	pass(now)
	putFails(t, sender) // Kinesis
	putFails(t, sender) // STS
	must(t, os.WriteFile(token, []byte("third"), 0o600))
	put(t, sender)
}

func TestReload_CredentialProcess(t *testing.T) {
	isolate(t)
	output := write(t, "output", "")
	setKey := func(key string) {
		must(t, os.WriteFile(output, fmt.Appendf(nil, `{"Version":1,"AccessKeyId":%q,"SecretAccessKey":"secret"}`, key), 0o600))
	}
	setKey(oldKey)
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\ncredential_process = cat "+output+"\n"))
	valid := accept(oldKey)
	valid.code = "InvalidSignatureException"
	sender := open(t, fileSettings(start(t, fakekinesis.Options{Fault: valid.put})))
	frozen(sender)
	put(t, sender)
	setKey(newKey)
	valid.key.Store(newKey)
	putFails(t, sender)
	put(t, sender)
}

// loads counts how often the sender's chain is loaded again.
func loads(s *Sender) *atomic.Int64 {
	var n atomic.Int64
	load := s.signer.chain.load
	s.signer.chain.load = func(ctx context.Context) (aws.Config, error) {
		n.Add(1)
		return load(ctx)
	}
	return &n
}

func TestReload_ManyWorkersLoadOnce(t *testing.T) {
	isolate(t)
	const workers = 16
	path := write(t, "credentials", keysFile(oldKey))
	valid := accept(oldKey)
	await := gate(workers)
	s := fileSettings(start(t, fakekinesis.Options{Fault: func(n int, r *fakekinesis.Request) fakekinesis.Fault {
		await(n) // all requests are signed before one is rejected
		return valid.fault(r)
	}}))
	s.CredentialsPath = path
	sender := open(t, s)
	// Each call advances the clock, so that renewInterval prevents no load.
	now := frozen(sender)
	sender.signer.chain.now = func() time.Time { return time.Unix(0, now.Add(int64(renewInterval))) }
	n := loads(sender)
	valid.key.Store(newKey)
	overwrite(t, path, keysFile(newKey))
	sender.signer.chain.seen = stat(sender.signer.chain.files) // only the rejection may cause a load
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			if _, err := sender.PutRecord(context.Background(), "logs", "key", []byte("data")); err == nil {
				t.Error("accepted with the old key")
			}
		})
	}
	done.Wait()
	if n.Load() != 1 {
		t.Errorf("loaded %d times", n.Load())
	}
	for range workers {
		put(t, sender)
	}
}

func TestReload_ChecksOncePerSecond(t *testing.T) {
	isolate(t)
	path := write(t, "credentials", keysFile(oldKey))
	s := fileSettings(start(t, fakekinesis.Options{}))
	s.CredentialsPath = path
	sender := open(t, s)
	now := frozen(sender)
	n := loads(sender)
	must(t, os.Remove(path)) // each check finds a change and tries to load
	for second := range 3 {
		for range 10 {
			put(t, sender)
		}
		if got := n.Load(); got != int64(second+1) {
			t.Errorf("loaded %d times in %d s", got, second)
		}
		now.Add(int64(checkInterval))
	}
}

// A stat call that hangs blocks only the request that makes it.
func TestReload_HangingFileSystem(t *testing.T) {
	isolate(t)
	s := fileSettings(start(t, fakekinesis.Options{}))
	s.CredentialsPath = write(t, "credentials", keysFile(oldKey))
	sender := open(t, s)
	sender.signer.chain.mu.Lock()
	defer sender.signer.chain.mu.Unlock()
	put(t, sender)
}

// Credentials that stay invalid must not cost a request to STS for each record.
func TestReload_StaysRejected(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Fault: accept("AKIDUNKNOWN").put})
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	sender := open(t, s)
	now := frozen(sender)
	for round := range 3 {
		for range 10 {
			putFails(t, sender)
			now.Add(int64(renewInterval) / 11)
		}
		if n := server.Counts().RoleRequests; n != round+2 {
			t.Errorf("%d requests to STS in round %d", n, round)
		}
		now.Add(int64(renewInterval))
	}
}
