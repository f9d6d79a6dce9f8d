package kpl

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Reading a user record takes a few nanoseconds because all records of the usual form
// are read at once.
func TestUsualRecord_ReadsEachLength(t *testing.T) {
	const at, largestShort, largestLong = 3, 123, 16378
	for n := range 1 << 14 {
		index := []byte{0, 1, 127}[n%3]
		data := bytes.Repeat([]byte{'x'}, n)
		message := protowire.AppendBytes([]byte{tagPartitionKeyIndex, index, tagData}, data)
		b := protowire.AppendBytes([]byte{0, 0, 0, tagRecord}, message)
		wantStart, wantEnd := len(b)-n, len(b)
		if n > largestShort && n < 128 || n > largestLong || n < 2 { // n < 2: fewer than 8 bytes remain
			wantStart, wantEnd = 0, 0
		}
		key, start, end := usualRecord(b, at)
		if start != wantStart || end != wantEnd || end > 0 && key != int(index) {
			t.Fatalf("%d bytes, index %d: index %d, data from %d to %d, want %d to %d", n, index, key, start, end, wantStart, wantEnd)
		}
		if _, _, end := usualRecord(b[:len(b)-1], at); end != 0 {
			t.Fatalf("%d bytes, index %d: truncated, but read up to %d", n, index, end)
		}
	}
}
