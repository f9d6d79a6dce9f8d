package aggregator

// object appends the map of n members at b[i] as a JSON object.
func (w *jsonWriter) object(dst, b []byte, i int, n uint64, depth int) (_ []byte, next int, _ status) {
	if depth > maxDepth {
		return dst, 0, statusTooDeep
	}
	start := len(dst)
	dst, next, st := w.members(dst, b, i, n, depth)
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
// without those that the transform drops. Of members with the same key the last one
// stays, at its own position, as in the engine.
//
// A map is first written on the assumption that no key repeats, with the cached keys
// of an earlier map of the same kind. If a key repeats, or if the keys are too many or
// too long for the cache, the map is written again, and each member is tracked.
func (w *jsonWriter) members(dst, b []byte, i int, n uint64, depth int) (_ []byte, next int, st status) {
	outer := w.tracking
	if n <= maxCachedKeys && !outer {
		start := len(dst)
		dst, next, st = w.cachedMembers(dst, b, i, n, depth)
		if st != statusRepeatedKey {
			return dst, next, st
		}
		dst = dst[:start]
		// The maps inside of this one are tracked from the start: each would be written
		// twice otherwise, and so its own maps four times, and so on.
		w.tracking = true
	}
	scope := w.repeats.enter()
	if dst, next, st = w.trackedMembers(&scope, dst, b, i, n, depth); st == statusOK {
		dst = w.repeats.compact(scope, dst)
	}
	w.repeats.leave(scope)
	w.tracking = outer
	return dst, next, st
}

// cachedMembers is members with the key cache. It returns statusRepeatedKey if the
// keys cannot be cached.
func (w *jsonWriter) cachedMembers(dst, b []byte, i int, n uint64, depth int) (_ []byte, _ int, st status) {
	cache := w.keys.find(depth, n, b, i)
	keys := cache.keys
	for m := range int(n) {
		start, dropped := len(dst), false
		if m < len(keys) && keys[m].startsAt(b, i) {
			dst = keys[m].appendTo(dst)
			i += keys[m].rawBytes
			dropped = keys[m].dropped
		} else {
			keyAt := i
			if dst, i, dropped, st = w.memberKey(dst, b, i, depth); st != statusOK {
				return dst, 0, st
			}
			if !cache.learn(m, b[keyAt:i], dst[start:], dropped) {
				return dst, 0, statusRepeatedKey
			}
			keys = cache.keys
		}
		if dropped {
			dst = dst[:start]
			var ok bool
			if i, ok = skip(b, i); !ok {
				return dst, 0, statusMalformed
			}
		} else if dst, i, st = w.value(dst, b, i, depth); st != statusOK {
			return dst, 0, st
		}
	}
	return dst, i, statusOK
}

// trackedMembers is members without the key cache. The caller removes the repeated
// members from the scope.
func (w *jsonWriter) trackedMembers(scope *memberScope, dst, b []byte, i int, n uint64, depth int) (_ []byte, _ int, st status) {
	for range n {
		start, dropped := len(dst), false
		if dst, i, dropped, st = w.memberKey(dst, b, i, depth); st != statusOK {
			return dst, 0, st
		}
		if dropped {
			dst = dst[:start]
			var ok bool
			if i, ok = skip(b, i); !ok {
				return dst, 0, statusMalformed
			}
			continue
		}
		member := w.repeats.add(scope, dst, start)
		if dst, i, st = w.value(dst, b, i, depth); st != statusOK {
			return dst, 0, st
		}
		w.repeats.end(member, len(dst))
	}
	return dst, i, statusOK
}

// memberKey appends the key at b[i] with the comma before and the colon after it.
// dropped says that the transform leaves the member out.
func (w *jsonWriter) memberKey(dst, b []byte, i, depth int) (_ []byte, next int, dropped bool, st status) {
	start := len(dst)
	dst = append(dst, ',')
	if dst, next, st = w.key(dst, b, i, depth); st != statusOK {
		return dst, 0, false, st
	}
	dropped = depth == recordDepth && w.record != nil && w.record.drops(b, i, dst[start+1:])
	return append(dst, ':'), next, dropped, statusOK
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
