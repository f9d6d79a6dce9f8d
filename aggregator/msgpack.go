package aggregator

import "encoding/binary"

// maxDepth bounds the nesting of maps and arrays in a record; the record's own map
// counts as 1. Fluent Bit's own parsers stay far below this number.
const maxDepth = 100

// status says how reading or writing a value ended. A position in a chunk is an
// int offset; functions that read return the offset after what they read, which
// is only valid with statusOK.
type status uint8

const (
	statusOK status = iota
	// statusMalformed: the bytes are truncated or not msgpack.
	statusMalformed
	// statusTooDeep: the value is nested deeper than maxDepth.
	statusTooDeep
	// statusNoLogKey: the record has no value for Transform.LogKey.
	statusNoLogKey
	// statusNoDataKey: the record has none of Transform.DataKeys.
	statusNoDataKey
	// statusRepeatedKey: a map has a key twice, or keys that cannot be cached. It
	// never leaves jsonWriter.
	statusRepeatedKey
)

// kind groups the lead bytes of msgpack by what follows them.
type kind uint8

const (
	// kindMalformed is the lead byte 0xc1, which msgpack never uses, and any value
	// that is truncated.
	kindMalformed kind = iota
	kindNil
	kindBool
	kindUint
	kindInt
	kindFloat32
	kindFloat64
	kindStr
	kindBin
	kindExt
	kindArray
	kindMap
)

// lead describes one lead byte: the width of the number that follows it (a
// length, a count or the value itself) and, where there is none, the length or
// count that the lead byte holds.
type lead struct {
	kind  kind
	width uint8 // bytes of the number after the lead byte: 0, 1, 2, 4 or 8
	fixed uint8 // where width is 0: length, count, or 1 for true
}

// leads has an entry for each of the 256 lead bytes. Source: the msgpack
// specification, "Formats".
var leads = makeLeads()

func makeLeads() (t [256]lead) {
	for b := range 256 {
		switch {
		case b <= 0x7f:
			t[b] = lead{kindUint, 0, uint8(b)}
		case b <= 0x8f:
			t[b] = lead{kindMap, 0, uint8(b & 0x0f)}
		case b <= 0x9f:
			t[b] = lead{kindArray, 0, uint8(b & 0x0f)}
		case b <= 0xbf:
			t[b] = lead{kindStr, 0, uint8(b & 0x1f)}
		case b >= 0xe0:
			t[b] = lead{kindInt, 0, uint8(b)}
		}
	}
	t[0xc0] = lead{kindNil, 0, 0}
	t[0xc2] = lead{kindBool, 0, 0}
	t[0xc3] = lead{kindBool, 0, 1}
	t[0xc4], t[0xc5], t[0xc6] = lead{kindBin, 1, 0}, lead{kindBin, 2, 0}, lead{kindBin, 4, 0}
	t[0xc7], t[0xc8], t[0xc9] = lead{kindExt, 1, 0}, lead{kindExt, 2, 0}, lead{kindExt, 4, 0}
	t[0xca], t[0xcb] = lead{kindFloat32, 4, 0}, lead{kindFloat64, 8, 0}
	t[0xcc], t[0xcd], t[0xce], t[0xcf] = lead{kindUint, 1, 0}, lead{kindUint, 2, 0}, lead{kindUint, 4, 0}, lead{kindUint, 8, 0}
	t[0xd0], t[0xd1], t[0xd2], t[0xd3] = lead{kindInt, 1, 0}, lead{kindInt, 2, 0}, lead{kindInt, 4, 0}, lead{kindInt, 8, 0}
	for i := range 5 { // fixext 1, 2, 4, 8, 16
		t[0xd4+i] = lead{kindExt, 0, 1 << i}
	}
	t[0xd9], t[0xda], t[0xdb] = lead{kindStr, 1, 0}, lead{kindStr, 2, 0}, lead{kindStr, 4, 0}
	t[0xdc], t[0xdd] = lead{kindArray, 2, 0}, lead{kindArray, 4, 0}
	t[0xde], t[0xdf] = lead{kindMap, 2, 0}, lead{kindMap, 4, 0}
	return t
}

// head reads the head of the value at b[i]: its kind and the number in it, which
// is the value itself (nil, bool, int, the bits of a float), the length of the
// payload (str, bin, ext without its type byte), or the count of members (array,
// map). next is the offset after the head. The lengths and counts are checked
// against what is left of b: a payload is complete, and members have at least a
// byte each. If not, the kind is kindMalformed.
func head(b []byte, i int) (k kind, n uint64, next int) {
	if i >= len(b) {
		return kindMalformed, 0, 0
	}
	l := leads[b[i]]
	n, next = uint64(l.fixed), i+1
	if l.width != 0 {
		if len(b)-next < int(l.width) {
			return kindMalformed, 0, 0
		}
		switch l.width {
		case 1:
			n = uint64(b[next])
		case 2:
			n = uint64(binary.BigEndian.Uint16(b[next:]))
		case 4:
			n = uint64(binary.BigEndian.Uint32(b[next:]))
		case 8:
			n = binary.BigEndian.Uint64(b[next:])
		}
		next += int(l.width)
	}
	minBytes := uint64(0)
	switch l.kind {
	case kindNil, kindBool, kindUint, kindFloat32, kindFloat64:
		return l.kind, n, next
	case kindMalformed:
		return kindMalformed, 0, 0
	case kindInt:
		// Sign-extend from the width that was read.
		shift := 64 - 8*max(uint(l.width), 1)
		return kindInt, uint64(int64(n<<shift) >> shift), next
	case kindStr, kindBin, kindArray:
		minBytes = n
	case kindExt:
		minBytes = n + 1
	case kindMap:
		minBytes = 2 * n
	}
	if minBytes > uint64(len(b)-next) {
		return kindMalformed, 0, 0
	}
	return l.kind, n, next
}

// shortString returns the end of the string of up to 31 bytes at b[i], or 0 if
// there is no such string, or it is truncated.
func shortString(b []byte, i int) int {
	if i < len(b) && b[i]&0xe0 == 0xa0 {
		if end := i + 1 + int(b[i]&0x1f); end <= len(b) {
			return end
		}
	}
	return 0
}

// skip returns the offset after the value at b[i], however deep it is nested. It
// counts the remaining values instead of recursing, so no nesting exhausts
// the stack. ok is false if the value is malformed.
func skip(b []byte, i int) (next int, ok bool) {
	for due := uint64(1); due > 0; due-- {
		k, n, p := head(b, i)
		i = p
		switch k {
		case kindMalformed:
			return 0, false
		case kindStr, kindBin:
			i += int(n)
		case kindExt:
			i += int(n) + 1
		case kindArray:
			due += n
		case kindMap:
			due += 2 * n
		}
	}
	return i, true
}
