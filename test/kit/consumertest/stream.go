// Package consumertest provides a Kinesis stream in memory for tests of package
// consumer and of its users.
package consumertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"out_kinesis_agg/kpl"
)

// Stream is a stream in memory that implements consumer.API. It is safe for
// concurrent use. Its iterators have the form SHARD/INDEX, and its sequence
// numbers are the index in the shard plus 100.
type Stream struct {
	// Page is the maximum number of records in a response; 0: no maximum.
	Page int
	// Before, unless nil, is called before each call and can fail it. n counts
	// the calls of that name from 1.
	Before func(call string, n int, shard string) error
	// HideChildren omits the child shards from responses of GetRecords.
	HideChildren bool

	mu     sync.Mutex
	shards []*Shard
	calls  map[string]int
	reads  map[string][]time.Time
	types  []types.ShardIteratorType
}

// Shard is a shard of a Stream.
type Shard struct {
	types.Shard
	records []types.Record
	closed  bool
}

const fullRange = "340282366920938463463374607431768211455"

// Add adds an open shard with the full range of hash keys.
func (f *Stream) Add(id string, parents ...string) *Shard {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &Shard{Shard: types.Shard{
		ShardId:             &id,
		HashKeyRange:        &types.HashKeyRange{StartingHashKey: aws.String("0"), EndingHashKey: aws.String(fullRange)},
		SequenceNumberRange: &types.SequenceNumberRange{StartingSequenceNumber: aws.String("1")},
	}}
	if len(parents) > 0 {
		s.ParentShardId = &parents[0]
	}
	if len(parents) > 1 {
		s.AdjacentParentShardId = &parents[1]
	}
	f.shards = append(f.shards, s)
	return s
}

// Put adds one Kinesis record for each of data.
func (f *Stream) Put(s *Shard, data ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, d := range data {
		s.records = append(s.records, types.Record{
			Data: []byte(d), PartitionKey: aws.String("key"), SequenceNumber: aws.String(strconv.Itoa(100 + len(s.records))),
			ApproximateArrivalTimestamp: aws.Time(time.Now()),
		})
	}
}

// Close closes a shard, as a split or a merge does.
func (f *Stream) Close(s *Shard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.closed = true
	s.SequenceNumberRange.EndingSequenceNumber = aws.String("999")
}

func (f *Stream) shard(id string) *Shard {
	for _, s := range f.shards {
		if *s.ShardId == id {
			return s
		}
	}
	return nil
}

// Calls returns the number of calls of that name.
func (f *Stream) Calls(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[name]
}

// Reads returns the times of the GetRecords calls, by shard.
func (f *Stream) Reads() map[string][]time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.reads)
}

// IteratorTypes returns the types of the iterators in the order of the calls.
func (f *Stream) IteratorTypes() []types.ShardIteratorType {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.types)
}

// called counts a call and calls Before without holding the lock.
func (f *Stream) called(name, shard string) error {
	f.mu.Lock()
	if f.calls == nil {
		f.calls, f.reads = map[string]int{}, map[string][]time.Time{}
	}
	f.calls[name]++
	n := f.calls[name]
	if name == "GetRecords" {
		f.reads[shard] = append(f.reads[shard], time.Now())
	}
	f.mu.Unlock()
	if f.Before != nil {
		return f.Before(name, n, shard)
	}
	return nil
}

// ListShards returns two shards per response.
func (f *Stream) ListShards(ctx context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	if err := f.called("ListShards", ""); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if (in.NextToken == nil) == (in.StreamName == nil) {
		return nil, errors.New("consumertest: want either a stream or a token")
	}
	from, _ := strconv.Atoi(aws.ToString(in.NextToken))
	to := min(from+2, len(f.shards))
	out := &kinesis.ListShardsOutput{}
	for _, s := range f.shards[from:to] {
		out.Shards = append(out.Shards, s.Shard)
	}
	if to < len(f.shards) {
		out.NextToken = aws.String(strconv.Itoa(to))
	}
	return out, nil
}

// GetShardIterator implements consumer.API.
func (f *Stream) GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
	if err := f.called("GetShardIterator", *in.ShardId); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.types = append(f.types, in.ShardIteratorType)
	s := f.shard(*in.ShardId)
	at := 0
	switch in.ShardIteratorType {
	case types.ShardIteratorTypeLatest:
		at = len(s.records)
	case types.ShardIteratorTypeAtTimestamp:
		for at < len(s.records) && s.records[at].ApproximateArrivalTimestamp.Before(*in.Timestamp) {
			at++
		}
	case types.ShardIteratorTypeAfterSequenceNumber:
		n, _ := strconv.Atoi(*in.StartingSequenceNumber)
		at = n - 100 + 1
	}
	return &kinesis.GetShardIteratorOutput{ShardIterator: aws.String(fmt.Sprintf("%s/%d", *in.ShardId, at))}, nil
}

// GetRecords implements consumer.API.
func (f *Stream) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	id, index, _ := strings.Cut(*in.ShardIterator, "/")
	if err := f.called("GetRecords", id); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.shard(id)
	from, _ := strconv.Atoi(index)
	to := len(s.records)
	if f.Page > 0 {
		to = min(to, from+f.Page)
	}
	out := &kinesis.GetRecordsOutput{Records: s.records[from:to], MillisBehindLatest: aws.Int64(int64(len(s.records)-to) * 1000)}
	if !s.closed || to < len(s.records) {
		out.NextShardIterator = aws.String(fmt.Sprintf("%s/%d", id, to))
		return out, nil
	}
	for _, c := range f.shards {
		if parents := []string{aws.ToString(c.ParentShardId), aws.ToString(c.AdjacentParentShardId)}; !f.HideChildren && (parents[0] == id || parents[1] == id) {
			child := types.ChildShard{ShardId: c.ShardId, HashKeyRange: c.HashKeyRange, ParentShards: parents[:1]}
			if parents[1] != "" {
				child.ParentShards = parents
			}
			out.ChildShards = append(out.ChildShards, child)
		}
	}
	return out, nil
}

// Aggregate returns an aggregated record with one partition key.
func Aggregate(key string, userRecords ...string) string {
	b := kpl.AppendHead(nil, key)
	for _, data := range userRecords {
		open := len(b)
		b = kpl.OpenRecord(b, len(data))
		at := len(b)
		b = append(b, data...)
		b = kpl.CloseRecord(b, open, at)
	}
	return string(kpl.Seal(b))
}
