package kpl_test

import (
	"bytes"
	"errors"
	"fmt"

	"out_kinesis_agg/kpl"
)

// kinesisRecord is a record from GetRecords, a Lambda event or an enhanced
// fan-out subscription.
type kinesisRecord struct{ Data []byte }

// received returns three such records: aggregated, plain, and damaged.
func received() []kinesisRecord {
	b := build("web-1", 0, []byte(`{"log":"one"}`), []byte(`{"log":"two"}`))
	damaged := bytes.Clone(b)
	damaged[20] ^= 1
	return []kinesisRecord{{b}, {[]byte(`{"log":"plain"}`)}, {damaged}}
}

// A consumer of a stream that holds aggregated, plain and damaged records.
func Example() {
	for _, record := range received() {
		aggregate, err := kpl.Open(record.Data)
		switch {
		case errors.Is(err, kpl.ErrNotAggregated):
			fmt.Printf("plain: %s\n", record.Data)
		case err != nil:
			fmt.Println(err)
		default:
			for n, r := range aggregate.All() {
				fmt.Printf("%d of %d: %s\n", n, aggregate.Len(), r.Data)
			}
		}
	}
	// Output:
	// 0 of 2: {"log":"one"}
	// 1 of 2: {"log":"two"}
	// plain: {"log":"plain"}
	// kpl: the MD5 does not match the content: the structure is valid, so a key, user data or the MD5 itself was changed
}

// A consumer that trusts the connection to Kinesis can skip the MD5 check, which
// takes nearly all of the time.
func ExampleOpenUnverified() {
	aggregate, err := kpl.OpenUnverified(received()[0].Data)
	if err != nil {
		fmt.Println(err)
		return
	}
	// User records alias the Kinesis record. Clone those that are kept longer.
	var kept [][]byte
	for _, r := range aggregate.All() {
		kept = append(kept, bytes.Clone(r.Data))
	}
	fmt.Printf("%s\n", kept)
	// Output:
	// [{"log":"one"} {"log":"two"}]
}

// KCL silently drops an aggregated record that holds a user record of another
// shard. This consumer reports it.
func ExampleAggregate_CheckHashKeys() {
	aggregate, err := kpl.Open(received()[0].Data)
	if err != nil {
		fmt.Println(err)
		return
	}
	// The hash key ranges that ListShards returns for a stream with two shards.
	for _, shard := range [][2]string{
		{"0", "170141183460469231731687303715884105727"},
		{"170141183460469231731687303715884105728", "340282366920938463463374607431768211455"},
	} {
		hashKeys, err := kpl.ParseHashKeyRange(shard[0], shard[1])
		if err != nil {
			fmt.Println(err)
			return
		}
		err = aggregate.CheckHashKeys(hashKeys)
		fmt.Println(errors.Is(err, kpl.ErrOutside), err)
	}
	// Output:
	// true kpl: user record 0: hash key 216517020614757585766844616419861376072 is outside the shard, 0 to 170141183460469231731687303715884105727
	// false <nil>
}
