package interop

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/kit/chunktest"
)

// TestReaders_ReadBatches: all readers agree, byte for byte, on the user records of
// batches in every format, and these contain each log record once and in order. The
// largest are as large as a record of the default size. A record without the envelope
// is one batch to all of them.
func TestReaders_ReadBatches(t *testing.T) {
	readers := tools(t)
	g := newGenerator()
	var records []Record
	var want []Group
	for _, format := range compression.Formats() {
		for _, transform := range []aggregator.Transform{
			{BatchBytes: 1}, {BatchBytes: 10_000}, {BatchBytes: 256_000}, {BatchBytes: 1 << 20}, {Format: aggregator.NDJSON},
		} {
			transform.Compression = format
			create, err := aggregator.Factory(transform)
			if err != nil {
				t.Fatal(err)
			}
			a := create()
			for i, c := range append(slices.Clone(g.corpus), chunktest.LongText(seed, 2000)) {
				limit := aggregator.Limit{RecordMax: 50_000, SingleRecordMax: kpl.DefaultMaxRecordBytes}
				if i == 0 {
					limit.RecordMax = kpl.DefaultMaxRecordBytes
				}
				var logs []string
				for from := 0; from < len(c.Bytes); {
					key := g.key()
					part := a.Build(aggregator.Chunk{Data: c.Bytes}, from, key, limit)
					r := Record{key, "0", largest, bytes.Clone(part.Data)}
					group := Group{Plain: true, Users: []User{{Key: key, Data: r.Data}}}
					if transform.Format != aggregator.NDJSON {
						if group, err = open(r); err != nil {
							t.Fatal(err)
						}
					}
					logs = append(logs, lines(t, group, format)...)
					records, want = append(records, r), append(want, group)
					from = part.Next
				}
				if !slices.Equal(logs, c.JSON) {
					t.Fatalf("%s, %+v: %d log records of %d, or others", format, transform, len(logs), len(c.JSON))
				}
			}
		}
	}
	t.Logf("%d Kinesis records", len(records))
	for _, reader := range readers {
		t.Run(reader.name, func(t *testing.T) {
			for n, got := range reader.read(t, records) {
				if err := same(got, want[n]); err != nil {
					t.Fatalf("Kinesis record %d: %v", n, err)
				}
			}
		})
	}
}

// lines returns the log records of a group.
func lines(t *testing.T, g Group, format compression.Format) (all []string) {
	t.Helper()
	var decoder decompress.Decoder
	for i, u := range g.Users {
		text, err := decoder.Append(nil, u.Data, format)
		if err != nil {
			t.Fatal(fmt.Errorf("user record %d: %w", i, err))
		}
		for line := range decompress.Lines(text) {
			all = append(all, string(line))
		}
	}
	return all
}
