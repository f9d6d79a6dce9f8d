package aggregator

import (
	"encoding/binary"
	"slices"
)

// The bounds of what is kept of a map's keys. Maps of logs stay far below; what
// does not is written without, and more slowly. Together with the number of
// shapes they keep an Aggregator's below 2 MB whatever it is given.
const (
	maxShapeKeys    = 64
	maxShapeKeyText = 64 // bytes, of the msgpack and of the JSON each
)

// Maps near the top of a record get a shape for each kind of map that comes by;
// deeper ones share one for each depth.
const (
	manyShapesDepth = 8
	manyShapes      = 16
)

// shapes remembers the keys of maps, since records repeat them: a map whose keys
// are those of an earlier one, in the same order, needs no look at them, neither
// what has to be escaped nor whether one occurs twice.
type shapes [maxDepth + 1][]shape

// find returns the shape for a map of n members at b[i]. At each depth, only one
// map is written at a time.
func (s *shapes) find(depth int, n uint64, b []byte, i int) *shape {
	at := &s[depth]
	if *at == nil {
		*at = make([]shape, 1)
		if depth < manyShapesDepth {
			*at = make([]shape, manyShapes)
		}
	}
	// The number of members and the first key tell kinds of maps apart.
	h := n
	if len(b)-i >= wordBytes {
		h ^= binary.LittleEndian.Uint64(b[i:])
	}
	h *= 0x9e3779b97f4a7c15 // spreads the bits upwards
	return &(*at)[h>>32%uint64(len(*at))]
}

// shape is the first keys of a map, in order and all different.
type shape struct{ keys []shapeKey }

// shapeKey is a key as it stands in the chunk, and as it stands in the JSON,
// from '{' or ',' to ':'.
type shapeKey struct {
	rawBytes, textBytes int
	raw, text           [maxShapeKeyText]byte
}

// starts reports whether b[i:] begins with the key.
func (k *shapeKey) starts(b []byte, i int) bool {
	const few = 2 * wordBytes
	if len(b)-i < few || k.rawBytes > few {
		return len(b)-i >= k.rawBytes && string(b[i:i+k.rawBytes]) == string(k.raw[:k.rawBytes])
	}
	// Most keys are two words at most. Of the word in which the key ends, what
	// is behind it does not count.
	first := binary.LittleEndian.Uint64(b[i:]) ^ binary.LittleEndian.Uint64(k.raw[:])
	if k.rawBytes <= wordBytes {
		return first<<(64-8*k.rawBytes) == 0
	}
	second := binary.LittleEndian.Uint64(b[i+wordBytes:]) ^ binary.LittleEndian.Uint64(k.raw[wordBytes:])
	return first|second<<(64-8*(k.rawBytes-wordBytes)) == 0
}

// appendTo appends the key's JSON.
func (k *shapeKey) appendTo(dst []byte) []byte {
	const few = 2 * wordBytes // as many as most keys have
	dst = slices.Grow(dst, maxShapeKeyText)
	out := dst[len(dst) : len(dst)+maxShapeKeyText]
	copy(out, k.text[:few])
	if k.textBytes > few {
		copy(out, k.text[:])
	}
	return dst[:len(dst)+k.textBytes]
}

// learn makes the m-th key another one than before, and forgets those behind it.
// It reports false where the key occurred before or is too long.
func (s *shape) learn(m int, raw, text []byte) bool {
	s.keys = s.keys[:min(m, len(s.keys))]
	if len(raw) > maxShapeKeyText || len(text) > maxShapeKeyText {
		return false
	}
	for i := range s.keys {
		k := &s.keys[i]
		if string(k.text[1:k.textBytes]) == string(text[1:]) {
			return false
		}
	}
	k := shapeKey{rawBytes: len(raw), textBytes: len(text)}
	copy(k.raw[:], raw)
	copy(k.text[:], text)
	s.keys = append(s.keys, k)
	return true
}
