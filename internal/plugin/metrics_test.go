package plugin

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
)

// counts is a Meter whose values a test can read. It is for one goroutine.
type counts map[string]int

func (c counts) Counter(name, _ string) engine.Counter { return count{c, name} }

func (c counts) CounterVec(name, _, label string, values ...string) engine.CounterVec {
	return countVec{c, name, label, values}
}

func (c counts) Histogram(name, _ string, _ ...float64) engine.Histogram { return count{c, name} }

func (c counts) Release() {}

type count struct {
	counts
	name string
}

func (c count) Add(n int) { c.counts[c.name] += n }

func (c count) Observe(v float64) {
	if v < 0 {
		panic(v)
	}
	c.counts[c.name]++
}

type countVec struct {
	counts
	name, label string
	values      []string
}

func (v countVec) With(value string) engine.Counter {
	if !slices.Contains(v.values, value) {
		panic(fmt.Sprintf("%s has no %s %q", v.name, v.label, value))
	}
	return count{v.counts, v.name + " " + value}
}

// uncounted is a Meter for tests of other things.
type uncounted struct{}

func (u uncounted) Counter(string, string) engine.Counter                          { return u }
func (u uncounted) CounterVec(string, string, string, ...string) engine.CounterVec { return u }
func (u uncounted) Histogram(string, string, ...float64) engine.Histogram          { return u }
func (u uncounted) With(string) engine.Counter                                     { return u }
func (uncounted) Add(int)                                                          {}
func (uncounted) Observe(float64)                                                  {}
func (uncounted) Release()                                                         {}

func TestMetrics_Counts(t *testing.T) {
	c := chunktest.AccessLog(1, 200)
	s := &fakeStream{t: t, fail: at(2)}
	in, _ := start(t, s.put, "max_record_size", "10K")
	got := counts{}
	in.metrics = newMetrics(got)

	if in.Flush("app.log", c.Bytes) != Retry || in.Flush("app.log", c.Bytes) != Delivered {
		t.Fatal("not delivered with one retry")
	}
	recordBytes := 0
	for _, size := range s.sizes {
		recordBytes += size - 36 // the random key
	}
	want := counts{
		"chunks_total delivered":            1,
		"chunks_total retry":                1,
		"split_chunks_total":                1,
		"log_records_total":                 len(c.JSON),
		"user_records_total":                len(c.JSON),
		"uncompressed_bytes_total":          c.JSONBytes(),
		"put_records_total":                 len(s.sizes),
		"put_record_seconds":                len(s.sizes) + 1,
		"put_record_failures_total unknown": 1,
		"chunk_bytes_total":                 len(c.Bytes),
		"record_bytes_total":                recordBytes,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	clear(got)
	damaged := chunktest.New().Value(7).Value("x").Event(1, chunktest.M("n", 1)).Raw(0xc1).Bytes()
	if in.Flush("app.log", damaged) != Delivered || in.Flush("app.log", []byte{0xc1}) != Undeliverable {
		t.Fatal("other outcomes")
	}
	want = counts{
		"chunks_total delivered":             1,
		"chunks_total error":                 1,
		"log_records_total":                  1,
		"user_records_total":                 1,
		"uncompressed_bytes_total":           len(`{"n":1}`),
		"put_records_total":                  1,
		"put_record_seconds":                 1,
		"chunk_bytes_total":                  len(damaged),
		"record_bytes_total":                 kpl.HeadBytes(testKey) + kpl.RecordBytes(len(`{"n":1}`)) + kpl.DigestBytes,
		"dropped_records_total not_an_event": 2,
		"dropped_records_total unreadable":   2,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

const testKey = "5a2f8c1e-0b4d-4f6a-9c3e-7d1b2a3c4d5e"

// Each reason of a loss has a row in the documents, and the alert tells them apart.
func TestLosses_Documented(t *testing.T) {
	for file, format := range map[string]string{
		"../../docs/metrics.md":         "`%s`",
		"../../docs/troubleshooting.md": "\n| `%s` |",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, reason := range lossReasons() {
			if row := fmt.Sprintf(format, reason); !strings.Contains(string(text), row) {
				t.Errorf("%s does not have %q", file, row)
			}
		}
	}
	rules, err := os.ReadFile("../../deploy/prometheus/rules.yaml")
	if err != nil || !strings.Contains(string(rules), "by (instance, name, reason) (increase(fluentbit_kinesis_agg_dropped_records_total[") {
		t.Errorf("no alert for each reason: %v", err)
	}
}
