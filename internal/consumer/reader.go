package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"out_kinesis_agg/internal/arn"
	"out_kinesis_agg/kpl"
)

// Reader reads a stream once. Its fields are set before Read and not changed
// after it.
type Reader struct {
	API    API
	Stream string // name or ARN
	From   Position
	// To ends a shard at the first record that arrived at this time or later.
	// Zero: no end.
	To time.Time
	// Shards are the IDs of the shards to read. Shards that they are split or
	// merged into are not read. Empty: all shards.
	Shards []string
	// Follow waits for more records at the tip of a shard, until To or until
	// the context ends. Without it, the read ends at the tip.
	Follow bool
	// Handle is called by one goroutine at a time, and not again after it has
	// returned an error.
	Handle  Handler
	Monitor Monitor

	handling sync.Mutex
	stopped  error // what Handle returned
	slots    chan struct{}
}

// maxReads bounds how many responses, of up to 10 MiB each, are in flight or
// wait for Handle.
const maxReads = 8

// Read reads until the end, until Handle returns an error, or until ctx ends.
// It is called once. An error of Handle is wrapped, except for ErrStop, which
// is not an error.
func (r *Reader) Read(ctx context.Context) error {
	err := r.read(ctx)
	if err == nil || errors.Is(err, ErrStop) {
		return nil
	}
	return fmt.Errorf("consumer: %w", err)
}

func (r *Reader) read(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.slots = make(chan struct{}, maxReads)

	listed, err := r.list(ctx)
	if err != nil {
		return err
	}
	first, err := r.choose(listed)
	if err != nil {
		return err
	}

	type end struct {
		shard    *Shard
		children []*Shard
		err      error
	}
	ends := make(chan end)
	known := map[string]bool{}       // shards that are not to be added again
	unread := map[string]*Shard{}    // shards that wait or are being read
	reading := map[string]struct{}{} // those of unread that are being read
	for _, s := range listed {
		known[s.ID] = true
	}
	for _, s := range first {
		unread[s.ID] = s
	}
	for {
		for _, id := range slices.Sorted(maps.Keys(unread)) {
			s := unread[id]
			if _, busy := reading[id]; busy || err != nil || slices.ContainsFunc(s.parents, func(p string) bool { return unread[p] != nil }) {
				continue
			}
			reading[id] = struct{}{}
			go func() {
				children, err := r.readShard(ctx, s)
				if err != nil {
					err = fmt.Errorf("%s: %w", s.ID, err)
				}
				ends <- end{s, children, err}
			}()
		}
		r.Monitor.Shards(len(reading), len(unread))
		if len(reading) == 0 {
			return err
		}
		e := <-ends
		delete(reading, e.shard.ID)
		delete(unread, e.shard.ID)
		if e.err != nil && err == nil {
			err = e.err
			cancel()
		}
		for _, child := range e.children {
			// Both parents of a merged shard report it.
			if !known[child.ID] {
				known[child.ID] = true
				unread[child.ID] = child
			}
		}
	}
}

// choose returns the shards to start with.
func (r *Reader) choose(listed []*Shard) ([]*Shard, error) {
	var chosen []*Shard
	var ids []string
	for _, s := range listed {
		ids = append(ids, s.ID)
		s.from = r.From
		// A closed shard receives no more records.
		if slices.Contains(r.Shards, s.ID) || len(r.Shards) == 0 && !(r.From.Latest && s.closed) {
			chosen = append(chosen, s)
		}
	}
	for _, id := range r.Shards {
		if !slices.Contains(ids, id) {
			return nil, fmt.Errorf("no shard %s; the stream has %s", id, strings.Join(ids, " "))
		}
	}
	return chosen, nil
}

// list returns the shards of the stream that are open or still hold records.
func (r *Reader) list(ctx context.Context) (all []*Shard, err error) {
	for range maxExpired {
		var expired *types.ExpiredNextTokenException
		if all, err = r.listOnce(ctx); !errors.As(err, &expired) {
			return all, err
		}
	}
	return nil, err
}

// maxPages is far more than a stream has: a page holds up to 1,000 shards. Source:
// API reference, ListShards.
const maxPages = 1000

func (r *Reader) listOnce(ctx context.Context) ([]*Shard, error) {
	var all []*Shard
	in := &kinesis.ListShardsInput{}
	in.StreamName, in.StreamARN = r.streamID()
	for range maxPages {
		var out *kinesis.ListShardsOutput
		err := r.retry(ctx, func() (err error) {
			out, err = r.API.ListShards(ctx, in)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list the shards: %w", err)
		}
		for _, s := range out.Shards {
			keys, err := hashKeyRange(s.HashKeyRange)
			if err != nil {
				return nil, err
			}
			one := &Shard{ID: aws.ToString(s.ShardId), HashKeys: keys,
				closed: s.SequenceNumberRange != nil && s.SequenceNumberRange.EndingSequenceNumber != nil}
			for _, parent := range []*string{s.ParentShardId, s.AdjacentParentShardId} {
				if parent != nil {
					one.parents = append(one.parents, *parent)
				}
			}
			all = append(all, one)
		}
		if out.NextToken == nil {
			return all, nil
		}
		in = &kinesis.ListShardsInput{NextToken: out.NextToken}
	}
	return nil, fmt.Errorf("list the shards: the list does not end after %d pages", maxPages)
}

func hashKeyRange(r *types.HashKeyRange) (kpl.HashKeyRange, error) {
	if r == nil {
		return kpl.HashKeyRange{}, errors.New("a shard in the response has no hash key range")
	}
	return kpl.ParseHashKeyRange(aws.ToString(r.StartingHashKey), aws.ToString(r.EndingHashKey))
}

// streamID returns the stream either as a name or as an ARN.
func (r *Reader) streamID() (name, streamARN *string) {
	if arn.Is(r.Stream) {
		return nil, &r.Stream
	}
	return &r.Stream, nil
}
