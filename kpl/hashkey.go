package kpl

import (
	"cmp"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
)

// ErrOutside says that a user record does not belong to the shard that its
// aggregated record was read from.
var ErrOutside = errors.New("outside of the shard")

// HashKey is a place in a stream's space of 128-bit numbers, in which each
// shard owns a range. It can be compared with ==.
type HashKey struct{ high, low uint64 }

// HashKeyOf returns the hash key that Kinesis gives a partition key: its MD5 as
// a big-endian number.
func HashKeyOf(partitionKey string) HashKey {
	sum := md5.Sum([]byte(partitionKey))
	return HashKey{binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:])}
}

// ParseHashKey reads a hash key as the Kinesis API writes it: decimal digits, a
// number below 2^128.
func ParseHashKey(decimal string) (HashKey, error) {
	var k HashKey
	if !k.parse(decimal) {
		return HashKey{}, fmt.Errorf("kpl: hash key: %w", notHashKey(decimal))
	}
	return k, nil
}

// parse sets k, which is 0, and reports whether decimal is a hash key.
func (k *HashKey) parse(decimal string) bool {
	for i := range len(decimal) {
		digit := uint64(decimal[i]) - '0' // huge for what is below '0'
		// k = k*10 + digit
		over, high := bits.Mul64(k.high, 10)
		carry, low := bits.Mul64(k.low, 10)
		low, c := bits.Add64(low, digit, 0)
		high, c = bits.Add64(high, carry, c)
		if digit > 9 || over+c > 0 {
			return false
		}
		*k = HashKey{high, low}
	}
	return decimal != ""
}

func notHashKey(text string) error {
	return fmt.Errorf("%.60q is not a decimal number below 2^128", text)
}

// Compare is -1, 0 or 1 where k is below, at or above other.
func (k HashKey) Compare(other HashKey) int {
	return cmp.Or(cmp.Compare(k.high, other.high), cmp.Compare(k.low, other.low))
}

// String writes the hash key as ParseHashKey reads it.
func (k HashKey) String() string {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.high)
	binary.BigEndian.PutUint64(b[8:], k.low)
	return new(big.Int).SetBytes(b[:]).String()
}

// HashKeyRange is what a shard owns, both ends included, as
// StartingHashKey and EndingHashKey of ListShards say.
type HashKeyRange struct{ Starting, Ending HashKey }

// ParseHashKeyRange reads a shard's StartingHashKey and EndingHashKey.
func ParseHashKeyRange(starting, ending string) (HashKeyRange, error) {
	s, err := ParseHashKey(starting)
	if err != nil {
		return HashKeyRange{}, err
	}
	e, err := ParseHashKey(ending)
	if err != nil {
		return HashKeyRange{}, err
	}
	return HashKeyRange{s, e}, nil
}

// Contains reports whether the shard owns the hash key.
func (r HashKeyRange) Contains(k HashKey) bool {
	return k.Compare(r.Starting) >= 0 && k.Compare(r.Ending) <= 0
}

// HashKey returns the hash key of a user record: its explicit one, else that of
// its partition key.
func (r UserRecord) HashKey() (HashKey, error) {
	if r.ExplicitHashKey != "" {
		return ParseHashKey(r.ExplicitHashKey)
	}
	return HashKeyOf(r.PartitionKey), nil
}

// CheckHashKeys returns an error that wraps ErrOutside if the shard does not own
// the hash key of each user record. KCL makes this check and, without a word,
// drops all user records of an aggregate in which one is outside, so that a
// record is not read twice after a reshard. A reader that reads each Kinesis
// record once has no need of it. Another error says that an explicit hash key is
// no number.
//
// Each key is hashed once, however many records have it.
func (a Aggregate) CheckHashKeys(shard HashKeyRange) error {
	var few [16]bool // keys that are known to be inside; enough for most tables
	inside := few[:]
	if n := len(a.partitionKeys) + len(a.explicitHashKeys); n > len(few) {
		inside = make([]bool, n)
	}
	w := walk{message: a.message}
	for n := range a.records {
		r := w.next()
		at := r.key
		if r.hashKey >= 0 {
			at = len(a.partitionKeys) + r.hashKey
		}
		if inside[at] {
			continue
		}
		var k HashKey
		if r.hashKey < 0 {
			k = HashKeyOf(a.partitionKeys[r.key])
		} else if text := a.explicitHashKeys[r.hashKey]; !k.parse(text) {
			return fmt.Errorf("kpl: user record %d: explicit hash key: %w", n, notHashKey(text))
		}
		if !shard.Contains(k) {
			return fmt.Errorf("kpl: user record %d: hash key %s is %w, %s to %s", n, k, ErrOutside, shard.Starting, shard.Ending)
		}
		inside[at] = true
	}
	return nil
}
