package kpl

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// ErrNotAggregated says that a Kinesis record is a plain record: it does not begin
// with the magic number, or is too short to be an aggregated record.
var ErrNotAggregated = errors.New("kpl: not an aggregated record")

// ErrDigest says that the MD5 at the end does not match the bytes before it. KCL
// handles such a record as a plain record.
var ErrDigest = errors.New("kpl: the MD5 does not match the content")

// Aggregate is an aggregated record that Open or OpenUnverified has checked. Its
// key tables are copies; otherwise it aliases the record that was opened. It is
// safe for concurrent use while that record is not changed.
type Aggregate struct {
	message          []byte
	partitionKeys    []string
	explicitHashKeys []string
	records          int
}

// UserRecord is a user record of an aggregated record.
type UserRecord struct {
	// PartitionKey and ExplicitHashKey do not alias the aggregated record. They
	// share memory with the keys of its other user records.
	PartitionKey    string
	ExplicitHashKey string // empty: the user record has none
	// Data aliases the aggregated record. Its capacity is its length, so appending
	// to it copies it.
	Data []byte
}

// IsAggregated reports whether a Kinesis record has the magic number and at least
// the minimum length of an aggregated record, which is the same as in KCL. It does
// not check the MD5.
func IsAggregated(record []byte) bool {
	return len(record) > len(Magic)+DigestBytes && string(record[:len(Magic)]) == Magic
}

// Open checks the magic number, the MD5 and the structure of a Kinesis record. It
// neither copies nor changes record.
//
// The error is ErrNotAggregated for a plain record. For a damaged record whose MD5
// does not match, it wraps ErrDigest. Any other error says that the MD5 matches but
// the structure is invalid. If the structure is invalid, the error contains the
// byte offset in record.
func Open(record []byte) (Aggregate, error) {
	a, err := OpenUnverified(record)
	if errors.Is(err, ErrNotAggregated) {
		return Aggregate{}, err
	}
	digest := record[len(record)-DigestBytes:]
	if sum := checksum(record[len(Magic) : len(record)-DigestBytes]); !bytes.Equal(sum[:], digest) {
		if err != nil {
			return Aggregate{}, fmt.Errorf("%w: %s", ErrDigest, strings.TrimPrefix(err.Error(), "kpl: "))
		}
		return Aggregate{}, fmt.Errorf("%w: the structure is valid, so a key, user data or the MD5 itself was changed", ErrDigest)
	}
	return a, err
}

// OpenUnverified is Open without the check of the MD5, which takes nearly all of
// Open's time. It checks the structure, but does not detect changed keys or user
// data.
func OpenUnverified(record []byte) (Aggregate, error) {
	if !IsAggregated(record) {
		return Aggregate{}, ErrNotAggregated
	}
	a := Aggregate{message: record[len(Magic) : len(record)-DigestBytes]}
	// The key tables may follow the user records that refer to them. This first
	// pass measures the tables and checks everything except the indexes.
	var keys, hashKeys table
	for at := 0; at < len(a.message); {
		if key, _, end := usualRecord(a.message, at); end > 0 {
			keys.used = max(keys.used, key+1)
			a.records++
			at = end
			continue
		}
		f, err := readField(a.message, at)
		if err != nil {
			return Aggregate{}, fmt.Errorf("kpl: field at byte %d: %w", len(Magic)+at, err)
		}
		switch f.tag {
		case tagRecord:
			r, err := readRecord(f.value)
			if err != nil {
				return Aggregate{}, fmt.Errorf("kpl: user record %d at byte %d: %w", a.records, len(Magic)+at, err)
			}
			keys.used = max(keys.used, r.key+1)
			hashKeys.used = max(hashKeys.used, r.hashKey+1)
			a.records++
		case tagPartitionKey:
			keys.add(f.value)
		case tagExplicitHashKey:
			hashKeys.add(f.value)
		}
		at = f.next
	}
	if keys.used > keys.length || hashKeys.used > hashKeys.length {
		return Aggregate{}, a.indexError(keys.length, hashKeys.length)
	}
	a.readTables(keys, hashKeys)
	return a, nil
}

// table is the size of a key table.
type table struct {
	length, bytes int
	used          int // the largest index in a user record, plus 1
}

func (t *table) add(key []byte) {
	t.length++
	t.bytes += len(key)
}

// readTables copies all keys into one string, so the number of allocations
// does not depend on the number of keys.
func (a *Aggregate) readTables(keys, hashKeys table) {
	var b strings.Builder
	b.Grow(keys.bytes + hashKeys.bytes)
	all := make([]string, keys.length+hashKeys.length)
	a.partitionKeys, a.explicitHashKeys = all[:keys.length:keys.length], all[keys.length:]
	key, hashKey := 0, 0
	for at := 0; key+hashKey < len(all); {
		f, _ := readField(a.message, at)
		at = f.next
		if f.tag != tagPartitionKey && f.tag != tagExplicitHashKey {
			continue
		}
		start := b.Len()
		b.Write(f.value)
		if s := b.String()[start:]; f.tag == tagPartitionKey {
			a.partitionKeys[key] = s
			key++
		} else {
			a.explicitHashKeys[hashKey] = s
			hashKey++
		}
	}
}

// indexError returns the error of the first user record with an index that is
// outside its table.
func (a Aggregate) indexError(keys, hashKeys int) error {
	w := walk{message: a.message}
	for n := 0; ; n++ {
		r := w.next()
		what, index, length := "partition key", r.key, keys
		if r.key < keys {
			what, index, length = "explicit hash key", r.hashKey, hashKeys
		}
		if index >= length {
			return fmt.Errorf("kpl: user record %d at byte %d: %s index %d is outside a table of %d", n, len(Magic)+w.start, what, index, length)
		}
	}
}

// Len returns the number of user records.
func (a Aggregate) Len() int { return a.records }

// All returns an iterator over the user records in order, with their index from 0,
// which is KCL's sub-sequence number. Iterating allocates nothing.
func (a Aggregate) All() iter.Seq2[int, UserRecord] {
	return func(yield func(int, UserRecord) bool) {
		w := walk{message: a.message}
		for n := range a.records {
			// next calls usualRecord too. The call here saves next's call for
			// most user records.
			var user UserRecord
			if key, start, end := usualRecord(a.message, w.at); end > 0 {
				user.PartitionKey, user.Data, w.at = a.partitionKeys[key], a.message[start:end:end], end
			} else {
				user = a.user(w.next())
			}
			if !yield(n, user) {
				return
			}
		}
	}
}

// user looks up the keys of r.
func (a *Aggregate) user(r record) UserRecord {
	user := UserRecord{PartitionKey: a.partitionKeys[r.key], Data: r.data}
	if r.hashKey >= 0 {
		user.ExplicitHashKey = a.explicitHashKeys[r.hashKey]
	}
	return user
}

// walk iterates over the user records of a message that has been checked.
type walk struct {
	message []byte
	start   int // offset of the record that next returned last
	at      int // offset of the next field
}

// next returns the next record. There must be one.
func (w *walk) next() record {
	for {
		w.start = w.at
		if key, start, end := usualRecord(w.message, w.at); end > 0 {
			w.at = end
			return record{key: key, hashKey: -1, data: w.message[start:end:end]}
		}
		f, _ := readField(w.message, w.at)
		w.at = f.next
		if f.tag == tagRecord {
			r, _ := readRecord(f.value)
			return r
		}
	}
}
