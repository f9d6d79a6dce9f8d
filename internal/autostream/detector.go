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
// than the end of X. Requests that overlap in time prove no order, so any
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
// The new stream has the same name, and the same shard ids with other ranges: what
// the detector knows is wrong. After each contradiction it therefore forgets
// everything, and from then on takes as evidence only requests that began later.
// (The request that completed the contradiction is kept too if it began after all
// other responses, because then the new stream stored it.) A contradiction needs
// a request that the old stream stored and one that the new stream stored, so a
// creation of the stream causes at most one, however many workers there are.
//
// A stream with AUTO produces many contradictions. The detector reports AUTO after
// three in succession, each within 256 responses of the previous one or of the start.
// For a false alarm, a stream would have to be deleted and created again three times
// within 768 responses, with different ranges each time and without a request while it
// does not exist: the caller calls Reset when Kinesis says that the stream does not
// exist.
//
// # The order of shard ids
//
// Kinesis numbers the shards of a stream upwards, so of two shards with
// overlapping ranges the one with the lower number is the older one. If it
// responds last, that is a contradiction without a third response. The API
// reference does not promise this order. It implies it: ListShards returns the
// shards that follow an id (AFTER_SHARD_ID), and Flink's source and other clients
// find new shards in this way. The detector uses the order only for 256 responses
// after another contradiction, and not for the first one, so reshards alone
// would not cause an alarm if the order were wrong. Ids of another form than
// shardId-000000000000 have no order.
package autostream

import (
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"out_kinesis_agg/kpl"
)

const (
	// alarmAfter is the number of contradictions that mean AUTO.
	alarmAfter = 3

	// maxGap is the number of responses within which a contradiction has to be
	// found to count. AUTO with n shards and a random choice needs about
	// 1.5*sqrt(n): 17 with 128 shards, 150 with 10,000.
	maxGap = 256

	// maxOpen bounds the memory, at about 100 bytes a shard. It is above the
	// largest quota for shards of a stream: 10 GB/s on demand, 1 MB/s a shard.
	maxOpen = 1 << 15

	// minClosed is the number of closed shards that are remembered at least. With
	// one partition key, a stream with AUTO seems to close a shard with each
	// response, and no more than maxGap of them matter.
	minClosed = 2 * maxGap
)

// idSeed is the seed of the 64-bit hashes that replace shard ids. Among 10,000
// shards two have the same hash once in 10^11 streams.
var idSeed = maphash.MakeSeed()

// Ticket is the time at which a request began. The zero Ticket is valid and
// older than all others: its request proves nothing.
type Ticket uint64

// Detector watches one stream; whoever writes to several streams has one for each
// and bounds their number. The zero value is ready for use. A Detector is safe
// for concurrent use and must not be copied. It takes about 100 bytes a shard.
type Detector struct {
	begun atomic.Uint64 // the requests begun so far, and the last ticket

	mu sync.Mutex
	// start is a time: requests that began until then are not evidence.
	start uint64
	// lastEnd is the end of the last request that is evidence.
	lastEnd uint64
	shards  map[uint64]*shard // by hash of the id
	// open are the shards that are not known to be closed, in the order of their
	// ranges, which do not overlap.
	open           []*shard
	responses      int  // since the last contradiction
	contradictions int  // that count, one after the other
	doubtful       bool // whether there was a contradiction, counted or not
	detected       bool
}

// shard is the known part of a shard's rectangle.
type shard struct {
	number    int64 // of its id, or -1
	keys      kpl.HashKeyRange
	firstEnd  uint64 // the end of the request that responded first
	lastBegin uint64 // the largest ticket
	// closed is 0 for an open shard, else a time at which it was closed: a
	// request that began later cannot be stored in it.
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
	id, number, begin := maphash.String(idSeed, shardID), shardNumber(shardID), uint64(t)

	d.mu.Lock()
	defer d.mu.Unlock()
	end := d.begun.Load()
	if d.detected || begin <= d.start || begin > end {
		return false
	}
	latest := begin > d.lastEnd
	d.lastEnd = end
	d.responses++
	if d.learn(id, number, key, begin, end) {
		return false
	}

	if d.responses <= maxGap {
		d.contradictions++
	} else {
		d.contradictions = 0
	}
	d.forget(end)
	d.doubtful = true
	if latest {
		d.learn(id, number, key, begin, end)
	}
	d.detected = d.contradictions == alarmAfter
	return d.detected
}

// Alarm sets the alarm although no responses prove that the stream has AUTO: another
// source says so.
func (d *Detector) Alarm() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.detected = true
}

// Detected reports whether there was an alarm since the last Reset.
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
	d.contradictions, d.doubtful, d.detected = 0, false, false
}

// forget drops what is known about shards. Requests that began until the time
// given are not evidence from now on.
func (d *Detector) forget(until uint64) {
	d.start, d.responses = until, 0
	d.shards, d.open = nil, nil
}

// learn adds a response to what is known about shards, or returns false if it
// contradicts that. It may also leave a response out, since the others prove what
// they prove without it.
func (d *Detector) learn(id uint64, number int64, key kpl.HashKey, begin, end uint64) bool {
	known := d.shards[id]
	if known != nil && known.closed != 0 {
		return begin <= known.closed
	}
	s := shard{number: number, keys: kpl.HashKeyRange{Starting: key, Ending: key}, firstEnd: end, lastBegin: begin}
	if known != nil {
		s = *known
		s.lastBegin = max(s.lastBegin, begin)
		if s.keys.Contains(key) {
			// The usual case. The range overlapped with no other one before.
			known.lastBegin = s.lastBegin
			return true
		}
		if key.Compare(s.keys.Starting) < 0 {
			s.keys.Starting = key
		} else {
			s.keys.Ending = key
		}
	}

	// The open shards from first up to last have ranges that overlap with that of
	// s; s is one of them unless it is new.
	first, _ := slices.BinarySearchFunc(d.open, s.keys.Starting, func(o *shard, k kpl.HashKey) int {
		return o.keys.Ending.Compare(k)
	})
	last := first
	var replaced uint64 // when the first child of s had responded
	unordered := false
	for ; last < len(d.open) && d.open[last].keys.Starting.Compare(s.keys.Ending) <= 0; last++ {
		o := d.open[last]
		if o == known {
			continue
		}
		// One of the two was open when the other one had been open before.
		after, before := s.lastBegin > o.firstEnd, o.lastBegin > s.firstEnd
		switch {
		case after && before, after && d.older(&s, o), before && d.older(o, &s):
			return false
		case before:
			if replaced == 0 || o.firstEnd < replaced {
				replaced = o.firstEnd
			}
		case !after:
			unordered = true
		}
	}

	if replaced != 0 {
		// A response of a parent that came after those of its children.
		known.closed = replaced
		d.open = slices.DeleteFunc(d.open, func(o *shard) bool { return o == known })
		return true
	}
	if unordered {
		return true
	}
	if known == nil {
		if len(d.open) == maxOpen {
			d.forget(end)
			return true
		}
		if d.shards == nil {
			d.shards = map[uint64]*shard{}
		}
		known = new(shard)
		d.shards[id] = known
	}
	*known = s
	for _, o := range d.open[first:last] {
		if o != known {
			o.closed = s.firstEnd
		}
	}
	d.open = slices.Replace(d.open, first, last, known)
	d.trim()
	return true
}

// older reports whether a is older than b by their numbers, if these may be used.
func (d *Detector) older(a, b *shard) bool {
	return d.doubtful && d.responses <= maxGap && a.number >= 0 && a.number < b.number
}

// trim forgets the closed shards once there are more of them than open ones. A
// forgotten shard that responds counts as new.
func (d *Detector) trim() {
	if len(d.shards)-len(d.open) <= max(len(d.open), minClosed) {
		return
	}
	for id, s := range d.shards {
		if s.closed != 0 {
			delete(d.shards, id)
		}
	}
}

// shardNumber returns the number in an id of the form shardId-000000000000, or
// -1 if the id has another form.
func shardNumber(id string) int64 {
	digits, ok := strings.CutPrefix(id, "shardId-")
	n, err := strconv.ParseUint(digits, 10, 63)
	if !ok || len(digits) != 12 || err != nil {
		return -1
	}
	return int64(n)
}
