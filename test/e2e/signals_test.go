package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// TestChildren: an engine that forks in order to exec, and one that uses popen, in
// other threads, while flushes run.
func TestChildren(t *testing.T) {
	t.Parallel()
	const threads, repeat = 4, 300
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	run := runHost(t, fixture.host, []string{"--children", "--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(repeat)},
		faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, repeat, 0, 0)
	wantTimes(t, server.Records(), faultChunk.JSON, repeat)
	children := run.All("children")[0]
	if children.Int("forked") == 0 || children.Int("popened") == 0 || children.Int("failed") != 0 {
		t.Errorf("%v", children.Fields)
	}
	t.Log(children.Fields)
}

// TestFluentBit_ExecInput: the input exec starts a program for each record.
func TestFluentBit_ExecInput(t *testing.T) {
	t.Parallel()
	const records = 5
	stream := newStream(t, 1)
	counter := filepath.Join(t.TempDir(), "counter")
	engine := startEngine(t, "[INPUT]\n    Name exec\n    Tag exec\n    Interval_Sec 0\n    Interval_NSec 100000000\n"+
		"    Command echo run >> "+counter+"; wc -l < "+counter+"\n\n"+output("*", stream))
	arrived(t, engine, stream, records)
	engine.Kill() // In its grace time it would run the program on.
	got := slices.Concat(read(t, readAll(t, stream))...)
	for i, text := range got[:records] {
		if want := fmt.Sprintf(`{"exec":"%d"}`, i+1); strings.ReplaceAll(text, " ", "") != want {
			t.Errorf("record %d: %s, want %s", i, text, want)
		}
	}
}

// TestSignals: the engine's signals and others arrive while flushes run, on handlers
// that install themselves again, as the engine's do. None interrupts Go code, and
// afterwards faults in Go code reach the Go runtime, which makes a panic of them.
func TestSignals(t *testing.T) {
	t.Parallel()
	const threads, repeat, rounds = 4, 300, 2
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	run := runHost(t, fixture.host, []string{"--signals", "--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(repeat),
		"--rounds", strconv.Itoa(rounds)},
		faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, rounds*repeat, 0, 0)
	wantTimes(t, server.Records(), faultChunk.JSON, rounds*repeat)
	for _, signals := range run.All("signals") {
		t.Log(signals.Fields)
		if signals.Int("caught") == 0 || signals.Int("misplaced") != 0 {
			t.Errorf("%v: signals interrupted Go code", signals.Fields)
		}
		if signals.Int("plugin_has") != 3 {
			t.Errorf("%v: the library handles not all of SIGSEGV, SIGFPE and SIGBUS", signals.Fields)
		}
	}
}

// TestSignals_FaultInC: a SIGSEGV in the engine's own code reaches the engine's
// handler, which ends the process.
func TestSignals_FaultInC(t *testing.T) {
	t.Parallel()
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	run, err := harness.RunHost(t.Context(), fixture.host, nil, slices.Concat([]string{fixture.plugin, "--signals", "--crash"},
		faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(exit.String(), "abort") {
		t.Errorf("%v, want an abort", err)
	}
	if !strings.Contains(run.Stderr, "the engine's handler caught a fault") || strings.Contains(run.Stderr, "goroutine ") {
		t.Errorf("the engine's handler did not get it:\n%s", run.Stderr)
	}
	if flush := run.All("flush"); len(flush) != 1 || flush[0].Fields["ret"] != "OK" {
		t.Errorf("flushes: %v", flush)
	}
}

// TestFluentBit_Signals: SIGCONT, on which the engine installs its handlers again, and
// others arrive on all threads while 8 workers flush, through reloads and a stop. Each
// line arrives once, and the engine's own threads have no signal blocked.
func TestFluentBit_Signals(t *testing.T) {
	t.Parallel()
	needVersion(t, 3, 2, reloadWaits)
	const perSecond, reloads = 4000, 2
	dir := t.TempDir()
	s := newIDs(perSecond * (reloads + 2) * 10)
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add})
	defer server.Close()
	file := write(t, perSecond)
	engine := startEngineIn(t, dir, tail(dir, file.path, steadyBuffer, "storage.type filesystem")+outputTo(server, "Workers 8"),
		"storage.path "+filepath.Join(dir, "chunks"))
	started(t, engine)
	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		ticker := time.NewTicker(5 * time.Millisecond)
		defer ticker.Stop()
		n := 0
		for signals := []syscall.Signal{syscall.SIGCONT, syscall.SIGPIPE, syscall.SIGWINCH, syscall.SIGURG}; ; n++ {
			for _, thread := range threads(engine.PID()) {
				_, _, _ = syscall.Syscall(syscall.SYS_TGKILL, uintptr(engine.PID()), uintptr(thread.id), uintptr(signals[n%len(signals)]))
			}
			select {
			case <-stop:
				stopped <- n
				return
			case <-ticker.C:
			}
		}
	}()
	for range reloads {
		arrived, _, _ := s.state()
		s.await(t, engine, arrived+2*perSecond)
		reload(t, engine)
	}
	ofEngine, ofGo := 0, 0
	for _, thread := range threads(engine.PID()) {
		all := true
		for _, signal := range []syscall.Signal{syscall.SIGHUP, syscall.SIGCONT, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM,
			syscall.SIGUSR1, syscall.SIGUSR2} {
			all = all && thread.blocked&(1<<(signal-1)) != 0
		}
		switch {
		case thread.id == engine.PID() && thread.blocked == 0:
			ofEngine++
		case thread.name == "fluent-bit" && all:
			ofGo++
		case !strings.HasPrefix(thread.name, "flb-"): // A worker has them blocked during a flush.
			t.Errorf("thread %+v: not all of the engine's signals are blocked", thread)
		}
	}
	if ofEngine != 1 || ofGo == 0 {
		t.Errorf("the main thread has signals blocked, or no thread of the Go runtime was found: %+v", threads(engine.PID()))
	}
	n := file.stop(t)
	s.only(n)
	s.await(t, engine, n)
	close(stop)
	rounds := <-stopped
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	s.wantAll(t, 0)
	if n := strings.Count(engine.Log(), "caught signal (SIGCONT)"); n == 0 {
		t.Errorf("the engine caught %d SIGCONT", n)
	}
	t.Logf("%d lines, %d reloads, %d rounds of signals, %d threads of the Go runtime", n, reloads, rounds, ofGo)
}

// thread is a thread of a process.
type thread struct {
	id      int
	name    string
	blocked uint64 // signals
}

// threads returns the threads of a process. One that ends meanwhile is left out.
func threads(pid int) (all []thread) {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	for _, file := range files {
		status, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		var th thread
		for line := range strings.Lines(string(status)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), ":\t")
			switch key {
			case "Name":
				th.name = value
			case "Pid":
				th.id, _ = strconv.Atoi(value)
			case "SigBlk":
				th.blocked, _ = strconv.ParseUint(value, 16, 64)
			}
		}
		all = append(all, th)
	}
	return all
}
