package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/consumertest"
)

// aggregates returns what the plugin writes for a chunk with these options.
func aggregates(t *testing.T, transform aggregator.Transform, data []byte) (all []string) {
	t.Helper()
	create, err := aggregator.Factory(transform)
	if err != nil {
		t.Fatal(err)
	}
	a := create()
	for from := 0; from < len(data); {
		r := a.Build(aggregator.Chunk{Data: data}, from, "k", aggregator.Limit{RecordMax: 5000, SingleRecordMax: 1 << 20})
		all = append(all, string(r.Data))
		from = r.Next
	}
	return all
}

// catRecords runs kplcat on records in one shard.
func catRecords(t *testing.T, records []string, args ...string) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Page: 2}
		f.Put(f.Add("shardId-000000000000"), records...)
		r = kplcat(t, f, nil, args...)
	})
	return r
}

// A stream may hold batches and single log records in all formats: the options of a
// fleet do not change at the same time.
func TestBatch_PrintsLogRecords(t *testing.T) {
	for _, format := range compression.Formats() {
		var records, want []string
		aggregated := 0
		for i, transform := range []aggregator.Transform{{}, {AppendNewline: true}, {BatchBytes: 1}, {BatchBytes: 2000}, {BatchBytes: 1 << 20}, {Format: aggregator.NDJSON}, {Format: aggregator.NDJSON, BatchBytes: 2000}} {
			c := chunktest.Kubernetes(uint64(i), 100)
			transform.Compression = format
			records = append(records, aggregates(t, transform, c.Bytes)...)
			want = append(want, c.JSON...)
			if transform.Format != aggregator.NDJSON {
				aggregated = len(records)
			}
		}
		var args []string
		if decompress.Detect([]byte(records[len(records)-1])) != format {
			args = []string{"--decompress", string(format)}
		}
		catRecords(t, records, args...).lines(t, want...)

		limited := append(args, "--limit", fmt.Sprint(len(want)-30), "--follow")
		catRecords(t, records, limited...).lines(t, want[:len(want)-30]...)

		r := catRecords(t, records, append(args, "--stats")...)
		var fields []string
		for line := range strings.Lines(r.out) {
			fields = strings.Fields(line)
		}
		if r.err != nil || fields[1] != fmt.Sprint(aggregated) || fields[2] != fmt.Sprint(len(records)-aggregated) || fields[5] != fmt.Sprint(len(want)) {
			t.Errorf("%s: %v, want %d aggregated and %d log records:\n%s", format, r.err, aggregated, len(want), r.out)
		}
		if mean := fmt.Sprintf("%.1f", float64(len(want))/float64(len(records))); fields[8] != mean {
			t.Errorf("%s: %s log records in a record, want %s:\n%s", format, fields[8], mean, r.out)
		}
	}
}

func TestBatch_Positions(t *testing.T) {
	batches := []string{"{\"n\":0}\n{\"n\":1}\n", "{\"n\":2}\n", "{\"n\":3}"}
	records := []string{consumertest.Aggregate("k", batches...), "{\"n\":4}\ntext\n"}
	r := catRecords(t, records, "--json")
	var got []string
	for line := range strings.Lines(r.out) {
		_, at, _ := strings.Cut(line, `"sequence":`)
		at, _, _ = strings.Cut(at, `,"arrival"`)
		_, data, _ := strings.Cut(line, `"data":`)
		got = append(got, at+" "+strings.TrimSpace(data))
	}
	result{out: strings.Join(got, "\n"), err: r.err}.lines(t,
		`"100","sub_sequence":0,"line":0 {"n":0}}`,
		`"100","sub_sequence":0,"line":1 {"n":1}}`,
		`"100","sub_sequence":1,"line":0 {"n":2}}`,
		`"100","sub_sequence":2 {"n":3}}`,
		`"101","line":0 {"n":4}}`,
		`"101","line":1 "text"}`)
}

// What ends with a newline is not always a batch.
func TestBatch_WhatIsSplit(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		args []string
		want []string // JSON of the data
	}{
		"JSON in several lines":      {"{\"a\":\n1}\n", nil, []string{`"data":{"a":1}}`}},
		"binary data":                {"\xff\n\xfe\n", nil, []string{`"base64":"/wr+Cg=="}`}},
		"text of a log_key":          {"one\n two", nil, []string{`"data":"one\n two"}`}},
		"log_key and append_newline": {"one\n two\n", []string{"--no-split"}, []string{`"data":"one\n two\n"}`}},
		"empty lines":                {"\n\n", nil, []string{`"data":""}`, `"data":""}`}},
		"carriage return":            {"{}\r\n{}\n", nil, []string{`"data":{}}`, `"data":{}}`}},
		"empty":                      {"", nil, []string{`"data":""}`}},
	} {
		t.Run(name, func(t *testing.T) {
			r := catRecords(t, []string{consumertest.Aggregate("k", test.text)}, append(test.args, "--json")...)
			var got []string
			for line := range strings.Lines(r.out) {
				_, data, _ := strings.Cut(strings.TrimSpace(line), `"key":"k",`)
				got = append(got, data)
			}
			result{out: strings.Join(got, "\n"), err: r.err}.lines(t, test.want...)
		})
	}
}

// A damaged user record is reported with its place, and the others are printed.
func TestBatch_Damage(t *testing.T) {
	c := chunktest.Kubernetes(1, 50)
	for _, format := range compression.Formats()[1:] {
		data := aggregates(t, aggregator.Transform{BatchBytes: 1 << 20, Compression: format}, c.Bytes)
		var users []string
		for _, record := range consumerRecords(t, data) {
			for _, user := range record {
				users = append(users, user[:len(user)-20])
			}
		}
		if decompress.Detect([]byte(users[0])) != format {
			continue // Snappy: text could be damaged as well.
		}
		for _, args := range [][]string{nil, {"--json"}, {"--stats"}, {"--decompress", string(format)}} {
			r := catRecords(t, []string{consumertest.Aggregate("k", "before", users[0]), "after"}, args...)
			if r.err == nil || !strings.Contains(r.err.Error(), "1 user record is damaged: --decompress none") {
				t.Errorf("%s %q: %v", format, args, r.err)
			}
			if !strings.Contains(r.log, "kplcat: shardId-000000000000 100, sub-sequence number 1: skipped: decompress: "+string(format)+": ") {
				t.Errorf("%s %q: log %q", format, args, r.log)
			}
			if args == nil && r.out != "before\nafter\n" {
				t.Errorf("%s: printed %q", format, r.out)
			}
		}
		r := catRecords(t, []string{consumertest.Aggregate("k", users[0])}, "--decompress", "none", "--no-split")
		if r.err != nil || r.out != users[0]+"\n" && r.out != users[0] {
			t.Errorf("%s with --decompress none: %v, %d bytes", format, r.err, len(r.out))
		}
	}
}

func TestBatch_Truncated(t *testing.T) {
	record := consumertest.Aggregate("k", "{\"n\":0}\n{\"n\":1}\n{\"n\":")
	r := catRecords(t, []string{record})
	if r.err == nil || r.out != "{\"n\":0}\n{\"n\":1}\n{\"n\":\n" || !strings.Contains(r.log, " 100, sub-sequence number 0: the last line") {
		t.Errorf("%v %q %q", r.err, r.out, r.log)
	}
	if r := catRecords(t, []string{record}, "--no-split"); r.err != nil || r.log != "" {
		t.Errorf("--no-split: %v %q", r.err, r.log)
	}
	// Complete lines without a newline at the end are not damaged.
	catRecords(t, []string{"{\"n\":0}\n{\"n\":1}"}).lines(t, `{"n":0}`, `{"n":1}`)
}

// A small user record can become large. The memory that it takes is bounded.
func TestBatch_TooLarge(t *testing.T) {
	for _, format := range compression.Formats()[1:] {
		text := strings.Repeat("x", decompress.DefaultMaxBytes+1)
		c := chunktest.New().Event(1, chunktest.M("log", text))
		create, err := aggregator.Factory(aggregator.Transform{LogKey: "log", Compression: format})
		if err != nil {
			t.Fatal(err)
		}
		data := create().Build(aggregator.Chunk{Data: c.Bytes()}, 0, "k", aggregator.Limit{RecordMax: 1 << 30, SingleRecordMax: 1 << 30}).Data
		for _, args := range [][]string{nil, {"--stats"}} {
			args = append(args, "--decompress", string(format))
			r := catRecords(t, []string{string(data), "after"}, args...)
			if r.err == nil || !strings.Contains(r.log, "100, sub-sequence number 0: skipped: decompress: "+string(format)+": the decompressed size is larger") {
				t.Errorf("%s %q: %v %q", format, args, r.err, r.log)
			}
			if !slices.Contains(args, "--stats") && r.out != "after\n" {
				t.Errorf("%s: printed %d bytes", format, len(r.out))
			}
		}
	}
}

// consumerRecords returns the user records of each aggregated record.
func consumerRecords(t *testing.T, aggregates []string) (all [][]string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		f.Put(f.Add("shardId-000000000000"), aggregates...)
		r := consumer.Reader{API: f, Stream: "s", Monitor: &progress{w: new(bytes.Buffer)}, Handle: func(_ *consumer.Shard, records []consumer.Record) error {
			for _, record := range records {
				var users []string
				for _, user := range record.UserRecords() {
					users = append(users, string(user.Data))
				}
				all = append(all, users)
			}
			return nil
		}}
		if err := r.Read(t.Context()); err != nil {
			t.Error(err)
		}
	})
	return all
}

// FuzzBatch: whatever a user record contains, splitting keeps its bytes, and the
// count is the number of log records.
func FuzzBatch(f *testing.F) {
	for _, text := range []string{"", "\n", "{}\n{}\n", "{\"a\":\n1}\n", "{}\n{", "x\n\xff\n"} {
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, text []byte, noSplit bool) {
		u := unpacker{noSplit: noSplit}
		var parts [][]byte
		for n, data := range u.records(text) {
			if n >= 0 && n != len(parts) {
				t.Fatalf("line %d has number %d", len(parts), n)
			}
			parts = append(parts, bytes.Clone(data))
		}
		joined := bytes.Join(parts, []byte{'\n'})
		if u.isBatch(text) && decompress.IsBatch(text) {
			joined = append(joined, '\n')
		}
		if !bytes.Equal(joined, text) || u.count(text) != len(parts) {
			t.Errorf("%q is split into %q, count %d", text, parts, u.count(text))
		}
	})
}
