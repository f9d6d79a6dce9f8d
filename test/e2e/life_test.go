package e2e

import (
	"io"
	"slices"
	"strconv"
	"testing"
	"time"

	"out_kinesis_agg/test/chunktest"
	"out_kinesis_agg/test/fakekinesis"
	"out_kinesis_agg/test/harness"
)

// exitDuringFlush makes the host exit its instance while a flush waits for a
// response, which the server sends when the exit has begun, or, unless responds,
// never.
func exitDuringFlush(t *testing.T, responds bool) (run harness.HostRun, server *fakekinesis.Server) {
	t.Helper()
	arrived, exiting := make(chan struct{}), make(chan struct{})
	until := exiting
	if !responds {
		until = nil
	}
	server = fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n == 1 {
			close(arrived)
		}
		return fakekinesis.Hold(until)
	}})
	t.Cleanup(server.Close)
	// The host exits its instances when its standard input ends.
	stdin, end := io.Pipe()
	go func() {
		<-arrived
		_ = end.Close()
	}()
	run, err := harness.Host{
		Path:  fixture.host,
		Stdin: stdin,
		Args: slices.Concat([]string{fixture.plugin, "--exit-early"}, faultAt(server.URL(), "request_timeout=3s"),
			chunkFile(t, faultTag, faultChunk.Bytes)),
		OnEvent: func(e harness.Event) bool {
			if e.Word == "exiting" {
				close(exiting)
			}
			return true
		},
	}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkLog(t, run)
	return run, server
}

// wantExitAfterFlush checks that the instance exited after its flush. The time of a
// flush is taken a moment after the flush has released the instance.
func wantExitAfterFlush(t *testing.T, run harness.HostRun) {
	t.Helper()
	const moment = time.Second
	flush, exit := run.All("flush")[0], run.All("exit")[0]
	if early := time.Duration(flush.Int("at")-exit.Int("at")) * time.Millisecond; early > moment {
		t.Errorf("the instance exited %s before its flush ended", early)
	}
}

// TestExit_WaitsForFlushes: a chunk that is being sent when the instance exits
// arrives.
func TestExit_WaitsForFlushes(t *testing.T) {
	t.Parallel()
	run, server := exitDuringFlush(t, true)
	wantOutcomes(t, run, 1, 0, 0)
	wantExitAfterFlush(t, run)
	wantTimes(t, server.Records(), faultChunk.JSON, 1)
}

// TestExit_BoundedByTimeout: an endpoint that never responds delays the exit by at
// most request_timeout, and the engine keeps the chunk.
func TestExit_BoundedByTimeout(t *testing.T) {
	t.Parallel()
	run, server := exitDuringFlush(t, false)
	wantOutcomes(t, run, 0, 0, 1)
	wantExitAfterFlush(t, run)
	const most = 3*time.Second + 2*time.Second
	if took := time.Duration(run.All("exit")[0].Int("ms")) * time.Millisecond; took > most {
		t.Errorf("exit took %s", took)
	}
	if n := len(server.Records()); n != 0 {
		t.Errorf("%d records", n)
	}
}

// TestLibrary_LoadedRepeatedly loads, runs and unloads the library over and over in one process,
// as hot reloads do, with one instance that fails and two that work. Memory,
// threads and connections do not grow.
func TestLibrary_LoadedRepeatedly(t *testing.T) {
	t.Parallel()
	const rounds, instances, threads, repeat = 200, 2, 4, 3
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	chunks := []chunktest.Corpus{chunktest.AccessLog(40, 50), chunktest.Kubernetes(40, 50)}
	args := slices.Concat(
		[]string{fixture.plugin, "--rounds", strconv.Itoa(rounds), "--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(repeat)},
		faultAt(server.URL()), faultAt(server.URL(), "max_record_size=11M"), faultAt(server.URL(), "max_record_size=5000"),
		chunkFile(t, "app.access", chunks[0].Bytes), chunkFile(t, "app.kubernetes", chunks[1].Bytes),
	)
	maxOpen := 0
	run, err := harness.Host{Path: fixture.host, Args: args, OnEvent: func(e harness.Event) bool {
		if e.Word == "round" {
			maxOpen = max(maxOpen, server.Counts().OpenConnections)
		}
		return true
	}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkLog(t, run)
	flushes := rounds * repeat * len(chunks)
	if end := run.End(); end.Int("ok") != instances*flushes || end.Int("skipped") != flushes || end.Int("error")+end.Int("retry") != 0 {
		t.Fatalf("flushes: %v; log:\n%s", end.Fields, run.Stderr)
	}
	logLine(t, run, "[error]", "max_record_size", "11M")
	wantTimes(t, server.Records(), slices.Concat(chunks[0].JSON, chunks[1].JSON), rounds*repeat*instances)

	// A worker has a connection to each instance's endpoint, and none is left after
	// a round. The next round may have begun when they are counted.
	const perRound = instances * threads
	if n := server.Counts().Connections; n > rounds*perRound || maxOpen > 2*perRound {
		t.Errorf("%d connections, at most %d at a time, want %d a round", n, maxOpen, perRound)
	}
	t.Logf("at most %d connections open after a round", maxOpen)

	states := run.All("round")
	mean := func(field string, from, to int) float64 {
		sum := 0
		for _, s := range states[from:to] {
			sum += s.Int(field)
		}
		return float64(sum) / float64(to-from)
	}
	for field, most := range map[string]float64{
		// A Go runtime that is never idle may start a thread late, and a
		// connection closes a moment after its instance.
		"rss_kib": 1.05, "threads": 1.25, "fds": 1.25,
	} {
		second, last := mean(field, rounds/4, rounds/2), mean(field, 3*rounds/4, rounds)
		t.Logf("%s: %.1f in the second quarter, %.1f in the last", field, second, last)
		if last > second*most {
			t.Errorf("%s grows from %.1f to %.1f", field, second, last)
		}
	}
}
