package e2e

import (
	"io"
	"slices"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
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
