package e2e

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/google/uuid"

	"out_kinesis_agg/internal/autostream"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/harness"
)

// TestAutostream_Reshards writes with random partition keys from several
// goroutines while the stream is split, merged, and deleted and created again:
// no alarm. Then it reports the responses with other keys, as if the stream
// ignored them: an alarm.
func TestAutostream_Reshards(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	stream := newStream(t, 4)
	var d autostream.Detector

	put := func(ctx context.Context, key, reported string) (shard string, alarm bool, err error) {
		ticket := d.Begin()
		out, err := fixture.kinesis.Client.PutRecord(ctx, &kinesis.PutRecordInput{
			StreamName: &stream, PartitionKey: &key, Data: []byte("x"),
		})
		if err != nil {
			return "", false, err
		}
		shard = aws.ToString(out.ShardId)
		return shard, d.Observe(ticket, kpl.HashKeyOf(reported), shard), nil
	}

	var mu sync.Mutex
	responses := map[string]int{}
	writing, stop := context.WithCancel(ctx)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for writing.Err() == nil {
				key := uuid.NewString()
				shard, alarm, err := put(writing, key, key)
				var gone *types.ResourceNotFoundException
				var busy *types.ResourceInUseException
				if writing.Err() != nil || errors.As(err, &gone) || errors.As(err, &busy) {
					continue
				}
				mu.Lock()
				responses[shard]++
				mu.Unlock()
				if err != nil || alarm {
					t.Errorf("alarm %v, error %v", alarm, err)
					stop()
				}
			}
		})
	}
	// more waits until the writers have had more responses.
	more := func() {
		count := func() (n int) {
			mu.Lock()
			defer mu.Unlock()
			for _, r := range responses {
				n += r
			}
			return n
		}
		enough := count() + 60
		_ = harness.Until(writing, func() (bool, error) { return count() >= enough, nil })
	}
	more()
	for range 2 {
		splitFirst(ctx, t, stream)
		more()
		mergeFirst(ctx, t, stream)
		more()
	}
	if _, err := fixture.kinesis.Client.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: &stream}); err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, stream, "")
	if err := fixture.kinesis.CreateStream(ctx, stream, 3); err != nil {
		t.Fatal(err)
	}
	more()
	stop()
	writers.Wait()
	if len(responses) < 4+2*(2+1) {
		t.Errorf("responses from the shards %v: want every child", responses)
	}
	if t.Failed() {
		return
	}

	for n := range 100 {
		_, alarm, err := put(ctx, uuid.NewString(), uuid.NewString())
		if err != nil {
			t.Fatal(err)
		}
		if alarm {
			t.Logf("alarm after %d PutRecords whose keys the stream ignored; responses before: %v", n+1, responses)
			return
		}
	}
	t.Error("no alarm after 100 PutRecords whose keys the stream ignored")
}

// openShards returns the open shards in the order of their ranges.
func openShards(ctx context.Context, t *testing.T, stream string) []types.Shard {
	t.Helper()
	out, err := fixture.kinesis.Client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		t.Fatal(err)
	}
	open := slices.DeleteFunc(out.Shards, func(s types.Shard) bool { return s.SequenceNumberRange.EndingSequenceNumber != nil })
	start := func(s types.Shard) kpl.HashKey {
		at, err := kpl.ParseHashKey(aws.ToString(s.HashKeyRange.StartingHashKey))
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	slices.SortFunc(open, func(a, b types.Shard) int { return start(a).Compare(start(b)) })
	return open
}

func splitFirst(ctx context.Context, t *testing.T, stream string) {
	t.Helper()
	_, err := fixture.kinesis.Client.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: &stream,
		ShardToSplit:       openShards(ctx, t, stream)[0].ShardId,
		NewStartingHashKey: aws.String("42535295865117307932921825928971026432")}) // 2^125
	if err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, stream, types.StreamStatusActive)
}

func mergeFirst(ctx context.Context, t *testing.T, stream string) {
	t.Helper()
	open := openShards(ctx, t, stream)
	_, err := fixture.kinesis.Client.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: &stream,
		ShardToMerge: open[0].ShardId, AdjacentShardToMerge: open[1].ShardId})
	if err != nil {
		t.Fatal(err)
	}
	waitFor(ctx, t, stream, types.StreamStatusActive)
}

// waitFor waits until the stream has the status, or does not exist if status is
// empty.
func waitFor(ctx context.Context, t *testing.T, stream string, status types.StreamStatus) {
	t.Helper()
	err := harness.Until(ctx, func() (bool, error) {
		out, err := fixture.kinesis.Client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
		var gone *types.ResourceNotFoundException
		if errors.As(err, &gone) && status == "" {
			return true, nil
		}
		return err == nil && out.StreamDescriptionSummary.StreamStatus == status, err
	})
	if err != nil {
		t.Fatal(err)
	}
}
