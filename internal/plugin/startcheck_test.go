package plugin

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
)

func failed(c *kinesis.Cause) error { return &kinesis.Error{Cause: c, Err: errors.New("no")} }

func TestStartCheck_Lines(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string // empty: no line
	}{
		"success":             {nil, ""},
		"not AWS":             {kinesis.ErrNoDryRun, ""},
		"throttled":           {failed(kinesis.CauseThrottled), ""},
		"stopped":             {context.Canceled, ""},
		"slow":                {context.DeadlineExceeded, ""},
		"unknown stream":      {failed(kinesis.CauseStreamNotFound), "check stream and region"},
		"permission":          {failed(kinesis.CauseAccessDenied), "kinesis:PutRecord"},
		"KMS key":             {failed(kinesis.CauseKMS), "kms:GenerateDataKey"},
		"unknown credentials": {failed(kinesis.CauseBadKey), "AWS does not know these credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			line := checkAccess(context.Background(), "logs", func(_ context.Context, stream, key string, data []byte) error {
				if a, err := kpl.Open(data); stream != "logs" || err != nil || a.Len() != 0 || !strings.Contains(string(data), key) {
					t.Errorf("stream %s, %d user records, %v", stream, a.Len(), err)
				}
				return test.err
			})
			if (line == "") != (test.want == "") || !strings.Contains(line, test.want) {
				t.Errorf("line %q, want %q", line, test.want)
			}
		})
	}
}

// Stop ends a check that waits for a response.
func TestStartCheck_EndsWithStop(t *testing.T) {
	in, l := start(t, nil)
	began := make(chan struct{})
	in.checkInBackground("logs", 0, func(ctx context.Context, _, _ string, _ []byte) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	})
	<-began
	in.Stop()
	if lines := l.take(); lines != nil {
		t.Errorf("log %q", lines)
	}
}

// Many agents do not check at the same time, and not at all once a record is accepted.
func TestStartCheck_NotAfterADelivery(t *testing.T) {
	s := &fakeStream{t: t}
	in, _ := start(t, s.put)
	in.firstDelivery = sync.Once{}
	in.checkInBackground("logs", time.Hour, func(context.Context, string, string, []byte) error {
		t.Error("checked after a record was accepted")
		return nil
	})
	if got := in.Flush("app.log", chunktest.AccessLog(1, 1).Bytes); got != Delivered {
		t.Errorf("outcome %v", got)
	}
	in.checking.Wait()
}

func TestStartCheck_Panic(t *testing.T) {
	in, l := start(t, nil)
	in.checkInBackground("logs", 0, func(context.Context, string, string, []byte) error { panic(errors.New("a bug")) })
	in.checking.Wait()
	wantLog(t, l, "error: ", "a bug")
	in.Stop()
}

// startLimit is the time in which the start reports a problem.
const startLimit = 2 * time.Second

// A start in front of AWS's own host names, with each kind of problem.
func TestStart_ReportsProblems(t *testing.T) {
	denied := func(code, message string) func(int, *fakekinesis.Request) fakekinesis.Fault {
		return func(int, *fakekinesis.Request) fakekinesis.Fault { return fakekinesis.Error(400, code, message) }
	}
	for name, test := range map[string]struct {
		server  fakekinesis.Options
		options []string
		want    string // empty: no line
	}{
		"no problem":  {},
		"stream":      {server: fakekinesis.Options{Streams: []string{"others"}}, want: "the stream does not exist: check stream and region"},
		"region":      {options: []string{"region", "us-west-2"}, want: "no trusted TLS connection"}, // of another host
		"permission":  {server: fakekinesis.Options{Fault: denied("AccessDeniedException", "not authorized to perform: kinesis:PutRecord")}, want: "the permission kinesis:PutRecord"},
		"KMS key":     {server: fakekinesis.Options{Fault: denied("KMSAccessDeniedException", "access denied")}, want: "kms:GenerateDataKey"},
		"credentials": {server: fakekinesis.Options{Fault: denied("UnrecognizedClientException", "invalid")}, want: "AWS does not know these credentials"},
		"role": {server: fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
			return fakekinesis.RoleResponse{Fault: fakekinesis.Error(403, "AccessDenied", "no")}
		}}, options: []string{"role_arn", "arn:aws:iam::123456789012:role/writer"}, want: "the role cannot be assumed"},
		"check_stream":       {server: fakekinesis.Options{Fault: denied("AccessDeniedException", "no")}, options: []string{"check_stream", "on"}, want: "the permission kinesis:PutRecord"},
		"throttled at start": {server: fakekinesis.Options{Fault: denied("ProvisionedThroughputExceededException", "slow down")}},
	} {
		t.Run(name, func(t *testing.T) {
			test.server.TLS = true
			test.server.Hosts = []string{"kinesis.us-east-1.amazonaws.com"}
			server := fakekinesis.Start(test.server)
			defer server.Close()
			proxy := fakekinesis.StartProxy(strings.TrimPrefix(server.URL(), "https://"), nil)
			defer proxy.Close()
			ca := filepath.Join(t.TempDir(), "ca.pem")
			if err := os.WriteFile(ca, server.CAPEM(), 0o644); err != nil {
				t.Fatal(err)
			}
			t.Setenv("AWS_CA_BUNDLE", ca)
			t.Setenv(intervalVariable, "1ms")
			var l logged
			began := time.Now()
			in, err := Start(getter(append(test.options, "stream", "logs", "region", "us-east-1", "aws_key_id", "AKIA", "aws_sec_key", "secret",
				"http_proxy", "http://"+proxy.Addr(), "sts_endpoint", server.URL())), l.log, uncounted{}, keepsRunning)
			if err != nil {
				t.Fatal(err)
			}
			in.checking.Wait()
			took := time.Since(began)
			in.Stop()
			var errors []string
			for _, line := range l.take() {
				if !strings.HasPrefix(line, "info: ") {
					errors = append(errors, line)
				}
			}
			if (len(errors) > 0) != (test.want != "") || !strings.Contains(strings.Join(errors, "\n"), test.want) || len(errors) > 1 {
				t.Errorf("log %q, want %q", errors, test.want)
			}
			if took > startLimit {
				t.Errorf("reported after %s", took)
			}
			if n := server.Counts().Accepted; n != 0 {
				t.Errorf("%d records are stored", n)
			}
		})
	}
}
