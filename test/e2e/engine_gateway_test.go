package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
)

// TestFluentBit_RequestTooLarge checks that all log records arrive through a gateway
// that refuses requests of 700 KiB with HTTP 413, each of them once.
func TestFluentBit_RequestTooLarge(t *testing.T) {
	t.Parallel()
	const samples, copies = 4, 500 // chunks of 1.5 MB
	var total atomic.Int64
	server := fakekinesis.Start(fakekinesis.Options{
		Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
			if r.ContentLength > 700<<10 {
				return fakekinesis.Status(413)
			}
			return fakekinesis.OK
		},
		OnRecord: func(r fakekinesis.Record) { total.Add(int64(len(texts(t, []fakekinesis.Record{r})))) },
	})
	defer server.Close()
	port, service := httpServer(t)
	input := []string{
		"[INPUT]", "Name dummy", "Tag app", "Dummy " + chunktest.JSON(chunktest.M("message", strings.Repeat("x", 3000))),
		fmt.Sprint("copies ", copies), fmt.Sprint("samples ", samples), "rate 10",
	}
	engine := startEngineIn(t, t.TempDir(), strings.Join(input, "\n    ")+"\n\n"+outputTo(server), service...)
	awaitMetric(t, engine, port, `fluentbit_output_proc_records_total{name="kinesis_agg.0"}`, samples*copies, time.Minute)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	if n := total.Load(); n != samples*copies {
		t.Errorf("%d log records arrived, want %d", n, samples*copies)
	}
	if log := engine.Log(); !strings.Contains(log, "set max_record_size below three quarters of it") || strings.Contains(log, "failed to flush chunk") {
		t.Errorf("log: %.5000s", log)
	}
}
