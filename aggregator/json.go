package aggregator

import (
	"math"
	"strconv"
)

// maxKeyDepth bounds maps and arrays used as keys inside of maps and arrays
// used as keys. Each level turns the JSON text of the one below into a string,
// which doubles its backslashes; the bound keeps that growth harmless.
const maxKeyDepth = 4

// jsonWriter turns msgpack into JSON text. It keeps scratch space between
// values and is not safe for concurrent use.
type jsonWriter struct {
	shapes    shapes
	members   members
	repeating bool // within a map that has repeated keys
	keyDepth  int
	// dot is what stands in the place of dots in keys, as it stands in JSON;
	// nil leaves them.
	dot []byte
}

// value appends the value at b[i] as JSON and returns the position behind it,
// or broken or tooDeep, in which case the caller cuts dst back. depth is the
// number of maps and arrays around the value.
func (w *jsonWriter) value(dst, b []byte, i, depth int) ([]byte, int) {
	// Short strings are what logs are made of.
	if end := shortString(b, i); end > 0 {
		return appendString(dst, b, i+1, end), end
	}
	k, n, p := head(b, i)
	if p < 0 {
		return dst, broken
	}
	switch k {
	case kindStr:
		end := p + int(n)
		return appendString(dst, b, p, end), end
	case kindUint:
		return appendUint(dst, n), p
	case kindInt:
		return strconv.AppendInt(dst, int64(n), 10), p
	case kindMap:
		return w.mapping(dst, b, p, n, depth+1)
	case kindArray:
		return w.array(dst, b, p, n, depth+1)
	case kindNil:
		return append(dst, "null"...), p
	case kindBool:
		return strconv.AppendBool(dst, n != 0), p
	case kindFloat:
		if p-i == 5 {
			return appendFloat32(dst, math.Float32frombits(uint32(n))), p
		}
		return appendFloat(dst, math.Float64frombits(n)), p
	case kindBin:
		end := p + int(n)
		return appendBinary(dst, b[p:end]), end
	default: // kindExt; p is at its type byte
		end := p + 1 + int(n)
		return appendBase64(dst, b[p+1:end]), end
	}
}

func (w *jsonWriter) array(dst, b []byte, i int, n uint64, depth int) ([]byte, int) {
	if depth > maxDepth {
		return dst, tooDeep
	}
	dst = append(dst, '[')
	for m := range n {
		if m > 0 {
			dst = append(dst, ',')
		}
		if dst, i = w.value(dst, b, i, depth); i < 0 {
			return dst, i
		}
	}
	return append(dst, ']'), i
}

// mapping appends a map of n members. Of members with the same key the last one
// stays, at its own position, as in the engine. A map is first written on the
// assumption that no key repeats; where one does, or where there are too many
// or too long ones to keep, it is written by repeatingMapping.
func (w *jsonWriter) mapping(dst, b []byte, i int, n uint64, depth int) ([]byte, int) {
	switch {
	case depth > maxDepth:
		return dst, tooDeep
	case n == 0:
		return append(dst, '{', '}'), i
	case w.repeating || n > maxShapeKeys:
		return w.repeatingMapping(dst, b, i, n, depth)
	}
	start, first := len(dst), i
	s := w.shapes.find(depth, n, b, i)
	for m := range int(n) {
		if m < len(s.keys) && s.keys[m].starts(b, i) {
			dst = s.keys[m].appendTo(dst)
			i += s.keys[m].rawBytes
		} else {
			key, at := i, len(dst)
			dst = append(dst, separator(m))
			if dst, i = w.key(dst, b, i, depth); i < 0 {
				return dst, i
			}
			dst = append(dst, ':')
			if !s.learn(m, b[key:i], dst[at:]) {
				w.repeating = true
				dst, i = w.repeatingMapping(dst[:start], b, first, n, depth)
				w.repeating = false
				return dst, i
			}
		}
		if dst, i = w.value(dst, b, i, depth); i < 0 {
			return dst, i
		}
	}
	return append(dst, '}'), i
}

// separator is what stands before the m-th member of a map.
func separator(m int) byte {
	if m == 0 {
		return '{'
	}
	return ','
}

// repeatingMapping is mapping for maps that have, or may have, repeated keys. It
// takes note of where each member stands, and removes those that did not last.
func (w *jsonWriter) repeatingMapping(dst, b []byte, i int, n uint64, depth int) ([]byte, int) {
	scope := w.members.enter()
	dst = append(dst, '{')
	for m := range n {
		if m > 0 {
			dst = append(dst, ',')
		}
		start := len(dst)
		if dst, i = w.key(dst, b, i, depth); i < 0 {
			break
		}
		at := w.members.add(&scope, dst, start)
		dst = append(dst, ':')
		if dst, i = w.value(dst, b, i, depth); i < 0 {
			break
		}
		w.members.end(at, len(dst))
	}
	dst = append(dst, '}')
	if scope.repeated && i >= 0 {
		dst = w.members.compact(scope, dst)
	}
	w.members.leave(scope)
	return dst, i
}

// key appends a map's key.
func (w *jsonWriter) key(dst, b []byte, i, depth int) ([]byte, int) {
	start := len(dst)
	dst, i = w.keyText(dst, b, i, depth)
	if w.dot != nil && i >= 0 {
		dst = replaceDots(dst, start, w.dot)
	}
	return dst, i
}

// keyText appends a map's key as it is: a string as such, bin by the rule for
// bin, anything else as the string of its JSON text.
func (w *jsonWriter) keyText(dst, b []byte, i, depth int) ([]byte, int) {
	k, n, p := head(b, i)
	switch {
	case p < 0:
		return dst, broken
	case k == kindStr:
		end := p + int(n)
		return appendString(dst, b, p, end), end
	case k == kindBin || k == kindExt:
		return w.value(dst, b, i, depth) // is a string already
	case k != kindMap && k != kindArray:
		dst = append(dst, '"')
		dst, i = w.value(dst, b, i, depth)
		return append(dst, '"'), i
	}
	if w.keyDepth++; w.keyDepth > maxKeyDepth {
		w.keyDepth--
		return dst, tooDeep
	}
	start := len(dst)
	dst, i = w.value(dst, b, i, depth)
	w.keyDepth--
	if i < 0 {
		return dst, i
	}
	end := len(dst)
	dst = appendString(dst, dst, start, end)
	return append(dst[:start], dst[end:]...), i
}
