// Package kpl writes and reads aggregated records in the format of the Kinesis
// Producer Library. An aggregated record is a Kinesis record that holds many user
// records:
//
//	F3 89 9A C2 | AggregatedRecord (proto2) | MD5 of the protobuf bytes
//
// The package makes no requests; it converts bytes. Its functions keep no state
// and are safe for concurrent use on different slices.
//
// # Reading
//
// A consumer passes the data of each Kinesis record to Open. A stream can hold
// both plain and aggregated records:
//
//	aggregate, err := kpl.Open(data)
//	switch {
//	case errors.Is(err, kpl.ErrNotAggregated):
//		handle(data) // a plain record
//	case err != nil:
//		return err // a damaged aggregated record; err contains the byte offset
//	default:
//		for n, r := range aggregate.All() {
//			handle(r.Data)
//		}
//	}
//
// User records alias data; only their keys are copied. Do not change data while
// its user records are in use, and clone the user records that are kept longer.
// Iterating over user records allocates nothing and takes a few nanoseconds per
// user record. Nearly all of Open's time is the MD5, which OpenUnverified skips.
//
// KCL silently drops an aggregated record if one of its user records belongs to
// another shard. CheckHashKeys makes the same check.
//
// Package kpl/decompress decompresses user records that the plugin of this
// project has compressed.
//
// # Writing
//
// Build an aggregated record by appending to one slice, in this order:
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
	"crypto/fips140"
	"crypto/md5"

	"google.golang.org/protobuf/encoding/protowire"
)

// Magic is the magic number at the start of every aggregated record.
const Magic = "\xf3\x89\x9a\xc2"

// DigestBytes is the length of the MD5 at the end of every aggregated record.
const DigestBytes = md5.Size

// The field tags of the messages AggregatedRecord, Record and Tag: field number
// << 3 | wire type. Each is encoded in one byte.
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

// indexBytes is the size of the field partition_key_index of every user record:
// its tag and a 0. proto2 writes the 0 because the field is required.
const indexBytes = 2

// HeadBytes returns the number of bytes that AppendHead appends.
func HeadBytes(partitionKey string) int {
	return len(Magic) + 1 + protowire.SizeBytes(len(partitionKey))
}

// AppendHead appends the magic number and a partition key table with one key. The
// key must be valid UTF-8 and equal to the partition key of the PutRecord request:
// KCL hashes the key of each user record and silently drops the whole aggregated
// record if one hash is outside the shard's range.
func AppendHead(dst []byte, partitionKey string) []byte {
	dst = append(dst, Magic...)
	dst = append(dst, tagPartitionKey)
	return protowire.AppendString(dst, partitionKey)
}

// RecordBytes returns the size of a user record of n bytes within an aggregated
// record: the n bytes and their prefixes.
func RecordBytes(n int) int {
	return prefixBytes(n) + n
}

// prefixBytes returns the size of the prefixes of a user record of n bytes.
func prefixBytes(n int) int {
	return 1 + protowire.SizeVarint(uint64(messageBytes(n))) +
		indexBytes + 1 + protowire.SizeVarint(uint64(n))
}

// messageBytes returns the size of a Record message with n bytes of data.
func messageBytes(n int) int {
	return indexBytes + 1 + protowire.SizeBytes(n)
}

// OpenRecord reserves space for the prefixes of a user record of about guess
// bytes. The caller appends the user record and then calls CloseRecord. A good
// guess is the size of the previous user record: prefixes grow by a byte near 128
// and near 16,384 bytes, so consecutive user records usually have prefixes of the
// same size.
func OpenRecord(dst []byte, guess int) []byte {
	return append(dst, make([]byte, prefixBytes(guess))...)
}

// CloseRecord writes the prefixes of the user record dst[data:] into the space
// that OpenRecord reserved, dst[open:data], and returns dst. If the space has the
// wrong size, CloseRecord moves the user record by a few bytes.
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

// Seal appends the MD5 of the protobuf bytes. aggregate[0] must be the first byte
// of the magic number.
func Seal(aggregate []byte) []byte {
	sum := checksum(aggregate[len(Magic):])
	return append(aggregate, sum[:]...)
}

// checksum returns the MD5 of data. It is a checksum in the format, and chooses the
// shard of a partition key. Because it protects nothing, it is calculated in a
// process that allows only FIPS 140-3 algorithms (GODEBUG=fips140=only) too.
func checksum(data []byte) [md5.Size]byte {
	if !fips140.Enforced() {
		return md5.Sum(data)
	}
	var sum [md5.Size]byte
	fips140.WithoutEnforcement(func() { sum = md5.Sum(data) })
	return sum
}
