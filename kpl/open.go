package kpl

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// ErrNotAggregated says that a Kinesis record does not begin with the magic
// number or is too short to be an aggregated record: it is one plain record.
var ErrNotAggregated = errors.New("kpl: not an aggregated record")

// ErrDigest says that the MD5 at the end does not belong to the bytes before
// it. KCL takes such a record for one plain record.
var ErrDigest = errors.New("kpl: the MD5 does not match the content")

// Aggregate is an aggregated record that Open or OpenUnverified has checked. It
// aliases the bytes that it was opened from, and is safe for concurrent use
// while they stand still. Its key tables are copies.
type Aggregate struct {
	message          []byte
	partitionKeys    []string
	explicitHashKeys []string
	records          int
}

// UserRecord is one record of an aggregate. Data aliases the opened bytes and has
// no capacity beyond its own; the keys are copies, shared by the records of the aggregate.
type UserRecord struct {
	PartitionKey    string
	ExplicitHashKey string // empty where the record has none
	Data            []byte
}

// IsAggregated reports whether a Kinesis record looks aggregated: it has the
// magic number and is long enough for a message and its MD5. It does not check
// the MD5. KCL draws the line at the same length.
func IsAggregated(record []byte) bool {
	return len(record) > len(Magic)+DigestBytes && string(record[:len(Magic)]) == Magic
}

// Open checks the magic number, the MD5 and the structure of a Kinesis record,
// which it neither copies nor changes. Errors are ErrNotAggregated, one that
// wraps ErrDigest, or another one; the latter two say what is damaged at which
// byte of record, as far as that can be told.
func Open(record []byte) (Aggregate, error) {
	a, err := OpenUnverified(record)
	if errors.Is(err, ErrNotAggregated) {
		return Aggregate{}, err
	}
	digest := record[len(record)-DigestBytes:]
	if sum := md5.Sum(record[len(Magic) : len(record)-DigestBytes]); !bytes.Equal(sum[:], digest) {
		if err != nil {
			return Aggregate{}, fmt.Errorf("%w: %s", ErrDigest, strings.TrimPrefix(err.Error(), "kpl: "))
		}
		return Aggregate{}, fmt.Errorf("%w: the structure is whole, so that a key, user data or the MD5 itself was changed", ErrDigest)
	}
	return a, err
}

// OpenUnverified is Open without the MD5, which takes nearly all of Open's time.
// The structure is checked all the same. Damage inside of user data is not
// noticed.
func OpenUnverified(record []byte) (Aggregate, error) {
	if !IsAggregated(record) {
		return Aggregate{}, ErrNotAggregated
	}
	a := Aggregate{message: record[len(Magic) : len(record)-DigestBytes]}
	// The tables may stand behind the records that refer to them: first all is
	// read once and measured.
	var keys, hashKeys table
	for at := 0; at < len(a.message); {
		if key, _, end := plainRecord(a.message, at); end > 0 {
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

// table is the measure of a key table.
type table struct {
	length, bytes int
	used          int // the largest index that a record refers to, plus 1
}

func (t *table) add(key []byte) {
	t.length++
	t.bytes += len(key)
}

// readTables copies the keys: all into one text, so that the number of
// allocations does not depend on that of the keys.
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
		if text := b.String()[start:]; f.tag == tagPartitionKey {
			a.partitionKeys[key] = text
			key++
		} else {
			a.explicitHashKeys[hashKey] = text
			hashKey++
		}
	}
}

// indexError finds the user record that refers to a key that is not there.
func (a Aggregate) indexError(keys, hashKeys int) error {
	w := walk{message: a.message}
	for n := 0; ; n++ {
		r := w.next()
		what, index, length := "partition key", r.key, keys
		if r.key < keys {
			what, index, length = "explicit hash key", r.hashKey, hashKeys
		}
		if index >= length {
			return fmt.Errorf("kpl: user record %d at byte %d: %s index %d is outside of a table of %d", n, len(Magic)+w.start, what, index, length)
		}
	}
}

// Len is the number of user records.
func (a Aggregate) Len() int { return a.records }

// PartitionKeys is the partition key table. It belongs to the aggregate.
func (a Aggregate) PartitionKeys() []string { return a.partitionKeys }

// All yields the user records in order, numbered from 0 as KCL's sub-sequence
// numbers are. It allocates nothing for a record.
func (a Aggregate) All() iter.Seq2[int, UserRecord] {
	return func(yield func(int, UserRecord) bool) {
		w := walk{message: a.message}
		for n := range a.records {
			// Here once more, rather than in next alone: it is what makes the
			// loop fast.
			var user UserRecord
			if key, start, end := plainRecord(a.message, w.at); end > 0 {
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

// user looks up the keys of a record of a.
func (a *Aggregate) user(r record) UserRecord {
	user := UserRecord{PartitionKey: a.partitionKeys[r.key], Data: r.data}
	if r.hashKey >= 0 {
		user.ExplicitHashKey = a.explicitHashKeys[r.hashKey]
	}
	return user
}

// walk goes through the records of a message that has been checked.
type walk struct {
	message []byte
	start   int // of the record that next returned
	at      int
}

// next returns the next record. The caller knows how many there are.
func (w *walk) next() record {
	for {
		w.start = w.at
		if key, start, end := plainRecord(w.message, w.at); end > 0 {
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
