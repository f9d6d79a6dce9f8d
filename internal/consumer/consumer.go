// Package consumer reads the records of a Kinesis data stream and de-aggregates
// them. It reads shards concurrently, but each shard only after its parents, so that
// the records of a partition key arrive in order across splits and merges.
//
// It keeps no checkpoints and takes no leases: it is for one process that reads a
// range of a stream.
package consumer

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"out_kinesis_agg/kpl"
)

// API is the part of the Kinesis client that a Reader calls. *kinesis.Client
// implements it. Its own retries should be off, because the Reader retries.
type API interface {
	ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error)
	GetShardIterator(context.Context, *kinesis.GetShardIteratorInput, ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error)
	GetRecords(context.Context, *kinesis.GetRecordsInput, ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error)
}

// Monitor observes a Reader. Its methods are called by several goroutines at the
// same time.
type Monitor interface {
	// Shards reports how many shards are read now, and how many are not read to
	// their end yet, those included.
	Shards(reading, unread int)
	// Lag reports how far the reader is from the tip of a shard.
	Lag(shard string, lag time.Duration)
	// Throttled reports that Kinesis throttled a request, which is retried.
	Throttled()
	// Warn reports something that a person should know.
	Warn(format string, args ...any)
}

// ErrStop is what a Handler returns to end the read without an error.
var ErrStop = errors.New("consumer: stop")

// Handler processes consecutive records of one shard. It owns the records and
// their bytes. An error ends the read.
type Handler func(*Shard, []Record) error

// Position is where to start in a shard. The zero value is the oldest record.
type Position struct {
	At     time.Time // the first record that arrived at this time or later
	Latest bool      // the first record that arrives after the start of the read
}

// Shard is a shard of the stream.
type Shard struct {
	ID       string
	HashKeys kpl.HashKeyRange

	parents []string
	closed  bool // when it was listed
	from    Position
}

// Record is one Kinesis record.
type Record struct {
	SequenceNumber string
	PartitionKey   string
	Arrival        time.Time // as Kinesis approximates it; zero if it is unknown
	Data           []byte

	// Aggregate holds the user records of a valid aggregated record. It is nil
	// for a plain record and for a damaged aggregated record.
	Aggregate *kpl.Aggregate
	// Damage says what is wrong with a damaged aggregated record.
	Damage error
}

// Len returns the number of user records in r: 1 for a plain record, 0 for a
// damaged aggregated record.
func (r *Record) Len() int {
	switch {
	case r.Damage != nil:
		return 0
	case r.Aggregate != nil:
		return r.Aggregate.Len()
	}
	return 1
}

// UserRecords returns the user records of r with their index in the aggregated
// record. The index of a plain record is -1. The data alias r.Data.
func (r *Record) UserRecords() iter.Seq2[int, kpl.UserRecord] {
	switch {
	case r.Damage != nil:
		return func(func(int, kpl.UserRecord) bool) {}
	case r.Aggregate != nil:
		return r.Aggregate.All()
	}
	return func(yield func(int, kpl.UserRecord) bool) {
		yield(-1, kpl.UserRecord{PartitionKey: r.PartitionKey, Data: r.Data})
	}
}

// deaggregate converts records of the SDK.
func deaggregate(in []types.Record) []Record {
	out := make([]Record, len(in))
	for i, r := range in {
		out[i] = Record{
			SequenceNumber: aws.ToString(r.SequenceNumber),
			PartitionKey:   aws.ToString(r.PartitionKey),
			Arrival:        aws.ToTime(r.ApproximateArrivalTimestamp),
			Data:           r.Data,
		}
		aggregate, err := kpl.Open(r.Data)
		switch {
		case err == nil:
			out[i].Aggregate = &aggregate
		case !errors.Is(err, kpl.ErrNotAggregated):
			out[i].Damage = err
		}
	}
	return out
}
