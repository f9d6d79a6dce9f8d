package aggregator

// object appends the map of n members at b[i] as a JSON object.
func (w *jsonWriter) object(dst, b []byte, i int, n uint64, depth int) (_ []byte, next int, _ status) {
	if depth > maxDepth {
		return dst, 0, statusTooDeep
	}
	start := len(dst)
	dst, next, st := w.members(dst, b, i, n, depth, nil)
	return closeObject(dst, start), next, st
}

// closeObject makes a JSON object of the members dst[start:], each of which begins
// with a comma.
func closeObject(dst []byte, start int) []byte {
	if len(dst) == start {
		dst = append(dst, ',')
	}
	dst[start] = '{'
	return append(dst, '}')
}

// members appends the n members of the map at b[i], each with a comma in front,
// without those that t drops; t is nil for a map inside of a record. Of members
// with the same key the last one stays, at its own position, as in the engine.
//
// A map is first written on the assumption that no key repeats, with the cached keys
// of an earlier map of the same kind. If a key repeats, or if the keys are too many or
// too long for the cache, the map is written again, and each member is tracked.
func (w *jsonWriter) members(dst, b []byte, i int, n uint64, depth int, t *transform) (_ []byte, next int, st status) {
	if n > maxCachedKeys || w.tracking {
		return w.trackedMembers(dst, b, i, n, depth, t)
	}
	start := len(dst)
	dst, next, st = w.writeMembers(dst, b, i, n, depth, t, nil)
	if st != statusRepeatedKey {
		return dst, next, st
	}
	// The maps inside of this one are tracked from the start: each would be written
	// twice otherwise, and so its own maps four times, and so on.
	w.tracking = true
	dst, next, st = w.trackedMembers(dst[:start], b, i, n, depth, t)
	w.tracking = false
	return dst, next, st
}

// trackedMembers is members without the key cache.
func (w *jsonWriter) trackedMembers(dst, b []byte, i int, n uint64, depth int, t *transform) (_ []byte, next int, st status) {
	scope := w.repeats.enter()
	if dst, next, st = w.writeMembers(dst, b, i, n, depth, t, &scope); st == statusOK {
		dst = w.repeats.compact(scope, dst)
	}
	w.repeats.leave(scope)
	return dst, next, st
}

// writeMembers is members with the key cache if scope is nil, and with tracking
// otherwise. It returns statusRepeatedKey if the keys cannot be cached.
func (w *jsonWriter) writeMembers(dst, b []byte, i int, n uint64, depth int, t *transform, scope *memberScope) (_ []byte, _ int, st status) {
	var cache *keyCache
	var keys []cachedKey
	if scope == nil {
		at := depth
		if t != nil {
			at = 0 // Transformed keys carry a flag and have a cache of their own.
		}
		cache = w.keys.find(at, n, b, i)
		keys = cache.keys
	}
	for m := range int(n) {
		start, dropped := len(dst), false
		if m < len(keys) && keys[m].startsAt(b, i) {
			dst = keys[m].appendTo(dst)
			i += keys[m].rawBytes
			dropped = keys[m].dropped
		} else {
			keyAt := i
			dst = append(dst, ',')
			if dst, i, st = w.key(dst, b, i, depth); st != statusOK {
				return dst, 0, st
			}
			dropped = t != nil && t.drops(b, keyAt, dst[start+1:])
			dst = append(dst, ':')
			if scope == nil {
				if !cache.learn(m, b[keyAt:i], dst[start:], dropped) {
					return dst, 0, statusRepeatedKey
				}
				keys = cache.keys
			}
		}
		switch {
		case dropped:
			dst = dst[:start]
			var ok bool
			if i, ok = skip(b, i); !ok {
				return dst, 0, statusMalformed
			}
		case scope == nil:
			if dst, i, st = w.value(dst, b, i, depth); st != statusOK {
				return dst, 0, st
			}
		default:
			member := w.repeats.add(scope, dst, start)
			if dst, i, st = w.value(dst, b, i, depth); st != statusOK {
				return dst, 0, st
			}
			w.repeats.end(member, len(dst))
		}
	}
	return dst, i, statusOK
}

// key appends the key at b[i] as a JSON string.
func (w *jsonWriter) key(dst, b []byte, i, depth int) (_ []byte, next int, st status) {
	start := len(dst)
	dst, next, st = w.keyText(dst, b, i, depth)
	if w.dot != nil && st == statusOK {
		dst = replaceDots(dst, start, w.dot)
	}
	return dst, next, st
}

// keyText is key before dots are replaced: a string as it is, bin by the rule for
// bin, any other value as the string of its JSON text.
func (w *jsonWriter) keyText(dst, b []byte, i, depth int) (_ []byte, next int, st status) {
	k, n, p := head(b, i)
	switch k {
	case kindMalformed:
		return dst, 0, statusMalformed
	case kindStr:
		end := p + int(n)
		return appendString(dst, b, p, end), end, statusOK
	case kindBin, kindExt:
		return w.value(dst, b, i, depth) // is a string already
	case kindMap, kindArray:
		return w.nestedKey(dst, b, i, depth)
	}
	dst = append(dst, '"')
	dst, next, st = w.value(dst, b, i, depth)
	return append(dst, '"'), next, st
}

// nestedKey appends a key that is a map or an array.
func (w *jsonWriter) nestedKey(dst, b []byte, i, depth int) (_ []byte, next int, st status) {
	if w.keyDepth == maxKeyDepth {
		return dst, 0, statusTooDeep
	}
	start := len(dst)
	w.keyDepth++
	dst, next, st = w.value(dst, b, i, depth)
	w.keyDepth--
	if st != statusOK {
		return dst, 0, st
	}
	end := len(dst)
	dst = appendString(dst, dst, start, end)
	return append(dst[:start], dst[end:]...), next, statusOK
}
