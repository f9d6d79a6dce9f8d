// Package consumers reads records without the KPL envelope with code of programs that
// do not know KPL: Telegraf's parser, and processors of Redpanda Connect. It is a
// module of its own, because only these tests need their dependencies.
package consumers

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

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

// record returns the log records of a chunk, and its Kinesis record.
func record(t *testing.T, transform aggregator.Transform) (lines []string, data []byte) {
	t.Helper()
	c := chunktest.AccessLog(1, 500)
	create, err := aggregator.Factory(transform)
	if err != nil {
		t.Fatal(err)
	}
	r := create().Build(aggregator.Chunk{Tag: "app", Data: c.Bytes}, 0, "key", aggregator.Limit{RecordMax: 1 << 20, SingleRecordMax: 1 << 20})
	if r.Next != len(c.Bytes) {
		t.Fatalf("the record ends at byte %d of %d", r.Next, len(c.Bytes))
	}
	return c.JSON, r.Data
}

// TestTelegraf_JSON: the parser `json` reads one line, and refuses several and aggregated
// records: it wants one JSON value in each Kinesis record.
func TestTelegraf_JSON(t *testing.T) {
	_, batch := record(t, aggregator.Transform{Format: aggregator.NDJSON})
	_, aggregated := record(t, aggregator.Transform{})
	parser := &telegrafjson.Parser{MetricName: "logs", Log: silent{}}
	if err := parser.Init(); err != nil {
		t.Fatal(err)
	}
	line, rest, _ := bytes.Cut(batch, []byte("\n"))
	if metrics, err := parser.Parse(line); err != nil || len(metrics) != 1 {
		t.Errorf("one line: %d metrics, %v", len(metrics), err)
	}
	for what, data := range map[string][]byte{"several lines": rest, "an aggregated record": aggregated} {
		if metrics, err := parser.Parse(data); err == nil {
			t.Errorf("%s: %d metrics, and no error: change docs/reading.md and docs/migrating.md", what, len(metrics))
		}
	}
}

// silent drops what Telegraf logs.
type silent struct{ telegraf.Logger }

// TestRedpandaConnect_Lines: the input aws_kinesis passes on a Kinesis record as a message,
// and has no scanner. The processors of docs/reading.md decompress it, take it apart into
// lines, and drop the empty line after the last newline.
func TestRedpandaConnect_Lines(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reading.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\npipeline:\n  processors:\n")
	block, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("docs/reading.md has no pipeline")
	}
	for _, format := range []compression.Format{compression.None, compression.Gzip, compression.Zlib, compression.Zstd} {
		var processors []string
		for line := range strings.Lines(block) {
			processor := strings.TrimPrefix(strings.TrimSpace(line), "- ")
			if format != compression.None || !strings.HasPrefix(processor, "decompress") {
				processors = append(processors, strings.Replace(processor, "zstd", string(format), 1))
			}
		}
		t.Run(string(format), func(t *testing.T) {
			lines, batch := record(t, aggregator.Transform{Format: aggregator.NDJSON, Compression: format})
			builder := service.NewStreamBuilder()
			send, err := builder.AddProducerFunc()
			if err != nil {
				t.Fatal(err)
			}
			for _, processor := range processors {
				if err := builder.AddProcessorYAML(processor); err != nil {
					t.Fatal(err)
				}
			}
			if err := builder.SetLoggerYAML("level: NONE"); err != nil {
				t.Fatal(err)
			}
			var got []string
			err = builder.AddConsumerFunc(func(_ context.Context, m *service.Message) error {
				text, err := m.AsBytes()
				got = append(got, string(bytes.Clone(text)))
				return errors.Join(err, m.GetError())
			})
			if err != nil {
				t.Fatal(err)
			}
			stream, err := builder.Build()
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- stream.Run(t.Context()) }()
			if err := send(t.Context(), service.NewMessage(batch)); err != nil {
				t.Fatal(err)
			}
			if err := stream.StopWithin(time.Minute); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, lines) {
				t.Fatalf("%d lines of %d, or others: %q", len(got), len(lines), got[max(len(got)-2, 0):])
			}
		})
	}
}
