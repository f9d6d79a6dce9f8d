package kpl_test

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
)

// opens are the two functions that open a record with a valid MD5.
var opens = map[string]func([]byte) (kpl.Aggregate, error){"Open": kpl.Open, "OpenUnverified": kpl.OpenUnverified}

// Records with usual prefixes are read by usualRecord. Records with lengths between
// two prefix sizes, and a short last record, are read by readField.
func TestOpen_EveryLength(t *testing.T) {
	var lengths []int
	for n := range 300 {
		lengths = append(lengths, n)
	}
	for n := 16300; n < 16400; n++ {
		lengths = append(lengths, n)
	}
	for _, last := range []int{0, 1, 100, 200, 20000} {
		var want [][]byte
		for i, n := range append(slices.Clone(lengths), last) {
			want = append(want, bytes.Repeat([]byte{byte(i)}, n))
		}
		record := build("key", 0, want...)
		for name, open := range opens {
			a, err := open(record)
			if err != nil || a.Len() != len(want) {
				t.Fatalf("%s: %d user records, %v", name, a.Len(), err)
			}
			for i, r := range a.All() {
				if !bytes.Equal(r.Data, want[i]) || r.PartitionKey != "key" {
					t.Fatalf("%s: user record %d: %d bytes under %q, want %d", name, i, len(r.Data), r.PartitionKey, len(want[i]))
				}
			}
		}
	}
}

// Valid protobuf that writers rarely produce: tables after the records, overlong
// varints, unknown fields, and repeated fields.
func TestOpen_UnusualProtobuf(t *testing.T) {
	message := slices.Concat(
		[]byte{0x1a, 7, 0x08, 1, 0x1a, 3, 'o', 'n', 'e'},         // records
		[]byte{0x9a, 0x00, 0x85, 0x00, 0x08, 0, 0x1a, 1, '2'},    // overlong tag and length
		[]byte{0x1a, 6, 0x08, 0x80, 0x00, 0x1a, 1, '3'},          // overlong index
		[]byte{0x1a, 7, 0x08, 0, 0x1a, 0x82, 0x00, '4', '4'},     // overlong length of the data
		[]byte{0x1a, 5, 0x1a, 1, '5', 0x08, 0},                   // data first
		[]byte{0x1a, 8, 0x08, 1, 0x08, 0, 0x1a, 0, 0x1a, 0},      // the last of repeated fields counts
		[]byte{0x1a, 7, 0x08, 0, 0x10, 0, 0x1a, 1, '6'},          // explicit hash key
		[]byte{0x1a, 9, 0x08, 0, 0x1a, 1, '7', 0x28, 5, 0x30, 6}, // fields 5 and 6
		[]byte{0x1a, 8, 0x08, 0, 0x1a, 1, '8', 0x88, 2, 9},       // field 33, whose tag has the lower 8 bits of field 1's
		[]byte{0x1d, 1, 2, 3, 4, 0x08, 9, 0x7a, 1, 'x'},          // other wire types and numbers
		[]byte{0x0a, 1, 'a', 0x0a, 1, 'b', 0x12, 2, '4', '2'},    // the tables
	)
	var m kplproto.AggregatedRecord
	if err := proto.Unmarshal(message, &m); err != nil {
		t.Fatal(err)
	}
	a, err := kpl.Open(kpl.Seal(append([]byte(kpl.Magic), message...)))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"b one ", "a 2 ", "a 3 ", "a 44 ", "a 5 ", "a  ", "a 6 42", "a 7 ", "a 8 "}
	var got, reference []string
	for _, r := range a.All() {
		got = append(got, fmt.Sprintf("%s %s %s", r.PartitionKey, r.Data, r.ExplicitHashKey))
	}
	for _, r := range m.GetRecords() {
		hashKey := ""
		if r.ExplicitHashKeyIndex != nil {
			hashKey = m.GetExplicitHashKeyTable()[r.GetExplicitHashKeyIndex()]
		}
		reference = append(reference, fmt.Sprintf("%s %s %s", m.GetPartitionKeyTable()[r.GetPartitionKeyIndex()], r.GetData(), hashKey))
	}
	if !slices.Equal(got, want) || !slices.Equal(reference, want) {
		t.Errorf("got  %q\nproto %q\nwant %q", got, reference, want)
	}
}

func TestOpen_NamesDamage(t *testing.T) {
	good := build("key", 10, []byte("one"), []byte("two"))
	message := good[len(kpl.Magic) : len(good)-kpl.DigestBytes]
	sealed := func(message ...byte) []byte { return kpl.Seal(append([]byte(kpl.Magic), message...)) }
	changed := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	for name, test := range map[string]struct {
		record []byte
		is     error
		want   string
	}{
		"a byte of data":        {changed(15), kpl.ErrDigest, "the structure is valid"},
		"a byte of the MD5":     {changed(len(good) - 1), kpl.ErrDigest, "the structure is valid"},
		"a length":              {changed(10), kpl.ErrDigest, "user record 0 at byte 9"},
		"truncated":             {good[:len(good)-8], kpl.ErrDigest, "field at byte 18"},
		"truncated, valid MD5":  {sealed(message[:len(message)-1]...), nil, "field at byte 18: truncated: the length is 7, but only 6 bytes follow"},
		"explicit hash key":     {sealed(0x0a, 0, 0x1a, 6, 0x08, 0, 0x10, 0, 0x1a, 0), nil, "user record 0 at byte 6: explicit hash key index 0 is outside a table of 0"},
		"huge index":            {sealed(0x0a, 0, 0x1a, 13, 0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0x1a, 0), nil, "outside a table of 1"},
		"second user record":    {sealed(0x0a, 0, 0x1a, 4, 0x08, 0, 0x1a, 0, 0x1a, 4, 0x08, 5, 0x1a, 0), nil, "user record 1 at byte 12: partition key index 5"},
		"tag without a key":     {sealed(0x0a, 0, 0x1a, 8, 0x08, 0, 0x1a, 0, 0x22, 2, 0x12, 0), nil, "user record 0 at byte 6: tag: no key"},
		"truncated tag":         {sealed(0x0a, 0, 0x1a, 8, 0x08, 0, 0x1a, 0, 0x22, 2, 0x0a, 9), nil, "tag: truncated"},
		"only the magic number": {[]byte(kpl.Magic), kpl.ErrNotAggregated, ""},
		"no message":            {sealed(), kpl.ErrNotAggregated, ""},
		"plain":                 {[]byte(`{"log":"a plain record, long enough"}`), kpl.ErrNotAggregated, ""},
		"empty":                 {nil, kpl.ErrNotAggregated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := kpl.Open(test.record)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			if !errors.Is(test.is, kpl.ErrDigest) {
				if _, err := kpl.OpenUnverified(test.record); err == nil || !strings.Contains(err.Error(), test.want) {
					t.Errorf("unverified: %v, want %q", err, test.want)
				}
			}
		})
	}
	if _, err := kpl.OpenUnverified(changed(15)); err != nil {
		t.Errorf("a byte of data, unverified: %v", err)
	}
}

func TestIsAggregated_MinimumLength(t *testing.T) {
	shortest := append([]byte(kpl.Magic), make([]byte, kpl.DigestBytes+1)...)
	if !kpl.IsAggregated(shortest) || kpl.IsAggregated(shortest[:len(shortest)-1]) {
		t.Error("the minimum length is not that of a message of one byte")
	}
}

// The number of Open's allocations does not depend on the number of user records
// and keys. Iterating allocates nothing.
func TestOpen_Allocations(t *testing.T) {
	many := &kplproto.AggregatedRecord{}
	for i := range 1000 {
		many.PartitionKeyTable = append(many.PartitionKeyTable, fmt.Sprint("key", i))
		many.ExplicitHashKeyTable = append(many.ExplicitHashKeyTable, fmt.Sprint(i))
		many.Records = append(many.Records, &kplproto.Record{
			PartitionKeyIndex: proto.Uint64(uint64(i)), ExplicitHashKeyIndex: proto.Uint64(uint64(i)), Data: []byte("data")})
	}
	for name, record := range map[string][]byte{
		"1 user record":  aggregateOf(1 << 19),
		"thousands":      aggregateOf(150),
		"thousand keys":  seal(t, many),
		"data of 20 KiB": aggregateOf(20 << 10),
		"data of 1 byte": aggregateOf(1),
	} {
		total := 0
		allocs := testing.AllocsPerRun(5, func() {
			a, err := kpl.Open(record)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range a.All() {
				total += len(r.Data) + len(r.ExplicitHashKey)
			}
		})
		if allocs > 2 || total == 0 {
			t.Errorf("%s: %v allocations, want 2: the string with all keys, and the tables", name, allocs)
		}
	}
}

// The data of user records is not copied, and appending to it does not overwrite
// the next user record.
func TestOpen_DataAliasesRecord(t *testing.T) {
	record := build("key", 0, []byte("one"), bytes.Repeat([]byte("2"), 20_000), []byte("three"))
	before := bytes.Clone(record)
	a, err := kpl.Open(record)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range a.All() {
		at := bytes.Index(record, r.Data)
		if at < 0 || &record[at] != &r.Data[0] {
			t.Errorf("user record %d is a copy", i)
		}
		_ = append(r.Data, "overwrites"...)
	}
	if !bytes.Equal(record, before) {
		t.Error("an append to a user record changed the aggregated record")
	}
}

// FuzzOpenUnverified checks that every accepted record can be iterated over and is
// valid protobuf.
func FuzzOpenUnverified(f *testing.F) {
	f.Add(build("key", 0, []byte("one"), make([]byte, 200))[len(kpl.Magic):])
	f.Add([]byte{0x1a, 7, 0x08, 0, 0x10, 0, 0x1a, 1, '6', 0x0a, 1, 'a', 0x12, 2, '4', '2'})
	f.Fuzz(func(t *testing.T, message []byte) {
		record := slices.Concat([]byte(kpl.Magic), message, make([]byte, md5.Size))
		a, err := kpl.OpenUnverified(record)
		if err != nil {
			return
		}
		n := 0
		for range a.All() {
			n++
		}
		if n != a.Len() {
			t.Errorf("%d user records, Len is %d", n, a.Len())
		}
		// An accepted message is valid protobuf, except that the content of unknown
		// fields is not checked.
		rest := message
		for len(rest) > 0 {
			_, _, size := protowire.ConsumeField(rest)
			if size < 0 {
				t.Fatalf("OpenUnverified accepted invalid protobuf: % x", rest)
			}
			rest = rest[size:]
		}
		_ = a.CheckHashKeys(kpl.HashKeyRange{})
	})
}
