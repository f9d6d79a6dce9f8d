package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// TestWorkers_InTheHost checks which thread pools there are after Init, and that
// the log says who created them. The host ends with an error if the plugin uses
// the engine's functions in the wrong order, or not as the last step of Init.
func TestWorkers_InTheHost(t *testing.T) {
	t.Parallel()
	const engineOnly = "the engine creates the worker threads"
	for _, tt := range []struct {
		name      string
		host      string
		env       string
		workers   []string // of the instances
		pools     int      // of each
		byPlugin  int
		perWorker int // threads for each of workers
		say       string
	}{
		{"engine", fixture.host, "", []string{"3", "1", "8"}, 1, 1, 1, "the plugin has created the worker threads"},
		{"none", fixture.host, "", []string{""}, 1, 1, 1, "workers is 0 or not set"},
		{"0", fixture.host, "", []string{"0", "0"}, 1, 1, 1, "workers is 0 or not set"},
		{"negative", fixture.host, "", []string{"-1"}, 1, 1, 1, "workers is 0 or not set"},
		{"variable is 0", fixture.host, "0", []string{"3"}, 1, 1, 1, "the plugin has created the worker threads"},
		{"switched off", fixture.host, "1", []string{"3"}, 2, 0, 2, "KINESIS_AGG_ENGINE_WORKERS is set: " + engineOnly},
		{"switched off, none", fixture.host, "1", []string{""}, 0, 0, 0, "KINESIS_AGG_ENGINE_WORKERS is set: " + engineOnly},
		{"old engine", fixture.oldHost, "", []string{"3"}, 2, 0, 2, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := fakekinesis.Start(fakekinesis.Options{})
			defer server.Close()
			args := []string{fixture.plugin, "--log-level", "debug", "--rounds", "3"}
			for _, workers := range tt.workers {
				var options []string
				if workers != "" {
					options = []string{"workers=" + workers}
				}
				args = slices.Concat(args, faultAt(server.URL(), options...), faultAt(server.URL(), append(options, "max_record_size=11M")...))
			}
			run, err := harness.RunHost(t.Context(), tt.host, []string{"KINESIS_AGG_ENGINE_WORKERS=" + tt.env}, append(args, chunkFile(t, faultTag, faultChunk.Bytes)...)...)
			if err != nil {
				t.Fatal(err)
			}
			pools := run.All("workers")
			if len(pools) != 3*len(tt.workers) {
				t.Fatalf("%d instances that started, want %d\n%s", len(pools), 3*len(tt.workers), run.Stderr)
			}
			for i, p := range pools {
				configured, _ := strconv.Atoi(tt.workers[i%len(tt.workers)])
				if p.Int("pools") != tt.pools || p.Int("by_plugin") != tt.byPlugin || p.Int("threads") != tt.perWorker*max(1, configured) {
					t.Errorf("%v, want %d pools, %d by the plugin, %d threads", p.Fields, tt.pools, tt.byPlugin, tt.perWorker*max(1, configured))
				}
			}
			if tt.say != "" && strings.Count(run.Stderr, tt.say) != len(pools) {
				t.Errorf("%q is not in the log %d times:\n%s", tt.say, len(pools), run.Stderr)
			}
			if end := run.End(); end.Int("ok") != 3*len(tt.workers) {
				t.Errorf("%v", end.Fields)
			}
		})
	}
}

// TestFluentBit_DefaultWorker sends requests to the input http while a PutRecord
// waits for its response, without workers in the configuration: the input responds
// at once, since the flush has a thread of its own.
func TestFluentBit_DefaultWorker(t *testing.T) {
	t.Parallel()
	const requests, most = 51, 50 * time.Millisecond
	begun, release := make(chan struct{}), make(chan struct{})
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n == 1 {
			close(begun)
		}
		return fakekinesis.Hold(release)
	}})
	defer server.Close()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	engine := startEngine(t, fmt.Sprintf("[INPUT]\n    Name http\n    Listen 127.0.0.1\n    Port %d\n\n", port)+outputTo(server))
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	_ = dial(ctx, t, engine, fmt.Sprintf("127.0.0.1:%d", port)).Close()
	post := func() (time.Duration, error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/app", port), bytes.NewReader([]byte(`{"n":1}`)))
		if err != nil {
			return 0, err
		}
		request.Header.Set("Content-Type", "application/json")
		began := time.Now()
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return 0, err
		}
		return time.Since(began), response.Body.Close()
	}
	if _, err := post(); err != nil {
		t.Fatalf("%v\n%s", err, engine.Log())
	}
	select {
	case <-begun:
	case <-ctx.Done():
		t.Fatalf("no PutRecord came\n%s", engine.Log())
	}
	var took []time.Duration
	for range requests {
		d, err := post()
		if err != nil {
			t.Fatalf("after %d responses, while a PutRecord waits: %v\n%s", len(took), err, engine.Log())
		}
		took = append(took, d)
	}
	close(release)
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("%d requests while a PutRecord waits: median %s, longest %s", requests, median, took[len(took)-1])
	// Other tests run on this machine too: one late response is not the engine's.
	if median > most {
		t.Errorf("median %s, want at most %s", median, most)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(engine.Log(), "flushes run on the engine thread") {
		t.Errorf("a flush ran on the engine's thread:\n%s", engine.Log())
	}
}

// TestWorkers_ThirtyTwo: 32 threads flush at once, which a server that holds the
// first 32 requests until all are there sees, and open no more than two connections each: a
// thread may dial while another one releases its connection.
func TestWorkers_ThirtyTwo(t *testing.T) {
	t.Parallel()
	const threads, flushes = 32, 640
	together := make(chan struct{})
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n == threads {
			close(together)
		}
		return fakekinesis.Hold(together)
	}})
	defer server.Close()
	run := runHost(t, fixture.host, []string{"--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(flushes)},
		faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, flushes, 0, 0)
	wantTimes(t, server.Records(), faultChunk.JSON, flushes)
	if n := server.Counts().Connections; n > 2*threads {
		t.Errorf("%d connections for %d threads", n, threads)
	}
}
