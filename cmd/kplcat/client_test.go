package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go/logging"

	agg "out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/test/kit/fakekinesis"
)

// A failure has the same advice as in the plugin.
func TestRun_Advice(t *testing.T) {
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	var stderr strings.Builder
	args := []string{"logs", "--region", "eu-central-1", "--endpoint", "http://127.0.0.1:1"}
	if code := run(t.Context(), args, io.Discard, &stderr); code != exitFailed || !strings.Contains(stderr.String(), agg.CauseNoCredentials.Advice) {
		t.Errorf("exit code %d: %s", code, stderr.String())
	}
}

// The client uses the region, profile, role and endpoint of the command line.
func TestConnect_UsesFlags(t *testing.T) {
	sts := fakekinesis.Start(fakekinesis.Options{})
	defer sts.Close()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	credentials := filepath.Join(t.TempDir(), "credentials")
	text := "[reader]\naws_access_key_id = AKIAREADER\naws_secret_access_key = secret\n"
	if err := os.WriteFile(credentials, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", credentials)
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ENDPOINT_URL_STS", sts.URL())

	connected := func(args ...string) (kinesis.Options, error) {
		o, err := parse(args, time.Now(), io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		client, err := connect(t.Context(), o)
		if err != nil {
			return kinesis.Options{}, err
		}
		return client.(*kinesis.Client).Options(), nil
	}
	for role, want := range map[string]string{"": "AKIAREADER", "arn:aws:iam::123456789012:role/reader": fakekinesis.RoleKeyID(1)} {
		o, err := connected("s", "--profile", "reader", "--region", "eu-central-1", "--endpoint", "http://127.0.0.1:1", "--role-arn", role)
		if err != nil {
			t.Fatal(err)
		}
		c, err := o.Credentials.Retrieve(t.Context())
		if _, silent := o.Logger.(logging.Nop); !silent {
			t.Errorf("the SDK logs with %T", o.Logger)
		}
		if err != nil || c.AccessKeyID != want || o.Region != "eu-central-1" || *o.BaseEndpoint != "http://127.0.0.1:1" {
			t.Errorf("role %q: %s %s %s, %v", role, c.AccessKeyID, o.Region, *o.BaseEndpoint, err)
		}
	}
	if r := sts.RoleRequests(); len(r) != 1 || r[0].RoleARN != "arn:aws:iam::123456789012:role/reader" {
		t.Errorf("requests for roles: %+v", r)
	}
	if o, err := connected("arn:aws:kinesis:ap-south-1:123456789012:stream/s"); err != nil || o.Region != "ap-south-1" {
		t.Errorf("region %q of an ARN, %v", o.Region, err)
	}
	if _, err := connected("s"); err == nil || !strings.Contains(err.Error(), "--region") {
		t.Errorf("no region: %v", err)
	}
	if _, err := connected("s", "--region", "x", "--profile", "missing"); err == nil {
		t.Error("no such profile: no error")
	}
}
