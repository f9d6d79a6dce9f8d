package aggregator

import "encoding/binary"

// eventClass says what a value at the top level of a chunk is.
type eventClass uint8

const (
	isRecord eventClass = iota
	// isMarker opens or closes a group of records and is no record itself.
	isMarker
	// isOther is well-formed msgpack, but no log event.
	isOther
)

// Seconds of the timestamps that mark groups, as the OpenTelemetry input writes
// them: -1 opens and -2 closes. A marker has no nanoseconds. Source: Fluent
// Bit's flb_log_event_decoder.c.
const (
	groupOpens  = 0xffffffff
	groupCloses = 0xfffffffe
)

// event reads what leads up to the body of the log event at chunk[i]:
// [[timestamp, metadata], body] since Fluent Bit 2.1, [timestamp, body] before.
// body is the position of the body's map. Where the value is no record, body is
// the position behind the whole value, or broken.
func event(chunk []byte, i int) (class eventClass, body int) {
	if usual(chunk, i) {
		return isRecord, i + usualBytes
	}
	class, body = eventHead(chunk, i)
	if class == isRecord {
		return isRecord, body
	}
	return class, skip(chunk, i)
}

// usualBytes is the size of what nearly every event begins with: an array of
// two, of which the first is an array of a timestamp and an empty map.
const usualBytes = 2 + 10 + 1

// usual reports whether the event at chunk[i] is a record that begins so, with a
// small map behind it. It spares the general reader nothing but time.
func usual(chunk []byte, i int) bool {
	if len(chunk)-i <= usualBytes {
		return false
	}
	h := chunk[i : i+usualBytes+1]
	return binary.BigEndian.Uint32(h) == 0x9292d700 && binary.BigEndian.Uint32(h[4:]) < groupCloses &&
		h[12] == 0x80 && h[13]&0xf0 == 0x80
}

func eventHead(chunk []byte, i int) (eventClass, int) {
	k, n, p := head(chunk, i)
	if k != kindArray || n != 2 {
		return isOther, broken
	}
	k, n, inner := head(chunk, p)
	withMetadata := k == kindArray && n == 2
	if withMetadata {
		p = inner
	}
	class, p := timestamp(chunk, p)
	if class == isOther {
		return isOther, broken
	}
	if withMetadata {
		if k, _, next := head(chunk, p); next < 0 || k != kindMap {
			return isOther, broken
		}
		if p = skip(chunk, p); p < 0 {
			return isOther, broken
		}
	}
	if k, _, next := head(chunk, p); next < 0 || k != kindMap {
		return isOther, broken
	}
	return class, p
}

// timestamp reads an event's timestamp: ext type 0 of 8 bytes (seconds and
// nanoseconds, big-endian), an integer that is not negative, or a float. It
// returns isOther where there is none.
func timestamp(chunk []byte, i int) (eventClass, int) {
	k, n, p := head(chunk, i)
	switch k {
	case kindUint, kindFloat:
		return isRecord, p
	case kindInt:
		if int64(n) >= 0 {
			return isRecord, p
		}
	case kindExt:
		if n != 8 || chunk[p] != 0 {
			break
		}
		seconds := binary.BigEndian.Uint32(chunk[p+1:])
		nanos := binary.BigEndian.Uint32(chunk[p+5:])
		if (seconds == groupOpens || seconds == groupCloses) && nanos == 0 {
			return isMarker, p + 9
		}
		return isRecord, p + 9
	}
	return isOther, broken
}
