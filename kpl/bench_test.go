package kpl_test

import (
	"bytes"
	"fmt"
	"testing"

	"out_kinesis_agg/kpl"
)

// aggregateOf is an aggregated record of about 1 MiB whose user records have
// the given size.
func aggregateOf(size int) []byte {
	data := bytes.Repeat([]byte{'x'}, size)
	records := make([][]byte, (1<<20)/kpl.RecordBytes(size))
	for i := range records {
		records[i] = data
	}
	return build("8a9f0d1e-7a52-4b8e-9a57-0f6a3d2c1b4e", size, records...)
}

// BenchmarkOpen opens an aggregated record and goes through its user records.
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
