package autostream

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"out_kinesis_agg/kpl"
)

// simStream is a Kinesis stream in memory. Its boundaries between shards have 64
// bits, as most real ones do.
type simStream struct {
	rng  *rand.Rand
	open []simShard // in the order of their ranges
	next int        // the number of the next shard

	// auto chooses a shard instead of the partition key.
	auto func(open int) int
}

type simShard struct {
	id    string
	start uint64
	from  kpl.HashKey
}

func newSimStream(rng *rand.Rand, shards int) *simStream {
	s := &simStream{rng: rng}
	s.create(shards)
	return s
}

// create makes the stream anew, with uniform ranges and ids from 0.
func (s *simStream) create(shards int) {
	s.open, s.next = nil, 0
	for i := range shards {
		s.open = append(s.open, s.shard(uint64(i)*(^uint64(0)/uint64(shards))))
	}
}

func (s *simStream) shard(start uint64) simShard {
	var from kpl.HashKey
	binary.BigEndian.PutUint64(from[:8], start)
	if s.next == len(shardIDs) {
		shardIDs = append(shardIDs, shardID(s.next))
	}
	s.next++
	return simShard{shardIDs[s.next-1], start, from}
}

// shardIDs caches shard IDs, because formatting them takes long. Tests do not run
// in parallel.
var shardIDs []string

// put stores a record and returns its shard.
func (s *simStream) put(key kpl.HashKey) string {
	if s.auto != nil {
		return s.open[s.auto(len(s.open))].id
	}
	i, found := slices.BinarySearchFunc(s.open, key, func(o simShard, k kpl.HashKey) int { return o.from.Compare(k) })
	if !found {
		i--
	}
	return s.open[i].id
}

func (s *simStream) end(i int) uint64 {
	if i+1 < len(s.open) {
		return s.open[i+1].start
	}
	return ^uint64(0)
}

// split closes a shard and opens its two children.
func (s *simStream) split(i int, at uint64) {
	if at <= s.open[i].start || at >= s.end(i) {
		return
	}
	s.open = slices.Replace(s.open, i, i+1, s.shard(s.open[i].start), s.shard(at))
}

// merge closes a shard and its right neighbour and opens their child.
func (s *simStream) merge(i int) {
	s.open = slices.Replace(s.open, i, i+2, s.shard(s.open[i].start))
}

// reshard makes one random split or merge.
func (s *simStream) reshard() {
	i := s.rng.IntN(len(s.open))
	if len(s.open) < 2 || s.rng.IntN(len(s.open)+8) < 8 {
		size := s.end(i) - s.open[i].start
		at := s.open[i].start + size/2
		if s.rng.IntN(2) == 0 {
			at = s.open[i].start + s.rng.Uint64N(size)
		}
		s.split(i, at)
		return
	}
	s.merge(min(i, len(s.open)-2))
}

// rescale makes the next step towards uniform ranges of n shards, as
// UpdateShardCount does with splits and merges, and reports whether it was the
// last one.
func (s *simStream) rescale(n int) bool {
	size := ^uint64(0) / uint64(n)
	for k := range n {
		want := uint64(k) * size
		for i, o := range s.open {
			if o.start < want && want < s.end(i) {
				s.split(i, want)
				return false
			}
		}
	}
	for i := range s.open[1:] {
		if s.open[i+1].start%size != 0 || s.open[i+1].start/size >= uint64(n) {
			s.merge(i)
			return false
		}
	}
	return true
}

// simLoad is a number of virtual workers that write to a stream one PutRecord
// after the other, in simulated time.
type simLoad struct {
	rng     *rand.Rand
	stream  *simStream
	d       *Detector
	workers []simWorker
	key     func() kpl.HashKey
	hostile bool // slow, repeated and failing requests

	now       float64
	responses int
	// observed is called for each response.
	observed func(detected bool)
}

type simWorker struct {
	next   float64 // when its next step is due
	step   int
	ticket Ticket
	key    kpl.HashKey
	shard  string
}

func newSimLoad(rng *rand.Rand, s *simStream, workers int, key func() kpl.HashKey) *simLoad {
	l := &simLoad{rng: rng, stream: s, d: &Detector{}, workers: make([]simWorker, workers), key: key}
	for i := range l.workers {
		l.workers[i].next = l.after(1)
	}
	return l
}

// after returns a time at a random distance with the mean m from now.
func (l *simLoad) after(m float64) float64 { return l.now + l.rng.ExpFloat64()*m }

// slow is the mean duration of a half of a request.
func (l *simLoad) slow() float64 {
	if l.hostile && l.rng.IntN(100) == 0 {
		return 50
	}
	return 1
}

// advance makes the next step of the worker whose turn it is: it begins a
// request, the stream stores it, or the response arrives.
func (l *simLoad) advance() {
	w := &l.workers[0]
	for i := range l.workers {
		if l.workers[i].next < w.next {
			w = &l.workers[i]
		}
	}
	l.now = w.next
	switch w.step {
	case 0:
		w.ticket, w.key = l.d.Begin(), l.key()
		w.step, w.next = 1, l.after(l.slow())
	case 1:
		w.shard = l.stream.put(w.key)
		w.step, w.next = 2, l.after(l.slow())
		if l.hostile && l.rng.IntN(20) == 0 {
			w.step = 1 // the response is lost, and the SDK repeats the request
		}
	case 2:
		w.step, w.next = 0, l.after(0.2)
		if l.hostile && l.rng.IntN(50) == 0 {
			return // it fails
		}
		l.responses++
		detected := l.d.Observe(w.ticket, w.key, w.shard)
		if l.observed != nil {
			l.observed(detected)
		}
	}
}

// simKeys are the ways in which the plugin makes partition keys.
func simKeys(rng *rand.Rand, n int) func() kpl.HashKey {
	if n == 0 {
		var b [16]byte
		return func() kpl.HashKey {
			for i := range b {
				b[i] = byte(rng.Uint32())
			}
			return kpl.HashKeyOf(string(b[:]))
		}
	}
	var keys []kpl.HashKey
	for range n {
		keys = append(keys, kpl.HashKeyOf(strconv.FormatUint(rng.Uint64(), 36)))
	}
	return func() kpl.HashKey { return keys[rng.IntN(n)] }
}

// runsDivisor makes simulations, which have one goroutine, shorter with -short and
// under the race detector, which makes them twenty times slower.
func runsDivisor() int {
	if race || testing.Short() {
		return 20
	}
	return 1
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 12)) }

// TestObserve_NoFalseAlarm writes a million records with user partition keys
// while the streams are resharded, at a rate that AWS does not allow, and deleted
// and created again without a request that meets the time between.
func TestObserve_NoFalseAlarm(t *testing.T) {
	perStream := 62_500 / runsDivisor()
	total, alarms, reshards, created, contradictions := 0, 0, 0, 0, 0
	for seed := range uint64(16) {
		rng := newRand(seed)
		s := newSimStream(rng, 1+rng.IntN(64))
		l := newSimLoad(rng, s, 32, simKeys(rng, []int{0, 0, 1, 5}[seed%4]))
		l.hostile = true
		start := uint64(0)
		l.observed = func(detected bool) {
			if detected {
				alarms++
			}
			if l.d.start != start {
				contradictions++
				start = l.d.start
			}
		}
		scaleTo := 0
		nextReshard, nextCreate := l.after(10), 4*maxGap
		for l.responses < perStream {
			l.advance()
			if l.now >= nextReshard {
				reshards++
				switch {
				case scaleTo > 0:
					if s.rescale(scaleTo) {
						scaleTo = 0
					}
					nextReshard = l.after(0.5)
				case rng.IntN(50) == 0:
					scaleTo = 1 + rng.IntN(2*len(s.open)+1)
				default:
					s.reshard()
					nextReshard = l.after([]float64{0.5, 10}[rng.IntN(2)])
				}
			}
			if l.responses >= nextCreate {
				// Twice in a row, then not for longer than an alarm can take.
				created++
				s.create(1 + rng.IntN(64))
				scaleTo = 0
				if created%2 == 1 {
					nextCreate = l.responses + rng.IntN(100)
				} else {
					nextCreate = l.responses + 4*maxGap
				}
			}
		}
		total += l.responses
	}
	t.Logf("%d PutRecords with 32 workers, %d splits and merges, %d times a stream is created again, %d contradictions: %d false alarms",
		total, reshards, created, contradictions, alarms)
	if contradictions < created/10 || contradictions > created {
		t.Errorf("%d contradictions: want one for many of the %d creations, and no other", contradictions, created)
	}
	if total < 16*perStream || alarms > 0 {
		t.Errorf("%d false alarms in %d PutRecords", alarms, total)
	}
}

// TestObserve_OneContradictionPerCreation deletes and creates streams again and
// again: contradictions stay fewer than creations.
func TestObserve_OneContradictionPerCreation(t *testing.T) {
	all := 0
	for seed := range uint64(200 / runsDivisor()) {
		rng := newRand(seed)
		s := newSimStream(rng, 1+rng.IntN(8))
		l := newSimLoad(rng, s, 1+rng.IntN(32), simKeys(rng, int(seed%4)))
		l.hostile = true
		created, found, before := 0, 0, uint64(0)
		l.observed = func(bool) {
			if l.d.start != before {
				found++
				before = l.d.start
			}
			l.d.detected = false
		}
		next := 100.0
		for l.responses < 3000 {
			l.advance()
			if l.now >= next {
				if rng.IntN(3) == 0 {
					created++
					s.create(1 + rng.IntN(8))
				} else {
					s.reshard()
				}
				next = l.after(float64(1 + rng.IntN(30)))
			}
			if found > created {
				t.Fatalf("seed %d: %d contradictions, but the stream was created again only %d times", seed, found, created)
			}
		}
		all += found
	}
	if all < 1000/runsDivisor() {
		t.Errorf("only %d contradictions: the test does not test", all)
	}
}

// The indices of strategies.
const (
	uniform = iota
	roundRobin
	sticky
	skewed
)

// strategies are ways in which a server could distribute records over n shards.
var strategies = []struct {
	name string
	make func(rng *rand.Rand) func(n int) int
}{
	{"uniform", func(rng *rand.Rand) func(int) int { return rng.IntN }},
	{"round robin", func(rng *rand.Rand) func(int) int {
		last := rng.IntN(1 << 20)
		return func(n int) int { last++; return last % n }
	}},
	{"sticky", func(rng *rand.Rand) func(int) int { // half of the requests stay where they were
		last := 0
		return func(n int) int {
			if rng.IntN(2) == 0 {
				last = rng.IntN(n)
			}
			return last % n
		}
	}},
	{"skewed 90/10", func(rng *rand.Rand) func(int) int { // 90% of the requests to 10% of the shards
		return func(n int) int {
			hot := (n + 9) / 10
			if rng.IntN(10) > 0 {
				return rng.IntN(hot)
			}
			return hot + rng.IntN(n-hot)
		}
	}},
}

// simDetect returns after how many responses of a stream with AUTO the detector
// reports it, or limit if it has not by then. The stream has user partition keys
// for the first responses, as many as before says.
func simDetect(seed uint64, strategy func(*rand.Rand) func(int) int, shards, workers, keys, before, limit int) int {
	rng := newRand(seed)
	s := newSimStream(rng, shards)
	l := newSimLoad(rng, s, workers, simKeys(rng, keys))
	for l.responses < before {
		l.advance()
	}
	s.auto = strategy(rng)
	done := false
	l.observed = func(detected bool) { done = done || detected }
	for !done && l.responses-before < limit {
		l.advance()
	}
	return l.responses - before
}

// distribution is the sorted results of many runs.
type distribution []int

func detect(runs int, one func(seed uint64) int) distribution {
	var d distribution
	for seed := range uint64(runs) {
		d = append(d, one(seed))
	}
	slices.Sort(d)
	return d
}

// within returns the percentage of the runs that took at most n responses.
func (d distribution) within(n int) float64 {
	in, _ := slices.BinarySearch(d, n+1)
	return 100 * float64(in) / float64(len(d))
}

func (d distribution) String() string {
	return fmt.Sprintf("%6.2f%% within 100, median %d, p99.9 %d, max %d",
		d.within(100), d[len(d)/2], d[(len(d)*999+999)/1000-1], d[len(d)-1])
}

// TestObserve_DetectsAUTO: streams that have AUTO from the start, or get it once
// the detector knows all ranges.
func TestObserve_DetectsAUTO(t *testing.T) {
	const limit = 1000
	runs := 1000 / runsDivisor()
	for _, c := range []struct {
		strategy, shards int
		want             float64 // percentage of runs
		within           int
	}{
		{uniform, 2, 100, 100}, {uniform, 4, 100, 100}, {uniform, 16, 100, 100}, {uniform, 128, 99.9, 100},
		{roundRobin, 2, 100, 100}, {roundRobin, 4, 100, 100}, {roundRobin, 16, 100, 100},
		// No shard responds twice within 128 responses.
		{roundRobin, 128, 100, 4*128 + 8},
		{sticky, 2, 100, 100}, {sticky, 4, 100, 100}, {sticky, 16, 100, 100},
		// Half of the responses say nothing new.
		{sticky, 128, 99, 100},
		// In 0.2% of the runs, fewer than three of 100 responses are from the cold shards.
		{skewed, 2, 99.5, 100}, {skewed, 4, 99.5, 100}, {skewed, 16, 100, 100}, {skewed, 128, 100, 100},
	} {
		strategy := strategies[c.strategy]
		for _, keys := range []struct {
			name             string
			n, before, share int
		}{
			{"random keys", 0, 0, 1},
			{"random keys, switched", 0, 8 * c.shards, 4},
			{"one key", 1, 0, 1},
			{"one key, switched", 1, 8 * c.shards, 4},
			{"five keys", 5, 0, 1},
		} {
			d := detect(runs/keys.share, func(seed uint64) int {
				return simDetect(seed, strategy.make, c.shards, 1, keys.n, keys.before, limit)
			})
			t.Logf("%-12s %3d shards, %-21s: %v", strategy.name, c.shards, keys.name, d)
			// Few runs cannot show a rate of 99.9%.
			if got := d.within(c.within); runsDivisor() == 1 && got < c.want {
				t.Errorf("%s, %d shards, %s: AUTO is detected within %d responses in %.2f%% of the runs, not %v%%",
					strategy.name, c.shards, keys.name, c.within, got, c.want)
			}
		}
	}
}

// TestObserve_DetectsWithWorkers: overlapping requests prove less. With many
// workers more responses are needed, in less time.
func TestObserve_DetectsWithWorkers(t *testing.T) {
	for _, c := range []struct{ workers, within int }{{2, 120}, {4, 160}, {8, 220}, {32, 600}} {
		for _, shards := range []int{2, 4, 16, 128} {
			d := detect(500/runsDivisor(), func(seed uint64) int {
				return simDetect(seed, strategies[uniform].make, shards, c.workers, 0, 0, 2000)
			})
			t.Logf("%2d workers, %3d shards: %v", c.workers, shards, d)
			if got := d.within(c.within); runsDivisor() == 1 && got < 99 {
				t.Errorf("%d workers, %d shards: AUTO is detected within %d responses in %.2f%% of the runs", c.workers, shards, c.within, got)
			}
		}
	}
}

// TestObserve_BackAndForth switches AUTO on and off. Each time it is on, it is
// detected; each time it is off, it is not.
func TestObserve_BackAndForth(t *testing.T) {
	rng := newRand(3)
	s := newSimStream(rng, 16)
	l := newSimLoad(rng, s, 4, simKeys(rng, 0))
	alarms := 0
	l.observed = func(detected bool) {
		if detected {
			alarms++
		}
	}
	for round := range 50 {
		s.auto = nil
		for end := l.responses + 1000; l.responses < end; {
			l.advance()
		}
		if alarms != round {
			t.Fatalf("round %d: an alarm with user partition keys", round)
		}
		s.auto = rng.IntN
		for end := l.responses + 300; l.responses < end; {
			l.advance()
		}
		if alarms != round+1 {
			t.Fatalf("round %d: no alarm with AUTO", round)
		}
		s.auto = nil
		l.d.Reset() // while requests are under way
	}
}
