// Package chunktest writes chunks of Fluent Bit log events for tests, gives the
// expected JSON of each event, and decodes msgpack with another library.
//
// Its writers of msgpack and JSON are its own and use only the standard library, so
// that a test that compares the plugin with it compares two implementations. They
// also write what a library refuses to write: headers wider than needed, lengths
// beyond the end of the input, and bytes that are not msgpack.
//
// Values are nil, bool, the integers, float32, float64, string, []byte
// (binary), []any, Map, Ext, EventTime, time.Time (as EventTime), Wide and
// Raw. Any other type panics.
package chunktest

import (
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"time"
)

// Map is a msgpack map in the order of its pairs; keys may repeat, and need
// not be strings.
type Map []Pair

// Pair is one entry of a Map.
type Pair struct {
	Key   any
	Value any
}

// M makes a Map of alternating keys and values.
func M(keysAndValues ...any) Map {
	if len(keysAndValues)%2 != 0 {
		panic("chunktest: M: a key without a value")
	}
	m := make(Map, 0, len(keysAndValues)/2)
	for i := 0; i < len(keysAndValues); i += 2 {
		m = append(m, Pair{keysAndValues[i], keysAndValues[i+1]})
	}
	return m
}

// Ext is a msgpack extension value.
type Ext struct {
	Type int8
	Data []byte
}

// EventTime is Fluent Bit's timestamp: ext type 0 of 8 bytes, seconds and
// nanoseconds. It is written as fixext8; Wide{t, 1} makes it an ext8.
type EventTime struct {
	Sec  uint32
	Nsec uint32
}

// Seconds of the markers that open and close a group of log records: -1 and
// -2 in 32 bits.
const (
	groupOpenSec  = 0xffffffff
	groupCloseSec = 0xfffffffe
)

// Wide writes Value with a header of more bytes than it needs. Bytes is the
// width of the length (str, bin, ext: 1, 2 or 4; array, map: 2 or 4) or of
// the integer (1, 2, 4 or 8).
type Wide struct {
	Value any
	Bytes int
}

// Raw is written unchanged; it need not be msgpack.
type Raw []byte

// Chunk is a run of events being written. The zero value is empty and ready.
type Chunk struct {
	buf  []byte
	ends []int
}

// New returns an empty chunk.
func New() *Chunk { return new(Chunk) }

// Event adds [[ts, {}], body], the format of Fluent Bit 2.1 and later. ts is
// any value; the timestamps that occur are EventTime, unsigned integers and
// floats.
func (c *Chunk) Event(ts, body any) *Chunk {
	return c.EventMeta(ts, Map{}, body)
}

// EventMeta adds [[ts, meta], body].
func (c *Chunk) EventMeta(ts, meta, body any) *Chunk {
	return c.Value([]any{[]any{ts, meta}, body})
}

// Legacy adds [ts, body], the format before Fluent Bit 2.1.
func (c *Chunk) Legacy(ts, body any) *Chunk {
	return c.Value([]any{ts, body})
}

// GroupOpen adds the marker that opens a group of log records.
func (c *Chunk) GroupOpen(meta, attributes Map) *Chunk {
	return c.EventMeta(EventTime{Sec: groupOpenSec}, meta, attributes)
}

// GroupClose adds the marker that closes a group of log records.
func (c *Chunk) GroupClose() *Chunk {
	return c.EventMeta(EventTime{Sec: groupCloseSec}, Map{}, Map{})
}

// Value adds one msgpack value of any type.
func (c *Chunk) Value(v any) *Chunk {
	c.buf = AppendValue(c.buf, v)
	c.ends = append(c.ends, len(c.buf))
	return c
}

// Raw adds bytes unchanged.
func (c *Chunk) Raw(b ...byte) *Chunk { return c.Value(Raw(b)) }

// Bytes returns the chunk so far. It aliases the chunk's buffer until the next call
// that adds a value.
func (c *Chunk) Bytes() []byte { return c.buf }

// Ends returns the offset after each value added so far.
func (c *Chunk) Ends() []int { return c.ends }

// AppendValue appends v as msgpack.
func AppendValue(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, 0xc0)
	case bool:
		if v {
			return append(dst, 0xc3)
		}
		return append(dst, 0xc2)
	case float32:
		return binary.BigEndian.AppendUint32(append(dst, 0xca), math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(append(dst, 0xcb), math.Float64bits(v))
	case string:
		return append(appendStrHeader(dst, len(v), 0), v...)
	case []byte:
		return append(appendBinHeader(dst, len(v), 1), v...)
	case []any:
		return appendArray(dst, v, 0)
	case Map:
		return appendMap(dst, v, 0)
	case Ext:
		return append(appendExtHeader(dst, len(v.Data), v.Type, 0), v.Data...)
	case EventTime:
		return append(appendExtHeader(dst, 8, 0, 0), v.bytes()...)
	case time.Time:
		return AppendValue(dst, eventTime(v))
	case Raw:
		return append(dst, v...)
	case Wide:
		return appendWide(dst, v.Value, v.Bytes)
	}
	if i, ok := signed(v); ok {
		return appendInt(dst, i)
	}
	if u, ok := unsigned(v); ok {
		return appendUint(dst, u, 0)
	}
	panic(fmt.Sprintf("chunktest: no msgpack for a %T", v))
}

func appendWide(dst []byte, v any, width int) []byte {
	switch v := v.(type) {
	case string:
		return append(appendStrHeader(dst, len(v), width), v...)
	case []byte:
		return append(appendBinHeader(dst, len(v), width), v...)
	case []any:
		return appendArray(dst, v, width)
	case Map:
		return appendMap(dst, v, width)
	case Ext:
		return append(appendExtHeader(dst, len(v.Data), v.Type, width), v.Data...)
	case EventTime:
		return append(appendExtHeader(dst, 8, 0, width), v.bytes()...)
	}
	if i, ok := signed(v); ok {
		code := map[int]byte{1: 0xd0, 2: 0xd1, 4: 0xd2, 8: 0xd3}[width]
		return appendBig(dst, code, uint64(i), width)
	}
	if u, ok := unsigned(v); ok {
		return appendUint(dst, u, width)
	}
	panic(fmt.Sprintf("chunktest: no wider form of a %T", v))
}

func (t EventTime) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, t.Sec)
	return binary.BigEndian.AppendUint32(b, t.Nsec)
}

func eventTime(t time.Time) EventTime {
	return EventTime{Sec: uint32(t.Unix()), Nsec: uint32(t.Nanosecond())}
}

func signed(x any) (int64, bool) {
	if v := reflect.ValueOf(x); v.CanInt() {
		return v.Int(), true
	}
	return 0, false
}

func unsigned(x any) (uint64, bool) {
	if v := reflect.ValueOf(x); v.CanUint() {
		return v.Uint(), true
	}
	return 0, false
}

// appendBig appends code and the low width bytes of v, big-endian.
func appendBig(dst []byte, code byte, v uint64, width int) []byte {
	if code == 0 {
		panic(fmt.Sprintf("chunktest: no header of %d bytes", width))
	}
	dst = append(dst, code)
	for i := width - 1; i >= 0; i-- {
		dst = append(dst, byte(v>>(8*i)))
	}
	return dst
}

// lengthWidth returns the smallest width, at least minWidth, that holds n.
func lengthWidth(n int, minWidth int) int {
	switch {
	case minWidth <= 1 && n <= math.MaxUint8:
		return 1
	case minWidth <= 2 && n <= math.MaxUint16:
		return 2
	}
	return 4
}

func appendInt(dst []byte, i int64) []byte {
	switch {
	case i >= 0:
		return appendUint(dst, uint64(i), 0)
	case i >= -32:
		return append(dst, byte(i))
	case i >= math.MinInt8:
		return appendBig(dst, 0xd0, uint64(i), 1)
	case i >= math.MinInt16:
		return appendBig(dst, 0xd1, uint64(i), 2)
	case i >= math.MinInt32:
		return appendBig(dst, 0xd2, uint64(i), 4)
	}
	return appendBig(dst, 0xd3, uint64(i), 8)
}

func appendUint(dst []byte, u uint64, width int) []byte {
	if width == 0 {
		switch {
		case u <= 127:
			return append(dst, byte(u))
		case u <= math.MaxUint8:
			width = 1
		case u <= math.MaxUint16:
			width = 2
		case u <= math.MaxUint32:
			width = 4
		default:
			width = 8
		}
	}
	return appendBig(dst, map[int]byte{1: 0xcc, 2: 0xcd, 4: 0xce, 8: 0xcf}[width], u, width)
}

func appendStrHeader(dst []byte, n, width int) []byte {
	if width == 0 {
		if n <= 31 {
			return append(dst, 0xa0|byte(n))
		}
		width = lengthWidth(n, 1)
	}
	return appendBig(dst, map[int]byte{1: 0xd9, 2: 0xda, 4: 0xdb}[width], uint64(n), width)
}

func appendBinHeader(dst []byte, n, width int) []byte {
	width = lengthWidth(n, width)
	return appendBig(dst, map[int]byte{1: 0xc4, 2: 0xc5, 4: 0xc6}[width], uint64(n), width)
}

func appendExtHeader(dst []byte, n int, kind int8, width int) []byte {
	if width == 0 {
		if code := map[int]byte{1: 0xd4, 2: 0xd5, 4: 0xd6, 8: 0xd7, 16: 0xd8}[n]; code != 0 {
			return append(dst, code, byte(kind))
		}
		width = lengthWidth(n, 1)
	}
	dst = appendBig(dst, map[int]byte{1: 0xc7, 2: 0xc8, 4: 0xc9}[width], uint64(n), width)
	return append(dst, byte(kind))
}

func appendArray(dst []byte, a []any, width int) []byte {
	if width == 0 && len(a) <= 15 {
		dst = append(dst, 0x90|byte(len(a)))
	} else {
		width = lengthWidth(len(a), max(width, 2))
		dst = appendBig(dst, map[int]byte{2: 0xdc, 4: 0xdd}[width], uint64(len(a)), width)
	}
	for _, v := range a {
		dst = AppendValue(dst, v)
	}
	return dst
}

func appendMap(dst []byte, m Map, width int) []byte {
	if width == 0 && len(m) <= 15 {
		dst = append(dst, 0x80|byte(len(m)))
	} else {
		width = lengthWidth(len(m), max(width, 2))
		dst = appendBig(dst, map[int]byte{2: 0xde, 4: 0xdf}[width], uint64(len(m)), width)
	}
	for _, p := range m {
		dst = AppendValue(dst, p.Key)
		dst = AppendValue(dst, p.Value)
	}
	return dst
}
