package aggregator

import (
	"math"
	"strconv"
)

// maxKeyDepth bounds maps and arrays that are keys of maps inside of keys. Each
// level turns the JSON text of the one below into a string, which doubles its
// backslashes; the bound keeps that growth harmless.
const maxKeyDepth = 4

// jsonWriter writes msgpack as JSON. It keeps scratch space between values and is
// not safe for concurrent use.
type jsonWriter struct {
	keys     keyCaches
	repeats  repeatedKeys
	tracking bool // within a map that has repeated keys
	keyDepth int
	// dot replaces each dot in keys, escaped for JSON; nil keeps them.
	dot []byte
	// record is the transform, which drops members of the record itself; it may be
	// nil.
	record *transform
}

// recordDepth is the depth of the members of a record that a transform writes.
const recordDepth = 1

// value appends the value at b[i] as JSON and returns the offset after it. If the
// status is not statusOK, the caller cuts dst back. depth is the number of maps
// and arrays around the value.
func (w *jsonWriter) value(dst, b []byte, i, depth int) (_ []byte, next int, _ status) {
	// Most values in logs are short strings.
	if end := shortString(b, i); end > 0 {
		return appendString(dst, b, i+1, end), end, statusOK
	}
	k, n, p := head(b, i)
	switch k {
	case kindMalformed:
		return dst, 0, statusMalformed
	case kindStr:
		end := p + int(n)
		return appendString(dst, b, p, end), end, statusOK
	case kindUint:
		return appendUint(dst, n), p, statusOK
	case kindInt:
		return strconv.AppendInt(dst, int64(n), 10), p, statusOK
	case kindMap:
		return w.object(dst, b, p, n, depth+1)
	case kindArray:
		return w.array(dst, b, p, n, depth+1)
	case kindNil:
		return append(dst, "null"...), p, statusOK
	case kindBool:
		return strconv.AppendBool(dst, n != 0), p, statusOK
	case kindFloat32:
		return appendFloat32(dst, math.Float32frombits(uint32(n))), p, statusOK
	case kindFloat64:
		return appendFloat(dst, math.Float64frombits(n)), p, statusOK
	case kindBin:
		end := p + int(n)
		return appendBinary(dst, b[p:end]), end, statusOK
	default: // kindExt; p is the offset of its type byte
		end := p + 1 + int(n)
		return appendBase64(dst, b[p+1:end]), end, statusOK
	}
}

// array appends the array of n values at b[i].
func (w *jsonWriter) array(dst, b []byte, i int, n uint64, depth int) (_ []byte, next int, st status) {
	if depth > maxDepth {
		return dst, 0, statusTooDeep
	}
	dst = append(dst, '[')
	for m := range n {
		if m > 0 {
			dst = append(dst, ',')
		}
		if dst, i, st = w.value(dst, b, i, depth); st != statusOK {
			return dst, 0, st
		}
	}
	return append(dst, ']'), i, statusOK
}
