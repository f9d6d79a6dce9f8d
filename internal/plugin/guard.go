package plugin

import (
	"container/list"
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/google/uuid"

	"out_kinesis_agg/internal/autostream"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
)

const (
	// checkInterval is the time between two checks of a stream with the strategy
	// AUTO, and the longest delay of the first one. All agents of an account notice
	// AUTO at about the same time, and DescribeStreamSummary permits 20 calls a
	// second for all of them, so that each waits for a random part of the interval.
	checkInterval = 5 * time.Minute

	// maxGuarded bounds the streams that are watched at once. With $TAG in stream
	// there can be any number; the one that was used least recently is forgotten.
	maxGuarded = 1024

	// probeRequests is the number of records that find out whether a stream has
	// user partition keys again. In simulations, 100 find AUTO in at least 99.7% of
	// runs with up to 128 shards; if they do not, the next records do.
	probeRequests = 100
)

// intervalVariable is the name of the environment variable that replaces
// checkInterval, as a Go duration. It is for tests of the built library.
const intervalVariable = "KINESIS_AGG_CHECK_INTERVAL"

// intervalOf returns the interval in the environment, or checkInterval.
func intervalOf(value string) time.Duration {
	if d, err := time.ParseDuration(value); err == nil && d > 0 {
		return d
	}
	return checkInterval
}

// causeAuto is the cause of a flush that is held because of the strategy AUTO.
const causeAuto = "auto_stream"

// streamClient is the part of kinesis.Sender that a guard uses.
type streamClient interface {
	PutRecord(ctx context.Context, stream, partitionKey string, data []byte) (shardID string, err error)
	Describe(ctx context.Context, stream string) (kinesis.Stream, error)
}

// guard keeps aggregated records away from streams with the record distribution
// strategy AUTO, which ignore partition keys: KCL drops the records silently. It is
// safe for concurrent use.
type guard struct {
	client   streamClient
	now      func() time.Time
	interval time.Duration
	holds    bool // with on_auto_stream hold

	mu      sync.Mutex
	streams map[string]*list.Element // of byUse
	byUse   list.List                // of *watch, the most recently used first
}

func newGuard(client streamClient, holds bool, interval time.Duration) *guard {
	return &guard{client: client, now: time.Now, interval: interval, holds: holds, streams: map[string]*list.Element{}}
}

// watch returns the watch of a stream.
func (g *guard) watch(stream string) *watch {
	g.mu.Lock()
	defer g.mu.Unlock()
	if e := g.streams[stream]; e != nil {
		g.byUse.MoveToFront(e)
		return e.Value.(*watch)
	}
	if g.byUse.Len() == maxGuarded {
		g.forget()
	}
	w := &watch{guard: g, stream: stream}
	g.streams[stream] = g.byUse.PushFront(w)
	return w
}

// forget removes the watch that was used least recently. A stream with AUTO is the
// last to go, because its next records would be lost.
func (g *guard) forget() {
	oldest := g.byUse.Back()
	for e := oldest; e != nil; e = e.Prev() {
		if !e.Value.(*watch).detector.Detected() {
			oldest = e
			break
		}
	}
	delete(g.streams, oldest.Value.(*watch).stream)
	g.byUse.Remove(oldest)
}

// watch is what the guard knows of one stream.
type watch struct {
	*guard
	stream   string
	detector autostream.Detector

	checking sync.Mutex // held by the flush that checks the stream

	mu        sync.Mutex
	next      time.Time // of the next check, once AUTO is detected
	confirmed bool      // by DescribeStreamSummary
	denied    bool      // DescribeStreamSummary is not permitted
}

// accepted records a response. It returns a line for the log if it proves that the
// stream has the strategy AUTO.
func (w *watch) accepted(t autostream.Ticket, partitionKey, shardID string) (alarm string) {
	if !w.detector.Observe(t, kpl.HashKeyOf(partitionKey), shardID) {
		return ""
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = w.now().Add(rand.N(w.interval))
	w.confirmed, w.denied = false, false
	return w.text()
}

// text describes the state of a stream with AUTO. w.mu is locked.
func (w *watch) text() string {
	proof := "the shards in its responses do not match the partition keys"
	if w.confirmed {
		proof = "DescribeStreamSummary reports it"
	}
	effect := "chunks are held until that changes"
	if !w.holds {
		effect = "chunks are still sent, because on_auto_stream is warn"
	}
	return fmt.Sprintf("stream %s has the record distribution strategy AUTO (%s): KCL drops aggregated records from it without an error, so %s: change the stream's strategy to USER_PARTITION_KEY, or use the output kinesis_streams",
		w.stream, proof, effect)
}

// check returns why a part must not be sent to the stream, or an empty string. If a
// check of the stream is due, the calling flush makes it, within ctx. recovered is a
// line for the log if that finds user partition keys.
func (w *watch) check(ctx context.Context) (problem, recovered string) {
	if !w.detector.Detected() {
		return "", ""
	}
	w.mu.Lock()
	due := !w.now().Before(w.next)
	problem = w.text()
	w.mu.Unlock()
	if !due || !w.checking.TryLock() {
		return problem, ""
	}
	defer w.checking.Unlock() // also after a panic
	state := w.describe(ctx)
	if state == notPermitted && w.holds {
		state = w.probe(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = w.now().Add(w.interval*4/5 + rand.N(w.interval*2/5))
	switch state {
	case hasUserKeys:
		w.detector.Reset()
		return "", fmt.Sprintf("stream %s has user partition keys, delivery continues", w.stream)
	case hasAuto:
		return w.text(), ""
	default:
		return problem, ""
	}
}

// strategy is the result of a check.
type strategy int

const (
	unknown strategy = iota
	notPermitted
	hasAuto
	hasUserKeys
)

// describe asks Kinesis for the strategy. It returns notPermitted only if an earlier
// check was not permitted either: the first check of an alarm does not probe.
func (w *watch) describe(ctx context.Context) strategy {
	stream, err := w.client.Describe(ctx, w.stream)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		w.confirmed, w.denied = stream.DistributesRecords, false
		if stream.DistributesRecords {
			return hasAuto
		}
		return hasUserKeys
	case kinesis.Classify(err).Cause != kinesis.CauseAccessDenied:
		return unknown
	case !w.denied:
		w.denied = true
		return unknown
	}
	return notPermitted
}

// probe finds out the strategy without a permission: it sends aggregated records
// without user records, which consumers do not see, until their shards prove AUTO.
func (w *watch) probe(ctx context.Context) strategy {
	var probe autostream.Detector
	for range probeRequests {
		key, record := emptyRecord()
		ticket := probe.Begin()
		shardID, err := w.client.PutRecord(ctx, w.stream, key, record)
		if err != nil {
			return unknown
		}
		if probe.Observe(ticket, kpl.HashKeyOf(key), shardID) {
			return hasAuto
		}
	}
	return hasUserKeys
}

// emptyRecord returns an aggregated record without user records, which consumers do
// not see, and its random partition key.
func emptyRecord() (partitionKey string, record []byte) {
	key := uuid.NewString()
	return key, kpl.Seal(kpl.AppendHead(nil, key))
}
