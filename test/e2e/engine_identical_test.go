package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// number returns the value of an environment variable that makes a test longer,
// or the number that a normal run uses.
func number(t *testing.T, variable string, normal int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return normal
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%s: want a number above 0", variable, text)
	}
	return n
}

// throttled throttles a share of the requests, in percent, at random and in the
// same order for the same seed.
func throttled(percent int, seed uint64) func(int, *fakekinesis.Request) fakekinesis.Fault {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0x7468726f74746c65))
	return func(int, *fakekinesis.Request) fakekinesis.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(100) < percent {
			return fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded")
		}
		return fakekinesis.OK
	}
}

// httpServer returns the lines of [SERVICE] that open the engine's HTTP server
// at a free port.
func httpServer(t *testing.T) (port int, service []string) {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port, []string{"HTTP_Server On", "HTTP_Listen 127.0.0.1", fmt.Sprintf("HTTP_Port %d", port)}
}

// awaitMetric waits until one of the engine's metrics is at least n. Until the
// engine listens and has the metric, its value is 0.
func awaitMetric(t *testing.T, engine *harness.FluentBit, port int, name string, n int, within time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	_ = dial(ctx, t, engine, fmt.Sprintf("127.0.0.1:%d", port)).Close()
	await(t, engine, fmt.Sprintf("%s of at least %d", name, n), within, func() bool {
		return metric(t, metrics(ctx, t, port), name) >= n
	})
}

// TestFluentBit_IdenticalChunks checks that chunks with the same tag and the same
// bytes, which are split and retried at the same time, deliver each record once.
// OUT_KINESIS_AGG_ROUNDS repeats it with other requests that fail.
func TestFluentBit_IdenticalChunks(t *testing.T) {
	t.Parallel()
	identicalChunks(t, chunktest.JSON(chunktest.M("message", strings.Repeat("x", 3000))), "max_record_size 100000")
}

// TestFluentBit_IdenticalBatches is the same with batches. Two lines of each batch
// are as large as one after compression.
func TestFluentBit_IdenticalBatches(t *testing.T) {
	t.Parallel()
	identicalChunks(t, incompressible(1, "", 3000).JSON[0], "batch_size 8K", "compression zstd", "max_record_size 30000")
}

// TestFluentBit_IdenticalNDJSON is the same without the envelope.
func TestFluentBit_IdenticalNDJSON(t *testing.T) {
	t.Parallel()
	for _, compression := range []string{"none", "zstd"} {
		identicalChunks(t, incompressible(1, "", 3000).JSON[0], "record_format ndjson", "compression "+compression, "max_record_size 30000")
	}
}

func identicalChunks(t *testing.T, text string, options ...string) {
	const samples, copies = 30, 200
	for round := range number(t, "OUT_KINESIS_AGG_ROUNDS", 1) {
		t.Run(fmt.Sprint("round ", round+1), func(t *testing.T) {
			var total atomic.Int64
			server := fakekinesis.Start(fakekinesis.Options{Fault: throttled(30, uint64(round)), OnRecord: func(r fakekinesis.Record) {
				got := texts(t, []fakekinesis.Record{r})
				for i := range got {
					if got[i] != text {
						t.Errorf("log record %d of request %d: %.100s", i, r.Request, got[i])
					}
				}
				total.Add(int64(len(got)))
			}})
			defer server.Close()
			port, service := httpServer(t)
			input := []string{
				"[INPUT]", "Name dummy", "Tag same", "Dummy " + text, "fixed_timestamp on",
				fmt.Sprint("copies ", copies), fmt.Sprint("samples ", samples), "rate 10",
			}
			engine := startEngineIn(t, t.TempDir(),
				strings.Join(input, "\n    ")+"\n\n"+outputTo(server, append(options, "Workers 8")...), service...)
			// The engine counts the records of a chunk when the plugin returns that it
			// is delivered.
			awaitMetric(t, engine, port, `fluentbit_output_proc_records_total{name="kinesis_agg.0"}`, samples*copies, 3*time.Minute)
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			if total.Load() != samples*copies {
				t.Errorf("%d records arrived, want %d", total.Load(), samples*copies)
			}
			counts := server.Counts()
			t.Logf("%d PutRecords, %d throttled, %d retries", counts.PutRecords, counts.PutRecords-counts.Accepted,
				strings.Count(engine.Log(), "failed to flush chunk"))
		})
	}
}
