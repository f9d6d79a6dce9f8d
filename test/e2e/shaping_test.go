package e2e

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// shapingChunk returns the events that the tests below shape; plain is the result
// without any option.
func shapingChunk() (events []byte, plain []string) {
	bodies := []chunktest.Map{
		chunktest.M("log", "say \"é\"\n", "n.a", 1, "k", chunktest.M("x.y", 2, "list", []any{chunktest.M("z.", nil)})),
		chunktest.M("log", chunktest.M("deep", "text"), "time", "own", "tag", "own"),
		chunktest.M("n", 0.5),
	}
	c := chunktest.New().
		Event(chunktest.EventTime{Sec: 1772366400, Nsec: 123456789}, bodies[0]).
		GroupOpen(chunktest.M("schema", "otlp"), chunktest.M("resource", chunktest.M("attributes", chunktest.M("service.name", "a")))).
		EventMeta(chunktest.EventTime{Sec: 1772366400, Nsec: 999_000_000}, chunktest.M("otlp", chunktest.M("severity_number", 9)), bodies[1]).
		GroupClose().
		Legacy(uint32(1772366461), bodies[2])
	for _, body := range bodies {
		plain = append(plain, chunktest.JSON(body))
	}
	return c.Bytes(), plain
}

func TestShaping(t *testing.T) {
	t.Parallel()
	events, plain := shapingChunk()
	with := func(additions ...string) []string {
		texts := slices.Clone(plain)
		for i, a := range additions {
			texts[i] = strings.TrimSuffix(texts[i], "}") + "," + a + "}"
		}
		return texts
	}
	withoutOwn := func(texts []string, own string) []string {
		texts[1] = strings.Replace(texts[1], own, "", 1)
		return texts
	}
	const ownTime, ownTag = `,"time":"own"`, `,"tag":"own"`
	times := func(key string) []string {
		return []string{`"` + key + `":"2026-03-01T12:00:00.123Z"`, `"` + key + `":"2026-03-01T12:00:00.999Z"`, `"` + key + `":"2026-03-01T12:01:01.000Z"`}
	}
	tag := `"tag":"app.log"`
	for _, tt := range []struct {
		options []string
		want    []string
	}{
		{nil, plain},
		{[]string{"time_key=at"}, with(times("at")...)},
		{[]string{"include_time_key=true"}, withoutOwn(with(times("time")...), ownTime)},
		{[]string{"time_key=at", "time_key_format=%s.%N"}, with(`"at":"1772366400.123456789"`, `"at":"1772366400.999000000"`, `"at":"1772366461.000000000"`)},
		{[]string{"time_key=at", "time_format=%d/%b/%Y %H:%M:%S %z, %f us"},
			with(`"at":"01/Mar/2026 12:00:00 +0000, 123456 us"`, `"at":"01/Mar/2026 12:00:00 +0000, 999000 us"`, `"at":"01/Mar/2026 12:01:01 +0000, 000000 us"`)},
		{[]string{"tag_key=from"}, with(`"from":"app.log"`, `"from":"app.log"`, `"from":"app.log"`)},
		{[]string{"include_tag_key=yes"}, withoutOwn(with(tag, tag, tag), ownTag)},
		{[]string{"metadata_key=meta"}, with(`"meta":{}`,
			`"meta":{"schema":"otlp","resource":{"attributes":{"service.name":"a"}},"otlp":{"severity_number":9}}`, `"meta":{}`)},
		{[]string{"data_keys=n, k"}, []string{`{"k":{"x.y":2,"list":[{"z.":null}]}}`, `{"n":0.5}`}},
		{[]string{"data_keys=n,tag", "include_tag_key=on"}, []string{`{` + tag + `}`, `{` + tag + `}`, `{"n":0.5,` + tag + `}`}},
		{[]string{"log_key=log"}, []string{"say \"é\"\n", `{"deep":"text"}`}},
		{[]string{"log_key=log->deep", "append_newline=true"}, []string{"text\n"}},
		{[]string{"replace_dots=_"}, []string{strings.NewReplacer("n.a", "n_a", "x.y", "x_y", "z.", "z_").Replace(plain[0]), plain[1], plain[2]}},
		{[]string{"append_newline=on"}, []string{plain[0] + "\n", plain[1] + "\n", plain[2] + "\n"}},
	} {
		t.Run(strings.Join(tt.options, " "), func(t *testing.T) {
			t.Parallel()
			stream := newStream(t, 1)
			run := runHost(t, fixture.host, instance(stream, tt.options...), chunkFile(t, "app.log", events))
			wantOutcomes(t, run, 1, 0, 0)
			wantAggregates(t, stream, tt.want)
			if missing := strings.Contains(run.Stderr, "lost from a chunk"); missing != (len(tt.want) < len(plain)) {
				t.Errorf("the log reports lost records: %v\n%s", missing, run.Stderr)
			}
		})
	}
}

func decompress(t *testing.T, algorithm, record string) string {
	t.Helper()
	var r io.Reader
	var err error
	switch algorithm {
	case "gzip":
		r, err = gzip.NewReader(strings.NewReader(record))
	case "zlib":
		r, err = zlib.NewReader(strings.NewReader(record))
	case "zstd":
		r, err = zstd.NewReader(strings.NewReader(record))
	case "snappy":
		var out []byte
		out, err = snappy.Decode(nil, []byte(record))
		r = bytes.NewReader(out)
	default:
		return record
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestCompression(t *testing.T) {
	t.Parallel()
	corpus := chunktest.Kubernetes(31, 50)
	for _, tt := range []struct{ algorithm, level string }{
		{"none", ""}, {"gzip", ""}, {"gzip", "9"}, {"zlib", "1"}, {"zstd", ""}, {"zstd", "22"}, {"snappy", ""}, {"snappy", "3"},
	} {
		t.Run(tt.algorithm+tt.level, func(t *testing.T) {
			t.Parallel()
			stream := newStream(t, 1)
			options := []string{"compression=" + tt.algorithm}
			if tt.level != "" {
				options = append(options, "compression_level="+tt.level)
			}
			run := runHost(t, fixture.host, instance(stream, options...), chunkFile(t, "app.log", corpus.Bytes))
			wantOutcomes(t, run, 1, 0, 0)
			records := slices.Concat(read(t, readAll(t, stream))...)
			size := 0
			for i, r := range records {
				size += len(r)
				records[i] = decompress(t, tt.algorithm, r)
			}
			wantSame(t, "decompressed", records, corpus.JSON)
			if smaller := size < corpus.JSONBytes(); smaller != (tt.algorithm != "none") {
				t.Errorf("%d bytes of %d", size, corpus.JSONBytes())
			}
		})
	}
}

// TestShaping_SplitChunk: the parts of a chunk are shaped alike, a group that
// is in several of them included.
func TestShaping_SplitChunk(t *testing.T) {
	t.Parallel()
	c := chunktest.New().GroupOpen(chunktest.M(), chunktest.M("resource", "r"))
	var want []string
	for i, body := range chunktest.AccessLog(32, 30).Bodies {
		c.Event(uint32(1772366400+i), body)
		want = append(want, strings.TrimSuffix(chunktest.JSON(body), "}")+`,"meta":{"resource":"r"}}`)
	}
	stream := newStream(t, 1)
	run := runHost(t, fixture.host, instance(stream, "metadata_key=meta", "max_record_size=1500"), chunkFile(t, "app.log", c.Bytes()))
	wantOutcomes(t, run, 1, 0, 0)
	aggregates := read(t, readAll(t, stream))
	wantSame(t, "split chunk", slices.Concat(aggregates...), want)
	if len(aggregates) < 5 {
		t.Errorf("%d PutRecords", len(aggregates))
	}
}

func TestStream_ByTag(t *testing.T) {
	t.Parallel()
	web, db := newStream(t, 1), newStream(t, 1)
	forWeb, forDB := chunktest.AccessLog(33, 5), chunktest.AccessLog(34, 5)
	run := runHost(t, fixture.host, instance("$TAG[1]", "fixed_partition_key=$TAG[0]"),
		chunkFile(t, "app."+web, forWeb.Bytes), chunkFile(t, "job."+db, forDB.Bytes))
	wantOutcomes(t, run, 2, 0, 0)
	for _, r := range append(wantAggregates(t, web, forWeb.JSON), wantAggregates(t, db, forDB.JSON)...) {
		if r.PartitionKey != "app" && r.PartitionKey != "job" {
			t.Errorf("partition key %q", r.PartitionKey)
		}
	}
}

func TestCheckStream(t *testing.T) {
	t.Parallel()
	auto := fakekinesis.Start(fakekinesis.Options{Auto: func() bool { return true }})
	t.Cleanup(auto.Close)
	// kinesis-local does not report the limit of a stream's records.
	small := fakekinesis.Start(fakekinesis.Options{})
	t.Cleanup(small.Close)
	for _, tt := range []struct {
		name, stream string
		options      []string
		starts       bool
		inLog        []string
	}{
		{"good", newStream(t, 1), nil, true, []string{"[ info]", "check_stream true"}},
		{"not there", "not-there", nil, true, []string{"[ warn]", "check_stream", "not-there"}},
		{"records too large", "s", []string{"endpoint=" + small.URL(), "max_record_size=2M"}, false, []string{"[error]", "max_record_size", "1048576"}},
		{"distributes records", "s", []string{"endpoint=" + auto.URL()}, false, []string{"[error]", "check_stream", "AUTO"}},
		{"by tag", "$TAG", nil, false, []string{"[error]", "check_stream", "$TAG"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// Of an option given twice the first one counts.
			args := append([]string{"--instance", "check_stream=true"}, tt.options...)
			args = append(args, instance(tt.stream)[1:]...)
			run := runHost(t, fixture.host, args)
			if got := run.All("init")[0].Fields["outcome"]; (got == "OK") != tt.starts {
				t.Errorf("init: %s", got)
			}
			logLine(t, run, tt.inLog...)
		})
	}
}

// TestShaping_InvalidOption: each bad value stops the start, with a message that
// names option, value and what is allowed.
func TestShaping_InvalidOption(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		options []string
		inLog   []string
	}{
		{[]string{"time_key_format=%Q"}, []string{"time_key_format", "%Q", "strftime"}},
		{[]string{"include_time_key=2"}, []string{"include_time_key", "2", "true"}},
		{[]string{"include_tag_key=2"}, []string{"include_tag_key", "2", "true"}},
		{[]string{"append_newline=2"}, []string{"append_newline", "2", "true"}},
		{[]string{"check_stream=2"}, []string{"check_stream", "2", "true"}},
		{[]string{"data_keys=,"}, []string{"data_keys", ",", "separated by commas"}},
		{[]string{"data_keys=log level"}, []string{"data_keys", "log level", "separated by commas"}},
		{[]string{"data_keys=kubernetes.labels"}, []string{"data_keys", "kubernetes.labels", "top-level", "double quotes"}},
		{[]string{"replace_dots=On"}, []string{"replace_dots", "On", "such as _"}},
		{[]string{"time_key_format=%s"}, []string{"time_key_format requires time_key"}},
		{[]string{"time_key=t", "time_key_format=yyyy-MM-dd"}, []string{"time_key_format", "yyyy-MM-dd", "no conversion"}},
		{[]string{"fixed_partition_key=$kubernetes['pod_name']"}, []string{"fixed_partition_key", "$TAG[n]"}},
		{[]string{"role_arn=writer"}, []string{"role_arn", "writer", "arn:aws:iam::"}},
		{[]string{"max_recrod_size=1M"}, []string{"max_recrod_size is unknown: set max_record_size"}},
		{[]string{"aws_role_arn=arn:aws:iam::123456789012:role/r"}, []string{"aws_role_arn", "set role_arn"}},
		{[]string{"log_key=->a"}, []string{"log_key", "->a", "a->b"}},
		{[]string{"replace_dots=.."}, []string{"replace_dots", "..", "without"}},
		{[]string{"compression=brotli"}, []string{"compression", "brotli", "zstd"}},
		{[]string{"compression=gzip", "compression_level=10"}, []string{"compression_level", "10", "from 1 to 9"}},
		{[]string{"log_key=log", "time_key=t"}, []string{"log_key", "time_key"}},
		{[]string{"tag_key=t", "metadata_key=t"}, []string{"metadata_key", "tag_key", "set another key"}},
		{[]string{"stream=$TAG[x]"}, []string{"stream", "$TAG[x]", "n-th part"}},
		{[]string{"aggregation=false"}, []string{"aggregation", "record_format ndjson"}},
		{[]string{"simple_aggregation=true"}, []string{"simple_aggregation", "KPL"}},
		{[]string{"partition_key=id"}, []string{"partition_key", "fixed_partition_key $TAG"}},
	} {
		t.Run(strings.Join(tt.options, " "), func(t *testing.T) {
			t.Parallel()
			args := append([]string{"--instance"}, tt.options...)
			if !strings.HasPrefix(tt.options[0], "stream=") {
				args = append(args, "stream=s")
			}
			run := runHost(t, fixture.host, append(args, "region="+harness.Region))
			if got := run.All("init")[0].Fields["outcome"]; got != "FAILED" {
				t.Errorf("init: %s", got)
			}
			logLine(t, run, append(tt.inLog, "[error]")...)
		})
	}
}
