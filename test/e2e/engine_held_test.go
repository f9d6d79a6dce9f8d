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
	wholeBefore       int // whole when the strategy changed

	mu      sync.Mutex
	arrived map[string]int  // copies of lines
	dropped map[string]bool // lines that KCL drops: of aggregated records in another shard
	plain   int             // records without the envelope
	whole   int             // aggregated records with lines
}

// heldGrace bounds the stop of the engine.
const heldGrace = 5 * time.Second

// startHeld starts the engine and switches the stream to AUTO. describe is the fault of
// DescribeStreamSummary.
func startHeld(t *testing.T, describe *fakekinesis.Fault, options ...string) *heldTest {
	h := &heldTest{T: t, dir: t.TempDir(), arrived: map[string]int{}, dropped: map[string]bool{}}
	h.log, h.release = filepath.Join(h.dir, "app.log"), filepath.Join(h.dir, "on_auto_stream")
	t.Setenv("KINESIS_AGG_AUTO_STREAM_FILE", h.release)
	h.server = fakekinesis.Start(fakekinesis.Options{Shards: 8, Auto: h.auto.Load, DescribeFault: describe, OnRecord: h.add})
	t.Cleanup(h.server.Close)
	h.write()
	h.engine = startEngineIn(t, h.dir, h.pipeline(options...), h.service())
	await(t, h.engine, "first lines", engineDeadline, func() bool { return h.count() == h.written })
	_, h.wholeBefore, _ = h.counts()
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
	aggregated := wantFormat(r, "kpl") == nil
	switch {
	case !aggregated:
		h.plain++
	case len(lines) > 0:
		h.whole++
	}
	for _, line := range lines {
		h.arrived[line]++
		if aggregated && r.Misplaced {
			h.dropped[line] = true
		}
	}
}

// counts returns the number of records without and with the envelope, and of lines that
// KCL drops.
func (h *heldTest) counts() (plain, whole, dropped int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.plain, h.whole, len(h.dropped)
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
	h := startHeld(t, nil)
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
	h := startHeld(t, nil)
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
			h := startHeld(t, nil)
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
// has the strategy AUTO, and KCL, which drops aggregated records in the wrong shard,
// reads each line that is sent after the detection. When the strategy changes back, so
// does the format. With and without the permission to describe the stream.
func TestFluentBit_AutoStreamNDJSON(t *testing.T) {
	denied := fakekinesis.Error(400, "AccessDeniedException", "not authorized to perform: kinesis:DescribeStreamSummary")
	for name, describe := range map[string]*fakekinesis.Fault{"permitted": nil, "not permitted": &denied} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KINESIS_AGG_CHECK_INTERVAL", "1s")
			const mostRecords = 100
			h := startHeld(t, describe, "on_auto_stream ndjson")
			_, whole, _ := h.counts()
			h.wantEachOnce()
			plain, _, dropped := h.counts()
			if plain == 0 {
				t.Error("no record without the envelope arrived")
			}
			if after := whole - h.wholeBefore; after > mostRecords {
				t.Errorf("%d records with the envelope until the detection, want at most %d", after, mostRecords)
			}
			t.Logf("%d lines were in aggregated records in the wrong shard at the detection", dropped)
			wantRead := func() {
				t.Helper()
				h.write()
				h.wantEachOnce()
				if _, _, now := h.counts(); now != dropped {
					t.Fatalf("KCL drops %d lines that were written after the detection", now-dropped)
				}
			}
			wantRead()
			h.auto.Store(false)
			// The check runs with a flush after its interval.
			for end := time.Now().Add(engineDeadline); !strings.Contains(h.engine.Log(), "stream delivery has user partition keys"); {
				if time.Now().After(end) {
					t.Fatalf("the end of AUTO is not noticed\n%.20000s", h.engine.Log())
				}
				wantRead()
			}
			plain, whole, _ = h.counts()
			wantRead()
			if p, w, _ := h.counts(); p != plain || w == whole {
				t.Errorf("after AUTO: %d records without the envelope, %d with it", p-plain, w-whole)
			}
			for _, words := range []string{"will be retried", "failed to flush chunk"} {
				if strings.Contains(h.engine.Log(), words) {
					t.Errorf("a chunk was held:\n%.20000s", h.engine.Log())
				}
			}
			h.terminate()
			h.wantStop()
		})
	}
}
