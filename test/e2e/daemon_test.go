package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// tolerance is how long a start that is refused may take.
const tolerance = time.Second

// wantDaemonRefused looks for the error and for what to do.
func wantDaemonRefused(t *testing.T, log string) {
	t.Helper()
	for _, want := range []string{"[error] [output:kinesis_agg:kinesis_agg.0] ", "`daemon on`", "is not supported", "systemd"} {
		if !strings.Contains(log, want) {
			t.Errorf("%q is not in the log:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "is not supported"); n != 1 {
		t.Errorf("the error is there %d times:\n%s", n, log)
	}
}

// TestDaemon_InTheHost: a process that forked after it had loaded the library
// gets an error from Init, and the calls that follow return.
func TestDaemon_InTheHost(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{"engine": fixture.host, "old engine": fixture.oldHost} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			server := fakekinesis.Start(fakekinesis.Options{})
			defer server.Close()
			run, err := harness.RunHost(ctx, host, nil, slices.Concat([]string{fixture.plugin, "--daemon"},
				faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))...)
			if err != nil {
				t.Fatal(err)
			}
			wantDaemonRefused(t, run.Stderr)
			init, exit := run.All("init")[0], run.All("exit")[0]
			if took := time.Duration(init.Int("ms")+exit.Int("ms")) * time.Millisecond; init.Fields["outcome"] != "FAILED" || took > tolerance {
				t.Errorf("init: %v, after %s with the exit", init.Fields, took)
			}
			if end := run.End(); end.Int("skipped") != 1 || server.Counts().Connections != 0 {
				t.Errorf("%v, %d connections", end.Fields, server.Counts().Connections)
			}
		})
	}
}

// TestDaemon_InFluentBit: the daemon writes the error to the log, or to its
// first stderr if that is closed, and ends.
func TestDaemon_InFluentBit(t *testing.T) {
	t.Parallel()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	for _, logFile := range []bool{false, true} {
		t.Run(fmt.Sprintf("log file %v", logFile), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "daemon.log")
			config := "[SERVICE]\n    Daemon on\n    Plugins_File plugins.conf\n"
			if logFile {
				config += "    Log_File " + file + "\n"
			}
			config += "[INPUT]\n    Name dummy\n\n" + output("*", "s")
			for name, text := range map[string]string{"plugins.conf": "[PLUGINS]\n    Path " + fixture.plugin + "\n", "daemon.conf": config} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, path, "-c", filepath.Join(dir, "daemon.conf"))
			cmd.Env = harness.Environ()
			// The daemon holds a duplicate of stderr until it ends, and Run waits
			// for that: it returns when no process is left.
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			began := time.Now()
			if err := cmd.Run(); err != nil {
				t.Fatalf("%v\n%s", err, stderr.String())
			}
			t.Logf("ended after %s", time.Since(began))
			wantDaemonRefused(t, stderr.String())
			if !logFile {
				return
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			wantDaemonRefused(t, string(text))
		})
	}
}
