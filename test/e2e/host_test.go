package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

func TestChunk_OneRecord(t *testing.T) {
	t.Parallel()
	for name, corpus := range map[string]chunktest.Corpus{
		"access log": chunktest.AccessLog(1, 500),
		"kubernetes": chunktest.Kubernetes(1, 100),
		"long text":  chunktest.LongText(1, 50),
		"numbers":    chunktest.Numbers(1, 200),
		"one event":  chunktest.AccessLog(2, 1),
		"empty body": chunktest.NewCorpus(chunktest.M()),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			send(t, fixture.host, nil, corpus)
		})
	}
}

func TestChunks_ThreadsAndInstances(t *testing.T) {
	t.Parallel()
	const threads, repeat, chunks = 4, 3, 8
	first, second, plain := newStream(t, 1), newStream(t, 3), newStream(t, 1)
	args := [][]string{
		{"--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(repeat)},
		instance(first),
		instance(second, "fixed_partition_key=$TAG"),
		instance(plain, "record_format=ndjson"),
	}
	var want [][]string
	for i := range chunks {
		c := chunktest.AccessLog(uint64(i), 1+40*i)
		args = append(args, chunkFile(t, fmt.Sprintf("app.%d", i), c.Bytes))
		for range repeat {
			want = append(want, c.JSON)
		}
	}
	run := runHost(t, fixture.host, args...)
	wantOutcomes(t, run, 3*repeat*chunks, 0, 0)
	wantAggregates(t, first, want...)
	wantAggregates(t, second, want...)
	wantLines(t, plain, want...)
}

func TestEventFormats(t *testing.T) {
	t.Parallel()
	now := chunktest.EventTime{Sec: 1_772_366_400, Nsec: 123_456_789}
	body := chunktest.M("log", "x", "n", 1)
	c := chunktest.New()
	events := 0
	add := func(ts, body any) {
		c.Event(ts, body).Legacy(ts, body)
		events += 2
	}
	for _, ts := range []any{
		now, chunktest.Wide{Value: now, Bytes: 1}, chunktest.Wide{Value: now, Bytes: 4},
		uint32(now.Sec), uint64(now.Sec), 0, chunktest.Wide{Value: uint32(now.Sec), Bytes: 8},
		float64(now.Sec) + 0.5, float32(1.5),
	} {
		add(ts, body)
	}
	wide := chunktest.M(chunktest.Wide{Value: "log", Bytes: 4}, chunktest.Wide{Value: "x", Bytes: 2}, "n", chunktest.Wide{Value: 1, Bytes: 8})
	add(now, chunktest.Wide{Value: wide, Bytes: 2})
	add(now, chunktest.Wide{Value: wide, Bytes: 4})
	c.Value(chunktest.Wide{Value: []any{chunktest.Wide{Value: []any{now, chunktest.Wide{Value: chunktest.Map{}, Bytes: 2}}, Bytes: 2}, body}, Bytes: 4})
	c.EventMeta(now, chunktest.M("otlp", chunktest.M("severity", 9)), body)
	events += 2
	var want []string
	for range events {
		want = append(want, chunktest.JSON(body))
	}

	send(t, fixture.host, nil, chunktest.Corpus{Bytes: c.Bytes(), JSON: want})
}

func TestEventFormats_Legacy(t *testing.T) {
	t.Parallel()
	c := chunktest.AccessLog(3, 100)
	send(t, fixture.host, nil, chunktest.Corpus{Bytes: c.LegacyBytes(), JSON: c.JSON})
}

func TestGroupMarkers_NotSent(t *testing.T) {
	t.Parallel()
	c := chunktest.New().Event(uint32(1), chunktest.M("n", 0))
	want := []string{`{"n":0}`}
	for n := 1; n < 4; n++ {
		body := chunktest.M("n", n)
		c.GroupOpen(chunktest.M("schema", "otlp"), chunktest.M("resource", chunktest.M("n", n))).
			Event(uint32(1), body).Event(uint32(2), body).GroupClose()
		want = append(want, chunktest.JSON(body), chunktest.JSON(body))
	}
	send(t, fixture.host, nil, chunktest.Corpus{Bytes: c.Bytes(), JSON: want})
}

func TestRandomKey_NewUUIDEachTime(t *testing.T) {
	t.Parallel()
	const puts = 20
	stream, c := newStream(t, 4), chunktest.AccessLog(4, 3)
	run := runHost(t, fixture.host, []string{"--repeat", strconv.Itoa(puts)}, instance(stream), chunkFile(t, "app.log", c.Bytes))
	wantOutcomes(t, run, puts, 0, 0)
	records := wantAggregates(t, stream, slices.Repeat([][]string{c.JSON}, puts)...)
	uuid := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	seen := map[string]bool{}
	for _, r := range records {
		if !uuid.MatchString(r.PartitionKey) {
			t.Errorf("partition key %q is not a UUID", r.PartitionKey)
		}
		if seen[r.PartitionKey] {
			t.Errorf("partition key %q twice", r.PartitionKey)
		}
		seen[r.PartitionKey] = true
	}
}

func TestFixedPartitionKey(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ key, tag, want string }{
		{"constant", "app.web.log", "constant"},
		{"Schlüssel 鍵 😀", "app.web.log", "Schlüssel 鍵 😀"},
		{"$TAG", "app.web.log", "app.web.log"},
		{"$TAG[1]", "app.web.log", "web"},
		{"logs-$TAG[0]-$TAG[2]", "app.web.log", "logs-app-log"},
		{"$TAG", "app.grün.log", "app.grün.log"},
		{strings.Repeat("k", 256), "app", strings.Repeat("k", 256)},
		{"$TAG", strings.Repeat("t", 300), strings.Repeat("t", 256)},
		// Kinesis counts characters, not bytes.
		{"$TAG", strings.Repeat("ü", 300), strings.Repeat("ü", 256)},
	} {
		t.Run(fmt.Sprintf("%.20s of %.20s", tt.key, tt.tag), func(t *testing.T) {
			t.Parallel()
			stream, c := newStream(t, 1), chunktest.AccessLog(5, 3)
			run := runHost(t, fixture.host, instance(stream, "fixed_partition_key="+tt.key), chunkFile(t, tt.tag, c.Bytes))
			wantOutcomes(t, run, 1, 0, 0)
			for _, r := range wantAggregates(t, stream, c.JSON) {
				if r.PartitionKey != tt.want {
					t.Errorf("partition key %q, want %q", r.PartitionKey, tt.want)
				}
			}
		})
	}
}

func TestChunk_WithoutRecords(t *testing.T) {
	t.Parallel()
	stream, plain := newStream(t, 1), newStream(t, 1)
	markers := chunktest.New().GroupOpen(chunktest.Map{}, chunktest.Map{}).GroupClose()
	run := runHost(t, fixture.host, instance(stream), instance(plain, "record_format=ndjson"), chunkFile(t, "empty", nil), chunkFile(t, "markers", markers.Bytes()))
	wantOutcomes(t, run, 4, 0, 0)
	wantAggregates(t, stream)
	wantLines(t, plain)
}

func TestOversizeChunk_DropIsError(t *testing.T) {
	t.Parallel()
	stream, plain, small, large := newStream(t, 1), newStream(t, 1), chunktest.AccessLog(6, 1), chunktest.AccessLog(6, 20)
	options := []string{"max_record_size=1000", "oversize_chunk=drop"}
	run := runHost(t, fixture.host, instance(stream, options...), instance(plain, append(options, "record_format=ndjson")...),
		chunkFile(t, "small.log", small.Bytes), chunkFile(t, "large.log", large.Bytes))
	wantOutcomes(t, run, 2, 2, 0)
	wantAggregates(t, stream, small.JSON)
	wantLines(t, plain, small.JSON)
	for _, instance := range []string{"kinesis_agg.0", "kinesis_agg.1"} {
		line := logLine(t, run, instance, "large.log")
		if !strings.Contains(line, "[error]") || !regexp.MustCompile(`\b\d{4,}\b`).MatchString(line) {
			t.Errorf("no error with a size: %s", line)
		}
	}
	if strings.Contains(run.Stderr, "remote_addr") {
		t.Errorf("the log shows what is in the records:\n%s", run.Stderr)
	}
}

// logLine returns the first line of the log that contains all words, regardless of
// their case.
func logLine(t *testing.T, run harness.HostRun, words ...string) string {
	t.Helper()
	for line := range strings.Lines(run.Stderr) {
		lower := strings.ToLower(line)
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(lower, strings.ToLower(w)) }) {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("no line of the log has %q:\n%s", words, run.Stderr)
	return ""
}

func TestOversizeChunk_SplitInOrder(t *testing.T) {
	t.Parallel()
	const limit = 1000
	stream, c := newStream(t, 1), chunktest.AccessLog(7, 50)
	run := runHost(t, fixture.host, instance(stream, "max_record_size=1000"), chunkFile(t, "large.log", c.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	records := readAll(t, stream)
	var got []string
	for i, texts := range read(t, records) {
		if size := len(records[i].Data) + len(records[i].PartitionKey); size > limit {
			t.Errorf("aggregate %d is %d bytes with its key, limit %d", i, size, limit)
		}
		got = append(got, texts...)
	}
	wantSame(t, "split chunk", got, c.JSON)
	if len(records) < 2 {
		t.Errorf("%d PutRecords", len(records))
	}
}

// TestOversizeChunk_LowerStreamLimit: the option promises more than the
// stream allows; Kinesis refuses, and the chunk is sent as smaller records.
func TestOversizeChunk_LowerStreamLimit(t *testing.T) {
	t.Parallel()
	const limit = 1 << 20
	stream, c := newStream(t, 1), chunktest.AccessLog(18, 4000)
	run := runHost(t, fixture.host, []string{"--retry", "5"}, instance(stream, "max_record_size=10MiB"), chunkFile(t, "large.log", c.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	records := readAll(t, stream)
	for i, r := range records {
		if size := len(r.Data) + len(r.PartitionKey); size > limit {
			t.Errorf("aggregate %d is %d bytes with its key, the stream takes %d", i, size, limit)
		}
	}
	wantSame(t, "split chunk", slices.Concat(read(t, records)...), c.JSON)
}

func TestCorruptChunk_Tail(t *testing.T) {
	t.Parallel()
	whole := chunktest.AccessLog(8, 10)
	const good = 6
	cut := whole.Ends[good-1]
	for name, tail := range map[string][]byte{
		"an event cut off":         whole.Bytes[cut : cut+20],
		"a byte msgpack never has": {0xc1, 0x00},
		"a length of 4 GB":         {0x92, 0xdb, 0xff, 0xff, 0xff, 0xff},
		"4 billion elements":       {0xdd, 0xff, 0xff, 0xff, 0xff, 0xc0},
		"nesting without end":      slices.Repeat([]byte{0x91}, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stream, plain := newStream(t, 1), newStream(t, 1)
			bytes := append(slices.Clone(whole.Bytes[:cut]), tail...)
			run := runHost(t, fixture.host, instance(stream), instance(plain, "record_format=ndjson"), chunkFile(t, "corrupt.log", bytes))
			wantOutcomes(t, run, 2, 0, 0)
			wantAggregates(t, stream, whole.JSON[:good])
			wantLines(t, plain, whole.JSON[:good])
			line := logLine(t, run, "corrupt.log", strconv.Itoa(cut))
			if !strings.Contains(line, strconv.Itoa(len(bytes))) && !strings.Contains(line, strconv.Itoa(len(tail))) {
				t.Errorf("neither the chunk's length nor that of what is lost is in: %s", line)
			}
		})
	}
}

func TestCorruptChunk_NothingReadable(t *testing.T) {
	t.Parallel()
	stream, plain := newStream(t, 1), newStream(t, 1)
	run := runHost(t, fixture.host, instance(stream), instance(plain, "record_format=ndjson"), chunkFile(t, "garbage.log", []byte{0xc1, 0xc1, 0xc1}))
	wantOutcomes(t, run, 0, 2, 0)
	wantAggregates(t, stream)
	wantLines(t, plain)
	logLine(t, run, "[error]", "garbage.log")
}

// TestOptions_Invalid: a message names the option, the value and what is allowed;
// the other instance works; the engine's ExitCtx(NULL) does no harm.
func TestOptions_Invalid(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ option, value, allowed string }{
		{"max_record_size", "11M", "10"},
		{"max_record_size", "many", "10"},
		{"request_timeout", "soon", "30s"},
		{"connect_timeout", "-1", "s"},
		{"endpoint", "ftp://example.com", "http"},
		{"debug", "perhaps", "true"},
		{"fixed_partition_key", strings.Repeat("k", 257), "256"},
		{"stream", "no spaces please", "stream"},
	} {
		t.Run(tt.option+" "+tt.value[:min(len(tt.value), 20)], func(t *testing.T) {
			t.Parallel()
			stream, c := newStream(t, 1), chunktest.AccessLog(9, 3)
			bad := instance(stream)
			bad = slices.DeleteFunc(bad, func(w string) bool { return strings.HasPrefix(w, tt.option+"=") })
			run := runHost(t, fixture.host,
				append(bad, tt.option+"="+tt.value), instance(stream), chunkFile(t, "app.log", c.Bytes))
			inits := run.All("init")
			if len(inits) != 2 || inits[0].Fields["outcome"] != "FAILED" || inits[1].Fields["outcome"] != "OK" {
				t.Fatalf("inits: %v; log:\n%s", inits, run.Stderr)
			}
			exits := run.All("exit")
			if len(exits) != 2 || exits[0].Fields["context"] != "NULL" || exits[1].Fields["context"] != "SET" {
				t.Errorf("exits: %v", exits)
			}
			wantOutcomes(t, run, 1, 0, 0)
			wantAggregates(t, stream, c.JSON)
			logLine(t, run, "[error]", tt.option, tt.value, tt.allowed)
		})
	}
}

// TestLog: lines name their instance, and the engine's log level holds.
func TestLog(t *testing.T) {
	t.Parallel()
	stream, c := newStream(t, 1), chunktest.AccessLog(22, 3)
	run := runHost(t, fixture.host, instance(stream, "alias=the-alias"), instance(stream), instance(stream, "alias=silent", "log_level=error"),
		chunkFile(t, "app.log", c.Bytes))
	wantOutcomes(t, run, 3, 0, 0)
	logLine(t, run, "[ info]", "the-alias", stream)
	logLine(t, run, "[ info]", "kinesis_agg.1", stream)
	if strings.Contains(run.Stderr, "silent") {
		t.Errorf("log_level error, and yet:\n%s", run.Stderr)
	}
}

// TestOptions_AllInvalidNamed: one start names them all, whichever part of the
// plugin checks them.
func TestOptions_AllInvalidNamed(t *testing.T) {
	t.Parallel()
	run := runHost(t, fixture.host, []string{"--instance", "stream=logs-$TAG[x]", "region=Frankfurt!", "aws_key_id=A",
		"max_record_size=11G", "worker_id_key=w", "hostname_key=h", "fixed_partition_key=$TAG[", "debug=maybe"})
	if init := run.All("init"); len(init) != 1 || init[0].Fields["outcome"] != "FAILED" {
		t.Fatalf("init: %v", init)
	}
	for _, name := range []string{"stream", "region", "aws_key_id and aws_sec_key", "max_record_size", "worker_id_key",
		"hostname_key", "fixed_partition_key", "debug"} {
		logLine(t, run, "[error]", "option "+name)
	}
	if n := strings.Count(run.Stderr, "[error]"); n != 8 {
		t.Errorf("%d errors, want 8:\n%s", n, run.Stderr)
	}
}

func TestOptions_Missing(t *testing.T) {
	t.Parallel()
	for _, option := range []string{"stream", "region"} {
		t.Run(option, func(t *testing.T) {
			t.Parallel()
			args := slices.DeleteFunc(instance("s"), func(w string) bool { return strings.HasPrefix(w, option+"=") })
			// Nor from the environment or a shared configuration.
			env := []string{"AWS_REGION=", "AWS_DEFAULT_REGION=", "AWS_CONFIG_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true"}
			run, err := harness.RunHost(t.Context(), fixture.host, env, append([]string{fixture.plugin}, args...)...)
			if err != nil {
				t.Fatal(err)
			}
			if init := run.All("init"); len(init) != 1 || init[0].Fields["outcome"] != "FAILED" {
				t.Fatalf("init: %v", init)
			}
			logLine(t, run, "[error]", option)
		})
	}
}

// TestFIPS: the MD5 of the record format is calculated in a process that allows
// only FIPS 140-3 algorithms too.
func TestFIPS(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"on", "only"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			stream := newStream(t, 1)
			c := chunktest.AccessLog(1, 100)
			args := append([]string{fixture.plugin}, instance(stream)...)
			run, err := harness.RunHost(t.Context(), fixture.host, []string{"GODEBUG=fips140=" + mode}, append(args, chunkFile(t, "app", c.Bytes)...)...)
			if err != nil {
				t.Fatal(err)
			}
			wantOutcomes(t, run, 1, 0, 0)
			wantAggregates(t, stream, c.JSON)
		})
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	run := runHost(t, fixture.host, []string{"--dry-run"}, instance("s"), instance("s"))
	for _, exit := range run.All("exit") {
		if exit.Fields["context"] != "NULL" {
			t.Errorf("exit: %v", exit)
		}
	}
}

// TestEndpoint_Unreachable: nothing listens, so the engine has to keep the
// chunk; a later retry of the same bytes succeeds.
func TestEndpoint_Unreachable(t *testing.T) {
	t.Parallel()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	nowhere := &harness.Kinesis{Endpoint: fmt.Sprintf("http://127.0.0.1:%d", port)}
	run := runHost(t, fixture.host, []string{"--retry", "2"}, instanceAt(nowhere, "s"),
		chunkFile(t, "app.log", chunktest.AccessLog(10, 3).Bytes))
	wantOutcomes(t, run, 0, 0, 1)
	if n := len(run.All("flush")); n != 3 {
		t.Errorf("%d flushes, want 3", n)
	}
	logLine(t, run, "refused")
}

func TestStream_NotFound(t *testing.T) {
	t.Parallel()
	run := runHost(t, fixture.host, instance("not-there"), chunkFile(t, "app.log", chunktest.AccessLog(11, 3).Bytes))
	wantOutcomes(t, run, 0, 0, 1)
	logLine(t, run, "[error]", "not-there")
}

// TestMaxRecordSize_TenMebibytes: on a stream that allows it, a chunk as large as a forward
// input makes them is still one PutRecord.
func TestMaxRecordSize_TenMebibytes(t *testing.T) {
	t.Parallel()
	// A separate kinesis-local: it needs seconds for a record of this size, and
	// serves no other request meanwhile.
	k, err := harness.StartKinesis(t.Context(), fixture.readers)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	const stream, recordBytes, chunkBytes = "large", 300, 8_000_000
	if err := k.CreateStream(t.Context(), stream, 1); err != nil {
		t.Fatal(err)
	}
	if err := k.SetMaxRecordSize(t.Context(), stream, 10<<10); err != nil {
		t.Fatal(err)
	}
	c := chunktest.AccessLog(13, chunkBytes/recordBytes)
	run := runHost(t, fixture.host, instanceAt(k, stream, "max_record_size=10MiB", "request_timeout=240s"),
		chunkFile(t, "app.log", c.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	records, err := k.ReadAll(t.Context(), stream)
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != 1 || len(c.Bytes) < chunkBytes {
		t.Fatalf("a chunk of %d bytes arrived as %d records, want one", len(c.Bytes), len(records))
	}
	t.Logf("a chunk of %d bytes, a record of %d", len(c.Bytes), len(records[0].Data))
	wantSame(t, "aggregate", read(t, records)[0], c.JSON)
}

func TestOldEngine(t *testing.T) {
	t.Parallel()
	send(t, fixture.oldHost, []string{"--threads", "2"}, chunktest.AccessLog(14, 100), chunktest.Kubernetes(14, 10))

	// Without the engine's log the plugin writes to stderr itself.
	run := runHost(t, fixture.oldHost, instance("s", "max_record_size=11M"))
	logLine(t, run, "[error]", "max_record_size", "11M")
}

// TestCoroutineStack: the host fails the run if a flush takes more stack than
// the engine gives it.
func TestCoroutineStack(t *testing.T) {
	t.Parallel()
	for engine, bytes := range map[string]int{"before 5.1": 24576, "5.1": 65536} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			send(t, fixture.host, []string{"--threads", "2", "--repeat", "1", "--coroutine-stack", strconv.Itoa(bytes), "--log-level", "trace"},
				chunktest.AccessLog(15, 300), chunktest.LongText(15, 20), chunktest.Numbers(15, 50))
		})
	}
}

// TestEngineThread: without workers the engine flushes on its own thread.
func TestEngineThread(t *testing.T) {
	t.Parallel()
	send(t, fixture.host, []string{"--threads", "0"}, chunktest.AccessLog(16, 10), chunktest.AccessLog(17, 10), chunktest.AccessLog(18, 10))
}

func TestWithoutWorkers_LoggedOnce(t *testing.T) {
	t.Parallel()
	stream, c := newStream(t, 1), chunktest.AccessLog(19, 10)
	run := runHost(t, fixture.host, []string{"--threads", "0", "--repeat", "3"}, instance(stream), chunkFile(t, "app.log", c.Bytes))
	wantOutcomes(t, run, 3, 0, 0)
	if n := strings.Count(strings.ToLower(run.Stderr), "workers"); n != 1 {
		t.Errorf("%d lines about workers, want one:\n%s", n, run.Stderr)
	}
}

// TestExit_Prompt: an instance with nothing to do ends at once.
func TestExit_Prompt(t *testing.T) {
	t.Parallel()
	const most = 2 * time.Second
	stream, c := newStream(t, 1), chunktest.AccessLog(17, 10)
	run := runHost(t, fixture.host, instance(stream), chunkFile(t, "app.log", c.Bytes))
	for _, exit := range run.All("exit") {
		if took := time.Duration(exit.Int("ms")) * time.Millisecond; took > most {
			t.Errorf("exit took %s", took)
		}
	}
}

// TestWireFormats: Kinesis gets the same records either way.
func TestWireFormats(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "cbor"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			stream, plain, c := newStream(t, 1), newStream(t, 1), chunktest.LongText(20, 50)
			options := []string{"wire_format=" + format, "fixed_partition_key=Zürich-東京-🚲"}
			run := runHost(t, fixture.host, instance(stream, options...), instance(plain, append(options, "record_format=ndjson")...),
				chunkFile(t, "app.log", c.Bytes), chunkFile(t, "empty.log", chunktest.NewCorpus(chunktest.M()).Bytes))
			wantOutcomes(t, run, 4, 0, 0)
			wantAggregates(t, stream, c.JSON, []string{"{}"})
			wantLines(t, plain, c.JSON, []string{"{}"})

			run = runHost(t, fixture.host, instance("no-such-stream", "wire_format="+format), chunkFile(t, "app.log", c.Bytes))
			wantOutcomes(t, run, 0, 0, 1)
			logLine(t, run, "[error]", "no-such-stream", "not found")
		})
	}
}
