package aggregator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/kit/chunktest"
)

const testTag = `app."web".é`

// transformed creates an Aggregator for chunks with testTag.
func transformed(t testing.TB, s Transform) *Aggregator {
	t.Helper()
	create, err := Factory(s)
	if err != nil {
		t.Fatal(err)
	}
	return create()
}

// buildTransformed fills one aggregated record with a whole chunk and returns its user
// records.
func buildTransformed(t testing.TB, s Transform, data []byte) ([]string, Result) {
	t.Helper()
	p := transformed(t, s).Build(Chunk{testTag, data}, 0, testKey, largest)
	if p.Next != len(data) {
		t.Fatalf("stopped at %d of %d", p.Next, len(data))
	}
	if p.Data == nil {
		return nil, p
	}
	return open(t, p.Data, testKey), p
}

const isoMillis = "%Y-%m-%dT%H:%M:%S.%LZ"

// 2026-03-01 12:00:00.123456789 UTC
var testTime = chunktest.EventTime{Sec: 1772366400, Nsec: 123456789}

const testISO = "2026-03-01T12:00:00.123Z"

func TestTransform_Options(t *testing.T) {
	m := chunktest.M
	dots := m("a.b", 1, "c", m("d.e", m("f.", 2), "g", []any{m(".h", 3)}), 1.5, 4)
	for _, test := range []struct {
		name      string
		transform Transform
		body      chunktest.Map
		want      string
	}{
		{"time", Transform{TimeKey: "time", TimeFormat: isoMillis}, m("a", 1), `{"a":1,"time":"` + testISO + `"}`},
		{"time in an empty record", Transform{TimeKey: "time", TimeFormat: isoMillis}, m(), `{"time":"` + testISO + `"}`},
		{"time in the place of another", Transform{TimeKey: "a", TimeFormat: isoMillis}, m("a", 1, "b", 2), `{"b":2,"a":"` + testISO + `"}`},
		{"time in the place of all there is", Transform{TimeKey: "a", TimeFormat: isoMillis}, m("a", m("x", 1)), `{"a":"` + testISO + `"}`},
		{"tag", Transform{TagKey: "tag"}, m("a", 1), `{"a":1,"tag":"app.\"web\".é"}`},
		{"tag under a key to escape", Transform{TagKey: "the\ttag"}, m("the\ttag", 1), `{"the\ttag":"app.\"web\".é"}`},
		{"time and tag", Transform{TimeKey: "t", TimeFormat: "%s", TagKey: "tag"}, m("tag", 1, "t", 2), `{"t":"1772366400","tag":"app.\"web\".é"}`},
		{"metadata", Transform{MetadataKey: "meta"}, m("a", 1), `{"a":1,"meta":{"m":{"n":1}}}`},
		{"keys in another type of string", Transform{TagKey: "k"}, m([]byte("k"), 1, chunktest.Wide{Value: "k", Bytes: 4}, 2), `{"k":"app.\"web\".é"}`},

		{"data keys", Transform{DataKeys: []string{"c", "a", "none"}}, m("a", 1, "b", 2, "c", m("b", 3)), `{"a":1,"c":{"b":3}}`},
		{"data keys twice", Transform{DataKeys: []string{"a"}}, m("a", 1, "b", 2, "a", 3, "b", 4), `{"a":3}`},
		{"data keys that are no strings", Transform{DataKeys: []string{"7", "b"}}, m(7, 1, []byte("b"), 2), `{"b":2}`},
		{"data keys with added ones", Transform{DataKeys: []string{"a", "time"}, TimeKey: "time", TimeFormat: "%s", TagKey: "tag"},
			m("a", 1, "b", 2, "tag", 3), `{"a":1,"time":"1772366400"}`},

		{"dots", Transform{ReplaceDots: "_"}, dots, `{"a_b":1,"c":{"d_e":{"f_":2},"g":[{"_h":3}]},"1_5":4}`},
		{"dots by more", Transform{ReplaceDots: `<">`}, m("a.b.", ".."), `{"a<\">b<\">":".."}`},
		{"dots that make keys equal", Transform{ReplaceDots: "_"}, m("a.b", 1, "a_b", 2, "x", m("y.", 1, "y_", 2)), `{"a_b":2,"x":{"y_":2}}`},
		{"dots in an added key", Transform{ReplaceDots: "_", TagKey: "the.tag"}, m("the_tag", 1, "the.tag", 2), `{"the_tag":"app.\"web\".é"}`},
		{"dots and data keys", Transform{ReplaceDots: "_", DataKeys: []string{"a.b"}}, m("a.b", 1, "a_b", 2), `{"a_b":1}`},

		{"newline", Transform{AppendNewline: true}, m("a", 1), "{\"a\":1}\n"},

		{"log", Transform{LogKey: "log"}, m("a", 1, "log", "say \"é\"\n\x00\xff"), "say \"é\"\n\x00\xff"},
		{"bin log", Transform{LogKey: "log"}, m("log", []byte{0xff, 0}), "\xff\x00"},
		{"empty log", Transform{LogKey: "log"}, m("log", ""), ""},
		{"log that is a map", Transform{LogKey: "log"}, m("log", m("a", "\n")), `{"a":"\n"}`},
		{"log that is a number", Transform{LogKey: "log"}, m("log", 1.5), `1.5`},
		{"log that is null", Transform{LogKey: "log"}, m("log", nil), `null`},
		{"nested log", Transform{LogKey: "a->b->c"}, m("a", m("b", m("c", "deep")), "c", 1), `deep`},
		{"last log", Transform{LogKey: "log"}, m("log", "1", "x", 1, "log", "2"), `2`},
		{"log and newline", Transform{LogKey: "log", AppendNewline: true}, m("log", "text"), "text\n"},
		{"log and dots", Transform{LogKey: "a.b", ReplaceDots: "_"}, m("a.b", m("c.d", 1)), `{"c_d":1}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := chunktest.New()
			for range 3 { // the second comes from what is remembered of the first
				c.EventMeta(testTime, chunktest.M("m", chunktest.M("n", 1)), test.body)
			}
			got, _ := buildTransformed(t, test.transform, c.Bytes())
			same(t, got, slices.Repeat([]string{test.want}, 3))
		})
	}
}

func TestFactory_ZeroTransform(t *testing.T) {
	create, err := Factory(Transform{TimeFormat: isoMillis, CompressionLevel: 3})
	if err != nil || create().transform != nil {
		t.Errorf("%v", err)
	}
}

func TestFactory_InvalidTransforms(t *testing.T) {
	for _, s := range []Transform{
		{TimeKey: "t", TimeFormat: "%Q"},
		{TimeKey: "t", TimeFormat: "%"},
		{TimeKey: "t", TimeFormat: "%-"},
		{LogKey: "log", TimeKey: "t"},
		{LogKey: "log", TagKey: "t"},
		{LogKey: "log", MetadataKey: "t"},
		{LogKey: "log", DataKeys: []string{"log"}},
		{Compression: "lzw"},
		{Compression: compression.Gzip, CompressionLevel: 10},
		{Compression: compression.Snappy, CompressionLevel: 4},
		{Compression: compression.Zstd, CompressionLevel: -1},
	} {
		if _, err := Factory(s); err == nil {
			t.Errorf("%+v: no error", s)
		}
	}
}

func TestTransform_CountsMissingLogKey(t *testing.T) {
	c := chunktest.New().Event(1, chunktest.M("a", chunktest.M("b", "1")))
	from := len(c.Bytes())
	c.Event(1, chunktest.M("a", 1)).Event(1, chunktest.M("b", "x")).Event(1, chunktest.M())
	lost := len(c.Bytes()) - from
	c.Event(1, chunktest.M("a", chunktest.M("b", "2")))
	got, p := buildTransformed(t, Transform{LogKey: "a->b"}, c.Bytes())
	same(t, got, []string{"1", "2"})
	if want := (Loss{3, from, lost}); p.Losses[NoLogKey] != want {
		t.Errorf("%+v, want %+v", p.Losses[NoLogKey], want)
	}
}

func TestTransform_CountsMissingDataKeys(t *testing.T) {
	c := chunktest.New().Event(1, chunktest.M("a", 1, "x", 2))
	from := len(c.Bytes())
	c.Event(1, chunktest.M("x", 1)).Event(1, chunktest.M())
	lost := len(c.Bytes()) - from
	c.Event(1, chunktest.M("b", nil))
	for _, batch := range []int{0, 1000} {
		got, p := buildTransformed(t, Transform{DataKeys: []string{"a", "b"}, BatchBytes: batch}, c.Bytes())
		if text := strings.ReplaceAll(strings.Join(got, ""), "\n", ""); text != `{"a":1}{"b":null}` {
			t.Errorf("sent %s", text)
		}
		if want := (Loss{2, from, lost}); p.Losses[NoDataKey] != want {
			t.Errorf("%+v, want %+v", p.Losses[NoDataKey], want)
		}
	}
}

func TestTransform_Times(t *testing.T) {
	for _, test := range []struct {
		stamp  any
		format string
		want   string
	}{
		{testTime, "%Y-%m-%dT%H:%M:%S", "2026-03-01T12:00:00"},
		{testTime, isoMillis, testISO},
		{testTime, "%L %3N %f %6N %N %9N", "123 123 123456 123456 123456789 123456789"},
		{testTime, "%%L%%%L", "%L%123"},
		{testTime, "%a %A %b %B %d %e %j %-d %y %p %I %Z %z", "Sun Sunday Mar March 01  1 060 1 26 PM 12 UTC +0000"},
		{testTime, "_%e.%y,%y Jan 2006 %F", "_ 1.26,26 Jan 2006 2026-03-01"},
		{testTime, "\"é\"%n", `\"é\"\n`},
		{testTime, "", ""},
		{chunktest.EventTime{Sec: 1772366399, Nsec: 4_000_000_000}, isoMillis, "2026-03-01T12:00:03.000Z"},
		{uint32(1772366400), isoMillis, "2026-03-01T12:00:00.000Z"},
		{7, "%s.%L", "7.000"},
		{1772366400.25, isoMillis, "2026-03-01T12:00:00.250Z"},
		{1772366400.999, isoMillis, "2026-03-01T12:00:00.999Z"},
		{math.Nextafter(2, 1), "%s.%N", "1.999999999"},
		{float32(1.5), "%s.%L", "1.500"},
		{-0.5, "%s.%L", "-1.500"},
		{math.NaN(), "%s", "0"},
		{math.Inf(1), "%F", "9999-12-31"},
		{math.Inf(-1), "%F", "0001-01-01"},
		{uint64(math.MaxUint64), "%F", "9999-12-31"},
	} {
		t.Run(fmt.Sprintf("%v %s", test.stamp, test.format), func(t *testing.T) {
			c := chunktest.New().Event(test.stamp, chunktest.M()).Legacy(test.stamp, chunktest.M()).Event(test.stamp, chunktest.M())
			got, _ := buildTransformed(t, Transform{TimeKey: "t", TimeFormat: test.format}, c.Bytes())
			same(t, got, slices.Repeat([]string{`{"t":"` + test.want + `"}`}, 3))
		})
	}
}

// Each record has its own time, whatever second the one before it had.
func TestTransform_TimesOfManySeconds(t *testing.T) {
	c := chunktest.New()
	var want []string
	for i := range uint32(200) {
		at := chunktest.EventTime{Sec: 1772366400 + i*7%5, Nsec: i * 4_999_999}
		c.Event(at, chunktest.M())
		want = append(want, fmt.Sprintf(`{"t":"2026-03-01T12:00:%02d.%06d"}`, i*7%5, at.Nsec/1000))
	}
	got, _ := buildTransformed(t, Transform{TimeKey: "t", TimeFormat: "%Y-%m-%dT%H:%M:%S.%f"}, c.Bytes())
	same(t, got, want)
}

func TestTransform_Metadata(t *testing.T) {
	m := chunktest.M
	c := chunktest.New().
		Event(1, m("n", 0)).
		GroupOpen(m("schema", "otlp", "scope_id", 0), m("resource", m("attributes", m("service.name", "a")), "scope", m())).
		EventMeta(1, m("otlp", m("severity_number", 9)), m("n", 1)).
		EventMeta(1, m("schema", "own", "scope", 7), m("n", 2, "meta", "lost")).
		Legacy(1, m("n", 3)).
		Value(7).
		GroupClose().
		EventMeta(1, m("x", 1, "x", 2), m("n", 4)).
		GroupOpen(m(), m("a", 1)).
		GroupOpen(m("b", 2), m()).
		Event(1, m("n", 5)).
		Value([]any{chunktest.EventTime{Sec: groupOpens}, m("legacy", true)}).
		Event(1, m("n", 6))
	const group = `"schema":"otlp","scope_id":0,"resource":{"attributes":{"service.name":"a"}},"scope":{}`
	want := []string{
		`{"n":0,"meta":{}}`,
		`{"n":1,"meta":{` + group + `,"otlp":{"severity_number":9}}}`,
		`{"n":2,"meta":{"scope_id":0,"resource":{"attributes":{"service.name":"a"}},"schema":"own","scope":7}}`,
		`{"n":3,"meta":{` + group + `}}`,
		`{"n":4,"meta":{"x":2}}`,
		`{"n":5,"meta":{"b":2}}`,
		`{"n":6,"meta":{"legacy":true}}`,
	}
	s := Transform{MetadataKey: "meta"}
	got, p := buildTransformed(t, s, c.Bytes())
	same(t, got, want)
	if p.Losses[NotEvent].Count != 1 {
		t.Errorf("%+v", p)
	}

	// The same in parts of any size: each has to find its group again.
	a := transformed(t, s)
	for limit := 230; limit < 600; limit += 30 {
		var got []string
		for from := 0; from < len(c.Bytes()); {
			p := a.Build(Chunk{testTag, c.Bytes()}, from, testKey, Limit{limit, 600})
			if p.Data != nil {
				got = append(got, open(t, p.Data, testKey)...)
			}
			from = p.Next
		}
		same(t, got, want)
	}
}

// transformedJSON is what the independent writer makes of a body.
func transformedJSON(s Transform, body chunktest.Map) string {
	var rename func(v any) any
	rename = func(v any) any {
		switch v := v.(type) {
		case chunktest.Map:
			var out chunktest.Map
			for _, p := range v {
				key := p.Key
				if text, ok := key.(string); ok && s.ReplaceDots != "" {
					key = strings.ReplaceAll(text, ".", s.ReplaceDots)
				}
				out = append(out, chunktest.Pair{Key: key, Value: rename(p.Value)})
			}
			return out
		case []any:
			var out []any
			for _, e := range v {
				out = append(out, rename(e))
			}
			return out
		}
		return v
	}
	var out chunktest.Map
	for _, p := range body {
		if len(s.DataKeys) == 0 || slices.Contains(s.DataKeys, fmt.Sprint(p.Key)) {
			out = append(out, p)
		}
	}
	out = rename(out).(chunktest.Map)
	out = slices.DeleteFunc(out, func(p chunktest.Pair) bool { return s.TagKey != "" && p.Key == s.TagKey })
	if s.TagKey != "" {
		out = append(out, chunktest.Pair{Key: s.TagKey, Value: testTag})
	}
	text := chunktest.JSON(out)
	if s.AppendNewline {
		text += "\n"
	}
	return text
}

// transforms are what the corpora are shaped to.
var shapings = []Transform{
	{TagKey: "tag"},
	{TagKey: "seq", AppendNewline: true},
	{DataKeys: []string{"log", "kubernetes", "path", "n", "message"}},
	{DataKeys: []string{"log"}},
	{ReplaceDots: "_"},
	{ReplaceDots: "::", TagKey: "time", DataKeys: []string{"seq", "time", "kubernetes", "n"}},
}

func TestTransform_Corpora(t *testing.T) {
	all := corpora(200)
	var many []chunktest.Map
	for i := range 5 {
		var wide chunktest.Map
		for k := range maxCachedKeys - 2 + i {
			wide = append(wide, chunktest.Pair{Key: fmt.Sprint("k.", k%(maxCachedKeys-1)), Value: i})
		}
		many = append(many, append(wide, chunktest.M("tag", 1, "seq", 2, strings.Repeat("long.", 30), 3)...))
	}
	all["many keys"] = chunktest.NewCorpus(many...)
	for name, c := range all {
		for _, s := range shapings {
			t.Run(fmt.Sprintf("%s %+v", name, s), func(t *testing.T) {
				var want []string
				for _, body := range c.Bodies {
					if text := transformedJSON(s, body); text != "{}" { // not sent
						want = append(want, text)
					}
				}
				for _, data := range [][]byte{c.Bytes, c.LegacyBytes()} {
					got, _ := buildTransformed(t, s, data)
					same(t, got, want)
				}
			})
		}
	}
}

func decompress(t testing.TB, c compression.Format, record string) string {
	t.Helper()
	var out []byte
	var err error
	in := strings.NewReader(record)
	switch c {
	case compression.Gzip:
		var r *gzip.Reader
		if r, err = gzip.NewReader(in); err == nil {
			r.Multistream(false)
			out, err = io.ReadAll(r)
		}
	case compression.Zlib:
		var r io.ReadCloser
		if r, err = zlib.NewReader(in); err == nil {
			out, err = io.ReadAll(r)
		}
	case compression.Zstd:
		var r *zstd.Decoder
		if r, err = zstd.NewReader(nil); err == nil {
			defer r.Close()
			out, err = r.DecodeAll([]byte(record), nil)
		}
	case compression.Snappy:
		out, err = snappy.Decode(nil, []byte(record))
	default:
		t.Fatalf("the tests cannot read %s: add it to decompress in transform_test.go", c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestTransform_Compression(t *testing.T) {
	c := chunktest.NewCorpus(append(chunktest.Kubernetes(1, 20).Bodies, append(chunktest.LongText(1, 20).Bodies, chunktest.M())...)...)
	for _, algorithm := range allCompressions[1:] {
		_, highest := algorithm.Levels()
		for _, level := range []int{0, 1, highest} {
			t.Run(fmt.Sprint(algorithm, level), func(t *testing.T) {
				got, _ := buildTransformed(t, Transform{Compression: algorithm, CompressionLevel: level}, c.Bytes)
				size := 0
				for i := range got {
					size += len(got[i])
					got[i] = decompress(t, algorithm, got[i])
				}
				same(t, got, c.JSON)
				if size*10 > c.JSONBytes()*9 {
					t.Errorf("%d bytes of %d", size, c.JSONBytes())
				}
			})
		}
		t.Run(string(algorithm)+" with more", func(t *testing.T) {
			c := chunktest.New().Event(1, chunktest.M("log", "")).Event(1, chunktest.M()).Event(1, chunktest.M("log", "x"))
			got, p := buildTransformed(t, Transform{Compression: algorithm, LogKey: "log"}, c.Bytes())
			if len(got) != 2 || decompress(t, algorithm, got[0]) != "" || decompress(t, algorithm, got[1]) != "x" || p.Losses[NoLogKey].Count != 1 {
				t.Errorf("%q, %+v", got, p)
			}
		})
	}
}

// What is compressed counts, where records are large.
func TestTransform_LimitAfterCompression(t *testing.T) {
	c := chunktest.NewCorpus(chunktest.M("log", strings.Repeat("x", 100_000)), chunktest.M("n", 1))
	p := transformed(t, Transform{Compression: compression.Gzip}).Build(Chunk{testTag, c.Bytes}, 0, testKey, Limit{1000, 1000})
	if p.UserRecords != 2 || p.Next != len(c.Bytes) {
		t.Errorf("%+v", p)
	}
}

func TestTransform_DoesNotAllocate(t *testing.T) {
	every := append([]Transform{
		{TimeKey: "time", TimeFormat: isoMillis},
		{MetadataKey: "meta"},
		{LogKey: "log"},
		{LogKey: "kubernetes->labels"},
		{TimeKey: "time", TimeFormat: "%c %N", TagKey: "tag", MetadataKey: "meta", ReplaceDots: "__", AppendNewline: true},
	}, shapings...)
	for name, c := range corpora(200) {
		withGroups := chunktest.New()
		for i, body := range c.Bodies {
			if i%50 == 0 {
				withGroups.GroupOpen(chunktest.M("schema", "otlp"), chunktest.M("resource", chunktest.M("attributes", chunktest.M("service.name", i))))
			}
			withGroups.EventMeta(c.Times[i], chunktest.M("otlp", chunktest.M("severity_number", 9)), body)
		}
		for _, s := range every {
			t.Run(fmt.Sprintf("%s %+v", name, s), func(t *testing.T) {
				a := transformed(t, s)
				allocs := testing.AllocsPerRun(3, func() {
					a.Build(Chunk{testTag, withGroups.Bytes()}, 0, testKey, largest)
				})
				if allocs != 0 {
					t.Errorf("%v allocations for a chunk of %d records", allocs, len(c.JSON))
				}
			})
		}
	}
}

func TestTransform_ChunkCutAtEachByte(t *testing.T) {
	everything := Transform{TimeKey: "time", TimeFormat: isoMillis, TagKey: "tag", MetadataKey: "meta", ReplaceDots: "_",
		DataKeys: []string{"log", "time", "tag", "meta", "kubernetes"}}
	grouped := chunktest.New().GroupOpen(chunktest.M("a", 1), chunktest.M("b", chunktest.M("c", 2)))
	common := chunktest.New() // the head that is read without its parts
	for _, body := range chunktest.Kubernetes(1, 2).Bodies {
		grouped.EventMeta(testTime, chunktest.M("x", "y"), body)
		common.Event(testTime, body)
	}
	for _, s := range []Transform{everything, {TagKey: "tag"}, {LogKey: "kubernetes->labels"}, {LogKey: "log", Compression: compression.Snappy}} {
		for _, c := range []*chunktest.Chunk{grouped, common} {
			a := transformed(t, s)
			ends := c.Ends()[len(c.Ends())-2:] // of the two log records
			whole := open(t, a.Build(Chunk{testTag, c.Bytes()}, 0, testKey, largest).Data, testKey)
			for cut := range c.Bytes() {
				p := a.Build(Chunk{testTag, bytes.Clone(c.Bytes()[:cut])}, 0, testKey, largest)
				var got []string
				if p.Data != nil {
					got = open(t, p.Data, testKey)
				}
				for at, end := range ends {
					if (cut >= end) != (len(got) > at) {
						t.Fatalf("cut at %d: %d records", cut, len(got))
					}
				}
				if p.Next != cut {
					t.Fatalf("cut at %d: continues at %d", cut, p.Next)
				}
				same(t, got, whole[:len(got)])
			}
		}
	}
}

func FuzzTransform(f *testing.F) {
	for _, c := range corpora(2) {
		f.Add(c.Bytes, uint8(3), 0)
		f.Add(c.LegacyBytes(), uint8(0), 7)
	}
	f.Add(chunktest.New().GroupOpen(chunktest.M("a", 1), chunktest.M("b", 2)).
		EventMeta(math.Inf(1), chunktest.M("c", 3), chunktest.M("log", chunktest.M("a.b", 4, "a.b", 5))).Bytes(), uint8(2), 0)
	variants := []Transform{
		{TimeKey: "time", TimeFormat: isoMillis, TagKey: "tag"},
		{MetadataKey: "meta", TagKey: "log"},
		{MetadataKey: "meta", TimeKey: "a.b", TimeFormat: "%c", ReplaceDots: "\"", DataKeys: []string{"log", "meta", "a.b"}},
		{DataKeys: []string{"log", "time"}},
		{LogKey: "log"},
		{LogKey: "log->a", ReplaceDots: "__"},
		{TagKey: "a", Compression: compression.Snappy},
	}
	f.Fuzz(func(t *testing.T, data []byte, variant uint8, from int) {
		if from < 0 || from > len(data) {
			return
		}
		s := variants[int(variant)%len(variants)]
		a := transformed(t, s)
		first := a.Build(Chunk{testTag, data}, from, testKey, largest)
		if first.Next <= from && from < len(data) {
			t.Fatalf("no progress at %d of %d", from, len(data))
		}
		if first.Data == nil {
			return
		}
		records := open(t, bytes.Clone(first.Data), testKey)
		for _, r := range records {
			if s.Compression != "" {
				r = decompress(t, s.Compression, r)
			}
			if s.LogKey == "" && !json.Valid([]byte(r)) {
				t.Fatalf("no JSON: %q", r)
			}
			if s.LogKey == "" && strings.Count(r, `"tag":"app.\"web\".é"`) > 1 {
				t.Fatalf("added twice: %q", r)
			}
		}
		// What is remembered of the first time changes nothing.
		again := a.Build(Chunk{testTag, data}, from, testKey, largest)
		same(t, open(t, again.Data, testKey), records)
	})
}

func BenchmarkBuildTransform(b *testing.B) {
	c := chunktest.AccessLog(1, 6000)
	k := chunktest.Kubernetes(1, 2500)
	for _, test := range []struct {
		name string
		s    Transform
		c    chunktest.Corpus
	}{
		{"Time", Transform{TimeKey: "time", TimeFormat: isoMillis}, c},
		{"TimeTagNewline", Transform{TimeKey: "time", TimeFormat: isoMillis, TagKey: "tag", AppendNewline: true}, c},
		{"DataKeys", Transform{DataKeys: []string{"seq", "path", "status"}}, c},
		{"LogKey", Transform{LogKey: "log"}, k},
		{"ReplaceDots", Transform{ReplaceDots: "_"}, k},
		{"Metadata", Transform{MetadataKey: "meta"}, c},
		{"Gzip", Transform{Compression: compression.Gzip}, c},
		{"Zstd", Transform{Compression: compression.Zstd}, c},
		{"Snappy", Transform{Compression: compression.Snappy}, c},
	} {
		b.Run(test.name, func(b *testing.B) {
			a := transformed(b, test.s)
			p := a.Build(Chunk{testTag, test.c.Bytes}, 0, testKey, largest)
			b.SetBytes(int64(len(test.c.Bytes)))
			b.ReportAllocs()
			for b.Loop() {
				a.Build(Chunk{testTag, test.c.Bytes}, 0, testKey, largest)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(p.UserRecords), "ns/record")
		})
	}
}
