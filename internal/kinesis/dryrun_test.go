package kinesis

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// openAWS returns a sender for AWS's own endpoint of us-east-1, unless change sets
// another region. A proxy connects it to a fake server.
func openAWS(t *testing.T, o fakekinesis.Options, change ...func(*Settings)) (*Sender, *fakekinesis.Server) {
	t.Helper()
	isolate(t)
	o.TLS = true
	o.Hosts = append(o.Hosts, "kinesis.us-east-1.amazonaws.com")
	server := start(t, o)
	proxy := fakekinesis.StartProxy(strings.TrimPrefix(server.URL(), "https://"), nil)
	t.Cleanup(proxy.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, server.CAPEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CA_BUNDLE", ca)
	settings := Settings{Connection: Connection{Region: "us-east-1", KeyID: "AKID", SecretKey: "secret", HTTPProxy: "http://" + proxy.Addr()}}
	for _, f := range change {
		f(&settings)
	}
	return open(t, settings), server
}

func TestDryRun_Success(t *testing.T) {
	sender, server := openAWS(t, fakekinesis.Options{})
	if err := sender.DryRun(context.Background(), "logs", "key", []byte("data")); err != nil {
		t.Error(err)
	}
	if c := server.Counts(); c.PutRecords != 1 || c.Accepted != 0 {
		t.Errorf("%v", c)
	}
}

func TestDryRun_Failures(t *testing.T) {
	for name, test := range map[string]struct {
		fault fakekinesis.Fault
		cause *Cause
	}{
		"stream":     {fakekinesis.Error(400, "ResourceNotFoundException", "Stream logs not found"), CauseStreamNotFound},
		"permission": {fakekinesis.Error(400, "AccessDeniedException", "not authorized to perform: kinesis:PutRecord"), CauseAccessDenied},
		"KMS key":    {fakekinesis.Error(400, "KMSDisabledException", "the key is disabled"), CauseKMS},
		"key":        {fakekinesis.Error(400, "UnrecognizedClientException", "The security token is invalid"), CauseBadKey},
	} {
		t.Run(name, func(t *testing.T) {
			sender, _ := openAWS(t, fakekinesis.Options{Fault: func(int, *fakekinesis.Request) fakekinesis.Fault { return test.fault }})
			err := sender.DryRun(context.Background(), "logs", "key", []byte("data"))
			if err == nil || Classify(err) != test.cause {
				t.Errorf("got %v", err)
			}
		})
	}
}

// An endpoint that does not know DryRun would store the record.
func TestDryRun_OnlyForAWS(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	if err := open(t, settings(server)).DryRun(context.Background(), "logs", "key", []byte("data")); !errors.Is(err, ErrNoDryRun) {
		t.Errorf("got %v", err)
	}
	t.Setenv("AWS_ENDPOINT_URL_KINESIS", server.URL())
	s := settings(server)
	s.Endpoint = ""
	if err := open(t, s).DryRun(context.Background(), "logs", "key", []byte("data")); !errors.Is(err, ErrNoDryRun) {
		t.Errorf("with an endpoint in the environment: %v", err)
	}
	if n := server.Counts().PutRecords; n != 0 {
		t.Errorf("%d requests", n)
	}
}
