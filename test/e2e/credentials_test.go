package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// TestCredentialsAndProxy: each option for credentials and proxies determines the
// key that signs a request and the host that receives it.
func TestCredentialsAndProxy(t *testing.T) {
	t.Parallel()
	shared := filepath.Join(t.TempDir(), "credentials")
	keys := "[%]\naws_access_key_id = AKID-%\naws_secret_access_key = secret\n"
	files := strings.ReplaceAll(keys, "%", "default") + strings.ReplaceAll(keys, "%", "logs")
	if err := os.WriteFile(shared, []byte(files), 0o600); err != nil {
		t.Fatal(err)
	}
	config, printed := filepath.Join(t.TempDir(), "config"), filepath.Join(t.TempDir(), "process.json")
	for path, content := range map[string]string{
		config:  "[default]\ncredential_process = " + printFile(printed) + "\n",
		printed: `{"Version":1,"AccessKeyId":"AKID-process","SecretAccessKey":"secret"}`,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const role = "arn:aws:iam::123456789012:role/logs"
	static := []string{"aws_key_id=AKID-option", "aws_sec_key=secret"}

	for _, test := range []struct {
		name    string
		options []string
		env     []string
		signer  string
		role    fakekinesis.RoleRequest // what STS is asked for, if anything
	}{
		{"aws_key_id", static, nil, "AKID-option", fakekinesis.RoleRequest{}},
		{"the environment", nil, []string{"AWS_ACCESS_KEY_ID=AKID-env", "AWS_SECRET_ACCESS_KEY=secret"}, "AKID-env", fakekinesis.RoleRequest{}},
		{"credentials_path", []string{"credentials_path=" + shared}, nil, "AKID-default", fakekinesis.RoleRequest{}},
		{"credentials_path and profile", []string{"credentials_path=" + shared, "profile=logs"}, nil, "AKID-logs", fakekinesis.RoleRequest{}},
		{"profile", []string{"profile=logs"}, []string{"AWS_SHARED_CREDENTIALS_FILE=" + shared}, "AKID-logs", fakekinesis.RoleRequest{}},
		{"credential_process", nil, []string{"AWS_CONFIG_FILE=" + config}, "AKID-process", fakekinesis.RoleRequest{}},
		{"role_arn", append(slices.Clone(static), "role_arn="+role), nil, fakekinesis.RoleKeyID(1),
			fakekinesis.RoleRequest{RoleARN: role, SessionName: "fluent-bit"}},
		{"external_id and role_session_name", append(slices.Clone(static), "role_arn="+role, "external_id=e-42", "role_session_name=web"), nil,
			fakekinesis.RoleKeyID(1), fakekinesis.RoleRequest{RoleARN: role, SessionName: "web", ExternalID: "e-42"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := fakekinesis.Start(fakekinesis.Options{})
			defer server.Close()
			options := append([]string{"--instance", "stream=logs", "region=" + harness.Region,
				"endpoint=" + server.URL(), "sts_endpoint=" + server.URL()}, test.options...)
			sendOne(t, test.env, options)

			requests := server.Requests()
			if len(requests) != 1 {
				t.Fatalf("%d requests, want one", len(requests))
			}
			if got, _, _ := requests[0].Signer(); got != test.signer {
				t.Errorf("signed by %s, want %s", got, test.signer)
			}
			var got fakekinesis.RoleRequest
			if roles := server.RoleRequests(); len(roles) > 0 {
				got = roles[0]
			}
			if got.RoleARN != test.role.RoleARN || got.SessionName != test.role.SessionName || got.ExternalID != test.role.ExternalID {
				t.Errorf("STS is asked for %q, session %q, external id %q", got.RoleARN, got.SessionName, got.ExternalID)
			}
		})
	}

	t.Run("http_proxy", func(t *testing.T) {
		t.Parallel()
		proxy := fakekinesis.Start(fakekinesis.Options{})
		defer proxy.Close()
		sendOne(t, nil, append([]string{"--instance", "stream=logs", "region=" + harness.Region,
			"endpoint=http://kinesis.test", "http_proxy=" + proxy.URL()}, static...))
		if requests := proxy.Requests(); len(requests) != 1 || requests[0].Host != "kinesis.test" {
			t.Errorf("the proxy got %v", requests)
		}
	})
}

func forWindows() bool { return filepath.Ext(fixture.plugin) == ".dll" }

// printFile is a command of the plugin's system that prints a file. Under Wine, drive
// Z: is the root of the file system.
func printFile(path string) string {
	if forWindows() {
		return "type Z:" + strings.ReplaceAll(path, "/", `\`)
	}
	return "cat " + path
}

// A credential_process can end its children with SIGTERM, which is blocked on the
// threads that run Go code. (Where /bin/sh is dash, it unblocks them itself; bash does
// not.)
func TestCredentialProcess_ReceivesSignals(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "config")
	script := filepath.Join(t.TempDir(), "process.sh")
	for path, content := range map[string]string{
		config: "[default]\ncredential_process = sh " + script + "\n",
		script: `sleep 1000 & kill -TERM $!; wait $!
[ $? = 143 ] && echo '{"Version":1,"AccessKeyId":"AKID-process","SecretAccessKey":"secret"}'
`,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	sendOne(t, []string{"AWS_CONFIG_FILE=" + config}, []string{"--instance", "stream=logs", "region=" + harness.Region, "endpoint=" + server.URL()})
	if got, _, _ := server.Requests()[0].Signer(); got != "AKID-process" {
		t.Errorf("signed by %s", got)
	}
}

// TestEnvironment: an invalid variable stops the start, with a message that names it
// and does not show a password, and nothing is sent. A valid one is used, and shown.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	static := []string{"--instance", "stream=logs", "region=" + harness.Region, "aws_key_id=A", "aws_sec_key=secret"}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ env, want string }{
		{"HTTPS_PROXY=http://user:pa55%w0rd@127.0.0.1:1", "environment variable HTTPS_PROXY: its value is not a URL: percent-encode"},
		{"https_proxy=http://user:pa55#w0rd@127.0.0.1:1", "environment variable https_proxy: its value is not a URL: percent-encode"},
		{"AWS_ENDPOINT_URL=127.0.0.1:4567", "environment variable AWS_ENDPOINT_URL: \"127.0.0.1:4567\" does not begin with https:// or http://"},
		{"AWS_CA_BUNDLE=" + fifo, "environment variable AWS_CA_BUNDLE: " + fifo + " is not a regular file"},
		{"AWS_CONFIG_FILE=" + fifo, "environment variable AWS_CONFIG_FILE: " + fifo + " is not a regular file"},
	} {
		run, err := harness.RunHost(t.Context(), fixture.host, []string{test.env}, append([]string{fixture.plugin}, static...)...)
		if err != nil {
			t.Fatal(err)
		}
		if init := run.All("init"); len(init) != 1 || init[0].Fields["outcome"] != "FAILED" || !strings.Contains(run.Stderr, test.want) {
			t.Errorf("%s: init %v, log:\n%s", test.env, init, run.Stderr)
		}
		if strings.Contains(run.Stderr, "pa55") || strings.Contains(run.Stderr, "w0rd") {
			t.Errorf("the password is in the log:\n%s", run.Stderr)
		}
	}

	run, err := harness.RunHost(t.Context(), fixture.host, []string{"AWS_ENDPOINT_URL_KINESIS=" + server.URL()},
		append(append([]string{fixture.plugin}, static...), chunkFile(t, "app.log", chunktest.AccessLog(1, 3).Bytes)...)...)
	if err != nil {
		t.Fatal(err)
	}
	wantOutcomes(t, run, 1, 0, 0)
	if !strings.Contains(run.Stderr, ", endpoint "+server.URL()) || server.Counts().Accepted != 1 {
		t.Errorf("%d records accepted, log:\n%s", server.Counts().Accepted, run.Stderr)
	}
}

// TestTLS delivers over TLS, to an endpoint whose authority AWS_CA_BUNDLE names.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := fakekinesis.Start(fakekinesis.Options{TLS: true, Hosts: []string{"localhost"}})
	defer server.Close()
	endpoint, ca := server.URL(), filepath.Join(t.TempDir(), "ca.pem")
	if forWindows() { // a root of Linux may have no /etc/hosts
		endpoint = strings.Replace(endpoint, "127.0.0.1", "localhost", 1)
	}
	if err := os.WriteFile(ca, server.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	sendOne(t, []string{"AWS_CA_BUNDLE=" + ca}, []string{"--instance", "stream=logs", "region=" + harness.Region,
		"endpoint=" + endpoint, "aws_key_id=A", "aws_sec_key=secret"})
	if n := server.Counts().Accepted; n != 1 || !strings.HasPrefix(server.URL(), "https:") {
		t.Errorf("%d records accepted by %s", n, server.URL())
	}
}

// sendOne flushes a chunk, and expects it to be delivered at once.
func sendOne(t *testing.T, env, instance []string) {
	t.Helper()
	args := slices.Concat([]string{fixture.plugin}, instance, chunkFile(t, "app.log", chunktest.AccessLog(1, 3).Bytes))
	run, err := harness.RunHost(t.Context(), fixture.host, env, args...)
	if err != nil {
		t.Fatal(err)
	}
	wantOutcomes(t, run, 1, 0, 0)
	if strings.Contains(run.Stderr, "secret") {
		t.Errorf("a secret is in the log:\n%s", run.Stderr)
	}
}
