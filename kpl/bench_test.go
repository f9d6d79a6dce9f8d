package kpl_test

import (
	"bytes"
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
)

// aggregateOf returns an aggregated record of about 1 MiB that consists of user
// records of the given size.
func aggregateOf(size int) []byte {
	data := bytes.Repeat([]byte{'x'}, size)
	records := make([][]byte, (1<<20)/kpl.RecordBytes(size))
	for i := range records {
		records[i] = data
	}
	return build("8a9f0d1e-7a52-4b8e-9a57-0f6a3d2c1b4e", size, records...)
}

// BenchmarkOpen opens an aggregated record and iterates over its user records.
func BenchmarkOpen(b *testing.B) {
	for _, test := range []struct {
		name string
		open func([]byte) (kpl.Aggregate, error)
	}{{"MD5", kpl.Open}, {"unverified", kpl.OpenUnverified}} {
		for _, size := range []int{150, 500, 2000} {
			b.Run(fmt.Sprintf("%s/%d", test.name, size), func(b *testing.B) {
				aggregate := aggregateOf(size)
				b.SetBytes(int64(len(aggregate)))
				b.ReportAllocs()
				total := 0
				for b.Loop() {
					a, err := test.open(aggregate)
					if err != nil {
						b.Fatal(err)
					}
					for _, r := range a.All() {
						total += len(r.Data)
					}
				}
				if total == 0 {
					b.Fatal("no data")
				}
			})
		}
	}
}

// BenchmarkCheckHashKeys checks user records that each have a key of their own.
func BenchmarkCheckHashKeys(b *testing.B) {
	const records = 1000
	full := kpl.HashKeyRange{Ending: hashKey(b, largest)}
	for _, explicit := range []bool{false, true} {
		b.Run(fmt.Sprintf("explicit=%v", explicit), func(b *testing.B) {
			m := &kplproto.AggregatedRecord{}
			for i := range uint64(records) {
				key := fmt.Sprintf("8a9f0d1e-7a52-4b8e-9a57-%012d", i)
				r := &kplproto.Record{PartitionKeyIndex: proto.Uint64(i), Data: []byte("data")}
				if explicit {
					r.ExplicitHashKeyIndex = proto.Uint64(i)
					m.ExplicitHashKeyTable = append(m.ExplicitHashKeyTable, kpl.HashKeyOf(key).String())
				}
				m.PartitionKeyTable, m.Records = append(m.PartitionKeyTable, key), append(m.Records, r)
			}
			a, err := kpl.Open(seal(b, m))
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := a.CheckHashKeys(full); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
		})
	}
}
