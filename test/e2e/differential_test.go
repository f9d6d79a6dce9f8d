package e2e

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// TestKinesisStreams_SameBytes: in one engine, the same events go through the
// core's kinesis_streams with json.escape_unicode off and through this plugin,
// and give the same bytes, but for the core's newline and for what the table
// lists.
func TestKinesisStreams_SameBytes(t *testing.T) {
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	tests := differences()
	for _, v := range agreed() {
		tests = append(tests, difference{value: v})
	}
	// The core drops a record without any key.
	c := chunktest.New().Event(chunktest.EventTime{Sec: 1772366400}, chunktest.M())
	for i, test := range tests {
		c.Event(chunktest.EventTime{Sec: 1772366400}, chunktest.M("id", i, "value", test.value))
	}
	core := startCoreServer(t)
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	// The core knows no options for credentials.
	t.Setenv("AWS_ACCESS_KEY_ID", harness.AccessKeyID)
	t.Setenv("AWS_SECRET_ACCESS_KEY", harness.SecretAccessKey)
	stream := newStream(t, 1)
	pipeline := fmt.Sprintf("[INPUT]\n    Name forward\n    Listen 127.0.0.1\n    Port %d\n\n", port) +
		output("*", stream) + "\n" + core.output()
	engine, err := harness.StartFluentBit(path, t.TempDir(), fixture.plugin, pipeline, "json.escape_unicode off")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Kill)
	forward(t, engine, port, "app.log", c.Bytes())

	theirs := core.records(t, engine, len(tests))
	ours := shipped(t, engine, stream, len(tests)+1)
	if ours[0] != "{}" {
		t.Errorf("an empty record: %s", ours[0])
	}
	ours = ours[1:]
	for i, test := range tests {
		head, tail := fmt.Sprintf(`{"id":%d,"value":`, i), "}"
		our, their := ours[i], theirs[i]
		if test.core == "" {
			if our != their {
				t.Errorf("%.60v:\nours   %s\ncore's %s", test.value, our, their)
			}
			continue
		}
		if our != head+test.ours+tail {
			t.Errorf("%s: ours is %s, want %s", test.why, our, test.ours)
		}
		if their != head+test.core+tail {
			t.Errorf("%s: the core's is %s, want %s", test.why, their, test.core)
		}
	}
}

// difference is a value, and what becomes of it where that is not the same.
type difference struct {
	value      any
	core, ours string
	why        string
}

// differences are the exceptions, each of which is in the section JSON of
// docs/shaping.md.
func differences() []difference {
	run := strings.Repeat("0123456789", 3)
	return []difference{
		{0.30000000000000004, `0.3`, `0.30000000000000004`, "bits are lost"},
		{math.Nextafter(1e100, 2e100), `1e+100`, `1.0000000000000002e+100`, "bits are lost"},
		{4503599627370495.5, `4503599627370496`, `4503599627370495.5`, "bits are lost"},
		{math.NaN(), `nan`, `null`, "not JSON"},
		{math.Inf(1), `inf`, `null`, "not JSON"},
		{math.Inf(-1), `-inf`, `null`, "not JSON"},
		{float32(math.Inf(1)), `inf`, `null`, "not JSON"},
		{chunktest.Ext{Type: 5, Data: []byte("AB")}, `"\x41\x42"`, `"QUI="`, "not JSON"},
		{chunktest.M(7, 1), `{7:1}`, `{"7":1}`, "not JSON"},
		{chunktest.M(nil, 1, true, 2), `{null:1,true:2}`, `{"null":1,"true":2}`, "not JSON"},
		{chunktest.M(chunktest.M("x", 1), 2), `{{"x":1}:2}`, `{"{\"x\":1}":2}`, "not JSON"},
		// DEL within 16 bytes that need no escape.
		{run + "\x7f" + run, `"` + run + "\x7f" + run + `"`, `"` + run + `\u007f` + run + `"`, "DEL is not escaped"},
	}
}

// agreed are values that become the same.
func agreed() []any {
	values := []any{
		nil, true, false,
		0, 1, 127, 128, 255, 256, 65535, 65536, -1, -32, -33, -128, -129, -32768, -32769,
		math.MaxInt32, math.MinInt32, uint32(math.MaxUint32), int64(math.MaxInt64), int64(math.MinInt64), uint64(math.MaxUint64),
		int64(1)<<53 + 1, chunktest.Wide{Value: 5, Bytes: 8}, chunktest.Wide{Value: uint8(5), Bytes: 4},
		0.0, math.Copysign(0, -1), 1.0, -1.5, 0.1, 1e15, 1e16, 1e20, 1e-5, 1e-7, 123456.789, 1e300, math.Pi, float32(0.1), float32(-2),
		"", "plain", strings.Repeat("long ", 20_000), `"quoted" back\slash /slash`, "<tag> & 'x'",
		"\x00\x01\b\t\n\v\f\r\x1b\x1f", "\x7f", strings.Repeat("line\n", 100),
		"é€😀", "日本語" + strings.Repeat("ü", 1000), "\u2028\ufeff", "mixed é " + strings.Repeat("ascii", 10) + " 😀\n",
		chunktest.Wide{Value: "str32", Bytes: 4},
		[]byte("bin\n"), []byte("bin é"), []byte{},
		[]any{}, []any{1, "a", nil, []any{true, []any{}}}, chunktest.Wide{Value: []any{1}, Bytes: 4},
		chunktest.M(), chunktest.M("a", chunktest.M(), "b", chunktest.M("c", chunktest.M("d", []any{chunktest.M("e", 1)}))),
		chunktest.M("größe", 1, "日本", 2, "", 3, "a\"b\n", 4), chunktest.M([]byte("bin"), 1),
		chunktest.M("k", 1, "k", 2), chunktest.M("a", 1, "b", 2, "a", 3),
	}
	for _, corpus := range []chunktest.Corpus{chunktest.AccessLog(41, 50), chunktest.Kubernetes(41, 50), chunktest.LongText(41, 100)} {
		for _, body := range corpus.Bodies {
			values = append(values, withoutDEL(body))
		}
	}
	return values
}

// withoutDEL leaves out what is among the differences.
func withoutDEL(m chunktest.Map) chunktest.Map {
	clean := func(v any) any {
		if text, ok := v.(string); ok {
			return strings.ReplaceAll(text, "\x7f", "")
		}
		return v
	}
	var out chunktest.Map
	for _, p := range m {
		out = append(out, chunktest.Pair{Key: clean(p.Key), Value: clean(p.Value)})
	}
	return out
}

// coreServer accepts what kinesis_streams sends: PutRecords, over TLS only.
type coreServer struct {
	server *fakekinesis.Server
	caFile string
	sent   chan string // the records, without the newline at their end
}

func startCoreServer(t *testing.T) *coreServer {
	t.Helper()
	c := &coreServer{sent: make(chan string, 1000), caFile: caBundle(t)}
	c.server = fakekinesis.Start(fakekinesis.Options{TLS: true, OnRecord: func(r fakekinesis.Record) {
		c.sent <- strings.TrimSuffix(string(r.Data), "\n")
	}})
	t.Cleanup(c.server.Close)
	return c
}

func (c *coreServer) output() string {
	_, port, _ := strings.Cut(strings.TrimPrefix(c.server.URL(), "https://"), ":")
	return strings.Join([]string{"[OUTPUT]", "Name kinesis_streams", "Match *", "Retry_Limit no_limits",
		"region " + harness.Region, "stream s", "endpoint 127.0.0.1", "port " + port, "tls.ca_file " + c.caFile}, "\n    ") + "\n"
}

// records waits for n records and returns them in the order of their ids.
func (c *coreServer) records(t *testing.T, engine *harness.FluentBit, n int) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	id := regexp.MustCompile(`^\{"id":(\d+),`)
	all := make([]string, n)
	for range n {
		select {
		case record := <-c.sent:
			m := id.FindStringSubmatch(record)
			if m == nil {
				t.Fatalf("a record without id: %s", record)
			}
			i, err := strconv.Atoi(m[1])
			if err != nil || i >= n {
				t.Fatalf("id %s", m[1])
			}
			all[i] = record
		case <-ctx.Done():
			t.Fatalf("kinesis_streams did not send all: %v\n%s", ctx.Err(), engine.Log())
		}
	}
	return all
}
