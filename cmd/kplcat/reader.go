package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"out_kinesis_agg/kpl"
)

// record is a Kinesis record.
type record = types.Record

// shard is a shard that is read, or waits for its parents.
type shard struct {
	id      string
	parents []string
	closed  bool // when it was listed
	keys    kpl.HashKeyRange
	from    position
}

// reader reads the shards of a stream side by side, but a shard after its
// parents, and hands over what comes.
type reader struct {
	api    api
	stream string // name or ARN
	from   position
	only   string // the one shard to read; empty: all
	follow bool
	// take gets the records of a shard in order. It is called by one goroutine
	// at a time; an error ends the reading.
	take     func(*shard, []record) error
	progress *progress

	taking sync.Mutex
	slots  chan struct{}
}

// maxReads bounds how many answers, of up to 10 MiB each, are on their way or
// wait for being printed.
const maxReads = 8

// run reads until all is read, or ctx ends.
func (r *reader) run(ctx context.Context) error {
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
		shard    *shard
		children []*shard
		err      error
	}
	ends := make(chan end)
	known := map[string]bool{}       // whatever is not to be read again
	unread := map[string]*shard{}    // waiting or being read
	reading := map[string]struct{}{} // of those
	for _, s := range listed {
		known[s.id] = true
	}
	for _, s := range first {
		unread[s.id] = s
	}
	for {
		for _, id := range slices.Sorted(maps.Keys(unread)) {
			s := unread[id]
			if _, busy := reading[id]; busy || err != nil || slices.ContainsFunc(s.parents, func(p string) bool { return unread[p] != nil }) {
				continue
			}
			reading[id] = struct{}{}
			go func() {
				children, err := r.read(ctx, s)
				if err != nil {
					err = fmt.Errorf("%s: %w", s.id, err)
				}
				ends <- end{s, children, err}
			}()
		}
		r.progress.shards(len(reading), len(unread))
		if len(reading) == 0 {
			return err
		}
		e := <-ends
		delete(reading, e.shard.id)
		delete(unread, e.shard.id)
		if e.err != nil && err == nil {
			err = e.err
			cancel()
		}
		for _, child := range e.children {
			// A child of two parents is reported by both.
			if !known[child.id] {
				known[child.id] = true
				unread[child.id] = child
			}
		}
	}
}

// choose picks the shards to begin with.
func (r *reader) choose(listed []*shard) ([]*shard, error) {
	var chosen []*shard
	var ids []string
	for _, s := range listed {
		ids = append(ids, s.id)
		s.from = r.from
		// A closed shard has nothing that comes from now on.
		if r.only == s.id || r.only == "" && !(r.from.kind == fromNow && s.closed) {
			chosen = append(chosen, s)
		}
	}
	if r.only != "" && len(chosen) == 0 {
		return nil, fmt.Errorf("there is no shard %s; there are %s", r.only, strings.Join(ids, " "))
	}
	return chosen, nil
}

// list returns the shards of the stream that still have records, or may get some.
func (r *reader) list(ctx context.Context) ([]*shard, error) {
	var all []*shard
	in := &kinesis.ListShardsInput{}
	in.StreamName, in.StreamARN = r.streamID()
	for {
		var out *kinesis.ListShardsOutput
		err := r.patiently(ctx, func() (err error) {
			out, err = r.api.ListShards(ctx, in)
			return err
		})
		var expired *types.ExpiredNextTokenException
		if errors.As(err, &expired) {
			return r.list(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("list the shards: %w", err)
		}
		for _, s := range out.Shards {
			keys, err := hashKeyRange(s.HashKeyRange)
			if err != nil {
				return nil, err
			}
			one := &shard{id: aws.ToString(s.ShardId), keys: keys,
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
}

func hashKeyRange(r *types.HashKeyRange) (kpl.HashKeyRange, error) {
	if r == nil {
		return kpl.HashKeyRange{}, errors.New("a shard without a hash key range")
	}
	return kpl.ParseHashKeyRange(aws.ToString(r.StartingHashKey), aws.ToString(r.EndingHashKey))
}

// streamID is the stream, either as a name or as an ARN.
func (r *reader) streamID() (name, arn *string) {
	if isARN(r.stream) {
		return nil, &r.stream
	}
	return &r.stream, nil
}
