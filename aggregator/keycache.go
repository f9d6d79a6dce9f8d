package aggregator

import (
	"encoding/binary"
	"slices"
)

// The bounds of the key caches. Maps in logs stay far below; maps above are
// written without a cache, and more slowly. Together with the number of caches
// these bounds keep an Aggregator's caches below 2 MB for any input.
const (
	maxCachedKeys     = 64
	maxCachedKeyBytes = 64 // of the msgpack and of the JSON each
)

// Maps near the top of a record have a cache for each kind of map; at a greater
// depth there is one for all of them.
const (
	manyCachesDepth = 8
	manyCaches      = 16
)

// keyCaches holds the keys of maps by depth, since records repeat them: the keys
// of a map that has the same ones as an earlier map, in the same order, need not
// be escaped or compared with each other again.
type keyCaches [maxDepth + 1][]keyCache

// find returns the cache for a map of n members at b[i]. Only one map at a time is
// written at each depth.
func (c *keyCaches) find(depth int, n uint64, b []byte, i int) *keyCache {
	at := &c[depth]
	if *at == nil {
		*at = make([]keyCache, 1)
		if depth < manyCachesDepth {
			*at = make([]keyCache, manyCaches)
		}
	}
	// The number of members and the first key identify kinds of maps.
	h := n
	if len(b)-i >= wordBytes {
		h ^= binary.LittleEndian.Uint64(b[i:])
	}
	h *= 0x9e3779b97f4a7c15 // spreads the bits upwards
	return &(*at)[h>>32%uint64(len(*at))]
}

// keyCache is the first keys of a map, in order and all different.
type keyCache struct{ keys []cachedKey }

// cachedKey is a key as it is in the chunk, and its JSON with the comma before and
// the colon after it.
type cachedKey struct {
	rawBytes, textBytes int
	raw, text           [maxCachedKeyBytes]byte
	dropped             bool // by the transform
}

// startsAt reports whether b[i:] begins with the key.
func (k *cachedKey) startsAt(b []byte, i int) bool {
	const few = 2 * wordBytes
	if len(b)-i < few || k.rawBytes > few {
		return len(b)-i >= k.rawBytes && string(b[i:i+k.rawBytes]) == string(k.raw[:k.rawBytes])
	}
	// Most keys have at most two words. The bytes of the last word that are not
	// part of the key are shifted out.
	first := binary.LittleEndian.Uint64(b[i:]) ^ binary.LittleEndian.Uint64(k.raw[:])
	if k.rawBytes <= wordBytes {
		return first<<(64-8*k.rawBytes) == 0
	}
	second := binary.LittleEndian.Uint64(b[i+wordBytes:]) ^ binary.LittleEndian.Uint64(k.raw[wordBytes:])
	return first|second<<(64-8*(k.rawBytes-wordBytes)) == 0
}

// appendTo appends the key's JSON.
func (k *cachedKey) appendTo(dst []byte) []byte {
	const few = 2 * wordBytes // at least the length of most keys
	dst = slices.Grow(dst, maxCachedKeyBytes)
	out := dst[len(dst) : len(dst)+maxCachedKeyBytes]
	copy(out, k.text[:few])
	if k.textBytes > few {
		copy(out, k.text[:])
	}
	return dst[:len(dst)+k.textBytes]
}

// learn replaces the m-th key, and forgets those after it. It returns false if an
// earlier key is the same, or if the key is too long.
func (c *keyCache) learn(m int, raw, text []byte, dropped bool) bool {
	c.keys = c.keys[:min(m, len(c.keys))]
	if len(raw) > maxCachedKeyBytes || len(text) > maxCachedKeyBytes {
		return false
	}
	for i := range c.keys {
		k := &c.keys[i]
		if string(k.text[:k.textBytes]) == string(text) {
			return false
		}
	}
	k := cachedKey{rawBytes: len(raw), textBytes: len(text), dropped: dropped}
	copy(k.raw[:], raw)
	copy(k.text[:], text)
	c.keys = append(c.keys, k)
	return true
}
