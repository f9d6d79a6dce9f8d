package kpl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// usualRecord reads the record at b[at] if it has the form that the plugin writes: a
// partition key index below 128, no explicit hash key, no tags, and less than 16 KiB of
// data. The data is b[start:end], and end is the offset of the next field. If there is
// no record of this form at b[at], end is 0.
//
// It compares all prefixes as one 8-byte word, which is several times faster than
// reading field by field. The length of the message and the length of the data
// must have the same number of bytes, one or two; readField reads all other records.
func usualRecord(b []byte, at int) (key, start, end int) {
	if len(b)-at < 8 {
		return 0, 0, 0
	}
	head := binary.LittleEndian.Uint64(b[at:])
	var message, data int // length of the data according to each of the two lengths
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

// The prefixes of a record as little-endian words, and masks for their constant
// bits: the tags, and the continuation bits of the lengths and of the index.
const (
	longRecord = uint64(tagRecord) | 0x80<<8 | uint64(tagPartitionKeyIndex)<<24 | uint64(tagData)<<40 | 0x80<<48
	longMask   = uint64(0x8080ff80ff8080ff)

	shortRecord = uint64(tagRecord) | uint64(tagPartitionKeyIndex)<<16 | uint64(tagData)<<32
	shortMask   = uint64(0x000080ff80ff80ff)
)

// field is one field of a message.
type field struct {
	// tag is the field number and wire type. It is 0 for a field that the format
	// does not define; readers skip it.
	tag byte
	// value is the content. For a length-delimited field, it is the content without
	// the length. It aliases the message.
	value []byte
	// next is the offset of the next field.
	next int
}

// readField reads the field at b[at]. at must be less than len(b).
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
		return field{}, fmt.Errorf("truncated: the length is %d, but only %d bytes follow", length, len(rest))
	}
	f := field{value: rest[:length:length], next: at + n + n2 + int(length)}
	if number <= 4 {
		f.tag = byte(number)<<3 | byte(kind)
	}
	return f, nil
}

func wireError(n int) error {
	return fmt.Errorf("not valid protobuf: %w", protowire.ParseError(n))
}

// record is a Record message. Its indexes may be outside the key tables.
type record struct {
	key, hashKey int // hashKey is -1 if there is no explicit hash key
	data         []byte
}

// readRecord reads a Record message. As in every protobuf reader, fields can be in
// any order, and the last one counts if a field is repeated. data aliases m.
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
		return r, errors.New("no partition key index")
	case r.data == nil:
		return r, errors.New("no data")
	}
	return r, nil
}

// index reads a valid varint. It limits the value to math.MaxInt32, which is
// outside every table.
func index(varint []byte) int {
	v, _ := protowire.ConsumeVarint(varint)
	return int(min(v, math.MaxInt32))
}

// checkTag returns an error for a Tag message without a key, which other readers
// reject too.
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
		return errors.New("no key")
	}
	return nil
}
