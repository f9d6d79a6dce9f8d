package aggregator

import (
	"math"
	"strconv"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/chunktest"
)

// The texts come from Fluent Bit's own kinesis_streams output with
// json.escape_unicode off, except where that is not JSON or loses information.
func TestJSON_Text(t *testing.T) {
	raw := func(b ...byte) chunktest.Raw { return b }
	for _, test := range []struct {
		name string
		v    any
		want string
	}{
		{"nil", nil, `null`},
		{"true", true, `true`},
		{"false", false, `false`},
		{"zero", 0, `0`},
		{"fixint", 127, `127`},
		{"negative fixint", -32, `-32`},
		{"int8", raw(0xd0, 0x80), `-128`},
		{"int16", raw(0xd1, 0xff, 0x7f), `-129`},
		{"int32", raw(0xd2, 0x80, 0, 0, 0), `-2147483648`},
		{"int64", int64(math.MinInt64), `-9223372036854775808`},
		{"int64 holding a small number", raw(0xd3, 0, 0, 0, 0, 0, 0, 0, 5), `5`},
		{"uint64", uint64(math.MaxUint64), `18446744073709551615`},
		{"2^53+1", uint64(1<<53 + 1), `9007199254740993`},

		{"1.0", 1.0, `1.0`},
		{"-0.0", math.Copysign(0, -1), `-0.0`},
		{"1e15", 1e15, `1000000000000000.0`},
		{"-2^63", -math.Exp2(63), `-9223372036854775808.0`},
		{"2^63", math.Exp2(63), `9.223372036854776e+18`}, // past what fits into int64
		{"0.1", 0.1, `0.1`},
		{"0.5", 0.5, `0.5`},
		{"0.1+0.2", math.Nextafter(0.3, 1), `0.30000000000000004`}, // the engine's 0.3 loses a bit
		{"pi", math.Pi, `3.141592653589793`},
		{"1e20", 1e20, `1e+20`},
		{"1e-7", 1e-7, `1e-07`},
		{"0.0001", 0.0001, `0.0001`},
		{"0.00001", 0.00001, `1e-05`},
		{"1234567.5", 1234567.5, `1234567.5`},
		{"17 digits", 4503599627370495.5, `4503599627370495.5`},
		{"smallest", math.SmallestNonzeroFloat64, `4.940656458412465e-324`},
		{"largest", math.MaxFloat64, `1.7976931348623157e+308`},
		{"float32 0.1", float32(0.1), `0.1000000014901161`},
		{"float32 1", float32(1), `1.0`},
		{"NaN", math.NaN(), `null`},
		{"infinity", math.Inf(1), `null`},
		{"float32 -infinity", float32(math.Inf(-1)), `null`},

		{"empty", "", `""`},
		{"ASCII", "a/b<c>&d", `"a/b<c>&d"`},
		{"escapes", "\x00\x01\b\t\n\x0b\f\r\x1b\x1f\x7f\"\\", `"\u0000\u0001\b\t\n\u000b\f\r\u001b\u001f\u007f\"\\"`},
		{"UTF-8 stays raw", "é€😀\u2028", "\"é€😀\u2028\""},
		{"each invalid byte", "a\xff\xfeb", "\"a\uFFFD\uFFFDb\""},
		{"half a character at the end", "x\xe2\x82", "\"x\uFFFD\uFFFD\""},
		{"surrogate", "\xed\xa0\x80", "\"\uFFFD\uFFFD\uFFFD\""},
		{"U+FFFD itself", "\uFFFD", "\"\uFFFD\""},
		{"str32", chunktest.Wide{Value: "wide", Bytes: 4}, `"wide"`},

		{"bin that is text", []byte("text\n"), `"text\n"`},
		{"bin that is none", []byte{0xff, 0, 1}, `"/wAB"`},
		{"ext", chunktest.Ext{Type: 5, Data: []byte("ABC")}, `"QUJD"`},
		{"event time", chunktest.EventTime{Sec: 1, Nsec: 2}, `"AAAAAQAAAAI="`},
		{"empty ext", chunktest.Ext{Type: -1}, `""`},

		{"empty array", []any{}, `[]`},
		{"array", []any{1, "a", nil, []any{true}}, `[1,"a",null,[true]]`},
		{"empty map", chunktest.M(), `{}`},
		{"map", chunktest.M("a", 1, "b", chunktest.M("c", "d")), `{"a":1,"b":{"c":"d"}}`},
		{"keys that are no strings",
			chunktest.M(7, 1, nil, 2, true, 3, 1.5, 4, chunktest.M("x", 1), 5, []any{"y"}, 6, math.NaN(), 7),
			`{"7":1,"true":3,"1.5":4,"{\"x\":1}":5,"[\"y\"]":6,"null":7}`},
		{"bin and ext keys", chunktest.M([]byte("b"), 1, chunktest.Ext{Type: 1, Data: []byte("ABC")}, 2), `{"b":1,"QUJD":2}`},
		{"keys that become the same", chunktest.M("7", 1, 7, 2), `{"7":2}`},
		{"map in a key in a key", chunktest.Map{{Key: chunktest.Map{{Key: chunktest.M("x", "\n"), Value: 1}}, Value: 2}},
			`{"{\"{\\\"x\\\":\\\"\\\\n\\\"}\":1}":2}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			var w jsonWriter
			b := chunktest.AppendValue(nil, test.v)
			got, next, st := w.value([]byte("before"), b, 0, 0)
			if want := "before" + test.want; string(got) != want || next != len(b) || st != statusOK {
				t.Errorf("got %s and position %d, want %s and %d", got, next, want, len(b))
			}
		})
	}
}

// Values on both sides of each length at which msgpack has another header.
func TestJSON_EachHeader(t *testing.T) {
	for _, n := range []int{0, 1, 14, 15, 16, 17, 30, 31, 32, 33, 254, 255, 256, 257, 65534, 65535, 65536} {
		array, object := make([]any, n), make(chunktest.Map, n)
		for i := range n {
			array[i], object[i] = i, chunktest.Pair{Key: strconv.Itoa(i), Value: i}
		}
		for kind, v := range map[string]any{"str": strings.Repeat("s", n), "bin": []byte(strings.Repeat("b", n)), "array": array, "map": object} {
			var w jsonWriter
			b := chunktest.AppendValue(nil, v)
			if got, next, st := w.value(nil, b, 0, 0); string(got) != chunktest.JSON(v) || next != len(b) || st != statusOK {
				t.Errorf("%s of length %d: %.50s, position %d of %d, status %d", kind, n, got, next, len(b), st)
			}
		}
	}
}

// Each byte at each place of a word, with each kind of neighbour.
func TestJSON_StringsOfEachByteAndLength(t *testing.T) {
	for c := range 256 {
		for length := 1; length < 20; length++ {
			for at := range length {
				s := []byte(strings.Repeat("z", length))
				s[at] = byte(c)
				got := string(appendString(nil, s, 0, len(s)))
				want := chunktest.JSON(string(s))
				if got != want {
					t.Fatalf("%q: got %s, want %s", s, got, want)
				}
			}
		}
	}
}

// Every decimal of up to four digits, at each place of the point, and doubles
// next to it.
func TestJSON_Decimals(t *testing.T) {
	for digits := range 10_000 {
		for point := 0; point <= 12; point++ {
			v, err := strconv.ParseFloat(strconv.Itoa(digits)+"e-"+strconv.Itoa(point), 64)
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range []float64{v, -v, math.Nextafter(v, 1e9), math.Nextafter(v, -1)} {
				if got, want := string(appendFloat(nil, v)), chunktest.JSON(v); got != want {
					t.Fatalf("got %s, want %s", got, want)
				}
			}
		}
	}
}

// Below a power of two the numbers lie closer than above it, and for 54 of them 16
// digits read back as another number.
func TestJSON_PowersOfTwo(t *testing.T) {
	for e := -1074; e < 1024; e++ {
		v := math.Ldexp(1, e)
		got := string(appendFloat(nil, v))
		if back, err := strconv.ParseFloat(got, 64); err != nil || back != v {
			t.Errorf("2^%d: %s reads back as %v (%v)", e, got, back, err)
		}
	}
}

func FuzzFloat(f *testing.F) {
	for _, v := range []float64{0, 1, 0.1, 0.3, 1e15, 1e16, 1e20, 1e-5, math.Pi, math.MaxFloat64, math.SmallestNonzeroFloat64, 1 << 62} {
		f.Add(math.Float64bits(v))
	}
	f.Fuzz(func(t *testing.T, bits uint64) {
		v := math.Float64frombits(bits)
		got := string(appendFloat(nil, v))
		if math.IsNaN(v) || math.IsInf(v, 0) {
			if got != "null" {
				t.Fatalf("%v: %s", v, got)
			}
			return
		}
		back, err := strconv.ParseFloat(got, 64)
		if err != nil || math.Float64bits(back) != bits {
			t.Fatalf("%v: %s reads back as %v (%v)", v, got, back, err)
		}
		if want := chunktest.JSON(v); got != want {
			t.Fatalf("%v: got %s, want %s", v, got, want)
		}
	})
}
