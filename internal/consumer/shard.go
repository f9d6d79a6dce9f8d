package consumer

import (
	"context"
	"errors"
	"slices"
	"time"

	"out_kinesis_agg/internal/arn"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

const (
	// readInterval allows five reads per second of a shard, the limit that all
	// its consumers without enhanced fan-out share. Source: API reference,
	// GetRecords.
	readInterval = time.Second / 5

	// idleInterval is the time between reads at the tip of an idle shard. It
	// leaves four of the five reads to other consumers, as KCL does.
	idleInterval = time.Second

	// settleTime is how long after Reader.To a shard may still return records
	// that arrived before it: the clocks of this machine and of Kinesis differ,
	// and a record can be read only some time after its arrival.
	settleTime = 5 * time.Second

	// maxExpired is how many iterators may expire in a row. An iterator is valid
	// for five minutes.
	maxExpired = 5

	// maxListings is how often the shards are listed to find the children of a
	// closed shard.
	maxListings = 10
)

// readShard reads a shard to its end, to Reader.To or, without Follow, to its
// tip. It returns the children of a closed shard.
func (r *Reader) readShard(ctx context.Context, s *Shard) ([]*Shard, error) {
	began := time.Now()
	last := "" // sequence number of the last record that was handled
	defer r.Monitor.Lag(s.ID, 0)

	iterator, err := r.iterator(ctx, s, last, began)
	for expired := 0; err == nil; {
		started := time.Now()
		var out *kinesis.GetRecordsOutput
		var reachedTo bool
		out, reachedTo, err = r.readOnce(ctx, s, iterator)
		var old *types.ExpiredIteratorException
		if errors.As(err, &old) && expired < maxExpired {
			expired++
			iterator, err = r.iterator(ctx, s, last, began)
			continue
		}
		if err != nil || reachedTo {
			break
		}
		expired = 0
		if n := len(out.Records); n > 0 {
			last = aws.ToString(out.Records[n-1].SequenceNumber)
		}
		lag := time.Duration(aws.ToInt64(out.MillisBehindLatest)) * time.Millisecond
		r.Monitor.Lag(s.ID, lag)
		if out.NextShardIterator == nil {
			return r.children(ctx, s, out.ChildShards)
		}
		if lag == 0 && (!r.Follow || !r.To.IsZero() && time.Since(r.To) >= settleTime) {
			break
		}
		iterator = *out.NextShardIterator
		interval := readInterval
		if lag == 0 && len(out.Records) == 0 {
			interval = idleInterval
		}
		err = sleep(ctx, interval-time.Since(started))
	}
	return nil, err
}

// readOnce makes one GetRecords request and passes the records to Handle. It
// holds one of the slots while a response is in memory. reachedTo reports a
// record that arrived at Reader.To or later.
func (r *Reader) readOnce(ctx context.Context, s *Shard, iterator string) (out *kinesis.GetRecordsOutput, reachedTo bool, err error) {
	err = r.retry(ctx, func() (err error) {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-r.slots }()
		in := &kinesis.GetRecordsInput{ShardIterator: &iterator}
		if arn.Is(r.Stream) {
			in.StreamARN = &r.Stream
		}
		if out, err = r.API.GetRecords(ctx, in); err != nil {
			return err
		}
		records := out.Records
		if end := slices.IndexFunc(records, r.isPastTo); end >= 0 {
			records, reachedTo = records[:end], true
		}
		if len(records) == 0 {
			return nil
		}
		return r.handle(ctx, s, deaggregate(records))
	})
	return out, reachedTo, err
}

func (r *Reader) isPastTo(record types.Record) bool {
	arrival := record.ApproximateArrivalTimestamp
	return !r.To.IsZero() && arrival != nil && !arrival.Before(r.To)
}

func (r *Reader) handle(ctx context.Context, s *Shard, records []Record) error {
	r.handling.Lock()
	defer r.handling.Unlock()
	// Read returns the first error of a shard, so every shard gets this one.
	if r.stopped == nil {
		r.stopped = r.Handle(s, records)
	}
	if r.stopped != nil {
		return &handlerError{r.stopped}
	}
	return ctx.Err()
}

// iterator returns an iterator after the record with the sequence number last,
// or, if that is empty, at the position where the shard is to be read from.
func (r *Reader) iterator(ctx context.Context, s *Shard, last string, began time.Time) (string, error) {
	in := &kinesis.GetShardIteratorInput{ShardId: &s.ID}
	in.StreamName, in.StreamARN = r.streamID()
	switch {
	case last != "":
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &last
	case s.from.Latest:
		in.ShardIteratorType = types.ShardIteratorTypeLatest
		// If this iterator expires before the first record, its replacement
		// must not skip the records that arrived in between.
		s.from = Position{At: began}
	case !s.from.At.IsZero():
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &s.from.At
	default:
		in.ShardIteratorType = types.ShardIteratorTypeTrimHorizon
	}
	var out *kinesis.GetShardIteratorOutput
	err := r.retry(ctx, func() (err error) {
		out, err = r.API.GetShardIterator(ctx, in)
		return err
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ShardIterator), nil
}

// children returns the shards that s was split or merged into. Kinesis usually
// names them in the last response of the shard; otherwise the shards are listed.
func (r *Reader) children(ctx context.Context, s *Shard, named []types.ChildShard) ([]*Shard, error) {
	if len(r.Shards) > 0 {
		return nil, nil
	}
	var children []*Shard
	for _, c := range named {
		keys, err := hashKeyRange(c.HashKeyRange)
		if err != nil {
			return nil, err
		}
		children = append(children, &Shard{ID: aws.ToString(c.ShardId), parents: c.ParentShards, HashKeys: keys})
	}
	for n := 0; len(children) == 0; n++ {
		if n == maxListings {
			r.Monitor.Warn("%s is closed and Kinesis lists no child shards: records after it are not read", s.ID)
			return nil, nil
		}
		if n > 0 {
			if err := sleep(ctx, idleInterval); err != nil {
				return nil, err
			}
		}
		all, err := r.list(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if slices.Contains(c.parents, s.ID) {
				children = append(children, c)
			}
		}
	}
	return children, nil
}
