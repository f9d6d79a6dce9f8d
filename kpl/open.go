package kpl

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"iter"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrNotAggregated says that a Kinesis record does not begin with the magic
// number or is too short to be an aggregated record: it is one plain record.
var ErrNotAggregated = errors.New("kpl: not an aggregated record")

// ErrDigest says that the MD5 at the end does not belong to the bytes before
// it. Readers such as KCL treat such a record as one plain record.
var ErrDigest = errors.New("kpl: the MD5 does not match the content")

// Aggregate is an aggregated record that Open has checked. It aliases the bytes
// that it was opened from and is safe for concurrent use while they stand
// still.
type Aggregate struct {
	message          []byte
	partitionKeys    []string
	explicitHashKeys []string
	records          int
}

// UserRecord is one record of an aggregate. Data aliases the opened bytes.
type UserRecord struct {
	PartitionKey    string
	ExplicitHashKey string // empty where the record has none
	Data            []byte
}

// IsAggregated reports whether a Kinesis record looks aggregated: it has the
// magic number and room for the MD5. It does not check the MD5.
func IsAggregated(record []byte) bool {
	return len(record) >= len(Magic)+DigestBytes && string(record[:len(Magic)]) == Magic
}

// Open checks the magic number, the MD5 and the structure of a Kinesis record.
// The errors are ErrNotAggregated, ErrDigest, or one that says what is wrong at
// which byte of record; record is neither copied nor changed.
func Open(record []byte) (Aggregate, error) {
	if !IsAggregated(record) {
		return Aggregate{}, ErrNotAggregated
	}
	message := record[len(Magic) : len(record)-DigestBytes]
	if sum := md5.Sum(message); !bytes.Equal(sum[:], record[len(record)-DigestBytes:]) {
		return Aggregate{}, ErrDigest
	}
	a := Aggregate{message: message}
	// The tables may stand behind the records that refer to them, so they are
	// read first and the indexes checked after.
	err := a.fields(func(number protowire.Number, value []byte, _ int) error {
		switch number {
		case 1:
			a.partitionKeys = append(a.partitionKeys, string(value))
		case 2:
			a.explicitHashKeys = append(a.explicitHashKeys, string(value))
		}
		return nil
	})
	if err != nil {
		return Aggregate{}, err
	}
	err = a.fields(func(number protowire.Number, value []byte, at int) error {
		if number != 3 {
			return nil
		}
		a.records++
		if _, err := a.userRecord(value); err != nil {
			return fmt.Errorf("kpl: user record %d at byte %d: %w", a.records-1, at, err)
		}
		return nil
	})
	if err != nil {
		return Aggregate{}, err
	}
	return a, nil
}

// Len is the number of user records.
func (a Aggregate) Len() int { return a.records }

// PartitionKeys is the partition key table. It belongs to the aggregate.
func (a Aggregate) PartitionKeys() []string { return a.partitionKeys }

// All yields the user records in order, numbered from 0 as KCL's sub-sequence
// numbers are.
func (a Aggregate) All() iter.Seq2[int, UserRecord] {
	return func(yield func(int, UserRecord) bool) {
		n := 0
		stop := errors.New("stop")
		// Open has seen every field, so the only error left is our own.
		_ = a.fields(func(number protowire.Number, value []byte, _ int) error {
			if number != 3 {
				return nil
			}
			r, err := a.userRecord(value)
			if err != nil || !yield(n, r) {
				return stop
			}
			n++
			return nil
		})
	}
}

// fields calls visit for each length-delimited field of the message with its
// number, its bytes and the offset of the field in the Kinesis record, and
// passes over fields of other kinds.
func (a Aggregate) fields(visit func(number protowire.Number, value []byte, at int) error) error {
	for rest := a.message; len(rest) > 0; {
		at := len(Magic) + len(a.message) - len(rest)
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return fmt.Errorf("kpl: field at byte %d: %w", at, protowire.ParseError(n))
		}
		rest = rest[n:]
		if kind != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(number, kind, rest); n < 0 {
				return fmt.Errorf("kpl: field at byte %d: %w", at, protowire.ParseError(n))
			}
			rest = rest[n:]
			continue
		}
		value, n := protowire.ConsumeBytes(rest)
		if n < 0 {
			return fmt.Errorf("kpl: field at byte %d: %w", at, protowire.ParseError(n))
		}
		if err := visit(number, value, at); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// userRecord reads one Record message and looks up its keys.
func (a Aggregate) userRecord(message []byte) (UserRecord, error) {
	var r UserRecord
	hasKey, hasData := false, false
	for rest := message; len(rest) > 0; {
		number, kind, n := protowire.ConsumeTag(rest)
		if n < 0 {
			return r, protowire.ParseError(n)
		}
		rest = rest[n:]
		if size := protowire.ConsumeFieldValue(number, kind, rest); size < 0 {
			return r, protowire.ParseError(size)
		} else {
			value := rest[:size]
			rest = rest[size:]
			var err error
			switch protowire.EncodeTag(number, kind) {
			case uint64(tagPartitionKeyIndex):
				hasKey = true
				r.PartitionKey, err = lookUp(a.partitionKeys, value, "partition key")
			case uint64(tagExplicitHashKeyIndex):
				r.ExplicitHashKey, err = lookUp(a.explicitHashKeys, value, "explicit hash key")
			case uint64(tagData):
				hasData = true
				r.Data, _ = protowire.ConsumeBytes(value)
			}
			if err != nil {
				return r, err
			}
		}
	}
	switch {
	case !hasKey:
		return r, errors.New("it has no partition key index")
	case !hasData:
		return r, errors.New("it has no data")
	}
	return r, nil
}

// lookUp finds the key that a varint points at in its table.
func lookUp(table []string, varint []byte, what string) (string, error) {
	index, _ := protowire.ConsumeVarint(varint)
	if index >= uint64(len(table)) {
		return "", fmt.Errorf("%s index %d is outside of a table of %d", what, index, len(table))
	}
	return table[index], nil
}
