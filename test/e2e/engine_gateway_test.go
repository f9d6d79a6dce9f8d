package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
)

// TestFluentBit_RequestTooLarge checks that all log records arrive through a gateway
// that refuses requests of 700 KiB with HTTP 413, each of them once, in both formats.
func TestFluentBit_RequestTooLarge(t *testing.T) {
	t.Parallel()
	const samples, copies = 4, 500 // chunks of 1.5 MB
	var mu sync.Mutex
	total := map[string]int{}
	server := fakekinesis.Start(fakekinesis.Options{
		Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
			if r.ContentLength > 700<<10 {
				return fakekinesis.Status(413)
			}
			return fakekinesis.OK
		},
		OnRecord: func(r fakekinesis.Record) {
			if err := wantFormat(r, r.Stream); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total[r.Stream] += len(texts(t, []fakekinesis.Record{r}))
		},
	})
	defer server.Close()
	port, service := httpServer(t)
	input := []string{
		"[INPUT]", "Name dummy", "Tag app", "Dummy " + chunktest.JSON(chunktest.M("message", strings.Repeat("x", 3000))),
		fmt.Sprint("copies ", copies), fmt.Sprint("samples ", samples), "rate 10",
	}
	engine := startEngineIn(t, t.TempDir(), strings.Join(input, "\n    ")+"\n\n"+outputsTo(server.URL(), "*"), service...)
	for _, format := range aggregator.Formats() {
		awaitMetric(t, engine, port, fmt.Sprintf(`fluentbit_output_proc_records_total{name="%s"}`, format), samples*copies, time.Minute)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	for _, format := range aggregator.Formats() {
		if n := total[string(format)]; n != samples*copies {
			t.Errorf("%s: %d log records arrived, want %d", format, n, samples*copies)
		}
	}
	const advice = "set max_record_size below three quarters of it"
	if log := engine.Log(); strings.Count(log, advice) != len(aggregator.Formats()) || strings.Contains(log, "failed to flush chunk") {
		t.Errorf("log: %.5000s", log)
	}
}
