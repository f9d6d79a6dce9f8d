package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
)

// TestFluentBit_AutoStream switches a stream to the strategy AUTO while the engine
// delivers: within 100 PutRecords the plugin notices it from the responses and holds
// the chunks. It continues by itself when the strategy is switched back, and nothing
// is lost or repeated. With and without the permission to describe the stream. An
// output with record_format ndjson delivers to that stream all the time.
func TestFluentBit_AutoStream(t *testing.T) {
	denied := fakekinesis.Error(400, "AccessDeniedException", "not authorized to perform: kinesis:DescribeStreamSummary")
	for name, fault := range map[string]*fakekinesis.Fault{"permitted": nil, "not permitted": &denied} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KINESIS_AGG_CHECK_INTERVAL", "1s")
			const lines, mostRecords = 3000, 100
			var auto atomic.Bool
			var mu sync.Mutex
			arrived := map[string]int{}
			plain := map[string]int{} // log records that arrived without the envelope
			sinceSwitch := 0          // records with user records
			server := fakekinesis.Start(fakekinesis.Options{
				Shards: 8, Auto: auto.Load, DescribeFault: fault,
				OnRecord: func(r fakekinesis.Record) {
					texts, err := logRecords(r)
					if err := errors.Join(err, wantFormat(r, r.Stream)); err != nil {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if r.Stream == "ndjson" {
						for _, text := range texts {
							plain[text]++
						}
						return
					}
					for _, text := range texts {
						arrived[text]++
					}
					if auto.Load() && len(texts) > 0 {
						sinceSwitch++
					}
				},
			})
			defer server.Close()
			log := filepath.Join(t.TempDir(), "app.log")
			written := 0
			write := func() {
				f, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				for range lines {
					fmt.Fprintln(f, chunktest.JSON(chunktest.M("id", written)))
					written++
				}
			}
			count := func() int {
				mu.Lock()
				defer mu.Unlock()
				return len(arrived)
			}
			write()
			engine := startEngine(t, "[INPUT]\n    Name tail\n    Tag app\n    Path "+log+"\n    Read_from_Head true\n    Refresh_Interval 1\n    Parser json\n\n"+
				outputsTo(server.URL(), "*", "Workers 2", "max_record_size 1K"))
			await(t, engine, "first lines", engineDeadline, func() bool { return count() == written })
			auto.Store(true)
			write()
			const detected = "has the record distribution strategy AUTO"
			awaitLog(t, engine, detected, engineDeadline)
			// Several flushes have been held since.
			await(t, engine, "retries", engineDeadline, func() bool { return strings.Count(engine.Log(), "failed to flush chunk") >= 4 })
			mu.Lock()
			if sinceSwitch > mostRecords {
				t.Errorf("%d records were sent after the switch, want at most %d", sinceSwitch, mostRecords)
			}
			t.Logf("%d records were sent after the switch", sinceSwitch)
			mu.Unlock()
			if count() == written {
				t.Fatal("all lines arrived before the detection: nothing was held")
			}
			await(t, engine, "all lines without the envelope", engineDeadline, func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(plain) == written
			})
			auto.Store(false)
			await(t, engine, "rest of the lines", engineDeadline, func() bool { return count() == written })
			if !strings.Contains(engine.Log(), "has user partition keys, delivery continues") {
				t.Errorf("the log does not say that delivery continues:\n%s", engine.Log())
			}
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			for text, n := range arrived {
				if n != 1 || plain[text] != 1 {
					t.Fatalf("%d copies of %s, and %d without the envelope", n, text, plain[text])
				}
			}
		})
	}
}
