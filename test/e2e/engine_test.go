package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

// engineDeadline bounds the wait for records from Fluent Bit.
const engineDeadline = 90 * time.Second

// output is an [OUTPUT] section that writes to the stream with one worker.
func output(match, stream string, more ...string) string {
	lines := append([]string{
		"[OUTPUT]",
		"Name kinesis_agg",
		"Match " + match,
		"Retry_Limit no_limits",
		"Workers 1",
		"stream " + stream,
		"region " + harness.Region,
		"endpoint " + fixture.kinesis.Endpoint,
		"aws_key_id " + harness.AccessKeyID,
		"aws_sec_key " + harness.SecretAccessKey,
	}, more...)
	return strings.Join(lines, "\n    ") + "\n"
}

// startEngine starts Fluent Bit for a test.
func startEngine(t *testing.T, pipeline string) *harness.FluentBit {
	t.Helper()
	return startEngineIn(t, t.TempDir(), pipeline)
}

// arrived waits until n user records are in the stream.
func arrived(t *testing.T, engine *harness.FluentBit, stream string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	opened, count := 0, 0
	_, err := fixture.kinesis.ReadUntil(ctx, stream, func(all []harness.Record) (bool, error) {
		if engine.Ended() {
			return false, fmt.Errorf("fluent-bit ended")
		}
		for ; opened < len(all); opened++ {
			texts, err := open(all[opened])
			if err != nil {
				return false, fmt.Errorf("Kinesis record %d: %w", opened, err)
			}
			count += len(texts)
		}
		return count >= n, nil
	})
	if err != nil {
		t.Fatalf("%d of %d records arrived: %v\n%s", count, n, err, engine.Log())
	}
}

// shipped waits until n user records are in the stream, stops the engine, and
// returns all texts of the stream.
func shipped(t *testing.T, engine *harness.FluentBit, stream string, n int) []string {
	t.Helper()
	arrived(t, engine, stream, n)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	records := readAll(t, stream)
	texts := slices.Concat(read(t, records)...)
	t.Logf("%d records in %d PutRecords", len(texts), len(records))
	return texts
}

func TestFluentBit_Tail(t *testing.T) {
	t.Parallel()
	// Of each part the chunk fits into a record of 1 MiB, escaped or not.
	parts := [][]string{
		chunktest.AccessLog(20, 2000).JSON,
		chunktest.Kubernetes(20, 500).JSON,
		chunktest.AccessLog(21, 1).JSON,
	}
	for _, tt := range []struct {
		name, parser string
		text         func(line string) string // the record of a line
	}{
		{"json", "Parser json", func(line string) string { return line }},
		{"plain lines", "", func(line string) string { return chunktest.JSON(chunktest.M("log", line)) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			log, err := os.Create(filepath.Join(t.TempDir(), "access.log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			stream := newStream(t, 1)
			input := []string{
				"[INPUT]", "Name tail", "Tag app.access", "Path " + log.Name(), "Read_from_Head true",
				"Refresh_Interval 1", tt.parser,
			}
			engine := startEngine(t, strings.Join(input, "\n    ")+"\n\n"+output("*", stream))
			var want []string
			for _, part := range parts {
				if _, err := log.WriteString(strings.Join(part, "\n") + "\n"); err != nil {
					t.Fatal(err)
				}
				for _, line := range part {
					want = append(want, tt.text(line))
				}
				arrived(t, engine, stream, len(want))
			}
			wantSame(t, "lines", shipped(t, engine, stream, len(want)), want)
		})
	}
}

func TestFluentBit_Dummy(t *testing.T) {
	t.Parallel()
	const samples = 20
	body := chunktest.M("message", "dummy", "größe", chunktest.M("n", 1, "x", 0.5, "list", []any{true, nil, "é"}))
	stream := newStream(t, 1)
	input := []string{
		"[INPUT]", "Name dummy", "Tag dummy.one", "Dummy " + chunktest.JSON(body),
		"Rate 100", fmt.Sprintf("Samples %d", samples),
	}
	engine := startEngine(t, strings.Join(input, "\n    ")+"\n\n"+
		output("*", stream, "fixed_partition_key $TAG[1]"))
	want := slices.Repeat([]string{chunktest.JSON(body)}, samples)
	wantSame(t, "samples", shipped(t, engine, stream, samples), want)
	for _, r := range readAll(t, stream) {
		if r.PartitionKey != "one" {
			t.Errorf("partition key %q, want %q", r.PartitionKey, "one")
		}
	}
}

func TestFluentBit_Forward(t *testing.T) {
	t.Parallel()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	newer, plain, older := newStream(t, 1), newStream(t, 1), newStream(t, 1)
	engine := startEngine(t, fmt.Sprintf("[INPUT]\n    Name forward\n    Listen 127.0.0.1\n    Port %d\n\n", port)+
		output("new", newer)+"\n"+output("new", plain, "record_format ndjson")+"\n"+output("old", older))
	newEvents, oldEvents := chunktest.Kubernetes(21, 300), chunktest.Numbers(21, 300)
	forward(t, engine, port, "new", newEvents.Bytes)
	forward(t, engine, port, "old", oldEvents.LegacyBytes())

	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	for _, stream := range []string{newer, plain} {
		if _, err := fixture.kinesis.ReadUntil(ctx, stream, func(all []harness.Record) (bool, error) { return len(all) > 0, nil }); err != nil {
			t.Fatalf("no record arrived: %v\n%s", err, engine.Log())
		}
	}
	wantSame(t, "legacy events", shipped(t, engine, older, len(oldEvents.JSON)), oldEvents.JSON)
	wantSame(t, "events", slices.Concat(read(t, readAll(t, newer))...), newEvents.JSON)
	wantLines(t, plain, newEvents.JSON)
}

// forward sends a chunk in the PackedForward mode of the forward protocol,
// and waits for the acknowledgement.
func forward(t *testing.T, engine *harness.FluentBit, port int, tag string, entries []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	conn := dial(ctx, t, engine, fmt.Sprintf("127.0.0.1:%d", port))
	defer conn.Close()
	id := "chunk-of-" + tag
	message := chunktest.AppendValue(nil, []any{tag, entries, chunktest.M("chunk", id, "size", 1)})
	if _, err := conn.Write(message); err != nil {
		t.Fatal(err)
	}
	var response struct {
		Ack string `msgpack:"ack"`
	}
	if err := msgpack.NewDecoder(conn).Decode(&response); err != nil || response.Ack != id {
		t.Fatalf("the response of forward is %+v, %v; want ack %s\n%s", response, err, id, engine.Log())
	}
}

// dial connects once the engine listens.
func dial(ctx context.Context, t *testing.T, engine *harness.FluentBit, address string) net.Conn {
	t.Helper()
	deadline, _ := ctx.Deadline()
	var conn net.Conn
	await(t, engine, "connection to "+address, time.Until(deadline), func() bool {
		var err error
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err == nil
	})
	if err := conn.SetDeadline(deadline); err != nil {
		t.Fatal(err)
	}
	return conn
}

// TestFluentBit_BadOption: the engine does not start, and its log names the reason.
func TestFluentBit_BadOption(t *testing.T) {
	t.Parallel()
	engine := startEngine(t, "[INPUT]\n    Name dummy\n\n"+output("*", "s", "max_record_size 11M"))
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	if err := engine.Wait(ctx); err == nil {
		t.Errorf("fluent-bit ended without an error:\n%s", engine.Log())
	} else if ctx.Err() != nil {
		t.Fatalf("fluent-bit still runs:\n%s", engine.Log())
	}
	for _, word := range []string{"max_record_size", "11M"} {
		if !strings.Contains(engine.Log(), word) {
			t.Errorf("%s is not in the log:\n%s", word, engine.Log())
		}
	}
}
