package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// heldTest is an engine that delivers the lines of a file to a stream with eight
// shards, which can have the strategy AUTO.
type heldTest struct {
	*testing.T
	dir, log, release string // paths
	auto              atomic.Bool
	server            *fakekinesis.Server
	engine            *harness.FluentBit
	written           int

	mu      sync.Mutex
	arrived map[string]int // copies of lines
	plain   int            // records without the envelope
}

// heldGrace bounds the stop of the engine.
const heldGrace = 5 * time.Second

func startHeld(t *testing.T, options ...string) *heldTest {
	h := &heldTest{T: t, dir: t.TempDir(), arrived: map[string]int{}}
	h.log, h.release = filepath.Join(h.dir, "app.log"), filepath.Join(h.dir, "on_auto_stream")
	t.Setenv("KINESIS_AGG_AUTO_STREAM_FILE", h.release)
	h.server = fakekinesis.Start(fakekinesis.Options{Shards: 8, Auto: h.auto.Load, OnRecord: h.add})
	t.Cleanup(h.server.Close)
	h.write()
	h.engine = startEngineIn(t, h.dir, h.pipeline(options...), h.service())
	await(t, h.engine, "first lines", engineDeadline, func() bool { return h.count() == h.written })
	h.auto.Store(true)
	h.write()
	awaitLog(t, h.engine, "has the record distribution strategy AUTO", engineDeadline)
	return h
}

func (h *heldTest) service() string { return fmt.Sprintf("Grace %d", heldGrace/time.Second) }

func (h *heldTest) pipeline(options ...string) string {
	return "[INPUT]\n    Name tail\n    Tag app\n    Path " + h.log + "\n    Read_from_Head true\n    Refresh_Interval 1\n    Parser json\n    DB " +
		filepath.Join(h.dir, "tail.db") + "\n\n" + outputTo(h.server, append(options, "Workers 2", "max_record_size 1K")...)
}

func (h *heldTest) write() {
	f, err := os.OpenFile(h.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		h.Fatal(err)
	}
	defer f.Close()
	for range 3000 {
		fmt.Fprintln(f, chunktest.JSON(chunktest.M("id", h.written)))
		h.written++
	}
}

func (h *heldTest) add(r fakekinesis.Record) {
	lines, err := logRecords(r)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.Error(err)
	}
	if r.Data[0] == '{' { // without the envelope
		h.plain++
	}
	for _, line := range lines {
		h.arrived[line]++
	}
}

func (h *heldTest) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.arrived)
}

// awaitHeld waits until flushes are retried.
func (h *heldTest) awaitHeld() {
	h.Helper()
	await(h.T, h.engine, "retries", engineDeadline, func() bool { return strings.Count(h.engine.Log(), "failed to flush chunk") >= 4 })
	if h.count() == h.written {
		h.Fatal("all lines arrived before the detection: nothing was held")
	}
}

// terminate sends SIGTERM.
func (h *heldTest) terminate() {
	h.Helper()
	if err := h.engine.Signal(syscall.SIGTERM); err != nil {
		h.Fatal(err)
	}
}

// wantStop waits for the end of the engine: at most grace, and two seconds.
func (h *heldTest) wantStop() {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), heldGrace+2*time.Second)
	defer cancel()
	if err := h.engine.Wait(ctx); err != nil {
		h.Errorf("not stopped in time: %v\n%.20000s", err, h.engine.Log())
	}
}

func (h *heldTest) releaseAs(word string) {
	h.Helper()
	if err := os.WriteFile(h.release, []byte(word+"\n"), 0o644); err != nil {
		h.Fatal(err)
	}
}

func (h *heldTest) wantEachOnce() {
	h.Helper()
	await(h.T, h.engine, "rest of the lines", engineDeadline, func() bool { return h.count() == h.written })
	h.mu.Lock()
	defer h.mu.Unlock()
	for line, n := range h.arrived {
		if n != 1 {
			h.Fatalf("%d copies of %s", n, line)
		}
	}
}

// TestFluentBit_HeldReload: a reload waits for held chunks, until a word in the file
// releases them.
func TestFluentBit_HeldReload(t *testing.T) {
	needVersion(t, 3, 2, reloadWaits)
	h := startHeld(t)
	h.awaitHeld()
	if err := harness.ConfigureFluentBit(h.dir, fixture.plugin, h.pipeline("on_auto_stream warn"), h.service()); err != nil {
		t.Fatal(err)
	}
	if err := h.engine.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	before := strings.Count(h.engine.Log(), "failed to flush chunk")
	await(t, h.engine, "retries during the reload", engineDeadline, func() bool { return strings.Count(h.engine.Log(), "failed to flush chunk") > before+2 })
	if h.engine.Reloads() != 0 {
		t.Fatal("the reload ended while chunks were held")
	}
	h.releaseAs("ndjson")
	await(t, h.engine, "end of the reload", engineDeadline, func() bool { return h.engine.Reloads() == 1 })
	h.write()
	h.wantEachOnce()
	h.terminate()
	h.wantStop()
}

// TestFluentBit_HeldStop: held chunks do not delay a stop.
func TestFluentBit_HeldStop(t *testing.T) {
	h := startHeld(t)
	h.awaitHeld()
	h.terminate()
	h.wantStop()
}

// TestFluentBit_HeldStopDuringReload: the engine looks at SIGTERM after a reload, so
// that the file has to release the chunks.
func TestFluentBit_HeldStopDuringReload(t *testing.T) {
	needVersion(t, 3, 2, reloadWaits)
	for _, word := range []string{"ndjson", "drop"} {
		t.Run(word, func(t *testing.T) {
			h := startHeld(t)
			h.awaitHeld()
			if err := h.engine.Signal(syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			awaitLog(t, h.engine, "[reload] stop everything of the old context", engineDeadline)
			h.terminate()
			h.releaseAs(word)
			h.wantStop()
		})
	}
}

// TestFluentBit_AutoStreamNDJSON: nothing is held, lost or repeated while the stream
// has the strategy AUTO.
func TestFluentBit_AutoStreamNDJSON(t *testing.T) {
	t.Setenv("KINESIS_AGG_CHECK_INTERVAL", "1s")
	h := startHeld(t, "on_auto_stream ndjson")
	h.wantEachOnce()
	h.write()
	h.wantEachOnce()
	h.mu.Lock()
	plain := h.plain
	h.mu.Unlock()
	if plain == 0 {
		t.Error("no record without the envelope arrived")
	}
	h.auto.Store(false)
	// The check runs with a flush after its interval.
	for end := time.Now().Add(engineDeadline); !strings.Contains(h.engine.Log(), "stream delivery has user partition keys"); {
		if time.Now().After(end) {
			t.Fatalf("the end of AUTO is not noticed\n%.20000s", h.engine.Log())
		}
		h.write()
		h.wantEachOnce()
	}
	if strings.Contains(h.engine.Log(), "will be retried") {
		t.Errorf("a chunk was held:\n%.20000s", h.engine.Log())
	}
	h.terminate()
	h.wantStop()
}
