package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// readEvery keeps to five reads a second of a shard, the limit that all its
	// consumers without fan-out share. Source: API reference, GetRecords.
	readEvery = time.Second / 5

	// idleEvery is how often an end is looked at that nothing comes to. It
	// leaves four of the five reads to others, as KCL does.
	idleEvery = time.Second

	// The waits after the first error in a row, and at most.
	firstWait   = readEvery
	longestWait = 5 * time.Second

	// maxFailures is how many errors in a row of the network or of AWS are
	// borne with, half a minute. Throttling is borne with for as long as it lasts.
	maxFailures = 10

	// maxExpired is how many new iterators in a row may have expired. They live
	// five minutes, so that the second would be strange already.
	maxExpired = 5

	// listings is how often children are looked for that have to be there.
	listings = 10
)

// read reads a shard to its end, or, without follow, to where it has got so
// far. It returns the children of a shard that was closed.
func (r *reader) read(ctx context.Context, s *shard) ([]*shard, error) {
	began := time.Now()
	last := "" // sequence number of what was taken
	defer r.progress.behind(s.id, 0)

	iterator, err := r.iterator(ctx, s, last, began)
	for expired := 0; err == nil; {
		started := time.Now()
		var out *kinesis.GetRecordsOutput
		out, err = r.readOnce(ctx, s, iterator)
		var old *types.ExpiredIteratorException
		if errors.As(err, &old) && expired < maxExpired {
			expired++
			iterator, err = r.iterator(ctx, s, last, began)
			continue
		}
		if err != nil {
			break
		}
		expired = 0
		if n := len(out.Records); n > 0 {
			last = aws.ToString(out.Records[n-1].SequenceNumber)
		}
		behind := time.Duration(aws.ToInt64(out.MillisBehindLatest)) * time.Millisecond
		r.progress.behind(s.id, behind)
		if out.NextShardIterator == nil {
			return r.children(ctx, s, out.ChildShards)
		}
		if behind == 0 && !r.follow {
			return nil, nil
		}
		iterator = *out.NextShardIterator
		every := readEvery
		if behind == 0 && len(out.Records) == 0 {
			every = idleEvery
		}
		err = sleep(ctx, every-time.Since(started))
	}
	return nil, err
}

// readOnce reads once and hands over what came, while it holds one of the slots.
func (r *reader) readOnce(ctx context.Context, s *shard, iterator string) (*kinesis.GetRecordsOutput, error) {
	var out *kinesis.GetRecordsOutput
	err := r.patiently(ctx, func() (err error) {
		select {
		case r.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		defer func() { <-r.slots }()
		in := &kinesis.GetRecordsInput{ShardIterator: &iterator}
		if isARN(r.stream) {
			in.StreamARN = &r.stream
		}
		if out, err = r.api.GetRecords(ctx, in); err != nil || len(out.Records) == 0 {
			return err
		}
		r.taking.Lock()
		defer r.taking.Unlock()
		if err := r.take(s, out.Records); err != nil {
			return &takeError{err}
		}
		return ctx.Err()
	})
	return out, err
}

// takeError keeps an error of take, which may be one of the network's kind,
// from being taken for Kinesis's.
type takeError struct{ err error }

func (e *takeError) Error() string { return e.err.Error() }
func (e *takeError) Unwrap() error { return e.err }

// iterator returns an iterator behind the record that was read last, or to
// where the shard is to be read from.
func (r *reader) iterator(ctx context.Context, s *shard, last string, began time.Time) (string, error) {
	in := &kinesis.GetShardIteratorInput{ShardId: &s.id}
	in.StreamName, in.StreamARN = r.streamID()
	switch {
	case last != "":
		in.ShardIteratorType, in.StartingSequenceNumber = types.ShardIteratorTypeAfterSequenceNumber, &last
	case s.from.kind == fromStart:
		in.ShardIteratorType = types.ShardIteratorTypeTrimHorizon
	case s.from.kind == fromTime:
		in.ShardIteratorType, in.Timestamp = types.ShardIteratorTypeAtTimestamp, &s.from.at
	default:
		in.ShardIteratorType = types.ShardIteratorTypeLatest
		// Should this one expire before anything came, the next one is not to
		// pass over what came in between.
		s.from = position{fromTime, began}
	}
	var out *kinesis.GetShardIteratorOutput
	err := r.patiently(ctx, func() (err error) {
		out, err = r.api.GetShardIterator(ctx, in)
		return err
	})
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ShardIterator), nil
}

// children returns the shards that s was split or merged into. Kinesis names
// them with the last records; where it does not, the list of shards does.
func (r *reader) children(ctx context.Context, s *shard, named []types.ChildShard) ([]*shard, error) {
	if r.only != "" {
		return nil, nil
	}
	var children []*shard
	for _, c := range named {
		keys, err := hashKeyRange(c.HashKeyRange)
		if err != nil {
			return nil, err
		}
		children = append(children, &shard{id: aws.ToString(c.ShardId), parents: c.ParentShards, keys: keys})
	}
	for n := 0; len(children) == 0; n++ {
		if n == listings {
			r.progress.warn("%s is closed, and has no children: what followed it is not read", s.id)
			return nil, nil
		}
		if n > 0 {
			if err := sleep(ctx, idleEvery); err != nil {
				return nil, err
			}
		}
		all, err := r.list(ctx)
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			if slices.Contains(c.parents, s.id) {
				children = append(children, c)
			}
		}
	}
	return children, nil
}

// patiently makes a call, and makes it again while its errors are of a kind
// that passes.
func (r *reader) patiently(ctx context.Context, call func() error) error {
	wait := firstWait
	for failures := 0; ; {
		err := call()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		var own *takeError
		switch {
		case errors.As(err, &own):
			return err
		case isThrottled(err):
			r.progress.throttled()
		case isRetryable(err) && failures < maxFailures:
			if failures++; failures == 1 {
				r.progress.warn("%v: trying again", callError{err})
			}
		default:
			return callError{err}
		}
		// Half of it by chance, so that shards do not come back all at once.
		if err := sleep(ctx, wait/2+rand.N(wait/2)); err != nil {
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// callError says of an error of the SDK what a person wants to know: Kinesis's
// word for it, or what was wrong with the connection.
type callError struct{ err error }

func (e callError) Unwrap() error { return e.err }

func (e callError) Error() string {
	var answer smithy.APIError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.As(e.err, &answer):
		return answer.ErrorCode() + ": " + answer.ErrorMessage()
	case errors.As(e.err, &unsent):
		return unsent.Err.Error()
	}
	return e.err.Error()
}

func isThrottled(err error) bool {
	var e smithy.APIError
	return errors.As(err, &e) && e.ErrorCode() == "KMSThrottlingException" ||
		retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary
}

func isRetryable(err error) bool {
	var e smithy.APIError
	if errors.As(err, &e) && (e.ErrorCode() == "InternalFailureException" || e.ErrorCode() == "InternalFailure") {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) ||
		retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary
}

// sleep waits, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
