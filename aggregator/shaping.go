package aggregator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Shaping says how user records differ from the bodies of their events. The zero
// value leaves them as they are. A key that is added stands at the end of the
// record, in the place of one of the same name.
type Shaping struct {
	// TimeKey gets the event's time in UTC, in TimeFormat, which has to pass
	// CheckTimeFormat.
	TimeKey, TimeFormat string
	// TagKey gets the tag.
	TagKey string
	// MetadataKey gets one map of the metadata and attributes of the event's
	// group and the event's own metadata. Where they share a key, the later one
	// of these three stays.
	MetadataKey string

	// DataKeys, unless empty, are the only keys of a record to be sent, those
	// that are added included. They are compared before ReplaceDots.
	DataKeys []string
	// LogKey, unless empty, is the one value to be sent, instead of the record:
	// a string or bin as it is, anything else as JSON. `a->b` is the value of b
	// in the map at a. It goes with none of the fields above.
	LogKey string

	// ReplaceDots, unless empty, takes the place of each dot in keys, in those
	// of maps within the record and in those that are added as well.
	ReplaceDots string
	// AppendNewline ends each user record with a newline.
	AppendNewline bool

	// Compression is what each user record is compressed with on its own.
	Compression Compression
	// CompressionLevel is in the range of Compression's Levels; 0 is the
	// library's default.
	CompressionLevel int
}

// noLogKey is what record returns, beside broken and tooDeep, where the record
// has no value that LogKey names.
const noLogKey = -3

// Shaped returns a function that makes Aggregators whose user records have this
// shape. The function is safe for concurrent use.
func Shaped(s Shaping) (func() *Aggregator, error) {
	if s.isZero() {
		return New, nil
	}
	if s.LogKey != "" && (s.TimeKey+s.TagKey+s.MetadataKey != "" || len(s.DataKeys) > 0) {
		return nil, errors.New("aggregator: LogKey goes with no other key")
	}
	if err := CheckTimeFormat(s.TimeFormat); s.TimeKey != "" && err != nil {
		return nil, fmt.Errorf("aggregator: time format: %w", err)
	}
	if _, err := newCompressor(s.Compression, s.CompressionLevel); err != nil {
		return nil, fmt.Errorf("aggregator: compression: %w", err)
	}
	s.DataKeys = slices.Clone(s.DataKeys)
	return func() *Aggregator {
		a := New()
		a.shaper = newShaper(s, &a.json)
		a.SetTag("")
		return a
	}, nil
}

func (s *Shaping) isZero() bool {
	return s.TimeKey+s.TagKey+s.MetadataKey+s.LogKey+s.ReplaceDots == "" && len(s.DataKeys) == 0 &&
		!s.AppendNewline && s.Compression == Uncompressed
}

// shaper writes the user records of one Aggregator, in one pass over the chunk.
type shaper struct {
	json *jsonWriter

	// The keys that are added, as they stand in the record, from ',' to ':', or
	// empty.
	timeKey, tagKey, metadataKey []byte
	clock                        *clock
	tag                          []byte // the value, as JSON
	dataKeys                     []string
	logPath                      []string
	newline                      bool

	compressor compressor
	plain      []byte // the record to be compressed

	// The positions of the two maps of the marker that opened the group, or
	// broken. A group ends where the next one opens, if not before.
	groupMetadata, groupAttributes int
}

// newShaper expects what Shaped has checked.
func newShaper(s Shaping, json *jsonWriter) *shaper {
	if s.ReplaceDots != "" {
		quoted := appendText(nil, s.ReplaceDots)
		json.dot = quoted[1 : len(quoted)-1]
	}
	sh := &shaper{
		json:            json,
		dataKeys:        s.DataKeys,
		newline:         s.AppendNewline,
		groupMetadata:   broken,
		groupAttributes: broken,
	}
	sh.timeKey = sh.added(s.TimeKey)
	sh.tagKey = sh.added(s.TagKey)
	sh.metadataKey = sh.added(s.MetadataKey)
	if s.TimeKey != "" {
		sh.clock, _ = newClock(s.TimeFormat)
	}
	if s.LogKey != "" {
		sh.logPath = strings.Split(s.LogKey, "->")
	}
	sh.compressor, _ = newCompressor(s.Compression, s.CompressionLevel)
	return sh
}

// added is a key to add, from ',' to ':', or nil if it is not to be sent.
func (s *shaper) added(key string) []byte {
	if key == "" || len(s.dataKeys) > 0 && !slices.Contains(s.dataKeys, key) {
		return nil
	}
	text := appendText([]byte{','}, key)
	if s.json.dot != nil {
		text = replaceDots(text, 0, s.json.dot)
	}
	return append(text, ':')
}

// appendText is appendString of a whole text.
func appendText(dst []byte, text string) []byte {
	return appendString(dst, []byte(text), 0, len(text))
}

// SetTag says which tag the chunks have that are filled from now on.
func (a *Aggregator) SetTag(tag string) {
	if s := a.shaper; s != nil && s.tagKey != nil {
		s.plain = append(s.plain[:0], tag...)
		s.tag = appendString(s.tag[:0], s.plain, 0, len(s.plain))
	}
}

// begin finds out about the group that chunk[from] stands in.
func (s *shaper) begin(chunk []byte, from int) {
	s.groupMetadata, s.groupAttributes = broken, broken
	if s.metadataKey == nil {
		return
	}
	for i := 0; i >= 0 && i < from; {
		class, next := event(chunk, i)
		switch class {
		case isRecord:
			next = skip(chunk, next)
		case isMarker:
			s.marker(chunk, i)
		}
		i = next
	}
}

// marker takes note of the marker at chunk[i], which is whole.
func (s *shaper) marker(chunk []byte, i int) {
	stamp, metadata, attributes := eventParts(chunk, i)
	s.groupMetadata, s.groupAttributes = broken, broken
	if seconds, _ := moment(chunk, stamp); seconds == groupOpens {
		s.groupMetadata, s.groupAttributes = metadata, attributes
	}
}

// eventParts finds the parts of an event that is known to be one. The position
// of the metadata is broken where the format has none.
func eventParts(chunk []byte, i int) (stamp, metadata, body int) {
	_, _, stamp = head(chunk, i)
	if k, _, inner := head(chunk, stamp); k == kindArray {
		metadata = skip(chunk, inner)
		return inner, metadata, skip(chunk, metadata)
	}
	return stamp, broken, skip(chunk, stamp)
}

// record appends the user record of the event at chunk[i] with its body at
// chunk[body], and returns the position behind it, or broken, tooDeep or
// noLogKey, in which case the caller cuts dst back.
func (s *shaper) record(dst, chunk []byte, i, body int) ([]byte, int) {
	if s.compressor == nil {
		return s.text(dst, chunk, i, body)
	}
	s.plain, i = s.text(s.plain[:0], chunk, i, body)
	if i < 0 {
		return dst, i
	}
	return s.compressor.compress(dst, s.plain), i
}

func (s *shaper) text(dst, chunk []byte, i, body int) (_ []byte, next int) {
	if s.logPath != nil {
		dst, next = s.logValue(dst, chunk, body)
	} else {
		dst, next = s.object(dst, chunk, i, body)
	}
	if s.newline {
		dst = append(dst, '\n')
	}
	return dst, next
}

// logValue appends the value that LogKey names in the map at b[i].
func (s *shaper) logValue(dst, b []byte, i int) ([]byte, int) {
	next := skip(b, i)
	if next < 0 {
		return dst, broken
	}
	for _, name := range s.logPath {
		if i = find(b, i, name); i < 0 {
			return dst, noLogKey
		}
	}
	if k, n, p := head(b, i); k == kindStr || k == kindBin {
		return append(dst, b[p:p+int(n)]...), next
	}
	dst, i = s.json.value(dst, b, i, len(s.logPath))
	if i < 0 {
		next = i
	}
	return dst, next
}

// find returns the position of the value with this key in the map at b[i], which
// is whole, or broken where there is no such key or no map. Of several it is the
// last one.
func find(b []byte, i int, name string) int {
	found := broken
	k, n, i := head(b, i)
	if k != kindMap {
		return broken
	}
	for range n {
		at := skip(b, i)
		if isNamed(b, i, name) {
			found = at
		}
		i = skip(b, at)
	}
	return found
}

// isNamed reports whether the value at b[i] is a string, or bin, that says name.
func isNamed(b []byte, i int, name string) bool {
	k, n, p := head(b, i)
	return (k == kindStr || k == kindBin) && string(b[p:p+int(n)]) == name
}

// object appends the map at chunk[body] without what is dropped and with what
// is added.
func (s *shaper) object(dst, chunk []byte, i, body int) ([]byte, int) {
	start := len(dst)
	dst, next := s.kept(dst, chunk, body)
	if next < 0 {
		return dst, next
	}
	if s.timeKey != nil || s.metadataKey != nil {
		stamp, metadata, _ := eventParts(chunk, i)
		if s.timeKey != nil {
			dst = append(dst, s.timeKey...)
			seconds, nanos := moment(chunk, stamp)
			dst = s.clock.appendTime(dst, seconds, nanos)
		}
		if s.metadataKey != nil {
			dst = append(dst, s.metadataKey...)
			var status int
			if dst, status = s.metadata(dst, chunk, metadata); status < 0 {
				return dst, status
			}
		}
	}
	if s.tagKey != nil {
		dst = append(dst, s.tagKey...)
		dst = append(dst, s.tag...)
	}
	return embrace(dst, start), next
}

// embrace makes an object of the members dst[start:], each of which begins with
// a comma.
func embrace(dst []byte, start int) []byte {
	if len(dst) == start {
		dst = append(dst, ',')
	}
	dst[start] = '{'
	return append(dst, '}')
}

// dropMark stands in the place of the comma where a shape's key is dropped.
const dropMark = 0

// kept appends the members of the map at b[i] that are not dropped, as
// jsonWriter.mapping does, but for a comma before the first one. The shapes of
// depth 0 are its own.
func (s *shaper) kept(dst, b []byte, i int) ([]byte, int) {
	const depth = 1
	w := s.json
	_, n, i := head(b, i)
	if i < 0 {
		return dst, broken
	}
	if n > maxShapeKeys {
		return s.keptOfMany(dst, b, i, n)
	}
	start, first := len(dst), i
	shape := w.shapes.find(0, n, b, i)
	for m := range int(n) {
		dropped := false
		if m < len(shape.keys) && shape.keys[m].starts(b, i) {
			k := &shape.keys[m]
			i += k.rawBytes
			if dropped = k.text[0] == dropMark; !dropped {
				dst = k.appendTo(dst)
			}
		} else {
			key, at := i, len(dst)
			dst = append(dst, ',')
			if dst, i = w.key(dst, b, i, depth); i < 0 {
				return dst, i
			}
			if dropped = s.drops(b, key, dst[at+1:]); dropped {
				dst[at] = dropMark
			}
			dst = append(dst, ':')
			if !shape.learn(m, b[key:i], dst[at:]) {
				w.repeating = true
				dst, i = s.keptOfMany(dst[:start], b, first, n)
				w.repeating = false
				return dst, i
			}
			if dropped {
				dst = dst[:at]
			}
		}
		if dropped {
			i = skip(b, i)
		} else {
			dst, i = w.value(dst, b, i, depth)
		}
		if i < 0 {
			return dst, i
		}
	}
	return dst, i
}

// keptOfMany is kept for maps that have, or may have, repeated keys.
func (s *shaper) keptOfMany(dst, b []byte, i int, n uint64) ([]byte, int) {
	const depth = 1
	w := s.json
	scope := w.members.enter()
	for range n {
		key, start := i, len(dst)
		dst = append(dst, ',')
		if dst, i = w.key(dst, b, i, depth); i < 0 {
			break
		}
		if s.drops(b, key, dst[start+1:]) {
			dst = dst[:start]
			i = skip(b, i)
		} else {
			dst, i = w.lasting(dst, b, i, depth, start, &scope)
		}
		if i < 0 {
			break
		}
	}
	return w.lasted(dst, scope), i
}

// lasting appends the value at b[i] behind the key dst[start+1:] of a member
// that a later one may repeat.
func (w *jsonWriter) lasting(dst, b []byte, i, depth, start int, scope *memberScope) ([]byte, int) {
	at := w.members.add(scope, dst, start+1)
	dst = append(dst, ':')
	dst, i = w.value(dst, b, i, depth)
	w.members.end(at, len(dst))
	return dst, i
}

// lasted removes the members of the scope that a later one repeats, and leaves
// it.
func (w *jsonWriter) lasted(dst []byte, scope memberScope) []byte {
	if scope.repeated {
		dst = w.members.compact(scope, dst)
		dst = dst[:len(dst)-1] // without the brace
	}
	w.members.leave(scope)
	return dst
}

// drops reports whether a member is not to be sent, by its key at b[i], which is
// text in JSON.
func (s *shaper) drops(b []byte, i int, text []byte) bool {
	if len(s.dataKeys) > 0 {
		listed := false
		for _, name := range s.dataKeys {
			listed = listed || isNamed(b, i, name)
		}
		if !listed {
			return true
		}
	}
	return isAdded(s.timeKey, text) || isAdded(s.tagKey, text) || isAdded(s.metadataKey, text)
}

// isAdded compares a key that is added, from ',' to ':', with one in JSON.
func isAdded(added, text []byte) bool {
	return added != nil && string(added[1:len(added)-1]) == string(text)
}

// metadata appends the metadata of the group and of the event, whose own is at
// b[i] unless that is broken.
func (s *shaper) metadata(dst, b []byte, i int) ([]byte, int) {
	const depth = 2
	w := s.json
	start := len(dst)
	scope := w.members.enter()
	status := 0
maps:
	for _, at := range [...]int{s.groupMetadata, s.groupAttributes, i} {
		if at < 0 {
			continue
		}
		_, n, p := head(b, at)
		for range n {
			member := len(dst)
			dst = append(dst, ',')
			if dst, p = w.key(dst, b, p, depth); p >= 0 {
				dst, p = w.lasting(dst, b, p, depth, member, &scope)
			}
			if p < 0 {
				status = p
				break maps
			}
		}
	}
	dst = w.lasted(dst, scope)
	return embrace(dst, start), status
}

// replaceDots replaces each dot in dst[start:], the JSON text of a string, in
// which a dot is never part of anything else.
func replaceDots(dst []byte, start int, dot []byte) []byte {
	end := len(dst)
	if bytes.IndexByte(dst[start:end], '.') < 0 {
		return dst
	}
	for i := start; i < end; i++ {
		if c := dst[i]; c != '.' {
			dst = append(dst, c)
		} else {
			dst = append(dst, dot...)
		}
	}
	return append(dst[:start], dst[end:]...)
}
