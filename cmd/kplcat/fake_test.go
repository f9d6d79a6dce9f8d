package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"out_kinesis_agg/kpl"
)

// fake is a stream in memory. Its iterators are SHARD/INDEX, its sequence
// numbers indexes in the shard, from 100 on.
type fake struct {
	mu     sync.Mutex
	shards []*fakeShard
	page   int // records in an answer, 0 is any number

	// before, unless nil, is asked before each call and can fail it. n counts
	// the calls of that name, from 1.
	before func(call string, n int, shard string) error
	// hideChildren leaves children out of answers, for the list to name.
	hideChildren bool

	calls map[string]int
	reads map[string][]time.Time // of a shard
	types []types.ShardIteratorType
}

type fakeShard struct {
	types.Shard
	records []record
	closed  bool
}

const fullRange = "340282366920938463463374607431768211455"

// add makes a shard.
func (f *fake) add(id string, parents ...string) *fakeShard {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := &fakeShard{Shard: types.Shard{
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

// put adds one Kinesis record a text.
func (f *fake) put(s *fakeShard, texts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, text := range texts {
		s.records = append(s.records, record{
			Data: []byte(text), PartitionKey: aws.String("key"), SequenceNumber: aws.String(strconv.Itoa(100 + len(s.records))),
			ApproximateArrivalTimestamp: aws.Time(time.Now()),
		})
	}
}

func (f *fake) close(s *fakeShard) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.closed = true
	s.SequenceNumberRange.EndingSequenceNumber = aws.String("999")
}

func (f *fake) shard(id string) *fakeShard {
	for _, s := range f.shards {
		if *s.ShardId == id {
			return s
		}
	}
	return nil
}

// called counts a call and lets before decide. It holds no lock meanwhile.
func (f *fake) called(name, shard string) error {
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
	if f.before != nil {
		return f.before(name, n, shard)
	}
	return nil
}

// ListShards answers with two shards a page.
func (f *fake) ListShards(ctx context.Context, in *kinesis.ListShardsInput, _ ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	if err := f.called("ListShards", ""); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if (in.NextToken == nil) == (in.StreamName == nil) {
		return nil, errors.New("want either a stream or a token")
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

func (f *fake) GetShardIterator(ctx context.Context, in *kinesis.GetShardIteratorInput, _ ...func(*kinesis.Options)) (*kinesis.GetShardIteratorOutput, error) {
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

func (f *fake) GetRecords(ctx context.Context, in *kinesis.GetRecordsInput, _ ...func(*kinesis.Options)) (*kinesis.GetRecordsOutput, error) {
	id, index, _ := strings.Cut(*in.ShardIterator, "/")
	if err := f.called("GetRecords", id); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.shard(id)
	from, _ := strconv.Atoi(index)
	to := len(s.records)
	if f.page > 0 {
		to = min(to, from+f.page)
	}
	out := &kinesis.GetRecordsOutput{Records: s.records[from:to], MillisBehindLatest: aws.Int64(int64(len(s.records)-to) * 1000)}
	if !s.closed || to < len(s.records) {
		out.NextShardIterator = aws.String(fmt.Sprintf("%s/%d", id, to))
		return out, nil
	}
	for _, c := range f.shards {
		if parents := []string{aws.ToString(c.ParentShardId), aws.ToString(c.AdjacentParentShardId)}; !f.hideChildren && (parents[0] == id || parents[1] == id) {
			child := types.ChildShard{ShardId: c.ShardId, HashKeyRange: c.HashKeyRange, ParentShards: parents[:1]}
			if parents[1] != "" {
				child.ParentShards = parents
			}
			out.ChildShards = append(out.ChildShards, child)
		}
	}
	return out, nil
}

// aggregate makes an aggregated record.
func aggregate(key string, texts ...string) string {
	b := kpl.AppendHead(nil, key)
	for _, text := range texts {
		open := len(b)
		b = kpl.OpenRecord(b, len(text))
		at := len(b)
		b = append(b, text...)
		b = kpl.CloseRecord(b, open, at)
	}
	return string(kpl.Seal(b))
}
