// Package interop compares this project's writer and reader of aggregated records
// with other implementations: KCL's AggregatorUtil (java/), aws-kinesis-agg
// (node/) and aws_kinesis_agg (python/).
//
//	make interop
//
// They exchange two kinds of files. A field is its length, 4 bytes
// big-endian, and its bytes. A file of records has, for each Kinesis record,
//
//	partition key, shard's first hash key, its last one, data
//
// as fields; a file of groups has, for each Kinesis record,
//
//	A or P             aggregated, or plain, which a damaged one counts as
//	4 bytes            how many user records
//	for each of them   partition key, explicit hash key or nothing, data
//
// A reader makes groups of records, and a writer records of groups.
package interop

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// Record is a Kinesis record, and the hash keys of its shard.
type Record struct {
	Key              string
	Starting, Ending string // of the shard's hash keys
	Data             []byte
}

// Group is the content of a Kinesis record.
type Group struct {
	Plain bool
	Users []User
}

// User is a user record.
type User struct {
	Key, ExplicitHashKey string
	Data                 []byte
}

// WriteRecords writes a file of records.
func WriteRecords(path string, records []Record) error {
	return writeFile(path, func(w *bufio.Writer) {
		for _, r := range records {
			writeField(w, []byte(r.Key))
			writeField(w, []byte(r.Starting))
			writeField(w, []byte(r.Ending))
			writeField(w, r.Data)
		}
	})
}

// WriteGroups writes a file of groups.
func WriteGroups(path string, groups []Group) error {
	return writeFile(path, func(w *bufio.Writer) {
		for _, g := range groups {
			kind := byte('A')
			if g.Plain {
				kind = 'P'
			}
			_ = w.WriteByte(kind)
			_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(g.Users))))
			for _, u := range g.Users {
				writeField(w, []byte(u.Key))
				writeField(w, []byte(u.ExplicitHashKey))
				writeField(w, u.Data)
			}
		}
	})
}

// writeFile leaves errors to the writer, which keeps the first one for Flush.
func writeFile(path string, write func(*bufio.Writer)) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	write(w)
	return errors.Join(w.Flush(), f.Close())
}

func writeField(w *bufio.Writer, b []byte) {
	_, _ = w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
	_, _ = w.Write(b)
}

// ReadRecords reads a file of records.
func ReadRecords(path string) ([]Record, error) {
	var records []Record
	err := readFile(path, func(f *fields) {
		records = append(records, Record{Key: string(f.field()), Starting: string(f.field()), Ending: string(f.field()), Data: f.field()})
	})
	return records, err
}

// ReadGroups reads a file of groups.
func ReadGroups(path string) ([]Group, error) {
	var groups []Group
	err := readFile(path, func(f *fields) {
		var g Group
		switch kind := f.bytes(1); string(kind) {
		case "P":
			g.Plain = true
		case "A":
		default:
			f.err = fmt.Errorf("a group begins with %q", kind)
		}
		for range f.length() {
			if f.err != nil {
				break
			}
			g.Users = append(g.Users, User{Key: string(f.field()), ExplicitHashKey: string(f.field()), Data: f.field()})
		}
		groups = append(groups, g)
	})
	return groups, err
}

// fields reads a file in memory; the slices it returns alias that.
type fields struct {
	rest []byte
	err  error
}

func readFile(path string, read func(*fields)) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	f := fields{rest: b}
	for len(f.rest) > 0 && f.err == nil {
		read(&f)
	}
	if f.err != nil {
		return fmt.Errorf("interop: %s: %w", path, f.err)
	}
	return nil
}

func (f *fields) bytes(n int) []byte {
	if n > len(f.rest) {
		f.err, f.rest = io.ErrUnexpectedEOF, nil
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) length() int {
	b := f.bytes(4)
	if b == nil {
		return 0
	}
	return int(binary.BigEndian.Uint32(b))
}

func (f *fields) field() []byte { return f.bytes(f.length()) }
