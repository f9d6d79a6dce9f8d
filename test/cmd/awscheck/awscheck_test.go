package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"out_kinesis_agg/test/kit/harness"
)

// asCommand makes the test program the command, with the arguments after it.
const asCommand = "AWSCHECK_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// emulator is kinesis-local, which has streams only, or moto.
type emulator struct {
	name, endpoint string
	*account       // for a look at what exists
}

// command returns the flags of a run against an emulator.
func (e emulator) command(t *testing.T) flags {
	t.Helper()
	root := filepath.Join("..", "..", "..")
	f := flags{plugin: os.Getenv("OUT_KINESIS_AGG_SO"), endpoint: e.endpoint,
		report: filepath.Join(t.TempDir(), "report.md"), yes: true}
	if f.plugin == "" {
		t.Skip("OUT_KINESIS_AGG_SO is not set: run make test")
	}
	if !filepath.IsAbs(f.plugin) {
		f.plugin = filepath.Join(root, f.plugin)
	}
	var err error
	if f.host, err = harness.BuildHost(t.Context(), root, t.TempDir(), false); err != nil {
		t.Fatal(err)
	}
	return f
}

func open(t *testing.T, name, endpoint string) emulator {
	t.Helper()
	a, err := openAccount(t.Context(), flags{endpoint: endpoint}, "", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return emulator{name, endpoint, a}
}

func kinesisLocal(t *testing.T) emulator {
	t.Helper()
	readers, err := harness.ReadersDir(filepath.Join("..", "..", ".."))
	if err != nil {
		t.Skip(err)
	}
	k, err := harness.StartKinesis(t.Context(), readers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	return open(t, "kinesis-local", k.Endpoint)
}

func moto(t *testing.T) emulator {
	t.Helper()
	path, err := exec.LookPath("moto_server")
	if err != nil {
		t.Skip("moto_server is not on PATH: make aws-check-test installs it")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	cmd := exec.Command(path, "-H", "127.0.0.1", "-p", port)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	endpoint := "http://127.0.0.1:" + port
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		if resp, err := http.Get(endpoint + "/moto-api/"); err == nil {
			resp.Body.Close()
			return open(t, "moto", endpoint)
		}
		if wait(ctx, 20*time.Millisecond) != nil {
			t.Fatal("moto_server does not start")
		}
	}
}

// left lists the streams, the usable KMS keys and the roles that exist.
func (e emulator) left(t *testing.T) []string {
	t.Helper()
	ctx := t.Context()
	streams, err := e.kinesis.ListStreams(ctx, &kinesis.ListStreamsInput{})
	if err != nil {
		t.Fatal(err)
	}
	found := streams.StreamNames
	if e.name != "moto" {
		return found
	}
	keys, err := e.kms.ListKeys(ctx, &kms.ListKeysInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys.Keys {
		out, err := e.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: k.KeyId})
		if err != nil {
			t.Fatal(err)
		}
		if out.KeyMetadata.KeyState != kmstypes.KeyStatePendingDeletion {
			found = append(found, *k.KeyArn+": "+aws.ToString(out.KeyMetadata.Description))
		}
	}
	roles, err := e.iam.ListRoles(ctx, &iam.ListRolesInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range roles.Roles {
		found = append(found, *r.RoleName)
	}
	return found
}

// What an emulator can show passes, the rest is not available, and nothing is left.
func TestRun_Emulator(t *testing.T) {
	for _, test := range []struct {
		start  func(*testing.T) emulator
		passed []string
	}{
		{kinesisLocal, []string{"delivery: provisioned stream", "wire_format json", "wire_format cbor", "batches, zstd", "record_format ndjson",
			"a record of 1 MiB is accepted", "wrong stream", "split while records are written", "merge while records are written",
			"UpdateShardCount while records are written"}},
		{moto, []string{"delivery: stream with a KMS key", "delivery: on-demand stream", "wire_format json", "batches, snappy", "wrong stream",
			"wrong region", "role_arn with external_id", "split while records are written", "merge while records are written",
			"UpdateShardCount while records are written"}},
	} {
		e := test.start(t)
		t.Run(e.name, func(t *testing.T) {
			f := e.command(t)
			var out bytes.Buffer
			failed, err := run(t.Context(), f, strings.NewReader(""), &out)
			if err != nil || failed > 0 {
				t.Errorf("%d checks failed: %v\n%s", failed, err, out.String())
			}
			for _, name := range test.passed {
				if !strings.Contains(out.String(), "passed         "+name+" ") {
					t.Errorf("%q has not passed:\n%s", name, out.String())
				}
			}
			report, err := os.ReadFile(f.report)
			if err != nil || !strings.Contains(string(report), "an emulator, not AWS") {
				t.Errorf("the report does not name the emulator: %v\n%s", err, report)
			}
			if names := e.left(t); len(names) > 0 {
				t.Errorf("left: %q", names)
			}
		})
	}
}

// moto that checks keys and signatures shows refusals.
func TestRun_RefusedByMoto(t *testing.T) {
	e := moto(t)
	f := e.command(t)
	f.only = "KMS key$|^wrong|replaced"
	user := aws.String("owner")
	if _, err := e.iam.CreateUser(t.Context(), &iam.CreateUserInput{UserName: user}); err != nil {
		t.Fatal(err)
	}
	key, err := e.iam.CreateAccessKey(t.Context(), &iam.CreateAccessKeyInput{UserName: user})
	if err != nil {
		t.Fatal(err)
	}
	// moto takes no resource but this one into account.
	all := aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	if _, err := e.iam.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: user, PolicyName: user, PolicyDocument: all}); err != nil {
		t.Fatal(err)
	}
	f.keys = aws.Credentials{AccessKeyID: *key.AccessKey.AccessKeyId, SecretAccessKey: *key.AccessKey.SecretAccessKey}
	resp, err := http.Post(e.endpoint+"/moto-api/reset-auth", "text/plain", strings.NewReader("0"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	var out bytes.Buffer
	failed, err := run(t.Context(), f, strings.NewReader(""), &out)
	if err != nil || failed > 0 {
		t.Errorf("%d checks failed: %v\n%s", failed, err, out.String())
	}
	for _, name := range []string{"delivery: stream with a KMS key", "wrong access key", "wrong secret key",
		"credentials file with keys that are replaced"} {
		if !strings.Contains(out.String(), "passed         "+name+" ") {
			t.Errorf("%q has not passed:\n%s", name, out.String())
		}
	}
}

// interruptedAt is a proxy in front of an emulator that calls interrupt during a given
// request: the emulator has carried it out, and its response has not arrived.
type interruptedAt struct {
	at        int
	interrupt func()

	mu    sync.Mutex
	calls []string
}

func (p *interruptedAt) start(t *testing.T, endpoint string) (address string) {
	t.Helper()
	target, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	forward.ModifyResponse = func(resp *http.Response) error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.calls = append(p.calls, resp.Request.Header.Get("X-Amz-Target"))
		if len(p.calls) == p.at {
			p.interrupt()
		}
		return nil
	}
	server := httptest.NewServer(forward)
	t.Cleanup(server.Close)
	return server.URL
}

// An interrupt during any request leaves no stream, no key and no role.
func TestRun_InterruptedAtAnyRequest(t *testing.T) {
	for _, test := range []struct {
		start func(*testing.T) emulator
		only  string
	}{
		{kinesisLocal, "^(delivery: provisioned|a record of 1 MiB is accepted)"},
		{moto, "^(delivery: stream with a KMS key|role_arn with external_id)"},
	} {
		e := test.start(t)
		t.Run(e.name, func(t *testing.T) {
			f := e.command(t)
			f.only = test.only
			for at := 1; ; at++ {
				ctx, cancel := context.WithCancel(t.Context())
				p := &interruptedAt{at: at, interrupt: cancel}
				f.endpoint = p.start(t, e.endpoint)
				var out bytes.Buffer
				_, err := run(ctx, f, strings.NewReader(""), &out)
				cancel()
				if names := e.left(t); len(names) > 0 {
					t.Fatalf("interrupted at request %d, left: %q\n%v\n%v\n%s", at, names, err, p.calls, out.String())
				}
				if len(p.calls) < at {
					t.Logf("%d requests", len(p.calls))
					if err != nil {
						t.Errorf("the run that is not interrupted: %v\n%s", err, out.String())
					}
					return
				}
			}
		})
	}
}

// started is the command as a process of its own, up to a line of its output.
func started(t *testing.T, f flags, line string) (cmd *exec.Cmd, text string, out *os.File) {
	t.Helper()
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0], "-endpoint", f.endpoint, "-plugin", f.plugin, "-abihost", f.host, "-report", f.report, "-yes")
	cmd.Env = append(os.Environ(), asCommand+"=1")
	cmd.Stdout = write
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for b := make([]byte, 1<<12); !strings.Contains(text, line); {
		n, err := out.Read(b)
		if err != nil {
			t.Fatalf("the output ends before %q: %v\n%s", line, err, text)
		}
		text += string(b[:n])
	}
	return cmd, text, out
}

// Ctrl-C in `aws-check | tee FILE` ends the reader of the output too.
func TestCommand_InterruptedWithItsOutput(t *testing.T) {
	e := kinesisLocal(t)
	cmd, _, out := started(t, e.command(t), "passed  ")
	out.Close()
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil || cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("the command ends with %v", err)
	}
	if names := e.left(t); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// -cleanup removes what a killed run has left, the key and the role too.
func TestCommand_Killed(t *testing.T) {
	e := moto(t)
	f := e.command(t)
	cmd, text, _ := started(t, f, "role_arn with external_id")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if names := e.left(t); len(names) < 4 {
		t.Fatalf("the killed run has left only %q", names)
	}
	f.cleanup = regexp.MustCompile(`-cleanup (\w+)`).FindStringSubmatch(text)[1]
	var out bytes.Buffer
	if _, err := run(t.Context(), f, strings.NewReader(""), &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if names := e.left(t); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// Without a yes, nothing is created.
func TestRun_Declined(t *testing.T) {
	e := kinesisLocal(t)
	f := e.command(t)
	f.yes = false
	var out bytes.Buffer
	if _, err := run(t.Context(), f, strings.NewReader("y\n"), &out); err == nil || !strings.Contains(err.Error(), "nothing was created") {
		t.Errorf("run returns %v", err)
	}
	for _, word := range []string{"permissions", "kinesis:*", "$0.50", "-cleanup "} {
		if !strings.Contains(out.String(), word) {
			t.Errorf("the plan does not contain %q:\n%s", word, out.String())
		}
	}
	if names := e.left(t); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// China and GovCloud have other ARNs, and China another domain.
func TestRun_Partitions(t *testing.T) {
	e := moto(t)
	for region, want := range map[string]struct{ partition, url string }{
		"eu-central-1":  {"aws", "https://kinesis.eu-central-1.amazonaws.com"},
		"cn-north-1":    {"aws-cn", "https://kinesis.cn-north-1.amazonaws.com.cn"},
		"us-gov-west-1": {"aws-us-gov", "https://kinesis.us-gov-west-1.amazonaws.com"},
	} {
		t.Run(region, func(t *testing.T) {
			f := e.command(t)
			f.region, f.only = region, "^delivery: provisioned|^role_arn with external_id"
			var out bytes.Buffer
			failed, err := run(t.Context(), f, strings.NewReader(""), &out)
			if err != nil || failed > 0 || !strings.Contains(out.String(), "2 passed, 0 failed") {
				t.Errorf("%d checks failed: %v", failed, err)
			}
			for _, arn := range []string{`"arn:` + want.partition + `:kinesis:*:`, `"arn:` + want.partition + `:iam::`} {
				if !strings.Contains(out.String(), arn) {
					t.Errorf("the policy does not contain %s", arn)
				}
			}
			if t.Failed() {
				t.Log(out.String())
			}
			if url, err := (&account{region: region}).url(t.Context()); url != want.url || err != nil {
				t.Errorf("url %s, %v", url, err)
			}
		})
	}
}
