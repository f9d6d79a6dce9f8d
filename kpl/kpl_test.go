package kpl_test

import (
	"bytes"
	"crypto/md5"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
)

// build returns an aggregated record. guess is the argument of each OpenRecord.
func build(key string, guess int, records ...[]byte) []byte {
	b := kpl.AppendHead(nil, key)
	for _, data := range records {
		open := len(b)
		b = kpl.OpenRecord(b, guess)
		at := len(b)
		b = append(b, data...)
		b = kpl.CloseRecord(b, open, at)
	}
	return kpl.Seal(b)
}

// seal encodes m with the generated code and adds the magic number and the MD5.
func seal(t testing.TB, m *kplproto.AggregatedRecord) []byte {
	t.Helper()
	message, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	sum := md5.Sum(message)
	return append(append([]byte(kpl.Magic), message...), sum[:]...)
}

// edges are user record sizes near those at which a length prefix grows by a byte:
// where the data or the Record message reaches 128 or 16,384 bytes.
var edges = []int{0, 1, 121, 122, 123, 124, 125, 126, 127, 128, 129, 16375, 16376, 16377, 16378, 16379, 16380, 16383, 16384, 16385, 1 << 20}

func TestSeal_EqualsGeneratedCode(t *testing.T) {
	for _, key := range []string{"k", "Zürich-東京-🚲", strings.Repeat("x", 256)} {
		want := &kplproto.AggregatedRecord{PartitionKeyTable: []string{key}}
		var records [][]byte
		for i, n := range edges {
			data := bytes.Repeat([]byte{byte('a' + i)}, n)
			records = append(records, data)
			want.Records = append(want.Records, &kplproto.Record{PartitionKeyIndex: proto.Uint64(0), Data: data})
		}
		for _, guess := range edges {
			if got := build(key, guess, records...); !bytes.Equal(got, seal(t, want)) {
				t.Errorf("key %.20q, guess %d: the bytes differ", key, guess)
			}
		}
	}
}

func TestSeal_SmallRecord(t *testing.T) {
	got := build("key", 0, []byte("ab"))
	want := []byte{
		0xf3, 0x89, 0x9a, 0xc2, // magic
		0x0a, 3, 'k', 'e', 'y', // partition_key_table
		0x1a, 6, // records
		0x08, 0, // partition_key_index, written although it is 0
		0x1a, 2, 'a', 'b', // data
	}
	sum := md5.Sum(want[4:])
	if want = append(want, sum[:]...); !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
}

func TestRecordBytes_EqualsLength(t *testing.T) {
	for n := range 300 {
		key := strings.Repeat("k", n)
		if got, want := kpl.HeadBytes(key), len(kpl.AppendHead(nil, key)); got != want {
			t.Errorf("HeadBytes of %d: %d, want %d", n, got, want)
		}
	}
	for _, n := range edges {
		got := kpl.HeadBytes("k") + kpl.RecordBytes(n) + kpl.DigestBytes
		if want := len(build("k", 0, make([]byte, n))); got != want {
			t.Errorf("a user record of %d bytes: the sizes add up to %d, want %d", n, got, want)
		}
	}
}

func TestOpen_GeneratedCode(t *testing.T) {
	aggregate := seal(t, &kplproto.AggregatedRecord{
		PartitionKeyTable:    []string{"a", "b", ""},
		ExplicitHashKeyTable: []string{"0", "340282366920938463463374607431768211455"},
		Records: []*kplproto.Record{
			{PartitionKeyIndex: proto.Uint64(1), Data: []byte("first")},
			{PartitionKeyIndex: proto.Uint64(0), ExplicitHashKeyIndex: proto.Uint64(1), Data: []byte{},
				Tags: []*kplproto.Tag{{Key: proto.String("t"), Value: proto.String("v")}}},
			{PartitionKeyIndex: proto.Uint64(2), ExplicitHashKeyIndex: proto.Uint64(0), Data: []byte{0}},
		},
	})
	a, err := kpl.Open(aggregate)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, r := range a.All() {
		got = append(got, fmt.Sprintf("%d %q %q %q", i, r.PartitionKey, r.ExplicitHashKey, r.Data))
	}
	want := []string{`0 "b" "" "first"`, `1 "a" "340282366920938463463374607431768211455" ""`, `2 "" "0" "\x00"`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") || a.Len() != 3 {
		t.Errorf("got %q, want %q", got, want)
	}
	for range a.All() {
		break // ending an iteration early must not panic
	}
}

func TestOpen_FlippedAndTruncated(t *testing.T) {
	good := build("key", 10, []byte("one"), []byte("two"))
	for at := range good {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		want := kpl.ErrDigest
		if at < len(kpl.Magic) {
			want = kpl.ErrNotAggregated
		}
		if _, err := kpl.Open(bad); !errors.Is(err, want) {
			t.Errorf("byte %d flipped: %v, want %v", at, err, want)
		}
		if _, err := kpl.Open(good[:at]); err == nil {
			t.Errorf("truncated at %d: no error", at)
		}
	}
}

func TestOpen_NamesByteOffset(t *testing.T) {
	for name, test := range map[string]struct {
		message []byte
		want    string
	}{
		"length beyond the end": {[]byte{0x0a, 9, 'k'}, "field at byte 4"},
		"not a field":           {[]byte{0x0a, 1, 'k', 0xff}, "field at byte 7"},
		"index outside":         {[]byte{0x0a, 1, 'k', 0x1a, 4, 0x08, 1, 0x1a, 0}, "user record 0 at byte 7: partition key index 1 is outside a table of 1"},
		"index outside, usual":  {[]byte{0x0a, 1, 'k', 0x1a, 8, 0x08, 1, 0x1a, 4, 'd', 'a', 't', 'a'}, "user record 0 at byte 7: partition key index 1 is outside a table of 1"},
		"no index":              {[]byte{0x0a, 1, 'k', 0x1a, 2, 0x1a, 0}, "no partition key index"},
		"no data":               {[]byte{0x0a, 1, 'k', 0x1a, 2, 0x08, 0}, "no data"},
		"truncated record":      {[]byte{0x0a, 1, 'k', 0x1a, 3, 0x08, 0, 0x1a}, "user record 0 at byte 7"},
	} {
		t.Run(name, func(t *testing.T) {
			record := kpl.Seal(append([]byte(kpl.Magic), test.message...))
			if _, err := kpl.Open(record); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

func FuzzOpen(f *testing.F) {
	f.Add(build("key", 0, []byte("one"), make([]byte, 200)))
	f.Add([]byte(kpl.Magic))
	f.Fuzz(func(t *testing.T, message []byte) {
		a, err := kpl.Open(kpl.Seal(append([]byte(kpl.Magic), message...)))
		var m kplproto.AggregatedRecord
		if reference := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(message, &m); err == nil && reference == nil {
			if a.Len() != len(m.GetRecords()) {
				t.Fatalf("%d user records, the generated code reads %d", a.Len(), len(m.GetRecords()))
			}
			for i, r := range a.All() {
				if !bytes.Equal(r.Data, m.GetRecords()[i].GetData()) {
					t.Fatalf("user record %d differs", i)
				}
			}
		}
	})
}

func FuzzSealOpen(f *testing.F) {
	f.Add("key", []byte("one"), []byte(""), 3)
	f.Fuzz(func(t *testing.T, key string, one, two []byte, guess int) {
		a, err := kpl.Open(build(key, guess&(1<<24-1), one, two))
		if err != nil {
			t.Fatal(err)
		}
		want := [][]byte{one, two}
		for i, r := range a.All() {
			if r.PartitionKey != key || !bytes.Equal(r.Data, want[i]) {
				t.Fatalf("user record %d differs", i)
			}
		}
	})
}

func ExampleOpen() {
	record := build("key", 0, []byte(`{"log":"one"}`), []byte(`{"log":"two"}`))
	aggregate, err := kpl.Open(record)
	if err != nil {
		fmt.Println(err)
		return
	}
	for i, r := range aggregate.All() {
		fmt.Printf("%d %s %s\n", i, r.PartitionKey, r.Data)
	}
	// Output:
	// 0 key {"log":"one"}
	// 1 key {"log":"two"}
}
