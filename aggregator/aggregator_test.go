package aggregator

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
	"out_kinesis_agg/test/kit/chunktest"
)

const testKey = "5a2f8c1e-0b4d-4f6a-9c3e-7d1b2a3c4d5e"

var largest = Limit{kpl.LargestMaxRecordBytes, kpl.LargestMaxRecordBytes}

// open reads an aggregated record back with the generated code and returns its
// user records.
func open(t testing.TB, aggregate []byte, key string) []string {
	t.Helper()
	if !kpl.IsAggregated(aggregate) {
		t.Fatalf("not an aggregated record: % x", aggregate[:min(len(aggregate), 16)])
	}
	var m kplproto.AggregatedRecord
	if err := proto.Unmarshal(aggregate[len(kpl.Magic):len(aggregate)-kpl.DigestBytes], &m); err != nil {
		t.Fatal(err)
	}
	if got := m.GetPartitionKeyTable(); len(got) != 1 || got[0] != key {
		t.Fatalf("partition key table %q, want only %q", got, key)
	}
	if n := len(m.GetExplicitHashKeyTable()); n != 0 {
		t.Fatalf("%d explicit hash keys, want none", n)
	}
	var records []string
	for i, r := range m.GetRecords() {
		if r.PartitionKeyIndex == nil || r.GetPartitionKeyIndex() != 0 || r.ExplicitHashKeyIndex != nil || len(r.GetTags()) != 0 {
			t.Fatalf("record %d: %v", i, r)
		}
		records = append(records, string(r.GetData()))
	}
	return records
}

// buildAll fills one aggregated record with a whole chunk and returns its user
// records.
func buildAll(t testing.TB, data []byte) ([]string, Result) {
	t.Helper()
	p := New().Build(Chunk{testTag, data}, 0, testKey, largest)
	if p.Next != len(data) {
		t.Fatalf("stopped at %d of %d", p.Next, len(data))
	}
	if p.Data == nil {
		if p.UserRecords != 0 {
			t.Fatalf("%d records without an aggregate", p.UserRecords)
		}
		return nil, p
	}
	records := open(t, p.Data, testKey)
	if len(records) != p.UserRecords {
		t.Fatalf("%d records, counted %d", len(records), p.UserRecords)
	}
	return records, p
}

func same(t testing.TB, got, want []string) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			t.Fatalf("record %d:\n got %s\nwant %s", i, got[i], want[i])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
}

// corpora are the four kinds of logs, small enough for a test of each byte.
func corpora(n int) map[string]chunktest.Corpus {
	return map[string]chunktest.Corpus{
		"access log": chunktest.AccessLog(1, n),
		"kubernetes": chunktest.Kubernetes(1, n),
		"long text":  chunktest.LongText(1, n),
		"numbers":    chunktest.Numbers(1, n),
	}
}

func TestBuild_KeepsRecordsInOrder(t *testing.T) {
	for name, c := range corpora(500) {
		for format, data := range map[string][]byte{"events": c.Bytes, "legacy": c.LegacyBytes()} {
			t.Run(name+" "+format, func(t *testing.T) {
				got, _ := buildAll(t, data)
				same(t, got, c.JSON)
			})
		}
	}
}

func TestBuild_UncompressedBytes(t *testing.T) {
	c := chunktest.AccessLog(1, 100)
	if _, r := buildAll(t, c.Bytes); r.UncompressedBytes != len(strings.Join(c.JSON, "")) {
		t.Errorf("%d bytes, want %d", r.UncompressedBytes, len(strings.Join(c.JSON, "")))
	}
}

func TestBuild_EventFormats(t *testing.T) {
	body := chunktest.M("a", 1)
	ts := chunktest.EventTime{Sec: 1700000000, Nsec: 5}
	var tests = []struct {
		name string
		c    *chunktest.Chunk
	}{
		{"event", chunktest.New().Event(ts, body)},
		{"metadata", chunktest.New().EventMeta(ts, chunktest.M("x", chunktest.M("y", []any{1, "z"})), body)},
		{"legacy", chunktest.New().Legacy(ts, body)},
		{"ext8 timestamp", chunktest.New().Event(chunktest.Wide{Value: ts, Bytes: 1}, body)},
		{"ext32 timestamp", chunktest.New().Legacy(chunktest.Wide{Value: ts, Bytes: 4}, body)},
		{"unsigned timestamp", chunktest.New().Legacy(uint64(1700000000), body)},
		{"signed timestamp", chunktest.New().Legacy(chunktest.Raw{0xd2, 0x65, 0, 0, 0}, body)},
		{"signed timestamp of zero", chunktest.New().Legacy(chunktest.Raw{0xd0, 0}, body)},
		{"small timestamp", chunktest.New().Legacy(7, body)},
		{"float timestamp", chunktest.New().Event(1700000000.25, body)},
		{"single timestamp", chunktest.New().Legacy(float32(1.5), body)},
		{"year 2106 is not a group", chunktest.New().Event(chunktest.EventTime{Sec: 0xffffffff, Nsec: 1}, body)},
		{"wide arrays and map", chunktest.New().Value(chunktest.Wide{Value: []any{
			chunktest.Wide{Value: []any{ts, chunktest.Wide{Value: chunktest.M(), Bytes: 4}}, Bytes: 4},
			chunktest.Wide{Value: body, Bytes: 2}}, Bytes: 2})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, p := buildAll(t, test.c.Bytes())
			same(t, got, []string{`{"a":1}`})
			if p.Losses[NotEvent].Count+p.Losses[Unreadable].Count != 0 {
				t.Errorf("%+v", p)
			}
		})
	}
}

func TestBuild_SkipsGroupMarkers(t *testing.T) {
	c := chunktest.New().
		GroupOpen(chunktest.M("schema", "otlp"), chunktest.M("resource", chunktest.M("service.name", "a"))).
		Event(chunktest.EventTime{Sec: 1}, chunktest.M("n", 1)).
		GroupClose().
		Event(chunktest.EventTime{Sec: 2}, chunktest.M("n", 2))
	got, p := buildAll(t, c.Bytes())
	same(t, got, []string{`{"n":1}`, `{"n":2}`})
	if p.Losses[NotEvent].Count != 0 {
		t.Errorf("%+v", p)
	}

	got, p = buildAll(t, chunktest.New().GroupOpen(nil, nil).GroupClose().Bytes())
	if got != nil || p.Data != nil || p.Losses[NotEvent].Count != 0 || p.Losses[Unreadable].Count != 0 {
		t.Errorf("a chunk of markers: %+v", p)
	}
}

func TestBuild_EmptyChunk(t *testing.T) {
	if got, p := buildAll(t, nil); got != nil || p.Losses[Unreadable].Count != 0 {
		t.Errorf("%q %+v", got, p)
	}
}

func TestBuild_SkipsNonEvents(t *testing.T) {
	ts, body := chunktest.EventTime{Sec: 1}, chunktest.M("n", 1)
	for name, stray := range map[string]any{
		"integer":              7,
		"string":               "[1,{}]",
		"empty array":          []any{},
		"array of three":       []any{ts, body, body},
		"body is an array":     []any{ts, []any{1}},
		"metadata is a string": []any{[]any{ts, "m"}, body},
		"header of three":      []any{[]any{ts, body, 1}, body},
		"negative timestamp":   []any{-3, body},
		"ext of other type":    []any{chunktest.Ext{Type: 1, Data: make([]byte, 8)}, body},
		"ext of other size":    []any{chunktest.Ext{Type: 0, Data: make([]byte, 4)}, body},
		"no timestamp":         []any{nil, body},
		"map":                  body,
	} {
		t.Run(name, func(t *testing.T) {
			c := chunktest.New().Event(ts, body)
			from := len(c.Bytes())
			c.Value(stray)
			size := len(c.Bytes()) - from
			c.Event(ts, chunktest.M("n", 2))
			got, p := buildAll(t, c.Bytes())
			same(t, got, []string{`{"n":1}`, `{"n":2}`})
			if want := (Loss{Count: 1, Offset: from, Bytes: size}); p.Losses[NotEvent] != want {
				t.Errorf("%+v, want %+v", p.Losses[NotEvent], want)
			}
		})
	}
}

// wholeRecords is how many records of a corpus end at or before an offset.
func wholeRecords(c chunktest.Corpus, offset int) int {
	n := 0
	for n < len(c.Ends) && c.Ends[n] <= offset {
		n++
	}
	return n
}

func TestBuild_ChunkCutAtEachByte(t *testing.T) {
	for name, c := range corpora(4) {
		t.Run(name, func(t *testing.T) {
			for cut := range c.Bytes {
				got, p := buildAll(t, bytes.Clone(c.Bytes[:cut]))
				whole := wholeRecords(c, cut)
				same(t, got, c.JSON[:whole])
				at := 0
				if whole > 0 {
					at = c.Ends[whole-1]
				}
				want := Loss{}
				if at < cut {
					want = Loss{Count: 1, Offset: at, Bytes: cut - at}
				}
				if p.Losses[Unreadable] != want {
					t.Fatalf("cut at %d: unreadable %+v, want %+v", cut, p.Losses[Unreadable], want)
				}
			}
		})
	}
}

func TestBuild_EachByteFlipped(t *testing.T) {
	masks := []byte{0x01, 0x80, 0xff}
	if testing.Short() {
		masks = masks[2:]
	}
	for name, c := range corpora(3) {
		t.Run(name, func(t *testing.T) {
			for at := range c.Bytes {
				for _, mask := range masks {
					data := bytes.Clone(c.Bytes)
					data[at] ^= mask
					got, _ := buildAll(t, data)
					before := wholeRecords(c, at)
					if len(got) < before {
						t.Fatalf("byte %d ^ %#x: %d records, want at least the %d before it", at, mask, len(got), before)
					}
					same(t, got[:before], c.JSON[:before])
					for _, r := range got {
						if !json.Valid([]byte(r)) {
							t.Fatalf("byte %d ^ %#x: not JSON: %s", at, mask, r)
						}
					}
				}
			}
		})
	}
}

func TestBuild_LengthsBeyondTheChunk(t *testing.T) {
	for name, head := range map[string][]byte{
		"str32":   {0xdb, 0xff, 0xff, 0xff, 0xff},
		"bin32":   {0xc6, 0xff, 0xff, 0xff, 0xff},
		"ext32":   {0xc9, 0xff, 0xff, 0xff, 0xff, 0},
		"array32": {0xdd, 0xff, 0xff, 0xff, 0xff},
		"map32":   {0xdf, 0xff, 0xff, 0xff, 0xff},
	} {
		t.Run(name, func(t *testing.T) {
			good := chunktest.New().Event(chunktest.EventTime{Sec: 1}, chunktest.M("n", 1))
			from := len(good.Bytes())
			bad := append(bytes.Clone(good.Bytes()), 0x92, 0x92, 0xd7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0x80, 0x81, 0xa1, 'k')
			bad = append(append(bad, head...), "only a little"...)
			got, p := buildAll(t, bad)
			same(t, got, []string{`{"n":1}`})
			if want := (Loss{1, from, len(bad) - from}); p.Losses[Unreadable] != want {
				t.Errorf("unreadable %+v, want %+v", p.Losses[Unreadable], want)
			}
		})
	}
}

// A chunk in which each level declares as many members as there are bytes left must
// not allocate scratch space for all of them.
func TestBuild_DeclaredCountsTakeNoMemory(t *testing.T) {
	const levels, filler = 90, 1 << 20
	data := []byte{0x92, 0x01}
	for range levels {
		data = append(data, 0xdf, 0, 4, 0, 0, 0xa1, 'k')
	}
	data = append(data, make([]byte, filler)...)
	a := New()
	a.Build(Chunk{testTag, data}, 0, testKey, largest)
	if got := cap(a.json.repeats.table) * 4; got > 4*filler {
		t.Errorf("%d bytes of hash table for a chunk of %d", got, len(data))
	}
}

func nest(levels int, wrap func(any) any) any {
	v := any(1)
	for range levels {
		v = wrap(v)
	}
	return v
}

func TestBuild_NestingIsBounded(t *testing.T) {
	inMap := func(v any) any { return chunktest.M("k", v) }
	inArray := func(v any) any { return []any{v} }
	inKey := func(v any) any { return chunktest.Map{{Key: v, Value: 1}} }
	for _, test := range []struct {
		name string
		body any
		sent bool
	}{
		{"100 maps", nest(100, inMap), true},
		{"101 maps", nest(101, inMap), false},
		{"99 arrays in a map", inMap(nest(99, inArray)), true},
		{"100 arrays in a map", inMap(nest(100, inArray)), false},
		{"200 maps", nest(200, inMap), false},
		{"50,000 arrays", inMap(nest(50_000, inArray)), false},
		{"4 maps in keys", nest(maxKeyDepth+1, inKey), true},
		{"5 maps in keys", nest(maxKeyDepth+2, inKey), false},
		{"90 maps in keys", nest(90, inKey), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := chunktest.New().Event(1, chunktest.M("n", 1)).Event(1, test.body).Event(1, chunktest.M("n", 2))
			got, p := buildAll(t, c.Bytes())
			wantSent, wantDeep := 3, 0
			if !test.sent {
				wantSent, wantDeep = 2, 1
			}
			if len(got) != wantSent || p.Losses[TooDeep].Count != wantDeep || p.Losses[Unreadable].Count != 0 {
				t.Errorf("%d sent, %+v", len(got), p)
			}
			if got[len(got)-1] != `{"n":2}` {
				t.Errorf("the record after it is %s", got[len(got)-1])
			}
		})
	}
}

func TestBuild_LargeValues(t *testing.T) {
	var many chunktest.Map
	for i := range 100_000 {
		many = append(many, chunktest.Pair{Key: fmt.Sprintf("key-%d", i), Value: i})
	}
	long := strings.Repeat("0123456789abcde\n", 900*1024/16)
	c := chunktest.NewCorpus(many, chunktest.M("log", long), chunktest.M("n", 1))
	got, _ := buildAll(t, c.Bytes)
	same(t, got, c.JSON)
}

// Maps whose keys differ in one letter, as keys of an earlier map are found again.
func TestBuild_SimilarKeys(t *testing.T) {
	for length := 1; length <= 40; length++ {
		for at := range length {
			key := strings.Repeat("k", length)
			c := chunktest.NewCorpus(chunktest.M(key, 1), chunktest.M(key[:at]+"x"+key[at+1:], 2), chunktest.M(key, 3))
			if got, _ := buildAll(t, c.Bytes); !slices.Equal(got, c.JSON) {
				t.Fatalf("got %s, want %s", got, c.JSON)
			}
		}
	}
}

func TestBuild_RepeatedKeys(t *testing.T) {
	many := func(n int) (m chunktest.Map) {
		for i := range 3 * n {
			m = append(m, chunktest.Pair{Key: fmt.Sprint("k", i%n), Value: i})
		}
		return m
	}
	// Keys that share their ends and their length, so that a fingerprint of
	// those does not tell them apart.
	alike := func(n int) (m chunktest.Map) {
		for i := range n {
			m = append(m, chunktest.Pair{Key: fmt.Sprintf("beginning-%06d-the-end-", i), Value: i})
		}
		return m
	}
	bodies := []chunktest.Map{
		chunktest.M("a", 1, "a", 2),
		chunktest.M("a", 1, "b", 2, "a", 3),
		chunktest.M("a", 1, "b", 2, "b", 3, "c", 4, "a", 5, "d", 6),
		chunktest.M("a", chunktest.M("x", 1, "x", 2), "b", []any{chunktest.M("y", 1, "y", chunktest.M("z", 1, "z", 2))}, "a", chunktest.M("x", 3)),
		many(3), many(maxCachedKeys / 3), many(maxCachedKeys/3 + 1), many(maxCachedKeys), many(5000),
		chunktest.M("outer", many(200), "x", 1, "outer", many(300), "x", many(70)),
		alike(50), alike(20_000), append(alike(500), alike(500)...),
	}
	c := chunktest.NewCorpus(bodies...)
	got, _ := buildAll(t, c.Bytes)
	same(t, got, c.JSON)
	same(t, got[:3], []string{`{"a":2}`, `{"b":2,"a":3}`, `{"b":3,"c":4,"a":5,"d":6}`})
}

func TestBuild_SizeIsExact(t *testing.T) {
	c := chunktest.AccessLog(3, 20)
	whole := New().Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
	exact := len(whole.Data) + len(testKey)

	p := New().Build(Chunk{testTag, c.Bytes}, 0, testKey, Limit{exact, exact})
	if p.Next != len(c.Bytes) || len(p.Data)+len(testKey) != exact {
		t.Errorf("limit %d: stopped at %d of %d", exact, p.Next, len(c.Bytes))
	}
	p = New().Build(Chunk{testTag, c.Bytes}, 0, testKey, Limit{exact - 1, exact - 1})
	if p.UserRecords != 19 || p.Next != c.Ends[18] {
		t.Errorf("limit %d: %d records, next %d", exact-1, p.UserRecords, p.Next)
	}
	same(t, open(t, p.Data, testKey), c.JSON[:19])
}

func TestBuild_PartsJoinToTheChunk(t *testing.T) {
	for name, c := range corpora(300) {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []int{10_000, 33_333} {
				a := New()
				var got []string
				for from := 0; from < len(c.Bytes); {
					p := a.Build(Chunk{testTag, c.Bytes}, from, testKey, Limit{limit, limit})
					if p.Data == nil || p.Losses[TooLarge].Count > 0 || len(p.Data)+len(testKey) > limit {
						t.Fatalf("limit %d at %d: %d bytes, %+v", limit, from, len(p.Data), p.Losses[TooLarge])
					}
					got = append(got, open(t, p.Data, testKey)...)
					from = p.Next
				}
				same(t, got, c.JSON)
			}
		})
	}
}

func TestBuild_SkipsTooLargeRecord(t *testing.T) {
	const limit = 2000
	at := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	// The longest text for which {"log":"..."} fits into an aggregate of its own.
	longest := limit
	for kpl.HeadBytes(testKey)+kpl.RecordBytes(longest+len(`{"log":""}`))+kpl.DigestBytes+len(testKey) > limit {
		longest--
	}
	c := chunktest.NewCorpus(chunktest.M("n", 1), at(longest+1), chunktest.M("n", 2), at(longest), chunktest.M("n", 3))
	a := New()
	first := a.Build(Chunk{testTag, c.Bytes}, 0, testKey, Limit{limit, limit})
	same(t, open(t, first.Data, testKey), []string{c.JSON[0], c.JSON[2]})
	if want := (Loss{1, c.Ends[0], c.Ends[1] - c.Ends[0]}); first.Losses[TooLarge] != want {
		t.Errorf("%+v, want %+v", first.Losses[TooLarge], want)
	}
	second := a.Build(Chunk{testTag, c.Bytes}, first.Next, testKey, Limit{limit, limit})
	if len(second.Data)+len(testKey) != limit {
		t.Errorf("the longest record makes %d bytes, want %d", len(second.Data)+len(testKey), limit)
	}
	same(t, open(t, second.Data, testKey), c.JSON[3:4])
	third := a.Build(Chunk{testTag, c.Bytes}, second.Next, testKey, Limit{limit, limit})
	same(t, open(t, third.Data, testKey), c.JSON[4:])
}

func TestBuild_SingleRecordAboveRecordMax(t *testing.T) {
	at := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	c := chunktest.NewCorpus(at(100), at(100), at(1500), at(100), at(5000), at(100))
	limit := Limit{RecordMax: 1000, SingleRecordMax: 2000}
	a := New()
	for from, want := 0, [][]string{c.JSON[0:2], c.JSON[2:3], {c.JSON[3], c.JSON[5]}}; from < len(c.Bytes); want = want[1:] {
		p := a.Build(Chunk{testTag, c.Bytes}, from, testKey, limit)
		same(t, open(t, p.Data, testKey), want[0])
		if from = p.Next; from == len(c.Bytes) && (len(want) != 1 || p.Losses[TooLarge].Count != 1) {
			t.Errorf("%d parts left, %+v", len(want)-1, p.Losses[TooLarge])
		}
	}
}

func TestBuild_DoesNotAllocate(t *testing.T) {
	for name, c := range corpora(1000) {
		t.Run(name, func(t *testing.T) {
			a := New()
			allocs := testing.AllocsPerRun(5, func() { a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest) })
			if allocs != 0 {
				t.Errorf("%v allocations for a chunk of %d records", allocs, len(c.JSON))
			}
		})
	}
}

// benchmarkCorpus is a chunk of about 2 MB.
type benchmarkCorpus struct {
	name string
	c    chunktest.Corpus
}

func benchmarkCorpora() []benchmarkCorpus {
	return []benchmarkCorpus{
		{"AccessLog", chunktest.AccessLog(1, 6000)},
		{"Kubernetes", chunktest.Kubernetes(1, 2500)},
		{"LongText", chunktest.LongText(1, 900)},
		{"Numbers", chunktest.Numbers(1, 9000)},
	}
}

// BenchmarkBuild counts bytes of the chunk. For comparison, in the same unit: the
// MD5 of the aggregated record, which is part of Build, and the floor, which is
// that MD5 and the SHA-256 and base64 that a request needs after Build.
func BenchmarkBuild(b *testing.B) {
	for _, test := range benchmarkCorpora() {
		c := test.c
		b.Run(test.name, func(b *testing.B) {
			a := New()
			p := a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
			if p.UserRecords != len(c.JSON) {
				b.Fatalf("%d records of %d", p.UserRecords, len(c.JSON))
			}
			b.SetBytes(int64(len(c.Bytes)))
			b.ReportAllocs()
			for b.Loop() {
				a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(p.UserRecords), "ns/record")
		})
		b.Run(test.name+"/MD5", func(b *testing.B) {
			p := New().Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
			b.SetBytes(int64(len(c.Bytes)))
			for b.Loop() {
				md5.Sum(p.Data)
			}
		})
		b.Run(test.name+"/floor", func(b *testing.B) {
			p := New().Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
			var text []byte
			b.SetBytes(int64(len(c.Bytes)))
			for b.Loop() {
				md5.Sum(p.Data)
				text = base64.StdEncoding.AppendEncode(text[:0], p.Data)
				sha256.Sum256(text)
			}
		})
	}
}
