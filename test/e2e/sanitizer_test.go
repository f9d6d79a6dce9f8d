package e2e

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// sanitized is the ABI host and the library with AddressSanitizer and
// UndefinedBehaviorSanitizer in all C code, cgo's and the Go runtime's included.
// Go code is compiled as usual.
type sanitized struct {
	host, plugin string
	skip         string // why there is none
}

var sanitizers = sync.OnceValue(func() (s sanitized) {
	const flags = "-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
	cc := os.Getenv("CC")
	if cc == "" {
		cc = "cc"
	}
	root, err := harness.ModuleRoot()
	if err != nil {
		return sanitized{skip: err.Error()}
	}
	s = sanitized{host: filepath.Join(fixture.dir, "abihost-sanitized"), plugin: filepath.Join(fixture.dir, "sanitized.so")}
	args := append(strings.Fields(flags), "-std=c11", "-O1", "-g", "-rdynamic", "-pthread", "-o", s.host,
		filepath.Join(root, "test", "cmd", "abihost", "abihost.c"), "-ldl")
	if out, err := exec.Command(cc, args...).CombinedOutput(); err != nil {
		return sanitized{skip: cc + " cannot build with the sanitizers; with GCC they are in the packages libasan and libubsan: " + string(out)}
	}
	build := exec.Command("go", "build", "-buildmode=c-shared", "-tags", "netgo,osusergo", "-o", s.plugin, ".")
	build.Dir = root
	build.Env = append(os.Environ(), "CGO_ENABLED=1", "CGO_CFLAGS=-g -O1 "+flags, "CGO_LDFLAGS=-fsanitize=address,undefined")
	if out, err := build.CombinedOutput(); err != nil {
		return sanitized{skip: "the library does not build with the sanitizers: " + string(out)}
	}
	return s
})

// withSanitizers returns them or skips the test.
func withSanitizers(t *testing.T) sanitized {
	t.Helper()
	s := sanitizers()
	if s.skip != "" {
		t.Skip(s.skip)
	}
	return s
}

// wantNoReport looks for a sanitizer's report.
func wantNoReport(t *testing.T, log string) {
	t.Helper()
	for _, word := range []string{"Sanitizer", "runtime error"} {
		if strings.Contains(log, word) {
			t.Fatalf("a sanitizer reports:\n%s", log)
		}
	}
}

// TestSanitizers_InTheHost: no access out of bounds or after free, no undefined
// behaviour and no leak in C, over a life of several rounds.
func TestSanitizers_InTheHost(t *testing.T) {
	t.Parallel()
	s := withSanitizers(t)
	failing := func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n%2 == 1 {
			return fakekinesis.Error(400, "ResourceNotFoundException", "a\n\x1b[2Jb")
		}
		return fakekinesis.OK
	}
	twins := slices.Repeat([]string{"--twin", s.plugin}, 3)
	for _, tt := range []struct {
		name        string
		args        []string
		ok, skipped int
	}{
		{"four engines in one library", append(twins, "--rounds", "10", "--threads", "4", "--repeat", "10", "--retry", "100"), 400, 400},
		{"rounds", []string{"--rounds", "5", "--threads", "4", "--repeat", "50", "--retry", "100"}, 250, 250},
		{"engine's thread", []string{"--threads", "0", "--repeat", "10", "--retry", "100"}, 10, 10},
		{"daemon", []string{"--daemon"}, 0, 2},
		{"dry run", []string{"--dry-run"}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := fakekinesis.Start(fakekinesis.Options{Fault: failing})
			defer server.Close()
			run, err := harness.RunHost(t.Context(), s.host, nil, slices.Concat([]string{s.plugin}, tt.args,
				faultAt(server.URL(), "debug=true"), faultAt(server.URL(), "max_record_size=11G"),
				chunkFile(t, "a\nb", faultChunk.Bytes))...)
			wantNoReport(t, run.Stderr)
			if err != nil {
				t.Fatal(err)
			}
			if end := run.End(); end.Int("ok") != tt.ok || end.Int("skipped") != tt.skipped {
				t.Errorf("%v", end.Fields)
			}
		})
	}
}

// TestSanitizers_ExitDuringFlushes: the instances of four engines in one library exit
// while the threads of all flush.
func TestSanitizers_ExitDuringFlushes(t *testing.T) {
	t.Parallel()
	s := withSanitizers(t)
	const threads, engines = 4, 4
	stdin, end := io.Pipe()
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n == 10*threads*engines {
			_ = end.Close()
		}
		return fakekinesis.OK
	}})
	defer server.Close()
	run, err := harness.Host{Path: s.host, Stdin: stdin, Args: slices.Concat([]string{s.plugin, "--exit-early", "--threads", strconv.Itoa(threads), "--repeat", "100000"},
		slices.Repeat([]string{"--twin", s.plugin}, engines-1), faultAt(server.URL()), faultAt(server.URL(), "record_format=ndjson"),
		chunkFile(t, faultTag, faultChunk.Bytes))}.Run(t.Context())
	wantNoReport(t, run.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if ok, all := run.End().Int("ok"), server.Counts().Accepted; ok != all || len(run.All("exit")) != 2*engines {
		t.Errorf("%d flushes returned OK, %d records accepted, exits: %v", ok, all, run.All("exit"))
	}
}

// TestSanitizers_InFluentBit: the same library in the real engine, whose metrics
// the host does not have.
func TestSanitizers_InFluentBit(t *testing.T) {
	t.Parallel()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	s := withSanitizers(t)
	stream := newStream(t, 1)
	dir := t.TempDir()
	// The sanitizers have to be loaded before the engine. Its own leaks are none
	// of ours.
	var preload []string
	for _, library := range []string{"libasan.so", "libubsan.so"} {
		out, err := exec.Command("cc", "-print-file-name="+library).Output()
		if err != nil || !filepath.IsAbs(strings.TrimSpace(string(out))) {
			t.Skipf("cc does not name %s: %v", library, err)
		}
		preload = append(preload, strings.TrimSpace(string(out)))
	}
	wrapper := filepath.Join(dir, "fluent-bit")
	script := "#!/bin/sh\nLD_PRELOAD='" + strings.Join(preload, " ") + "' ASAN_OPTIONS=detect_leaks=0 exec " + path + ` "$@"` + "\n"
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	const samples = 20
	engine, err := harness.StartFluentBit(wrapper, dir, s.plugin,
		"[INPUT]\n    Name dummy\n    Rate 20\n    Samples 20\n\n"+output("*", stream, "alias a\"b\\c"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Kill)
	got := shipped(t, engine, stream, samples)
	wantNoReport(t, engine.Log())
	if len(got) != samples {
		t.Errorf("%d records, want %d", len(got), samples)
	}
}
