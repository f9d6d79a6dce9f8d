package kpl_test

import (
	"bytes"
	"errors"
	"fmt"

	"out_kinesis_agg/kpl"
)

// kinesisRecord is what a consumer gets from GetRecords, from a Lambda event or
// from an enhanced fan-out subscription.
type kinesisRecord struct{ Data []byte }

// received stands for such records: an aggregated one, a plain one, and one that
// was damaged.
func received() []kinesisRecord {
	b := build("web-1", 0, []byte(`{"log":"one"}`), []byte(`{"log":"two"}`))
	damaged := bytes.Clone(b)
	damaged[20] ^= 1
	return []kinesisRecord{{b}, {[]byte(`{"log":"plain"}`)}, {damaged}}
}

// A consumer that handles whatever is in a stream.
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
	// kpl: the MD5 does not match the content: the structure is whole, so that a key, user data or the MD5 itself was changed
}

// Where the way from Kinesis is trusted, the MD5 can be left out, and an
// aggregate costs next to nothing.
func ExampleOpenUnverified() {
	aggregate, err := kpl.OpenUnverified(received()[0].Data)
	if err != nil {
		fmt.Println(err)
		return
	}
	// User records are valid as long as the Kinesis record: who keeps them
	// clones them.
	var kept [][]byte
	for _, r := range aggregate.All() {
		kept = append(kept, bytes.Clone(r.Data))
	}
	fmt.Printf("%s\n", kept)
	// Output:
	// [{"log":"one"} {"log":"two"}]
}

// KCL drops an aggregate that holds a record of another shard. This consumer
// tells.
func ExampleAggregate_CheckHashKeys() {
	aggregate, err := kpl.Open(received()[0].Data)
	if err != nil {
		fmt.Println(err)
		return
	}
	// The lower and the upper half, as ListShards says of a stream of two.
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
	// true kpl: user record 0: hash key 216517020614757585766844616419861376072 is outside of the shard, 0 to 170141183460469231731687303715884105727
	// false <nil>
}
