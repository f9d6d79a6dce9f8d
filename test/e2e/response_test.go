package e2e

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// TestHugeResponses_Memory: a process with several workers, all of which get
// responses of 1 GiB, keeps below 100 MB and its flushes end in time.
func TestHugeResponses_Memory(t *testing.T) {
	t.Parallel()
	const peakKiB, requestTimeout = 100 << 10, 5 * time.Second
	block := make([]byte, 16<<20)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write(block)
	_ = z.Close()
	for name, test := range map[string]struct {
		status int
		header map[string]string
		member []byte
	}{
		"200":              {200, map[string]string{"Content-Type": "application/x-amz-json-1.1"}, block},
		"500":              {500, map[string]string{"Content-Type": "application/x-amz-json-1.1"}, block},
		"200 CBOR":         {200, map[string]string{"Content-Type": "application/x-amz-cbor-1.1"}, block},
		"200 gzip":         {200, map[string]string{"Content-Type": "application/x-amz-json-1.1", "Content-Encoding": "gzip"}, packed.Bytes()},
		"500 gzip of CBOR": {500, map[string]string{"Content-Type": "application/x-amz-cbor-1.1", "Content-Encoding": "gzip"}, packed.Bytes()},
	} {
		t.Run(name, func(t *testing.T) {
			server := fakekinesis.Start(fakekinesis.Options{Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
				return fakekinesis.Body(test.status, test.header, func(w io.Writer) {
					for range 1 << 30 / len(block) {
						if _, err := w.Write(test.member); err != nil {
							return
						}
					}
				})
			}})
			defer server.Close()
			args := []string{"--threads", "4", "--repeat", "8", fixture.plugin, "--instance", "stream=logs", "region=" + harness.Region,
				"endpoint=" + server.URL(), "request_timeout=5s", "aws_key_id=AKID", "aws_sec_key=not-a-real-key"}
			cmd := exec.CommandContext(t.Context(), fixture.host, append(args, chunkFile(t, "app.log", chunktest.AccessLog(1, 3).Bytes)...)...)
			cmd.Env = []string{"AWS_EC2_METADATA_DISABLED=true"}
			began := time.Now()
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if !strings.Contains(string(out), "retry=8") {
				t.Errorf("not every flush is a retry:\n%s", out)
			}
			// 8 flushes on 4 threads are two after another.
			if took := time.Since(began); took > 2*(requestTimeout+time.Second) {
				t.Errorf("took %s", took)
			}
			// The host reports its own peak: the one in the process state is at least
			// the memory of the process that started it.
			peak := regexp.MustCompile(`(?m)^round .*\bpeak_kib=(\d+)`).FindSubmatch(out)
			if peak == nil {
				t.Fatalf("the host reports no peak:\n%s", out)
			}
			if got, err := strconv.Atoi(string(peak[1])); err != nil || got > peakKiB {
				t.Errorf("peak of %s KiB", peak[1])
			}
			t.Logf("peak of %s KiB in %s", peak[1], time.Since(began))
		})
	}
}

// TestAttacks_Memory: what is around the plugin misbehaves, in a process with several
// workers, and its peak of memory stays below 100 MB. Huge responses are above.
func TestAttacks_Memory(t *testing.T) {
	t.Parallel()
	const peakKiB = 100 << 10
	dir := t.TempDir()
	fifo, endless := filepath.Join(dir, "fifo"), filepath.Join(dir, "config")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(endless, []byte("[default]\ncredential_process = yes\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	noKeys := []string{"aws_key_id", "aws_sec_key", "aws_session_token"}
	large := numbered(8000, strings.Repeat("x", 240)) // as large as the engine makes chunks
	for name, tt := range map[string]struct {
		server fakekinesis.Options
		fault  fault
		flags  []string
		inLog  string
	}{
		"credential_process without end": {fault: fault{without: noKeys, env: []string{"AWS_CONFIG_FILE=" + endless}},
			inLog: "its output is larger than 65536 bytes"},
		"FIFO as a token": {fault: fault{without: noKeys, env: []string{"AWS_WEB_IDENTITY_TOKEN_FILE=" + fifo, "AWS_ROLE_ARN=" + roleARN}},
			inLog: "is not a regular file"},
		"silent endpoint and a queue": {server: fakekinesis.Options{Fault: func(int, *fakekinesis.Request) fakekinesis.Fault { return fakekinesis.Hold(nil) }},
			fault: fault{options: []string{"request_timeout=1s"}}, inLog: "exceeded"},
		"held chunks": {server: fakekinesis.Options{Shards: 8, Auto: func() bool { return true }},
			fault: fault{without: randomKey, options: []string{"max_record_size=20K"}}, flags: []string{"--retry", "5", "--retry-wait", "100"}, inLog: "AUTO"},
		"alarms": {server: fakekinesis.Options{Shards: 8, Auto: func() bool { return true }},
			fault: fault{without: randomKey, options: []string{"max_record_size=20K", "on_auto_stream=warn"}}, inLog: "AUTO"},
	} {
		t.Run(name, func(t *testing.T) {
			tt.server.OnRecord = func(fakekinesis.Record) {}
			server := fakekinesis.Start(tt.server)
			defer server.Close()
			args := slices.Concat([]string{fixture.plugin, "--threads", "4", "--repeat", "24"}, tt.flags,
				tt.fault.instance(server.URL()), chunkFile(t, faultTag, large.Bytes))
			run, err := harness.RunHost(t.Context(), fixture.host, tt.fault.env, args...)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(run.Stderr, tt.inLog) {
				t.Errorf("%q is not in the log:\n%.5000s", tt.inLog, run.Stderr)
			}
			peak := run.All("round")[0].Int("peak_kib")
			if peak > peakKiB {
				t.Errorf("peak of %d KiB", peak)
			}
			t.Logf("peak of %d KiB, %v", peak, run.End().Fields)
		})
	}
}
