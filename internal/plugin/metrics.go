package plugin

import (
	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
)

// metrics are those of an instance. They are safe for concurrent use.
type metrics struct {
	chunks            engine.CounterVec // by outcome
	splitChunks       engine.Counter
	logRecords        engine.Counter
	userRecords       engine.Counter
	putRecords        engine.Counter
	chunkBytes        engine.Counter
	uncompressedBytes engine.Counter
	recordBytes       engine.Counter
	dropped           engine.CounterVec // by reason
	failures          engine.CounterVec // by cause
	seconds           engine.Histogram
	autoStreams       engine.Counter
	heldFlushes       engine.Counter
	autoLines         engine.Counter
}

func newMetrics(m engine.Meter) metrics {
	return metrics{
		chunks: m.CounterVec("chunks_total", "Flushes of chunks, by outcome.",
			"outcome", Delivered.String(), Retry.String(), Undeliverable.String()),
		splitChunks:       m.Counter("split_chunks_total", "Chunks that were sent as several records."),
		logRecords:        m.Counter("log_records_total", "Log records that Kinesis accepted."),
		userRecords:       m.Counter("user_records_total", "User records that Kinesis accepted: log records, or batches of them."),
		putRecords:        m.Counter("put_records_total", "PutRecord requests that succeeded, each with one Kinesis record."),
		chunkBytes:        m.Counter("chunk_bytes_total", "Bytes of msgpack in chunks that Kinesis accepted."),
		uncompressedBytes: m.Counter("uncompressed_bytes_total", "Bytes of user records that Kinesis accepted, before compression."),
		recordBytes:       m.Counter("record_bytes_total", "Bytes of data in Kinesis records that Kinesis accepted."),
		dropped: m.CounterVec("dropped_records_total",
			"Log records, or unreadable parts of chunks, that were not sent, by reason.", "reason", lossReasons()...),
		failures: m.CounterVec("put_record_failures_total", "PutRecord requests that failed, by cause.",
			"cause", kinesis.CauseNames()...),
		autoStreams: m.Counter("auto_stream_detections_total", "Times that a stream was found to have the record distribution strategy AUTO."),
		heldFlushes: m.Counter("held_flushes_total", "Flushes that sent nothing, because the stream has the strategy AUTO."),
		autoLines:   m.Counter("auto_stream_ndjson_records_total", "Records that were sent without the KPL format, because the stream has the strategy AUTO."),
		// Within a region, a response takes 10 to 100 ms. The default of
		// request_timeout is 30 s.
		seconds: m.Histogram("put_record_seconds", "Duration of PutRecord requests, including those that failed.",
			0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
	}
}

// accepted counts a part that Kinesis accepted, which is chunkBytes of its chunk.
func (m *metrics) accepted(part aggregator.Result, chunkBytes int) {
	m.putRecords.Add(1)
	m.logRecords.Add(part.LogRecords)
	m.userRecords.Add(part.UserRecords)
	m.chunkBytes.Add(chunkBytes)
	m.uncompressedBytes.Add(part.UncompressedBytes)
	m.recordBytes.Add(len(part.Data))
}

// lossKinds has the words for each aggregator.LossReason.
var lossKinds = [aggregator.LossReasons]struct {
	label      string // the value of the label reason
	text       string // in a log line
	unreadable bool   // by the aggregator, as opposed to readable but unwanted
}{
	aggregator.Unreadable: {"unreadable", "the rest of the chunk, which is truncated or not msgpack", true},
	aggregator.NotEvent:   {"not_an_event", "values that are not log events", true},
	aggregator.TooDeep:    {"too_deep", "records that are nested too deeply", true},
	aggregator.TooLarge:   {"too_large", "records that are too large for a record of the stream", false},
	aggregator.NoLogKey:   {"no_log_key", "records without the key in log_key", false},
	aggregator.NoDataKey:  {"no_data_key", "records without any of the keys in data_keys", false},
}

func lossReasons() []string {
	var reasons []string
	for _, kind := range lossKinds {
		reasons = append(reasons, kind.label)
	}
	return reasons
}
