package kpl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// plainRecord reads, at b[at], a record as writers make nearly every one: a
// small index, no explicit hash key, no tags, and less than 16 KiB of data,
// b[start:end]. The record behind it begins at end. end is 0 where there is
// another record, another field, or the end of b.
//
// It looks at the eight bytes of all prefixes at once, which makes the
// difference between 2 GB/s and the speed of memory. The lengths are one byte
// both or two bytes both; where they are not, it is another record.
func plainRecord(b []byte, at int) (key, start, end int) {
	if len(b)-at < 8 {
		return 0, 0, 0
	}
	head := binary.LittleEndian.Uint64(b[at:])
	var message, data int // the data's length, by the one length and by the other
	if head&longMask == longRecord {
		message = int(head>>8&0x7f | head>>16&0x7f<<7)
		data = int(head>>48&0x7f | head>>56<<7)
		key, start, message = int(head>>32&0x7f), at+8, message-5
	} else if head&shortMask == shortRecord {
		message, data = int(head>>8&0x7f), int(head>>40&0x7f)
		key, start, message = int(head>>24&0x7f), at+6, message-4
	} else {
		return 0, 0, 0
	}
	if message != data || data > len(b)-start {
		return 0, 0, 0
	}
	return key, start, start + data
}

// The prefixes of a record as little-endian words, and which of their bits are
// always the same: tags, and where lengths and index end.
const (
	longRecord = uint64(tagRecord) | 0x80<<8 | uint64(tagPartitionKeyIndex)<<24 | uint64(tagData)<<40 | 0x80<<48
	longMask   = uint64(0x8080ff80ff8080ff)

	shortRecord = uint64(tagRecord) | uint64(tagPartitionKeyIndex)<<16 | uint64(tagData)<<32
	shortMask   = uint64(0x000080ff80ff80ff)
)

// field is one field of a message.
type field struct {
	// tag is number and wire type, 0 for those that the format does not have,
	// which a reader passes over.
	tag byte
	// value is the content, of a length-delimited field without its length; it
	// aliases the message.
	value []byte
	// next is where the field after it begins.
	next int
}

// readField reads the field at b[at], which is inside of b.
func readField(b []byte, at int) (field, error) {
	number, kind, n := protowire.ConsumeTag(b[at:])
	if n < 0 {
		return field{}, wireError(n)
	}
	rest := b[at+n:]
	if kind != protowire.BytesType {
		size := protowire.ConsumeFieldValue(number, kind, rest)
		if size < 0 {
			return field{}, wireError(size)
		}
		f := field{next: at + n + size}
		if number <= 4 && kind == protowire.VarintType {
			f.tag, f.value = byte(number)<<3|byte(kind), rest[:size]
		}
		return f, nil
	}
	length, n2 := protowire.ConsumeVarint(rest)
	if n2 < 0 {
		return field{}, wireError(n2)
	}
	rest = rest[n2:]
	if length > uint64(len(rest)) {
		return field{}, fmt.Errorf("it breaks off: %d bytes are announced, %d are there", length, len(rest))
	}
	f := field{value: rest[:length:length], next: at + n + n2 + int(length)}
	if number <= 4 {
		f.tag = byte(number)<<3 | byte(kind)
	}
	return f, nil
}

func wireError(n int) error {
	return fmt.Errorf("it is no protobuf: %w", protowire.ParseError(n))
}

// record is a Record message. Its indexes have to be looked up, and checked
// before that.
type record struct {
	key, hashKey int // hashKey is -1 where there is none
	data         []byte
}

// readRecord reads a Record message: fields in any order, the last one of a kind
// counting, as protobuf's own readers do. data aliases it.
func readRecord(m []byte) (record, error) {
	r := record{key: -1, hashKey: -1}
	for at := 0; at < len(m); {
		f, err := readField(m, at)
		if err != nil {
			return r, err
		}
		switch f.tag {
		case tagPartitionKeyIndex:
			r.key = index(f.value)
		case tagExplicitHashKeyIndex:
			r.hashKey = index(f.value)
		case tagData:
			r.data = f.value
		case tagTags:
			if err := checkTag(f.value); err != nil {
				return r, fmt.Errorf("tag: %w", err)
			}
		}
		at = f.next
	}
	switch {
	case r.key < 0:
		return r, errors.New("it has no partition key index")
	case r.data == nil:
		return r, errors.New("it has no data")
	}
	return r, nil
}

// index reads a varint that is known to be one. What no table can be as long as
// becomes an index that is outside of every table.
func index(varint []byte) int {
	v, _ := protowire.ConsumeVarint(varint)
	return int(min(v, math.MaxInt32))
}

// checkTag refuses what other readers refuse: they read a Tag, and it must have
// a key.
func checkTag(m []byte) error {
	has := false
	for at := 0; at < len(m); {
		f, err := readField(m, at)
		if err != nil {
			return err
		}
		has = has || f.tag == tagTagKey
		at = f.next
	}
	if !has {
		return errors.New("it has no key")
	}
	return nil
}
