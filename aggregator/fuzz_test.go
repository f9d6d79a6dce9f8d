package aggregator

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
	"out_kinesis_agg/test/kit/chunktest"
)

// tooNested says whether a value is nested deeper than the writer follows.
func tooNested(v any, depth, keyDepth int) bool {
	switch v := v.(type) {
	case []any:
		return depth+1 > maxDepth || slices.ContainsFunc(v, func(e any) bool { return tooNested(e, depth+1, keyDepth) })
	case chunktest.Map:
		return depth+1 > maxDepth || slices.ContainsFunc(v, func(p chunktest.Pair) bool {
			inKey := keyDepth
			switch p.Key.(type) {
			case []any, chunktest.Map:
				inKey++
			}
			return inKey > maxKeyDepth || tooNested(p.Key, depth+1, inKey) || tooNested(p.Value, depth+1, keyDepth)
		})
	}
	return false
}

// eventBody classifies an event as package chunktest sees it.
func eventBody(v any) (class eventClass, body chunktest.Map) {
	event, ok := v.([]any)
	if !ok || len(event) != 2 {
		return notEvent, nil
	}
	stamp := event[0]
	if head, ok := stamp.([]any); ok {
		if len(head) != 2 {
			return notEvent, nil
		}
		if _, ok := head[1].(chunktest.Map); !ok {
			return notEvent, nil
		}
		stamp = head[0]
	}
	body, ok = event[1].(chunktest.Map)
	if !ok {
		return notEvent, nil
	}
	switch stamp := stamp.(type) {
	case chunktest.EventTime:
		if stamp.Nsec == 0 && (stamp.Sec == groupOpens || stamp.Sec == groupCloses) {
			return markerEvent, nil
		}
	case int64:
		if stamp < 0 {
			return notEvent, nil
		}
	case uint64, float32, float64:
	default:
		return notEvent, nil
	}
	return recordEvent, body
}

// means reports whether JSON text, as encoding/json reads it, says what the
// value says. Numbers are json.Number.
func means(read any, v any) bool {
	switch v := v.(type) {
	case nil:
		return read == nil
	case bool:
		return read == v
	case int64:
		return read == json.Number(strconv.FormatInt(v, 10))
	case uint64:
		return read == json.Number(strconv.FormatUint(v, 10))
	case float32:
		return meansFloat(read, float64(v), 32)
	case float64:
		return meansFloat(read, v, 64)
	case string:
		return read == eachInvalid(v)
	case []byte:
		if utf8.Valid(v) {
			return read == string(v)
		}
		return read == base64.StdEncoding.EncodeToString(v)
	case chunktest.Ext:
		return read == base64.StdEncoding.EncodeToString(v.Data)
	case chunktest.EventTime:
		b := binary.BigEndian.AppendUint32(nil, v.Sec)
		return read == base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(b, v.Nsec))
	case []any:
		list, ok := read.([]any)
		return ok && len(list) == len(v) && allMean(list, v)
	case chunktest.Map:
		object, ok := read.(map[string]any)
		if !ok {
			return false
		}
		last := map[string]any{}
		for _, p := range v {
			last[keyText(p.Key)] = p.Value
		}
		if len(last) != len(object) {
			return false
		}
		for key, value := range last {
			if got, ok := object[key]; !ok || !means(got, value) {
				return false
			}
		}
		return true
	}
	return false
}

func allMean(read, v []any) bool {
	for i := range v {
		if !means(read[i], v[i]) {
			return false
		}
	}
	return true
}

func meansFloat(read any, v float64, size int) bool {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return read == nil
	}
	n, ok := read.(json.Number)
	if !ok {
		return false
	}
	got, err := strconv.ParseFloat(string(n), size)
	return err == nil && math.Float64bits(got) == math.Float64bits(v)
}

// eachInvalid replaces each byte that is not UTF-8, unlike strings.ToValidUTF8,
// which replaces runs of them.
func eachInvalid(s string) string { return string([]rune(s)) }

// keyText is the key that a map's key becomes.
func keyText(v any) string {
	text := chunktest.JSON(chunktest.Map{{Key: v, Value: nil}})
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil || len(object) != 1 {
		panic(fmt.Sprintf("%s: %v", text, err))
	}
	for key := range object {
		return key
	}
	return ""
}

// values are what the JSON writer's tests write.
func values() []any {
	return []any{
		nil, true, 7, -7, 1.5, "text", []byte{0xff}, chunktest.Ext{Type: 5, Data: []byte("ABC")}, chunktest.EventTime{Sec: 1, Nsec: 2},
		[]any{1, "a", nil}, chunktest.M("a", 1, "b", chunktest.M("c", "d")), chunktest.M("a", 1, "a", 2), chunktest.M("\n", 1, "\n", 2, "b", 3),
		chunktest.M(7, 1, "7", 2, nil, 3, chunktest.Map{{Key: chunktest.M("x", "\n"), Value: 1}}, 2, []any{1}, 4),
		chunktest.Raw{0xdd, 0xff, 0xff, 0xff, 0xff, 1}, chunktest.Raw{0xc1}, chunktest.Raw{0xc9, 0xff, 0xff, 0xff, 0xff, 0, 1},
		chunktest.Wide{Value: chunktest.M(chunktest.Wide{Value: "a", Bytes: 4}, math.NaN()), Bytes: 4}, "a\xff\xfe€😀\xf0\x9f",
		nest(maxDepth, func(v any) any { return []any{v} }), nest(maxDepth+1, func(v any) any { return chunktest.M("k", v) }),
		nest(maxKeyDepth+1, func(v any) any { return chunktest.Map{{Key: []any{v}, Value: 1}} }),
	}
}

// FuzzJSON: what is written is JSON, is the text that is specified, and says
// what another decoder of msgpack reads.
func FuzzJSON(f *testing.F) {
	for _, v := range values() {
		f.Add(chunktest.AppendValue(nil, v))
	}
	for _, c := range corpora(2) {
		for _, body := range c.Bodies {
			f.Add(chunktest.AppendValue(nil, body))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var w jsonWriter
		text, next, st := w.value([]byte("before"), b, 0, 0)
		v, end, err := chunktest.Decode(b, 0)
		switch {
		case st == statusTooDeep:
			if err == nil && !tooNested(v, 0, 0) {
				t.Fatal("not too deep")
			}
			return
		case st != statusOK:
			if err == nil && !tooNested(v, 0, 0) {
				t.Fatalf("not malformed: %v", v)
			}
			return
		case err != nil:
			t.Fatalf("%s of a malformed value: %v", text, err)
		case next != end:
			t.Fatalf("ends at %d, want %d", next, end)
		case tooNested(v, 0, 0):
			t.Fatal("too deep")
		}
		text, ok := bytes.CutPrefix(text, []byte("before"))
		if !ok {
			t.Fatal("what stood before is gone")
		}
		if want := chunktest.JSON(v); string(text) != want {
			t.Fatalf("got %s, want %s", text, want)
		}
		var read any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&read); err != nil || !json.Valid(text) {
			t.Fatalf("%s is not JSON: %v", text, err)
		}
		if !means(read, v) {
			t.Fatalf("%s reads as %v, want %v", text, read, v)
		}
		// What the writer remembers of a value must not show.
		for range 2 {
			if again, next, _ := w.value(nil, b, 0, 0); !bytes.Equal(again, text) || next != end {
				t.Fatalf("once more: %s, want %s", again, text)
			}
		}
	})
}

// FuzzBuild: any bytes are read, whatever of them are records is in the
// aggregates, all others are accounted for, and parts join to the whole.
func FuzzBuild(f *testing.F) {
	for _, c := range corpora(3) {
		f.Add(c.Bytes, uint16(300))
		f.Add(c.LegacyBytes(), uint16(0))
		f.Add(c.Bytes[:len(c.Bytes)-1], uint16(600))
	}
	for _, v := range values() {
		f.Add(chunktest.New().Event(uint32(1), chunktest.M("v", v)).Value(v).Event(uint32(1), chunktest.M("w", v)).Bytes(), uint16(0))
	}
	f.Add(chunktest.New().GroupOpen(chunktest.M(), chunktest.M("a", 1)).Event(1.5, chunktest.M("a", "b")).GroupClose().Legacy(-1, chunktest.M()).Raw(0xc1, 0).Bytes(), uint16(9))
	f.Fuzz(func(t *testing.T, data []byte, room uint16) {
		// What a plain reading finds in the chunk.
		var want []string
		var others, deep, readable int
		for readable < len(data) {
			v, next, err := chunktest.Decode(data, readable)
			if err != nil {
				break
			}
			readable = next
			switch class, body := eventBody(v); {
			case class == markerEvent:
			case class == notEvent:
				others++
			case tooNested(body, 0, 0):
				deep++
			default:
				want = append(want, chunktest.JSON(body))
			}
		}

		a := New()
		for range 2 { // the second time with what the first one left behind
			p := a.Build(Chunk{testTag, data}, 0, testKey, Limit{math.MaxInt, math.MaxInt})
			var got []string
			if p.Data != nil {
				got = open(t, p.Data, testKey)
			}
			same(t, got, want)
			if p.Next != len(data) || p.UserRecords != len(want) || p.Losses[NotEvent].Count != others ||
				p.Losses[TooDeep].Count != deep || p.Losses[TooLarge].Count != 0 {
				t.Fatalf("%+v, want %d records, %d others, %d too deep", p, len(want), others, deep)
			}
			if lost := p.Losses[Unreadable]; lost.Bytes != len(data)-readable || lost.Count > 0 && lost.Offset != readable {
				t.Fatalf("unreadable %+v, want from %d of %d", lost, readable, len(data))
			}
		}

		// In parts, and some records too large for any.
		limit := Limit{RecordMax: 100 + int(room)}
		limit.SingleRecordMax = limit.RecordMax + int(room)/2
		around := kpl.HeadBytes(testKey) + kpl.DigestBytes + len(testKey)
		var fitting []string
		large := 0
		for _, text := range want {
			if around+kpl.RecordBytes(len(text)) > limit.SingleRecordMax {
				large++
			} else {
				fitting = append(fitting, text)
			}
		}
		var got []string
		var sum Result
		for from := 0; from < len(data); {
			p := a.Build(Chunk{testTag, data}, from, testKey, limit)
			if p.Next <= from {
				t.Fatalf("no progress at %d of %d", from, len(data))
			}
			if p.Data != nil {
				size := len(p.Data) + len(testKey)
				if size > limit.RecordMax && p.UserRecords > 1 || size > limit.SingleRecordMax {
					t.Fatalf("%d records of %d bytes, limit %+v", p.UserRecords, size, limit)
				}
				got = append(got, open(t, p.Data, testKey)...)
			}
			sum.UserRecords += p.UserRecords
			sum.Losses[NotEvent].Count += p.Losses[NotEvent].Count
			sum.Losses[TooDeep].Count += p.Losses[TooDeep].Count
			sum.Losses[TooLarge].Count += p.Losses[TooLarge].Count
			sum.Losses[Unreadable].Bytes += p.Losses[Unreadable].Bytes
			from = p.Next
		}
		same(t, got, fitting)
		if sum.UserRecords != len(fitting) || sum.Losses[NotEvent].Count != others || sum.Losses[TooDeep].Count != deep ||
			sum.Losses[TooLarge].Count != large || sum.Losses[Unreadable].Bytes != len(data)-readable {
			t.Fatalf("parts come to %+v, want %d records, %d others, %d too deep, %d too large",
				sum, len(fitting), others, deep, large)
		}
	})
}

// FuzzSizes: no part is larger than the limit, and none could have held the
// record after it, both measured with the generated code.
func FuzzSizes(f *testing.F) {
	f.Add([]byte{0, 1, 0, 127, 0, 128, 0, 129, 0, 1}, uint16(300), uint16(0), uint8(1))
	f.Add([]byte{0x3f, 0xfb, 0x40, 0x00, 0x40, 0x10, 0, 0}, uint16(16500), uint16(100), uint8(36))
	f.Add([]byte{0x7f, 0xff, 0, 5, 0xff, 0xff, 0, 5, 0, 5}, uint16(40000), uint16(30000), uint8(255))
	f.Fuzz(func(t *testing.T, sizes []byte, room, alone uint16, keyBytes uint8) {
		if len(sizes) > 200 {
			return
		}
		key := strings.Repeat("k", 1+int(keyBytes))
		limit := Limit{RecordMax: int(room)}
		limit.SingleRecordMax = limit.RecordMax + int(alone)
		c := chunktest.New()
		var texts []string
		for i := 0; i+1 < len(sizes); i += 2 {
			body := chunktest.M("k", strings.Repeat("x", int(binary.BigEndian.Uint16(sizes[i:]))))
			c.Event(uint32(1), body)
			texts = append(texts, chunktest.JSON(body))
		}
		ends := append([]int{0}, c.Ends()...)
		a := New()
		for from := 0; from < len(c.Bytes()); {
			p := a.Build(Chunk{testTag, c.Bytes()}, from, key, limit)
			first, next := slices.Index(ends, from), slices.Index(ends, p.Next)
			if next <= first {
				t.Fatalf("from %d to %d", from, p.Next)
			}
			// The records of the part, and those passed over as too large.
			var held []string
			dropped := 0
			for _, text := range texts[first:next] {
				if measured(key, text) > limit.SingleRecordMax {
					dropped++
				} else {
					held = append(held, text)
				}
			}
			if dropped != p.Losses[TooLarge].Count || len(held) != p.UserRecords {
				t.Fatalf("%d records and %d too large, want %d and %d", p.UserRecords, p.Losses[TooLarge].Count, len(held), dropped)
			}
			if p.Data != nil {
				size := len(p.Data) + len(key)
				if want := measured(key, held...); size != want {
					t.Fatalf("%d bytes, the generated code makes %d", size, want)
				}
				if size > limit.RecordMax && len(held) > 1 {
					t.Fatalf("%d records of %d bytes, limit %+v", len(held), size, limit)
				}
			}
			// The next that is not too large did not fit.
			for _, text := range texts[next:] {
				if measured(key, text) > limit.SingleRecordMax {
					continue
				}
				if size := measured(key, append(slices.Clone(held), text)...); size <= limit.RecordMax {
					t.Fatalf("another one would have fit into %d, limit %+v", size, limit)
				}
				break
			}
			from = p.Next
		}
	})
}

// measured is the size of a Kinesis record with these user records, partition
// key included, by the generated code.
func measured(key string, texts ...string) int {
	m := &kplproto.AggregatedRecord{PartitionKeyTable: []string{key}}
	for _, text := range texts {
		m.Records = append(m.Records, &kplproto.Record{PartitionKeyIndex: proto.Uint64(0), Data: []byte(text)})
	}
	return len(kpl.Magic) + proto.Size(m) + kpl.DigestBytes + len(key)
}
