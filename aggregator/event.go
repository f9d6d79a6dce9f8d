package aggregator

import (
	"encoding/binary"
	"math"
)

// eventClass says what a value at the top level of a chunk is.
type eventClass uint8

const (
	// recordEvent is a log record.
	recordEvent eventClass = iota
	// markerEvent opens or closes a group of records and is not a record itself.
	markerEvent
	// notEvent is a complete msgpack value, but not a log event.
	notEvent
	// malformedEvent is truncated or not msgpack.
	malformedEvent
)

// Seconds of the timestamps that mark groups, as the OpenTelemetry input writes
// them: -1 opens and -2 closes. A marker has no nanoseconds. Source: Fluent
// Bit's flb_log_event_decoder.c.
const (
	groupOpens  = 0xffffffff
	groupCloses = 0xfffffffe
)

// readEvent reads the head of the log event at chunk[i]: [[timestamp, metadata],
// body] since Fluent Bit 2.1, [timestamp, body] before. next is the offset of the
// body, a map, of a record, and the offset after the value for the other classes.
// It is not set for malformedEvent.
func readEvent(chunk []byte, i int) (class eventClass, next int) {
	if isCommonEvent(chunk, i) {
		return recordEvent, i + commonHeadBytes
	}
	class, body := readHead(chunk, i)
	if class == recordEvent {
		return recordEvent, body
	}
	next, ok := skip(chunk, i)
	if !ok {
		return malformedEvent, 0
	}
	return class, next
}

// commonHeadBytes is the size of the head of nearly every event: an array of two,
// of which the first is an array of a timestamp and an empty map.
const commonHeadBytes = 2 + 10 + 1

// isCommonEvent reports whether the event at chunk[i] is a record with that head
// and a small map. readHead reads such an event too, in more time.
func isCommonEvent(chunk []byte, i int) bool {
	if len(chunk)-i <= commonHeadBytes {
		return false
	}
	h := chunk[i : i+commonHeadBytes+1]
	return binary.BigEndian.Uint32(h) == 0x9292d700 && binary.BigEndian.Uint32(h[4:]) < groupCloses &&
		h[12] == 0x80 && h[13]&0xf0 == 0x80
}

// readHead returns the class of the value at chunk[i], and the offset of the body
// of a record. It returns notEvent for malformed values as well.
func readHead(chunk []byte, i int) (eventClass, int) {
	k, n, p := head(chunk, i)
	if k != kindArray || n != 2 {
		return notEvent, 0
	}
	k, n, inner := head(chunk, p)
	withMetadata := k == kindArray && n == 2
	if withMetadata {
		p = inner
	}
	class, p := timestamp(chunk, p)
	if class == notEvent {
		return notEvent, 0
	}
	if withMetadata {
		if k, _, _ := head(chunk, p); k != kindMap {
			return notEvent, 0
		}
		var ok bool
		if p, ok = skip(chunk, p); !ok {
			return notEvent, 0
		}
	}
	if k, _, _ := head(chunk, p); k != kindMap {
		return notEvent, 0
	}
	return class, p
}

// timestamp reads an event's timestamp: ext type 0 of 8 bytes (seconds and
// nanoseconds, big-endian), a non-negative integer, or a float. It returns
// notEvent if the value is not a timestamp.
func timestamp(chunk []byte, i int) (class eventClass, next int) {
	k, n, p := head(chunk, i)
	switch k {
	case kindUint, kindFloat32, kindFloat64:
		return recordEvent, p
	case kindInt:
		if int64(n) >= 0 {
			return recordEvent, p
		}
	case kindExt:
		if n != 8 || chunk[p] != 0 {
			break
		}
		seconds := binary.BigEndian.Uint32(chunk[p+1:])
		nanos := binary.BigEndian.Uint32(chunk[p+5:])
		if (seconds == groupOpens || seconds == groupCloses) && nanos == 0 {
			return markerEvent, p + 9
		}
		return recordEvent, p + 9
	}
	return notEvent, 0
}

// nowhere is the offset of a map that does not exist.
const nowhere = -1

// eventParts returns the offsets of timestamp, metadata and body of the event at
// chunk[i], which is valid. metadata is nowhere in the format without it.
func eventParts(chunk []byte, i int) (stamp, metadata, body int) {
	_, _, stamp = head(chunk, i)
	metadata = nowhere
	if k, _, inner := head(chunk, stamp); k == kindArray {
		stamp = inner
		metadata, _ = skip(chunk, stamp)
		body, _ = skip(chunk, metadata)
		return stamp, metadata, body
	}
	body, _ = skip(chunk, stamp)
	return stamp, metadata, body
}

// The seconds that strftime can show with a year of four digits: 1 to 9999. A
// timestamp outside of that range is shown as the nearer end of it.
const (
	firstSecond = -62135596800
	lastSecond  = 253402300799
)

// timeOf reads the timestamp at chunk[i], which is valid.
func timeOf(chunk []byte, i int) (seconds int64, nanos uint32) {
	k, n, p := head(chunk, i)
	switch k {
	case kindExt:
		seconds = int64(binary.BigEndian.Uint32(chunk[p+1:]))
		nanos = binary.BigEndian.Uint32(chunk[p+5:])
		return seconds + int64(nanos/1e9), nanos % 1e9
	case kindFloat32:
		return floatTime(float64(math.Float32frombits(uint32(n))))
	case kindFloat64:
		return floatTime(math.Float64frombits(n))
	default: // an integer that is not negative
		return int64(min(n, lastSecond)), 0
	}
}

func floatTime(f float64) (seconds int64, nanos uint32) {
	if math.IsNaN(f) {
		return 0, 0
	}
	f = min(max(f, firstSecond), lastSecond)
	whole := math.Floor(f)
	// The fraction is below 1, but may be rounded to it.
	return int64(whole), uint32(min((f-whole)*1e9+0.5, 999_999_999))
}
