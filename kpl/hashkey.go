package kpl

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"math/bits"
)

// ErrOutside says that a user record does not belong to the shard that its
// aggregated record was read from.
var ErrOutside = errors.New("outside the shard")

// HashKey is a 128-bit number in big-endian byte order. Each shard of a stream
// owns a range of hash keys. Hash keys can be compared with == and used as map
// keys.
type HashKey [16]byte

// HashKeyOf returns the hash key that Kinesis assigns to a partition key: the
// MD5 of the partition key.
func HashKeyOf(partitionKey string) HashKey {
	return checksum([]byte(partitionKey))
}

// ParseHashKey parses a hash key in the notation of the Kinesis API: decimal
// digits without a sign, for a number below 2^128.
func ParseHashKey(decimal string) (HashKey, error) {
	k, ok := parseHashKey(decimal)
	if !ok {
		return HashKey{}, fmt.Errorf("kpl: hash key: %w", notHashKey(decimal))
	}
	return k, nil
}

// parseHashKey is ParseHashKey without an error value, so that CheckHashKeys can
// name the user record. Unlike big.Int, it does not allocate.
func parseHashKey(decimal string) (k HashKey, ok bool) {
	var high, low uint64
	for i := range len(decimal) {
		digit := uint64(decimal[i]) - '0' // huge for a character before '0'
		// Multiply the 128-bit number by 10 and add the digit.
		overflow, h := bits.Mul64(high, 10)
		carry, l := bits.Mul64(low, 10)
		l, c := bits.Add64(l, digit, 0)
		h, c = bits.Add64(h, carry, c)
		if digit > 9 || overflow+c > 0 {
			return HashKey{}, false
		}
		high, low = h, l
	}
	binary.BigEndian.PutUint64(k[:8], high)
	binary.BigEndian.PutUint64(k[8:], low)
	return k, decimal != ""
}

func notHashKey(s string) error {
	return fmt.Errorf("%.60q is not a decimal number below 2^128", s)
}

// Compare returns -1 if k is less than other, 0 if they are equal, and 1 if k is
// greater.
func (k HashKey) Compare(other HashKey) int { return bytes.Compare(k[:], other[:]) }

// String returns the decimal notation that ParseHashKey parses.
func (k HashKey) String() string { return new(big.Int).SetBytes(k[:]).String() }

// HashKeyRange is the range of hash keys that a shard owns. It includes both
// ends, as StartingHashKey and EndingHashKey in the response of ListShards do.
type HashKeyRange struct{ Starting, Ending HashKey }

// ParseHashKeyRange parses a shard's StartingHashKey and EndingHashKey.
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

// HashKey returns the hash key of a user record: its explicit hash key if it has
// one, otherwise the hash key of its partition key. It returns an error if the
// explicit hash key is not a valid hash key.
func (r UserRecord) HashKey() (HashKey, error) {
	if r.ExplicitHashKey != "" {
		return ParseHashKey(r.ExplicitHashKey)
	}
	return HashKeyOf(r.PartitionKey), nil
}

// CheckHashKeys returns an error that wraps ErrOutside if the shard does not own
// the hash key of every user record. KCL makes the same check, so no record
// is read twice after a reshard: if one user record is outside the shard, it
// silently drops the whole aggregated record. A consumer that reads each Kinesis
// record once does not need the check. Any other error reports an explicit hash
// key that is invalid.
//
// Each key is hashed once, however many user records refer to it.
func (a Aggregate) CheckHashKeys(shard HashKeyRange) error {
	var few [16]bool // the keys already found inside the shard; enough for most tables
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
		} else {
			explicit, ok := a.explicitHashKeys[r.hashKey], false
			if k, ok = parseHashKey(explicit); !ok {
				return fmt.Errorf("kpl: user record %d: explicit hash key: %w", n, notHashKey(explicit))
			}
		}
		if !shard.Contains(k) {
			return fmt.Errorf("kpl: user record %d: hash key %s is %w, %s to %s", n, k, ErrOutside, shard.Starting, shard.Ending)
		}
		inside[at] = true
	}
	return nil
}
