package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"out_kinesis_agg/test/kit/harness"
)

// emulator starts kinesis-local and returns the flags of a run against it.
func emulator(t *testing.T) (*harness.Kinesis, flags) {
	t.Helper()
	root := filepath.Join("..", "..")
	f := flags{plugin: os.Getenv("OUT_KINESIS_AGG_SO"),
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
	readers, err := harness.ReadersDir(root)
	if err != nil {
		t.Skip(err)
	}
	k, err := harness.StartKinesis(t.Context(), readers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Stop)
	f.endpoint = k.Endpoint
	return k, f
}

// left lists the streams that exist or do not vanish.
func left(t *testing.T, k *harness.Kinesis) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		out, err := k.Client.ListStreams(ctx, &kinesis.ListStreamsInput{})
		if err != nil {
			t.Fatal(err)
		}
		// Deletion is asynchronous.
		if len(out.StreamNames) == 0 || wait(ctx, 10*time.Millisecond) != nil {
			return out.StreamNames
		}
	}
}

// What an emulator can show passes, the rest is not available, and nothing is left.
func TestRun_Emulator(t *testing.T) {
	k, f := emulator(t)
	var out bytes.Buffer
	failed, err := run(t.Context(), f, strings.NewReader(""), &out)
	if err != nil || failed > 0 {
		t.Errorf("%d checks failed: %v\n%s", failed, err, out.String())
	}
	for _, name := range []string{"delivery: provisioned stream", "batches, zstd", "wire_format json", "record_format ndjson", "split while records are written",
		"a record of 1 MiB is accepted"} {
		if !strings.Contains(out.String(), "passed         "+name+" ") {
			t.Errorf("%q has not passed:\n%s", name, out.String())
		}
	}
	report, err := os.ReadFile(f.report)
	if err != nil || !strings.Contains(string(report), "an emulator, not AWS") {
		t.Errorf("the report does not name the emulator: %v\n%s", err, report)
	}
	if names := left(t, k); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// An interrupt at any point leaves no stream: here, as soon as a given check begins.
func TestRun_Interrupted(t *testing.T) {
	for n := range 4 {
		k, f := emulator(t)
		f.only = "^(delivery: provisioned|delivery: on-demand|batches, gzip|split)"
		ctx, cancel := context.WithCancel(t.Context())
		out := &interrupting{after: n, cancel: cancel}
		if _, err := run(ctx, f, strings.NewReader(""), out); err == nil && n < 3 {
			t.Errorf("%d: an interrupted run returns no error", n)
		}
		cancel()
		if names := left(t, k); len(names) > 0 {
			t.Errorf("%d: left: %q\n%s", n, names, out.text.String())
		}
	}
}

// interrupting cancels after a number of lines of the table.
type interrupting struct {
	text   bytes.Buffer
	after  int
	cancel context.CancelFunc
}

func (w *interrupting) Write(b []byte) (int, error) {
	w.text.Write(b)
	rows := strings.Count(w.text.String(), "\npassed") + strings.Count(w.text.String(), "\nfailed")
	if strings.HasSuffix(w.text.String(), "\n\n") || rows >= w.after && rows > 0 {
		if rows >= w.after {
			w.cancel()
		}
	}
	return len(b), nil
}

// Without a yes, nothing is created.
func TestRun_Declined(t *testing.T) {
	k, f := emulator(t)
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
	if names := left(t, k); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}
