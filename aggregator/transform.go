package aggregator

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"out_kinesis_agg/kpl/compression"
)

// Transform says how user records differ from the bodies of their events. The zero
// value keeps them as they are. Keys that are added come last in the record, and
// replace keys of the same name.
type Transform struct {
	// TimeKey gets the event's time in UTC, in TimeFormat, which has to pass
	// CheckTimeFormat.
	TimeKey, TimeFormat string
	// TagKey gets the tag.
	TagKey string
	// MetadataKey gets one map of the metadata and the attributes of the event's
	// group and of the event's own metadata. If they share a key, the last one in
	// this order counts.
	MetadataKey string

	// DataKeys, unless empty, are the only keys of a record that are sent,
	// including those that are added. They are compared before ReplaceDots. A record
	// without any of them is not sent.
	DataKeys []string
	// LogKey, unless empty, names the one value that is sent instead of the record:
	// a string or bin as it is, any other value as JSON. `a->b` is the value of b
	// in the map at a. It excludes all fields above.
	LogKey string

	// ReplaceDots, unless empty, replaces each dot in keys, also in maps within the
	// record and in keys that are added.
	ReplaceDots string
	// AppendNewline ends each user record with a newline. With BatchBytes or NDJSON,
	// lines end with one newline in any case.
	AppendNewline bool

	// Format is the format of Kinesis records.
	Format Format
	// BatchBytes, unless 0, joins log records as newline-delimited JSON into batches
	// of at most so many bytes before compression. A batch is a user record, or the
	// whole Kinesis record with NDJSON, where 0 means as many log records as fit. A
	// log record that is larger is a batch of its own.
	BatchBytes int

	// Compression compresses each user record as a whole.
	Compression compression.Format
	// CompressionLevel is 1 to the format's highest level, or 0 for its default:
	// see compression.Format.Levels.
	CompressionLevel int
}

// Factory returns a function that creates Aggregators with this transform. The
// function is safe for concurrent use. The error names the field that is invalid.
func Factory(t Transform) (func() *Aggregator, error) {
	if t.LogKey != "" && (t.TimeKey+t.TagKey+t.MetadataKey != "" || len(t.DataKeys) > 0) {
		return nil, errors.New("aggregator: LogKey excludes all other keys")
	}
	if err := CheckTimeFormat(t.TimeFormat); t.TimeKey != "" && err != nil {
		return nil, fmt.Errorf("aggregator: TimeFormat: %w", err)
	}
	if _, err := newCompressor(t.Compression, t.CompressionLevel); err != nil {
		return nil, fmt.Errorf("aggregator: Compression: %w", err)
	}
	if _, ok := t.Format.framing(); !ok {
		return nil, fmt.Errorf("aggregator: Format: unknown format %q", t.Format)
	}
	if t.BatchBytes < 0 {
		return nil, fmt.Errorf("aggregator: BatchBytes: %d is negative", t.BatchBytes)
	}
	t.DataKeys = slices.Clone(t.DataKeys)
	return func() *Aggregator { return newAggregator(t) }, nil
}

// newAggregator expects what Factory has checked.
func newAggregator(t Transform) *Aggregator {
	a := New()
	compressor, _ := newCompressor(t.Compression, t.CompressionLevel)
	a.framing, _ = t.Format.framing()
	if a.framing.holdsOneBatch() {
		if t.BatchBytes == 0 {
			t.BatchBytes = maxLinesBytes
		}
		if compressor == nil {
			// The lines are written to where they are sent from.
			a.maxLines, t.BatchBytes, t.AppendNewline = t.BatchBytes, 0, true
		}
	}
	if t.BatchBytes > 0 {
		a.batch = &batch{maxBytes: t.BatchBytes, compressor: compressor}
		compressor, t.AppendNewline = nil, false
	}
	if t.changesRecords() || compressor != nil {
		a.transform = newTransform(t, &a.json, compressor)
	}
	return a
}

// changesRecords reports whether a record differs from the JSON of its body.
func (t *Transform) changesRecords() bool {
	return t.TimeKey+t.TagKey+t.MetadataKey+t.LogKey+t.ReplaceDots != "" || len(t.DataKeys) > 0 || t.AppendNewline
}

// transform writes the records of one Aggregator, in one pass over the chunk.
type transform struct {
	json *jsonWriter

	// The keys that are added, as JSON with the comma before and the colon after
	// them, or nil.
	timeKey, tagKey, metadataKey []byte
	clock                        *clock
	tag                          []byte // the value for tagKey, as JSON
	dataKeys                     []string
	logPath                      []string
	newline                      bool

	compressor compressor // nil: none, or each batch is compressed
	text       []byte     // scratch: the record before compression, or the tag

	// The offsets of the two maps in the marker that opened the group, or
	// nowhere. A group ends at the next marker.
	groupMetadata, groupAttributes int
}

func newTransform(o Transform, json *jsonWriter, compressor compressor) *transform {
	if o.ReplaceDots != "" {
		quoted := appendQuoted(nil, o.ReplaceDots)
		json.dot = quoted[1 : len(quoted)-1]
	}
	t := &transform{
		json:            json,
		dataKeys:        o.DataKeys,
		newline:         o.AppendNewline,
		compressor:      compressor,
		groupMetadata:   nowhere,
		groupAttributes: nowhere,
	}
	json.record = t
	t.timeKey = t.addedKey(o.TimeKey)
	t.tagKey = t.addedKey(o.TagKey)
	t.metadataKey = t.addedKey(o.MetadataKey)
	if o.TimeKey != "" {
		t.clock, _ = newClock(o.TimeFormat)
	}
	if o.LogKey != "" {
		t.logPath = strings.Split(o.LogKey, "->")
	}
	return t
}

// addedKey is the JSON of a key that is added, with comma and colon, or nil if the
// key is not sent.
func (t *transform) addedKey(key string) []byte {
	if key == "" || len(t.dataKeys) > 0 && !slices.Contains(t.dataKeys, key) {
		return nil
	}
	text := appendQuoted([]byte{','}, key)
	if t.json.dot != nil {
		text = replaceDots(text, 0, t.json.dot)
	}
	return append(text, ':')
}

// appendQuoted is appendString for a Go string.
func appendQuoted(dst []byte, s string) []byte {
	return appendString(dst, []byte(s), 0, len(s))
}

// setTag sets the value for tagKey.
func (t *transform) setTag(tag string) {
	if t.tagKey != nil {
		t.text = append(t.text[:0], tag...)
		t.tag = appendString(t.tag[:0], t.text, 0, len(t.text))
	}
}

// begin finds the group of the event at chunk[from].
func (t *transform) begin(chunk []byte, from int) {
	t.groupMetadata, t.groupAttributes = nowhere, nowhere
	if t.metadataKey == nil {
		return
	}
	for i, ok := 0, true; ok && i < from; {
		class, next := readEvent(chunk, i)
		switch class {
		case recordEvent:
			next, ok = skip(chunk, next)
		case markerEvent:
			t.marker(chunk, i)
		case malformedEvent:
			ok = false // Never before the Next of an earlier Build.
		}
		i = next
	}
}

// marker enters or leaves a group at the marker at chunk[i], which is complete.
func (t *transform) marker(chunk []byte, i int) {
	stamp, metadata, attributes := eventParts(chunk, i)
	t.groupMetadata, t.groupAttributes = nowhere, nowhere
	if seconds, _ := timeOf(chunk, stamp); seconds == groupOpens {
		t.groupMetadata, t.groupAttributes = metadata, attributes
	}
}

// userRecord appends the user record of the event at chunk[i] with its body at
// chunk[body]. uncompressed is its size before compression. next is the offset
// after the event. If the status is not statusOK, the caller cuts dst back.
func (t *transform) userRecord(dst, chunk []byte, i, body int) (_ []byte, uncompressed, next int, st status) {
	if t.compressor == nil {
		start := len(dst)
		dst, next, st = t.appendText(dst, chunk, i, body)
		return dst, len(dst) - start, next, st
	}
	if t.text, next, st = t.appendText(t.text[:0], chunk, i, body); st != statusOK {
		return dst, 0, 0, st
	}
	return t.compressor.compress(dst, t.text), len(t.text), next, statusOK
}

// appendText is userRecord before compression.
func (t *transform) appendText(dst, chunk []byte, i, body int) (_ []byte, next int, st status) {
	if t.logPath != nil {
		dst, next, st = t.logValue(dst, chunk, body)
	} else {
		dst, next, st = t.object(dst, chunk, i, body)
	}
	if t.newline {
		dst = append(dst, '\n')
	}
	return dst, next, st
}

// logValue appends the value of LogKey in the map at b[i].
func (t *transform) logValue(dst, b []byte, i int) (_ []byte, next int, st status) {
	next, ok := skip(b, i)
	if !ok {
		return dst, 0, statusMalformed
	}
	for _, name := range t.logPath {
		if i = find(b, i, name); i == nowhere {
			return dst, 0, statusNoLogKey
		}
	}
	if k, n, p := head(b, i); k == kindStr || k == kindBin {
		return append(dst, b[p:p+int(n)]...), next, statusOK
	}
	dst, _, st = t.json.value(dst, b, i, len(t.logPath))
	return dst, next, st
}

// find returns the offset of the last value with this key in the map at b[i], which
// is complete. It returns nowhere if there is no such key, or no map.
func find(b []byte, i int, name string) int {
	found := nowhere
	k, n, i := head(b, i)
	if k != kindMap {
		return nowhere
	}
	for range n {
		value, _ := skip(b, i)
		if isNamed(b, i, name) {
			found = value
		}
		i, _ = skip(b, value)
	}
	return found
}

// isNamed reports whether the value at b[i] is the string or bin name.
func isNamed(b []byte, i int, name string) bool {
	k, n, p := head(b, i)
	return (k == kindStr || k == kindBin) && string(b[p:p+int(n)]) == name
}

// object appends the map at chunk[body] without the keys that are dropped and with
// those that are added.
func (t *transform) object(dst, chunk []byte, i, body int) (_ []byte, next int, st status) {
	start := len(dst)
	k, n, p := head(chunk, body)
	if k != kindMap { // truncated
		return dst, 0, statusMalformed
	}
	dst, next, st = t.json.members(dst, chunk, p, n, recordDepth)
	if st != statusOK {
		return dst, 0, st
	}
	if t.timeKey != nil || t.metadataKey != nil {
		stamp, metadata, _ := eventParts(chunk, i)
		if t.timeKey != nil {
			dst = append(dst, t.timeKey...)
			seconds, nanos := timeOf(chunk, stamp)
			dst = t.clock.appendTime(dst, seconds, nanos)
		}
		if t.metadataKey != nil {
			dst = append(dst, t.metadataKey...)
			if dst, st = t.metadata(dst, chunk, metadata); st != statusOK {
				return dst, 0, st
			}
		}
	}
	if t.tagKey != nil {
		dst = append(dst, t.tagKey...)
		dst = append(dst, t.tag...)
	}
	if len(t.dataKeys) > 0 && len(dst) == start {
		return dst, 0, statusNoDataKey
	}
	return closeObject(dst, start), next, statusOK
}

// metadata appends one object of the metadata of the group and of the event, whose
// own is at b[i] unless that is nowhere.
func (t *transform) metadata(dst, b []byte, i int) (_ []byte, st status) {
	const depth = 2
	start := len(dst)
	scope := t.json.repeats.enter()
	defer t.json.repeats.leave(scope)
	for _, at := range [...]int{t.groupMetadata, t.groupAttributes, i} {
		if at == nowhere {
			continue
		}
		_, n, p := head(b, at)
		if dst, _, st = t.json.trackedMembers(&scope, dst, b, p, n, depth); st != statusOK {
			return dst, st
		}
	}
	dst = t.json.repeats.compact(scope, dst)
	return closeObject(dst, start), statusOK
}

// drops reports whether a member is not sent, because DataKeys does not list its
// key at b[i], or because a key is added whose JSON is the same, text.
func (t *transform) drops(b []byte, i int, text []byte) bool {
	if len(t.dataKeys) > 0 && !t.isListed(b, i) {
		return true
	}
	return isAdded(t.timeKey, text) || isAdded(t.tagKey, text) || isAdded(t.metadataKey, text)
}

func (t *transform) isListed(b []byte, i int) bool {
	for _, name := range t.dataKeys {
		if isNamed(b, i, name) {
			return true
		}
	}
	return false
}

// isAdded compares a key that is added, with its comma and colon, with a key.
func isAdded(added, text []byte) bool {
	return added != nil && string(added[1:len(added)-1]) == string(text)
}

// replaceDots replaces each dot in dst[start:], the JSON text of a string, in
// which a dot is never part of an escape.
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
