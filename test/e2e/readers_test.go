package e2e

import (
	"crypto/md5"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	kplproto "out_kinesis_agg/proto"
	"out_kinesis_agg/test/kit/harness"
)

// TestReaders_RefuseInvalid: the readers that the other tests rely on find what is
// wrong with an aggregate.
func TestReaders_RefuseInvalid(t *testing.T) {
	t.Parallel()
	const key = "key"
	seal := func(change func(*kplproto.AggregatedRecord)) harness.Record {
		a := &kplproto.AggregatedRecord{
			PartitionKeyTable: []string{key},
			Records: []*kplproto.Record{
				{PartitionKeyIndex: proto.Uint64(0), Data: []byte(`{"n":1}`)},
				{PartitionKeyIndex: proto.Uint64(0), Data: []byte(`{"n":2}`)},
			},
		}
		change(a)
		message, err := proto.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		sum := md5.Sum(message)
		return harness.Record{PartitionKey: key, SequenceNumber: "1", Data: slices.Concat([]byte{0xf3, 0x89, 0x9a, 0xc2}, message, sum[:])}
	}
	good := seal(func(*kplproto.AggregatedRecord) {})
	if texts := read(t, []harness.Record{good, good}); len(texts) != 2 || len(texts[1]) != 2 {
		t.Fatalf("a good record twice: %q", texts)
	}

	for name, bad := range map[string]harness.Record{
		"another key":       seal(func(a *kplproto.AggregatedRecord) { a.PartitionKeyTable[0] = "other" }),
		"two keys":          seal(func(a *kplproto.AggregatedRecord) { a.PartitionKeyTable = append(a.PartitionKeyTable, key) }),
		"explicit hash key": seal(func(a *kplproto.AggregatedRecord) { a.ExplicitHashKeyTable = []string{"1"} }),
		"key index":         seal(func(a *kplproto.AggregatedRecord) { a.Records[1].PartitionKeyIndex = proto.Uint64(1) }),
		"tag":               seal(func(a *kplproto.AggregatedRecord) { a.Records[1].Tags = []*kplproto.Tag{{Key: proto.String("k")}} }),
		"no aggregate":      {PartitionKey: key, Data: []byte(`{"n":1}`)},
	} {
		if _, err := open(bad); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	broken := good
	broken.Data = slices.Clone(good.Data)
	broken.Data[len(broken.Data)-1] ^= 1
	if _, err := open(broken); err == nil {
		t.Error("wrong MD5: not refused")
	}
	if _, err := harness.Deaggregate(t.Context(), fixture.readers, []harness.Record{broken}); err == nil {
		t.Error("wrong MD5: not refused by aws-kinesis-agg")
	}
}
