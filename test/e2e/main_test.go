// Package e2e tests the built library: the ABI host or Fluent Bit gives it chunks,
// it sends them to kinesis-local or to fakekinesis, and readers that share no code
// with the plugin read them back.
package e2e

import (
	"bytes"
	"context"
	"crypto/md5"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	kplproto "out_kinesis_agg/proto"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

// fixture is shared by all tests.
var fixture struct {
	dir     string // for what is built
	readers string // test/kit/readers
	plugin  string // the built library
	host    string // the ABI host
	oldHost string // the ABI host as an engine before 2.0
	kinesis *harness.Kinesis
	streams atomic.Int64
}

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("e2e: skipped with -short: these tests build the plugin and start servers")
		os.Exit(0)
	}
	log.SetFlags(0)
	code, err := run(m)
	if err != nil {
		log.Fatalf("e2e: %v", err)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx := context.Background()
	root, err := harness.ModuleRoot()
	if err != nil {
		return 0, err
	}
	if fixture.readers, err = harness.ReadersDir(root); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "e2e-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	fixture.dir = dir
	if named := os.Getenv("OUT_KINESIS_AGG_SO"); named != "" {
		// Relative to the module, as a Makefile at its root means it: tests run
		// in the folder of their package.
		if !filepath.IsAbs(named) {
			named = filepath.Join(root, named)
		}
		if _, err := os.Stat(named); err != nil {
			return 0, fmt.Errorf("OUT_KINESIS_AGG_SO: %w", err)
		}
		fixture.plugin = named
	} else if fixture.plugin, err = harness.BuildPlugin(ctx, root, dir); err != nil {
		return 0, err
	}
	if fixture.host, err = harness.BuildHost(ctx, root, dir, false); err != nil {
		return 0, err
	}
	if fixture.oldHost, err = harness.BuildHost(ctx, root, dir, true); err != nil {
		return 0, err
	}
	if fixture.kinesis, err = harness.StartKinesis(ctx, fixture.readers); err != nil {
		return 0, err
	}
	defer fixture.kinesis.Stop()
	return m.Run(), nil
}

// newStream creates a stream of its own for a test.
func newStream(t *testing.T, shards int) string {
	t.Helper()
	name := fmt.Sprintf("e2e-%d", fixture.streams.Add(1))
	if err := fixture.kinesis.CreateStream(t.Context(), name, shards); err != nil {
		t.Fatal(err)
	}
	return name
}

// instance is the words of an --instance that writes to the stream, with
// further options.
func instance(stream string, options ...string) []string {
	return instanceAt(fixture.kinesis, stream, options...)
}

func instanceAt(k *harness.Kinesis, stream string, options ...string) []string {
	return append([]string{
		"--instance",
		"stream=" + stream,
		"region=" + harness.Region,
		"endpoint=" + k.Endpoint,
		"aws_key_id=" + harness.AccessKeyID,
		"aws_sec_key=" + harness.SecretAccessKey,
	}, options...)
}

// chunkFile writes a chunk to a file and returns the words of a --chunk.
func chunkFile(t *testing.T, tag string, bytes []byte) []string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "*.chunk")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return []string{"--chunk", tag + "=" + f.Name()}
}

// engineLine is a line of the engine's log.
var engineLine = regexp.MustCompile(`^\[\d{4}/\d\d/\d\d \d\d:\d\d:\d\d(\.\d+)?\] \[(error| warn| info|debug|trace)\] `)

// runHost runs the ABI host with the plugin. The plugin must have written
// nothing to stdout, to stderr only what looks like the engine's log, and no
// secret.
func runHost(t *testing.T, host string, args ...[]string) harness.HostRun {
	t.Helper()
	words := []string{fixture.plugin}
	for _, more := range args {
		words = append(words, more...)
	}
	run, err := harness.RunHost(t.Context(), host, nil, words...)
	if err != nil {
		t.Fatal(err)
	}
	if n := run.End().Int("plugin_stdout_bytes"); n != 0 {
		t.Errorf("the plugin wrote %d bytes to stdout:\n%s", n, run.Stderr)
	}
	for line := range strings.Lines(run.Stderr) {
		if !engineLine.MatchString(line) {
			t.Errorf("a line of the log is not in the engine's form: %s", line)
		}
	}
	if strings.Contains(run.Stderr, harness.SecretAccessKey) {
		t.Errorf("the secret key is in the log:\n%s", run.Stderr)
	}
	return run
}

// wantOutcomes checks the last line of a run.
func wantOutcomes(t *testing.T, run harness.HostRun, ok, failed, retry int) {
	t.Helper()
	end := run.End()
	if end.Int("ok") != ok || end.Int("error") != failed || end.Int("retry") != retry {
		t.Fatalf("flushes: %v, want ok=%d error=%d retry=%d; log:\n%s", end.Fields, ok, failed, retry, run.Stderr)
	}
}

// readAll returns the records of the stream.
func readAll(t *testing.T, stream string) []harness.Record {
	t.Helper()
	records, err := fixture.kinesis.ReadAll(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// magic is how an aggregated record begins.
const magic = "\xf3\x89\x9a\xc2"

// open parses a Kinesis record with the generated protobuf code, and checks all
// that the format and KCL require.
func open(record harness.Record) ([]string, error) {
	const trailer = md5.Size
	data := record.Data
	if len(data) < len(magic)+trailer || !bytes.HasPrefix(data, []byte(magic)) {
		return nil, fmt.Errorf("not an aggregated record: %d bytes, begin % x", len(data), data[:min(len(data), 8)])
	}
	message, sum := data[len(magic):len(data)-trailer], data[len(data)-trailer:]
	if want := md5.Sum(message); !bytes.Equal(sum, want[:]) {
		return nil, fmt.Errorf("MD5 is % x, want % x", sum, want)
	}
	var aggregate kplproto.AggregatedRecord
	if err := proto.Unmarshal(message, &aggregate); err != nil {
		return nil, err
	}
	// KCL drops the whole aggregate if the key of one user record hashes into
	// another shard: one key, the one of PutRecord.
	if keys := aggregate.PartitionKeyTable; len(keys) != 1 || keys[0] != record.PartitionKey {
		return nil, fmt.Errorf("partition keys %q, want only PutRecord's %q", keys, record.PartitionKey)
	}
	if keys := aggregate.ExplicitHashKeyTable; len(keys) != 0 {
		return nil, fmt.Errorf("explicit hash keys %q, want none", keys)
	}
	if n := len(aggregate.ProtoReflect().GetUnknown()); n != 0 {
		return nil, fmt.Errorf("%d bytes of unknown fields", n)
	}
	var texts []string
	for i, r := range aggregate.Records {
		if r.PartitionKeyIndex == nil || *r.PartitionKeyIndex != 0 || r.ExplicitHashKeyIndex != nil || len(r.Tags) != 0 {
			return nil, fmt.Errorf("record %d: %v, want partition key index 0 and no more", i, r)
		}
		texts = append(texts, string(r.Data))
	}
	return texts, nil
}

// read parses Kinesis records with the generated protobuf code and with
// aws-kinesis-agg, which must agree, and returns the texts of each.
func read(t *testing.T, records []harness.Record) [][]string {
	t.Helper()
	var all [][]string
	var flat []string
	for i, record := range records {
		texts, err := open(record)
		if err != nil {
			t.Fatalf("Kinesis record %d: %v", i, err)
		}
		all, flat = append(all, texts), append(flat, texts...)
	}
	users, err := harness.Deaggregate(t.Context(), fixture.readers, records)
	if err != nil {
		t.Fatal(err)
	}
	var others []string
	var at, sub int // the Kinesis record, and the user record in it
	for _, u := range users {
		for at < len(all) && sub == len(all[at]) {
			at, sub = at+1, 0
		}
		if at == len(all) {
			t.Fatalf("aws-kinesis-agg finds more than the %d user records there are", len(flat))
		}
		if u.PartitionKey != records[at].PartitionKey || u.SequenceNumber != records[at].SequenceNumber ||
			u.SubSequenceNumber == nil || *u.SubSequenceNumber != sub {
			t.Fatalf("aws-kinesis-agg: user record %+v, want number %d of %s, key %q",
				u, sub, records[at].SequenceNumber, records[at].PartitionKey)
		}
		others = append(others, string(u.Data))
		sub++
	}
	wantSame(t, "aws-kinesis-agg compared with the protobuf code", others, flat)
	return all
}

// wantSame compares texts in order and reports the first difference.
func wantSame(t *testing.T, what string, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("%s: record %d of %d:\n got %s\nwant %s", what, i, len(want), got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d records, want %d", what, len(got), len(want))
	}
}

// wantAggregates reads the stream: one aggregate for each list of texts, in
// any order, each list in its own order.
func wantAggregates(t *testing.T, stream string, want ...[]string) []harness.Record {
	t.Helper()
	const separator = "\n" // JSON texts of the plugin have none
	missing := map[string]int{}
	for _, texts := range want {
		missing[strings.Join(texts, separator)]++
	}
	records := readAll(t, stream)
	aggregates := read(t, records)
	if len(want) == 1 && len(aggregates) == 1 {
		wantSame(t, "aggregate", aggregates[0], want[0]) // its message has more details
	}
	for i, texts := range aggregates {
		key := strings.Join(texts, separator)
		if missing[key] == 0 {
			t.Fatalf("stream %s: aggregate %d is not a chunk that was sent, or arrived once too often: %d records, first %.200s",
				stream, i, len(texts), key)
		}
		missing[key]--
	}
	if len(aggregates) != len(want) {
		t.Fatalf("stream %s: %d aggregates, want %d", stream, len(aggregates), len(want))
	}
	return records
}

// wantLines reads a stream whose records have no envelope: one record for each list of
// texts, in any order. Its data is the texts, each with a newline.
func wantLines(t *testing.T, stream string, want ...[]string) {
	t.Helper()
	var got, wanted []string
	for _, r := range readAll(t, stream) {
		got = append(got, string(r.Data))
	}
	for _, texts := range want {
		wanted = append(wanted, strings.Join(texts, "\n")+"\n")
	}
	slices.Sort(got)
	slices.Sort(wanted)
	wantSame(t, "records without the envelope, sorted", got, wanted)
}

// send flushes chunks under one tag each through an instance for each format of Kinesis
// records, which must deliver all of them, and checks the streams.
func send(t *testing.T, host string, flags []string, corpora ...chunktest.Corpus) {
	t.Helper()
	stream, plain := newStream(t, 1), newStream(t, 1)
	args := [][]string{flags, instance(stream), instance(plain, "record_format=ndjson")}
	var want [][]string
	for i, c := range corpora {
		args = append(args, chunkFile(t, fmt.Sprintf("app.log%d", i), c.Bytes))
		want = append(want, c.JSON)
	}
	run := runHost(t, host, args...)
	wantOutcomes(t, run, 2*len(corpora), 0, 0)
	wantAggregates(t, stream, want...)
	wantLines(t, plain, want...)
}
