// Package consumers reads records without the KPL envelope with code of programs that
// do not know KPL: Telegraf's parser, and the scanner of Redpanda Connect. It is a
// module of its own, because only these tests need their dependencies.
package consumers

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/influxdata/telegraf"
	telegrafjson "github.com/influxdata/telegraf/plugins/parsers/json"
	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure/extended"
	"github.com/redpanda-data/benthos/v4/public/service"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/kit/chunktest"
)

// batch returns the log records of a chunk, and its record without the envelope.
func batch(t *testing.T, format compression.Format) (lines []string, record []byte) {
	t.Helper()
	c := chunktest.AccessLog(1, 500)
	create, err := aggregator.Factory(aggregator.Transform{Format: aggregator.NDJSON, Compression: format})
	if err != nil {
		t.Fatal(err)
	}
	r := create().Build(aggregator.Chunk{Tag: "app", Data: c.Bytes}, 0, "key", aggregator.Limit{RecordMax: 1 << 20, SingleRecordMax: 1 << 20})
	if r.Next != len(c.Bytes) {
		t.Fatalf("the record ends at byte %d of %d", r.Next, len(c.Bytes))
	}
	return c.JSON, r.Data
}

// TestTelegraf_JSON: the parser `json` reads one line, and refuses several: it wants one
// JSON value in each Kinesis record.
func TestTelegraf_JSON(t *testing.T) {
	_, record := batch(t, compression.None)
	parser := &telegrafjson.Parser{MetricName: "logs", Log: silent{}}
	if err := parser.Init(); err != nil {
		t.Fatal(err)
	}
	line, rest, _ := bytes.Cut(record, []byte("\n"))
	if metrics, err := parser.Parse(line); err != nil || len(metrics) != 1 {
		t.Errorf("one line: %d metrics, %v", len(metrics), err)
	}
	if metrics, err := parser.Parse(rest); err == nil {
		t.Errorf("several lines: %d metrics, and no error: change docs/reading.md and docs/migrating.md", len(metrics))
	}
}

// silent drops what Telegraf logs.
type silent struct{ telegraf.Logger }

// TestRedpandaConnect_Lines: the scanner `lines` returns each log record, and the
// scanner `decompress` before it reads compressed batches.
func TestRedpandaConnect_Lines(t *testing.T) {
	for format, scanner := range map[compression.Format]string{
		compression.None: "lines: {}",
		compression.Gzip: "decompress: {algorithm: gzip, into: {lines: {}}}",
		compression.Zstd: "decompress: {algorithm: zstd, into: {lines: {}}}",
	} {
		t.Run(string(format), func(t *testing.T) {
			lines, record := batch(t, format)
			path := filepath.Join(t.TempDir(), "record")
			if err := os.WriteFile(path, record, 0o600); err != nil {
				t.Fatal(err)
			}
			builder := service.NewStreamBuilder()
			if err := builder.AddInputYAML(fmt.Sprintf("file: {paths: [%q], scanner: {%s}}", path, scanner)); err != nil {
				t.Fatal(err)
			}
			if err := builder.SetLoggerYAML("level: NONE"); err != nil {
				t.Fatal(err)
			}
			var got []string
			err := builder.AddConsumerFunc(func(_ context.Context, m *service.Message) error {
				text, err := m.AsBytes()
				got = append(got, string(bytes.Clone(text)))
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := builder.Build()
			if err != nil {
				t.Fatal(err)
			}
			if err := stream.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, lines) {
				t.Fatalf("%d lines of %d, or others", len(got), len(lines))
			}
		})
	}
}
