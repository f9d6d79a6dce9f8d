// Package autostream detects, from the responses of PutRecord alone, that a
// Kinesis stream has the record distribution strategy AUTO. Such a stream
// ignores partition keys, and KCL drops aggregated records from it.
//
// # What a stream with user partition keys promises
//
// A shard owns one range of hash keys, from its creation to its end. The open
// shards own every hash key exactly once. A split or a merge closes the parents,
// and their children take what the parents owned; a closed shard takes no record
// again, and its id is not used again. So each shard is a rectangle, hash keys by
// time, and no two rectangles overlap. (Sources: "Complete the resharding
// action" in the developer guide of Kinesis Data Streams; HashKeyRange and
// ShardId in its API reference.)
//
// A response says that its shard was open at some moment of the request, and
// that the shard owns the request's hash key. From several responses of a shard,
// the detector knows a part of its rectangle: the range from the lowest to the
// highest hash key, and the time from the end of its first request to the
// beginning of the one that began last. A range of a single hash key, as with a
// fixed partition key, is a range too. If the known rectangles of two shards
// overlap, the stream does not have user partition keys, or it was deleted and
// created again in between. That is a contradiction. The common form: shard A
// responds, then shard B within A's range (a reshard, so A is closed), then A
// again.
//
// # Time without a clock
//
// The time of a request's beginning is its ticket, the number of requests begun
// so far; the time of its end is the number of requests begun until then. Request
// Y began after the response of request X exactly if the ticket of Y is larger
// than the end of X. Requests that overlap in time prove no order, so that any
// number of workers, slow responses and lost responses are harmless. If the SDK
// repeats a request within one call, the beginning of the call counts: the
// request seems longer than it was, which proves less.
//
// A front end that learns late of a reshard does not matter either. The shard
// stores the record, not the front end, and a closed shard stores nothing. Once
// the response of a child is here, the parent is closed, and no request that
// begins after that can be stored in it, by whatever way it gets there. If it
// could, a consumer that reads the parent to its end before the child, as KCL
// does, would read the records of a partition key in the wrong order.
//
// # A stream that is deleted and created again
//
// The new stream has the old name and the old shard ids with other ranges, so that what the
// detector knows is wrong. After each contradiction it therefore forgets
// everything, and takes as evidence only requests that begin after that. The
// requests of two contradictions never overlap in time, and a contradiction
// needs a request that the old stream stored and one that the new stream
// stored. So there are at most as many contradictions as the stream was created
// again, however many workers there are.
//
// A stream with AUTO produces contradictions one after the other. The detector
// reports AUTO at the third, if no two in a row are more than 256 responses
// apart. For a false alarm, a stream has to be created again three times, with
// other ranges each time, within 512 responses, and no request may have met the
// time without a stream: its owner calls Reset when Kinesis says that the stream
// does not exist.
//
// # What the detector does not use
//
// The order of shard ids. Kinesis numbers shards upwards and clients rely on
// that to list new shards (ExclusiveStartShardId), but the API reference does not
// promise that the id of a child is larger than its parent's. Ids are compared
// for equality only.
package autostream

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"

	"out_kinesis_agg/kpl"
)

const (
	// alarmAfter is the number of contradictions that mean AUTO. A stream that is
	// created again explains one; two fit into an hour of tests or of repairs.
	alarmAfter = 3

	// maxGap is the number of responses without a contradiction after which
	// earlier contradictions do not count. AUTO with n shards needs about
	// 1.5*sqrt(n) responses for the next contradiction, 150 with 10,000 shards.
	maxGap = 256

	// maxOpen bounds the memory, at about 100 bytes a shard. It is above the
	// largest quota for shards of a stream: 10 GB/s on demand, 1 MB/s a shard.
	maxOpen = 1 << 15

	// minClosed is the number of closed shards that are always remembered.
	minClosed = 1024
)

// idSeed is the seed of the 64-bit hashes that stand for shard ids. Among 10,000
// shards two have the same hash once in 10^11 streams.
var idSeed = maphash.MakeSeed()

// Ticket is the time at which a request began. The zero Ticket is valid and
// older than all others: its request proves nothing.
type Ticket uint64

// Detector watches one stream. The zero value is ready for use. A Detector is
// safe for concurrent use and must not be copied.
type Detector struct {
	begun atomic.Uint64 // the requests begun so far, and the last ticket

	mu sync.Mutex
	// start is the last ticket that is not evidence.
	start  uint64
	shards map[uint64]*shard // by hash of the id
	// open are the shards that are not known to be closed, in the order of their
	// ranges, which do not overlap.
	open           []*shard
	contradictions int
	quiet          int    // responses since knowledge is empty
	lastEnd        uint64 // the end of the last response
	detected       bool
}

// shard is the known part of a shard's rectangle.
type shard struct {
	keys      kpl.HashKeyRange
	firstEnd  uint64 // the end of the request that responded first
	lastBegin uint64 // the largest ticket
	// closed is 0 for an open shard, else a time at which it was closed.
	closed uint64
}

// Begin returns the ticket of a request that is about to be sent. Call it before
// the first attempt if one call makes several. A request that fails needs no
// further call.
func (d *Detector) Begin() Ticket {
	return Ticket(d.begun.Add(1))
}

// Observe takes the successful response of the request with the ticket t of this
// Detector: the hash of its partition key, and the ShardId as Kinesis sent it,
// which is not kept. It returns true once, for the response that completes the
// proof that the stream has AUTO. After that it ignores responses until Reset.
func (d *Detector) Observe(t Ticket, key kpl.HashKey, shardID string) bool {
	id, begin := maphash.String(idSeed, shardID), uint64(t)

	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.begun.Load()
	if d.detected || begin <= d.start || begin > now {
		return false
	}
	d.quiet++
	// Nothing else can be in the place of this request if it began after all
	// other responses: the stream that contradicts them stored it.
	newest := begin > d.lastEnd
	d.lastEnd = now
	if d.learn(id, key, begin, now) {
		return false
	}
	if d.quiet > maxGap {
		d.contradictions = 0
	} else {
		d.contradictions++
	}
	d.forget(now)
	if newest {
		d.learn(id, key, begin, now)
	}
	d.detected = d.contradictions == alarmAfter
	return d.detected
}

// Detected reports whether Observe has returned true since the last Reset.
func (d *Detector) Detected() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.detected
}

// Reset forgets everything, the alarm too. Responses of requests that began
// before are ignored. Call it when the stream is known to have user partition
// keys again, and when Kinesis says that the stream does not exist.
func (d *Detector) Reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.forget(d.begun.Load())
	d.contradictions, d.detected = 0, false
}

// forget drops all knowledge. Requests that began at or before now are not
// evidence any more.
func (d *Detector) forget(now uint64) {
	d.start, d.quiet = now, 0
	d.shards, d.open = nil, nil
}

// learn adds a response to what is known, or returns false if it contradicts
// that. It may also leave out a response: what the others prove stays true.
func (d *Detector) learn(id uint64, key kpl.HashKey, begin, now uint64) bool {
	known := d.shards[id]
	if known != nil && known.closed != 0 {
		return begin <= known.closed
	}
	s := shard{kpl.HashKeyRange{Starting: key, Ending: key}, now, begin, 0}
	if known != nil {
		s = *known
		s.lastBegin = max(s.lastBegin, begin)
		if s.keys.Contains(key) {
			known.lastBegin = s.lastBegin
			return true
		}
		if key.Compare(s.keys.Starting) < 0 {
			s.keys.Starting = key
		} else {
			s.keys.Ending = key
		}
	}

	// Only a new or wider range can overlap with others.
	first, _ := slices.BinarySearchFunc(d.open, s.keys.Starting, func(o *shard, k kpl.HashKey) int {
		return o.keys.Ending.Compare(k)
	})
	end := first
	younger := uint64(0) // the first end among shards that came after s
	unordered := false
	for ; end < len(d.open) && d.open[end].keys.Starting.Compare(s.keys.Ending) <= 0; end++ {
		o := d.open[end]
		if o == known {
			continue
		}
		after, before := s.lastBegin > o.firstEnd, o.lastBegin > s.firstEnd
		switch {
		case after && before:
			return false
		case before:
			if younger == 0 || o.firstEnd < younger {
				younger = o.firstEnd
			}
		case !after:
			unordered = true
		}
	}
	switch {
	case younger != 0:
		// A late response of a parent, whose children responded before.
		at := slices.Index(d.open[first:end], known)
		known.closed = younger
		d.open = slices.Delete(d.open, first+at, first+at+1)
		return true
	case unordered:
		return true
	}

	if known == nil {
		if len(d.open) >= maxOpen {
			d.forget(now)
			return true
		}
		if d.shards == nil {
			d.shards = map[uint64]*shard{}
		}
		known = new(shard)
		d.shards[id] = known
	}
	*known = s
	for _, o := range d.open[first:end] {
		if o != known {
			o.closed = s.firstEnd
		}
	}
	d.open = slices.Replace(d.open, first, end, known)
	d.trim()
	return true
}

// trim forgets the closed shards once there are more of them than open ones. An
// id that is forgotten counts as new.
func (d *Detector) trim() {
	if len(d.shards)-len(d.open) <= len(d.open)+minClosed {
		return
	}
	for id, s := range d.shards {
		if s.closed != 0 {
			delete(d.shards, id)
		}
	}
}
