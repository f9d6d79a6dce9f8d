// Package kpl writes and reads the aggregated record of the Kinesis Producer
// Library, in which one Kinesis record carries many user records:
//
//	F3 89 9A C2 | AggregatedRecord (proto2) | MD5 of the protobuf bytes
//
// It knows bytes only, neither where they come from nor where they go. The
// functions keep no state and are safe for concurrent use on different slices.
//
// # Reading
//
// A consumer gives Open each Kinesis record's data. Streams can hold plain
// records beside aggregated ones:
//
//	aggregate, err := kpl.Open(data)
//	switch {
//	case errors.Is(err, kpl.ErrNotAggregated):
//		handle(data) // a plain record is its own and only user record
//	case err != nil:
//		return err // it is damaged, and err says where
//	default:
//		for n, r := range aggregate.All() {
//			handle(r.Data)
//		}
//	}
//
// Nothing is copied but the table of partition keys, so that data has to stand
// still while its user records are in use. A consumer that keeps them for
// longer clones them. Going through the records allocates nothing and costs a
// few nanoseconds a record; Open's time is that of the MD5, and OpenUnverified
// leaves that out.
//
// KCL drops an aggregated record silently if one of its user records belongs to
// another shard. CheckHashKeys is that check, for consumers that want to do the
// same, or to be told.
//
// User records that this project's plugin has compressed are for package
// kpl/decompress.
//
// # Writing
//
// An aggregated record is built by appending to one slice, in this order:
//
//	b := kpl.AppendHead(nil, key)
//	for each user record:
//		open := len(b)
//		b = kpl.OpenRecord(b, guess)   // room for the length prefixes
//		data := len(b)
//		b = append(b, ...)             // the user record itself
//		b = kpl.CloseRecord(b, open, data)
//	b = kpl.Seal(b)
//
// # The format
//
// Sources: aggregation-format.md in awslabs/amazon-kinesis-producer and
// AggregatorUtil.java in awslabs/amazon-kinesis-client.
package kpl

import (
	"crypto/md5"

	"google.golang.org/protobuf/encoding/protowire"
)

// Magic opens every aggregated record.
const Magic = "\xf3\x89\x9a\xc2"

// DigestBytes is the length of the MD5 that closes every aggregated record.
const DigestBytes = md5.Size

// Field tags of the two messages: field number << 3 | wire type. All of them
// fit into one byte.
const (
	tagPartitionKey    = 1<<3 | byte(protowire.BytesType)
	tagExplicitHashKey = 2<<3 | byte(protowire.BytesType)
	tagRecord          = 3<<3 | byte(protowire.BytesType)

	tagPartitionKeyIndex    = 1<<3 | byte(protowire.VarintType)
	tagExplicitHashKeyIndex = 2<<3 | byte(protowire.VarintType)
	tagData                 = 3<<3 | byte(protowire.BytesType)
	tagTags                 = 4<<3 | byte(protowire.BytesType)

	tagTagKey = 1<<3 | byte(protowire.BytesType)
)

// indexBytes is the partition_key_index of every user record: its tag and a 0
// that proto2 requires to be written, since the field is not optional.
const indexBytes = 2

// HeadBytes is the size of what AppendHead appends.
func HeadBytes(partitionKey string) int {
	return len(Magic) + 1 + protowire.SizeBytes(len(partitionKey))
}

// AppendHead appends the magic number and a partition key table of one key. The
// key has to be valid UTF-8 and the very text that the Kinesis record is put
// under: KCL hashes the key of each user record and silently drops the whole
// aggregated record where one falls outside of the shard.
func AppendHead(dst []byte, partitionKey string) []byte {
	dst = append(dst, Magic...)
	dst = append(dst, tagPartitionKey)
	return protowire.AppendString(dst, partitionKey)
}

// RecordBytes is the size that a user record of n bytes takes in the aggregated
// record, its own bytes and all prefixes together.
func RecordBytes(n int) int {
	return prefixBytes(n) + n
}

// prefixBytes is the size of what stands before the n bytes of a user record.
func prefixBytes(n int) int {
	return 1 + protowire.SizeVarint(uint64(messageBytes(n))) +
		indexBytes + 1 + protowire.SizeVarint(uint64(n))
}

// messageBytes is the size of the Record message around n bytes of data.
func messageBytes(n int) int {
	return indexBytes + 1 + protowire.SizeBytes(n)
}

// OpenRecord appends room for the prefixes of a user record of about guess
// bytes. The caller appends the user record behind it and then calls
// CloseRecord. A good guess is the size of the record before: prefixes grow by
// a byte at 128 and at 16,384, so that neighbours nearly always agree.
func OpenRecord(dst []byte, guess int) []byte {
	return append(dst, make([]byte, prefixBytes(guess))...)
}

// CloseRecord fills in the prefixes of the user record dst[data:], for which
// OpenRecord made room at dst[open:data], and returns dst, which ends with the
// last byte of that user record. Where the guess was wrong, the user record moves
// by a few bytes.
func CloseRecord(dst []byte, open, data int) []byte {
	n := len(dst) - data
	if at := open + prefixBytes(n); at != data {
		if at > data {
			dst = append(dst, make([]byte, at-data)...)
		}
		copy(dst[at:], dst[data:data+n])
		dst = dst[:at+n]
	}
	p := append(dst[:open], tagRecord)
	p = protowire.AppendVarint(p, uint64(messageBytes(n)))
	p = append(p, tagPartitionKeyIndex, 0, tagData)
	protowire.AppendVarint(p, uint64(n))
	return dst
}

// Seal appends the MD5 of the protobuf bytes. aggregate[0] has to be the first
// byte of the magic number.
func Seal(aggregate []byte) []byte {
	sum := md5.Sum(aggregate[len(Magic):])
	return append(aggregate, sum[:]...)
}
