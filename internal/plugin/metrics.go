package plugin

import (
	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/kinesis"
)

// Meter creates the metrics of an instance, as engine.Output does.
type Meter interface {
	Counter(name, help, label string, values ...string) func(value string, n int)
	Histogram(name, help string, bounds ...float64) func(v float64)
	// Release ends the use of what the other methods returned.
	Release()
}

// metrics are what an instance counts. Safe for concurrent use.
type metrics struct {
	chunks         func(outcome string, n int)
	splitChunks    func(_ string, n int)
	records        func(_ string, n int)
	putRecords     func(_ string, n int)
	chunkBytes     func(_ string, n int)
	aggregateBytes func(_ string, n int)
	dropped        func(reason string, n int)
	failures       func(cause string, n int)
	seconds        func(v float64)
}

func newMetrics(m Meter) metrics {
	return metrics{
		chunks: m.Counter("chunks_total", "Chunks flushed, by what became of them.",
			"outcome", "delivered", "retry", "error"),
		splitChunks: m.Counter("split_chunks_total", "Chunks that were too large for one record.", ""),
		records:     m.Counter("user_records_total", "User records that Kinesis has taken.", ""),
		putRecords:  m.Counter("put_records_total", "PutRecord calls that succeeded, one aggregated record each.", ""),
		chunkBytes: m.Counter("chunk_bytes_total",
			"Bytes of the chunks, in msgpack, that Kinesis has taken.", ""),
		aggregateBytes: m.Counter("aggregate_bytes_total",
			"Bytes of the aggregated records that Kinesis has taken.", ""),
		dropped: m.Counter("dropped_records_total",
			"User records, or stretches of a chunk that cannot be read, that were not sent.", "reason", lossReasons()...),
		failures: m.Counter("put_record_failures_total", "PutRecord calls that failed.",
			"cause", kinesis.Causes()...),
		// Within a region an answer takes 10 to 100 ms; request_timeout is 30 s.
		seconds: m.Histogram("put_record_seconds", "Time that a PutRecord took, failed ones included.",
			0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
	}
}

// String is the value of the label outcome.
func (o Outcome) String() string {
	return [...]string{"delivered", "retry", "error"}[o]
}

// loss is one kind of what is not sent.
type loss struct {
	aggregator.Loss
	reason     string // the value of the label reason
	what       string // in a log line
	unreadable bool   // as opposed to readable, but not wanted
}

// losses lists what a part has lost, each kind with its count, which can be 0.
func losses(p aggregator.Result) []loss {
	return []loss{
		{p.Unreadable, "unreadable", "the rest of the chunk, which is truncated or not msgpack", true},
		{p.NotEvents, "not_an_event", "values that are not log events", true},
		{p.TooDeep, "too_deep", "records that are nested too deeply", true},
		{p.TooLarge, "too_large", "records that are too large for a record of the stream", false},
		{p.NoLogKey, "no_log_key", "records without the key in log_key", false},
	}
}

func lossReasons() []string {
	var reasons []string
	for _, l := range losses(aggregator.Result{}) {
		reasons = append(reasons, l.reason)
	}
	return reasons
}
