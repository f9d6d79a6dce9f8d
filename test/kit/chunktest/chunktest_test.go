package chunktest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func decodeAll(t *testing.T, chunk []byte) []any {
	t.Helper()
	all, err := DecodeAll(chunk)
	if err != nil {
		t.Fatalf("value %d: %v", len(all), err)
	}
	return all
}

func TestHeaders(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{nil, "c0"},
		{false, "c2"},
		{true, "c3"},
		{0, "00"},
		{127, "7f"},
		{128, "cc80"},
		{256, "cd0100"},
		{65536, "ce00010000"},
		{int64(1) << 32, "cf0000000100000000"},
		{-1, "ff"},
		{-32, "e0"},
		{-33, "d0df"},
		{-129, "d1ff7f"},
		{-32769, "d2ffff7fff"},
		{int64(math.MinInt64), "d38000000000000000"},
		{uint64(math.MaxUint64), "cfffffffffffffffff"},
		{float32(1.5), "ca3fc00000"},
		{1.5, "cb3ff8000000000000"},
		{"a", "a161"},
		{strings.Repeat("a", 31), "bf" + strings.Repeat("61", 31)},
		{strings.Repeat("a", 32), "d920" + strings.Repeat("61", 32)},
		{strings.Repeat("a", 256), "da0100" + strings.Repeat("61", 256)},
		{[]byte("a"), "c40161"},
		{[]any{}, "90"},
		{[]any{1, "a"}, "9201a161"},
		{M(), "80"},
		{M("a", 1), "81a16101"},
		{Ext{5, []byte{1}}, "d40501"},
		{Ext{5, []byte{1, 2, 3}}, "c70305010203"},
		{EventTime{1, 2}, "d7000000000100000002"},
		{time.Unix(1, 2), "d7000000000100000002"},
		{Wide{EventTime{1, 2}, 1}, "c708000000000100000002"},
		{Wide{EventTime{1, 2}, 4}, "c900000008000000000100000002"},
		{Wide{"a", 1}, "d90161"},
		{Wide{"a", 2}, "da000161"},
		{Wide{"a", 4}, "db0000000161"},
		{Wide{[]byte("a"), 4}, "c60000000161"},
		{Wide{[]any{1}, 2}, "dc000101"},
		{Wide{[]any{1}, 4}, "dd0000000101"},
		{Wide{M("a", 1), 2}, "de0001a16101"},
		{Wide{M("a", 1), 4}, "df00000001a16101"},
		{Wide{1, 8}, "d30000000000000001"},
		{Wide{-1, 1}, "d0ff"},
		{Wide{uint(1), 4}, "ce00000001"},
		{Raw{0xc1}, "c1"},
	} {
		if got := hex.EncodeToString(AppendValue(nil, tt.value)); got != tt.want {
			t.Errorf("%T %v: %s, want %s", tt.value, tt.value, got, tt.want)
		}
	}
	sixteen := make([]any, 16)
	if got := hex.EncodeToString(AppendValue(nil, sixteen)[:3]); got != "dc0010" {
		t.Errorf("16 elements: %s", got)
	}
}

func TestEventFormats(t *testing.T) {
	c := New().
		Event(EventTime{1, 2}, M("a", 1)).
		EventMeta(Wide{EventTime{1, 2}, 1}, M("m", true), M("a", 1)).
		Legacy(uint32(7), M("a", 1)).
		Legacy(7.5, M("a", 1)).
		GroupOpen(M("schema", "otlp"), M("resource", M())).
		GroupClose()
	want := []string{
		"[[{1 2} []] [{a 1}]]",
		"[[{1 2} [{m true}]] [{a 1}]]",
		"[7 [{a 1}]]",
		"[7.5 [{a 1}]]",
		"[[{4294967295 0} [{schema otlp}]] [{resource []}]]",
		"[[{4294967294 0} []] []]",
	}
	got := decodeAll(t, c.Bytes())
	if len(got) != len(want) || len(c.Ends()) != len(want) {
		t.Fatalf("%d values, %d ends, want %d", len(got), len(c.Ends()), len(want))
	}
	for i := range want {
		if text := fmt.Sprint(got[i]); text != want[i] {
			t.Errorf("event %d: %s, want %s", i, text, want[i])
		}
		if i > 0 {
			continue
		}
		if first := decodeAll(t, c.Bytes()[:c.Ends()[0]]); len(first) != 1 {
			t.Errorf("up to the first end: %d values", len(first))
		}
	}
}

func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{nil, `null`},
		{1.0, `1.0`},
		{1e15, `1000000000000000.0`},
		{1e20, `1e+20`},
		{-math.Exp2(63), `-9223372036854775808.0`},
		{math.Exp2(63), `9.223372036854776e+18`},
		{1e-7, `1e-07`},
		{math.Copysign(0, -1), `-0.0`},
		{0.30000000000000004, `0.30000000000000004`},
		{0.3, `0.3`},
		{math.MaxFloat64, `1.7976931348623157e+308`},
		{float32(0.1), `0.1000000014901161`}, // reads back as the same single
		{math.NaN(), `null`},
		{math.Inf(-1), `null`},
		{int64(1)<<53 + 1, `9007199254740993`},
		{uint64(math.MaxUint64), `18446744073709551615`},
		{"/<&\"\\", `"/<&\"\\"`},
		{"\x00\x01\b\t\n\v\f\r\x1b\x1f\x7f", `"\u0000\u0001\b\t\n\u000b\f\r\u001b\u001f\u007f"`},
		{"é€😀", `"é€😀"`},
		{"a\xff\xfeb", "\"a\ufffd\ufffdb\""},
		{[]byte("text"), `"text"`},
		{[]byte{0xff}, `"/w=="`},
		{Ext{5, []byte{1, 2, 3}}, `"AQID"`},
		{M("a", 1, "b", 2, "a", 3), `{"b":2,"a":3}`},
		{M("\xa1", 1, "\xb4", 2), "{\"\ufffd\":2}"},
		{M(7, 1, nil, 2, true, 3, 1.5, 4, M("x", 1), 5), `{"7":1,"null":2,"true":3,"1.5":4,"{\"x\":1}":5}`},
		{[]any{1, []any{}, M()}, `[1,[],{}]`},
	} {
		if got := JSON(tt.value); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.value, got, tt.want)
		}
	}
}

// TestCorpus reads each corpus back with other libraries: the chunk as
// msgpack, the expected text as JSON.
func TestCorpus(t *testing.T) {
	const n = 200
	for name, generate := range Corpora {
		t.Run(name, func(t *testing.T) {
			c := generate(1, n)
			if len(c.JSON) != n || len(c.Ends) != n || len(c.Bodies) != n || len(c.Times) != n {
				t.Fatalf("%d texts, %d ends, %d bodies, %d times; want %d of each",
					len(c.JSON), len(c.Ends), len(c.Bodies), len(c.Times), n)
			}
			if again := generate(1, n); !bytes.Equal(again.Bytes, c.Bytes) {
				t.Error("the same seed gives another chunk")
			}
			if other := generate(2, n); bytes.Equal(other.Bytes, c.Bytes) {
				t.Error("another seed gives the same chunk")
			}
			events, legacy := decodeAll(t, c.Bytes), decodeAll(t, c.LegacyBytes())
			if len(events) != n || len(legacy) != n {
				t.Fatalf("%d events, %d legacy events", len(events), len(legacy))
			}
			for i, text := range c.JSON {
				event, old := events[i].([]any), legacy[i].([]any)
				if at := event[0].([]any)[0]; at != any(c.Times[i]) || old[0] != at {
					t.Errorf("record %d: time %v and %v, want %v", i, at, old[0], c.Times[i])
				}
				if got := JSON(event[1]); got != text {
					t.Errorf("record %d: decoded body is %s, want %s", i, got, text)
				}
				if got := JSON(old[1]); got != text {
					t.Errorf("record %d: decoded legacy body is %s, want %s", i, got, text)
				}
				if !json.Valid([]byte(text)) {
					t.Errorf("record %d: not JSON: %s", i, text)
				}
			}
		})
	}
}

func TestAccessLog_Size(t *testing.T) {
	const n, want, slack = 10_000, 320, 15
	if mean := AccessLog(1, n).JSONBytes() / n; mean < want-slack || mean > want+slack {
		t.Errorf("%d bytes of JSON a record, want about %d", mean, want)
	}
}

func TestNewCorpus(t *testing.T) {
	c := NewCorpus(M("a", 1), M("b", 2))
	if got := strings.Join(c.JSON, " "); got != `{"a":1} {"b":2}` {
		t.Errorf("JSON is %s", got)
	}
	if c.JSONBytes() != len(`{"a":1}{"b":2}`) {
		t.Errorf("%d bytes of JSON", c.JSONBytes())
	}
}
