// Package fleet simulates thousands of Fluent Bit hosts with this plugin that write
// to one Kinesis stream: flushes, splits, throttling, retries with the engine's
// backoff, an outage of Kinesis and a rolling restart.
//
// It is a discrete-event simulation with a fixed seed: the same Config gives the
// same Result. Command calibrate, in a folder below, compares it with real engines.
package fleet

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
)

// Config is what to simulate. Times are in seconds from the start.
type Config struct {
	Hosts          int
	LinesPerSecond float64 // of one host
	LineBytes      int     // in the aggregated record
	FlushSeconds   float64
	MaxRecordBytes int
	// OverheadBytes of a record: partition key, head and checksum.
	OverheadBytes int
	Workers       int // of one host

	Shards          int
	ShardBytes      float64 // per second, and the size of the bucket
	ShardRecords    float64
	RequestSeconds  float64 // an accepted PutRecord
	RefusalSeconds  float64 // a refused one
	BackoffBase     int     // scheduler.base
	BackoffCap      int     // scheduler.cap
	Seconds         float64 // that lines are written for
	OutageBegin     float64 // every PutRecord fails from here
	OutageSeconds   float64 // 0: no outage
	RestartBegin    float64 // hosts restart one after another from here
	RestartSeconds  float64 // until the last restart; 0: no restarts
	DownSeconds     float64 // of each restart
	Seed            uint64
	MeasureFrom     float64 // delays and throttling count from here
	MeasureUntil    float64 // until here; 0: everything
	TimelineSeconds float64 // a Point for each; 0: none
	// SharedClock: all hosts are processes of one machine. The engine's timers expire
	// at whole seconds of the machine's monotonic clock (mk_event_epoll.c); hosts of
	// their own have clocks whose seconds begin at different times.
	SharedClock bool
}

// Result is what happened. Lines are exact.
type Result struct {
	Written   int // lines
	Delivered int // lines, each counted once
	Repeated  int // lines that Kinesis accepted again
	Pending   int // lines that wait at the end; 0, because a run ends when none does
	Chunks    int
	Restarts  int

	Accepted      int   // PutRecords
	AcceptedLines []int // of each shard, repeated lines included

	FirstAttempts  int // PutRecords of flushes that are not retries, while measured
	FirstThrottled int
	Attempts       int // all PutRecords, while measured
	Throttled      int
	Delays         Histogram // of lines, from writing to acceptance, while measured
	AddedDelays    Histogram // of lines, from flush to acceptance, while measured

	// Drained is the time from the end of the outage until the last line that was
	// written before that end is accepted; Drained99 is the time for 99% of the lines
	// that waited at that end.
	Drained, Drained99 float64
	Backlog            int // lines that waited at the end of the outage
	Timeline           []Point
}

// Point is one moment.
type Point struct {
	Seconds      float64
	WaitingLines int // flushed but not accepted
}

// Validate returns an error that names the field.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct {
		name  string
		value float64
	}{
		{"Hosts", float64(c.Hosts)}, {"LinesPerSecond", c.LinesPerSecond}, {"LineBytes", float64(c.LineBytes)},
		{"FlushSeconds", c.FlushSeconds}, {"Workers", float64(c.Workers)}, {"Shards", float64(c.Shards)},
		{"ShardBytes", c.ShardBytes}, {"ShardRecords", c.ShardRecords}, {"RequestSeconds", c.RequestSeconds},
		{"RefusalSeconds", c.RefusalSeconds}, {"BackoffBase", float64(c.BackoffBase)},
		{"BackoffCap", float64(c.BackoffCap)}, {"Seconds", c.Seconds},
	} {
		if !(f.value > 0) || math.IsInf(f.value, 0) {
			errs = append(errs, fmt.Errorf("fleet: %s: %v is not a positive number", f.name, f.value))
		}
	}
	if c.MaxRecordBytes < c.LineBytes+c.OverheadBytes {
		errs = append(errs, fmt.Errorf("fleet: MaxRecordBytes: a line does not fit into %d bytes", c.MaxRecordBytes))
	}
	if float64(c.MaxRecordBytes) > c.ShardBytes && float64(c.LineBytes)*c.LinesPerSecond*c.FlushSeconds > c.ShardBytes {
		errs = append(errs, fmt.Errorf("fleet: MaxRecordBytes: the simulated buckets hold only %v bytes", c.ShardBytes))
	}
	if load := float64(c.Hosts) * c.LinesPerSecond * float64(c.LineBytes) / (float64(c.Shards) * c.ShardBytes); load >= 1 {
		errs = append(errs, fmt.Errorf("fleet: Shards: the load is %.2f of their capacity and never drains", load))
	}
	return errors.Join(errs...)
}

// slotSeconds is the resolution of time. Events of a slot run in the order in which
// they were scheduled.
const slotSeconds = 0.01

// chunk is what one host flushed at once.
type chunk struct {
	host      int32
	lines     int32
	next      int32 // the first line that Kinesis has not accepted
	delivered int32 // lines that Kinesis accepted at least once; next falls back at a restart
	retries   int32
	serial    int32 // events of an earlier serial are void
	begin     float64
	flushed   float64
}

// host is one engine.
type host struct {
	written  int     // lines, in chunks
	since    float64 // the last flush
	second   float64 // when the seconds of its clock begin, below 1
	restarts int32
	busy     int
	queue    []int32        // chunks that wait for a worker
	waiting  map[int32]bool // chunks that are not delivered
}

// wholeSecond returns when the current second of the host's clock began: timers of
// whole seconds count from there.
func (h *host) wholeSecond(now float64) float64 {
	return math.Floor(now-h.second+1e-6) + h.second
}

type eventKind uint8

const (
	tick eventKind = iota
	send
	retry
	restart
	start
)

type event struct {
	kind   eventKind
	id     int32 // of a chunk or a host
	serial int32 // of the chunk, or the restarts of the host: others are void
}

type simulation struct {
	Config
	Result
	random *rand.Rand
	now    float64
	slots  [][]event
	chunks []chunk
	free   []int32
	hosts  []host
	bytes  []bucket
	counts []bucket

	waitingLines int
	oldLines     int // waiting lines that were flushed before the end of the outage
	outageOver   bool
}

// bucket is a token bucket that refills at its size per second.
type bucket struct{ tokens, at float64 }

func (b *bucket) refill(now, size float64) {
	b.tokens = math.Min(size, b.tokens+(now-b.at)*size)
	b.at = now
}

// Simulate runs until every line is delivered.
func Simulate(c Config) (Result, error) {
	if err := c.Validate(); err != nil {
		return Result{}, err
	}
	s := &simulation{Config: c, random: rand.New(rand.NewPCG(c.Seed, 1))}
	s.hosts = make([]host, c.Hosts)
	s.bytes, s.counts = make([]bucket, c.Shards), make([]bucket, c.Shards)
	s.AcceptedLines = make([]int, c.Shards)
	for i := range s.bytes {
		s.bytes[i].tokens, s.counts[i].tokens = c.ShardBytes, c.ShardRecords
	}
	for i := range s.hosts {
		s.hosts[i].waiting = map[int32]bool{}
		if !c.SharedClock {
			s.hosts[i].second = s.random.Float64()
		}
		phase := float64(s.random.IntN(int(math.Ceil(c.FlushSeconds)))) + s.hosts[i].second
		s.hosts[i].since = phase // The host starts here: all hosts write for the same time.
		s.schedule(phase+c.FlushSeconds, event{tick, int32(i), 0})
		if c.RestartSeconds > 0 {
			s.schedule(c.RestartBegin+c.RestartSeconds*float64(i)/float64(c.Hosts), event{restart, int32(i), 0})
		}
	}
	nextPoint := 0.0
	for i := 0; i < len(s.slots); i++ {
		s.now = float64(i) * slotSeconds
		if end := c.OutageBegin + c.OutageSeconds; c.OutageSeconds > 0 && !s.outageOver && s.now >= end {
			s.outageOver = true
			s.oldLines, s.Backlog = s.waitingLines, s.waitingLines
		}
		if c.TimelineSeconds > 0 && s.now >= nextPoint {
			s.Timeline = append(s.Timeline, s.point())
			nextPoint += c.TimelineSeconds
		}
		for k := 0; k < len(s.slots[i]); k++ {
			s.handle(s.slots[i][k])
		}
		s.slots[i] = nil
	}
	s.Pending = s.Written - s.Delivered
	return s.Result, nil
}

// schedule adds an event, in the current slot at the earliest.
func (s *simulation) schedule(at float64, e event) {
	slot := int(math.Ceil(at/slotSeconds - 1e-6))
	slot = max(slot, int(math.Round(s.now/slotSeconds)))
	for len(s.slots) <= slot {
		s.slots = append(s.slots, nil)
	}
	s.slots[slot] = append(s.slots[slot], e)
}

func (s *simulation) handle(e event) {
	switch e.kind {
	case tick:
		s.tick(e)
	case send:
		s.send(e)
	case retry:
		if e.serial == s.chunks[e.id].serial {
			s.begin(e.id)
		}
	case restart:
		s.restart(e.id)
	case start:
		s.start(e.id)
	}
}

// tick is one flush of a host. The last one is after Seconds.
func (s *simulation) tick(e event) {
	h := &s.hosts[e.id]
	if e.serial != h.restarts {
		return
	}
	s.flush(e.id)
	if h.since < s.Seconds {
		s.schedule(s.now+s.FlushSeconds, e)
	}
}

// flush makes a chunk of the lines since the last flush and starts to send it.
func (s *simulation) flush(id int32) {
	h := &s.hosts[id]
	lines := int(s.now*s.LinesPerSecond+1e-9) - int(h.since*s.LinesPerSecond+1e-9)
	begin := h.since
	h.since = s.now
	if lines <= 0 {
		return
	}
	h.written += lines
	s.Written += lines
	s.Chunks++
	n := int32(len(s.chunks))
	c := chunk{host: id, lines: int32(lines), begin: begin, flushed: s.now}
	if last := len(s.free) - 1; last >= 0 {
		n = s.free[last]
		s.free = s.free[:last]
		c.serial = s.chunks[n].serial + 1
		s.chunks[n] = c
	} else {
		s.chunks = append(s.chunks, c)
	}
	h.waiting[n] = true
	s.waitingLines += lines
	s.begin(n)
}

// begin gives a chunk to a worker, or lets it wait for one.
func (s *simulation) begin(id int32) {
	c := &s.chunks[id]
	h := &s.hosts[c.host]
	if h.busy >= s.Workers {
		h.queue = append(h.queue, id)
		return
	}
	h.busy++
	// The request reaches the shard at a random part of its time: requests that begin
	// together arrive in any order.
	s.schedule(s.now+s.random.Float64()*s.RequestSeconds, event{send, id, c.serial})
}

// release ends the work on a chunk and starts the next one of the host.
func (s *simulation) release(h *host) {
	h.busy--
	if len(h.queue) > 0 {
		next := h.queue[0]
		h.queue = h.queue[1:]
		s.begin(next)
	}
}

// send is one PutRecord of the next part of a chunk.
func (s *simulation) send(e event) {
	c := &s.chunks[e.id]
	h := &s.hosts[c.host]
	if e.serial != c.serial {
		return
	}
	lines := min(c.lines-c.next, int32((s.MaxRecordBytes-s.OverheadBytes)/s.LineBytes))
	size := float64(int(lines)*s.LineBytes + s.OverheadBytes)
	shard := s.random.IntN(s.Shards) // a random partition key, also for a retry
	out := s.OutageSeconds > 0 && s.now >= s.OutageBegin && s.now < s.OutageBegin+s.OutageSeconds
	accepted := !out && s.take(shard, size)
	if s.measured() {
		s.Attempts++
		if c.retries == 0 {
			s.FirstAttempts++
		}
		if !accepted {
			s.Throttled++
			if c.retries == 0 {
				s.FirstThrottled++
			}
		}
	}
	if !accepted {
		c.retries++
		s.schedule(h.wholeSecond(s.now+s.RefusalSeconds)+s.wait(int(c.retries)), event{retry, e.id, c.serial})
		s.release(h)
		return
	}
	s.Accepted++
	s.AcceptedLines[shard] += int(lines)
	s.accepted(c, lines)
	if c.next < c.lines {
		s.schedule(s.now+s.RequestSeconds, e)
		return
	}
	delete(h.waiting, e.id)
	s.free = append(s.free, e.id)
	s.release(h)
}

// take asks both buckets of a shard.
func (s *simulation) take(shard int, size float64) bool {
	b, n := &s.bytes[shard], &s.counts[shard]
	b.refill(s.now, s.ShardBytes)
	n.refill(s.now, s.ShardRecords)
	if b.tokens < size || n.tokens < 1 {
		return false
	}
	b.tokens -= size
	n.tokens--
	return true
}

// accepted counts lines of a part. Those that Kinesis has had before a restart are
// repeated.
func (s *simulation) accepted(c *chunk, lines int32) {
	c.next += lines
	fresh := max(0, c.next-c.delivered)
	s.Repeated += int(lines - fresh)
	s.Delivered += int(fresh)
	s.waitingLines -= int(fresh)
	if s.outageOver && s.oldLines > 0 && c.flushed < s.OutageBegin+s.OutageSeconds {
		s.oldLines -= int(fresh)
		since := s.now - s.OutageBegin - s.OutageSeconds
		if s.Drained99 == 0 && s.oldLines*100 <= s.Backlog {
			s.Drained99 = since
		}
		if s.oldLines == 0 {
			s.Drained = since
		}
	}
	if s.measured() && fresh > 0 {
		// Evenly spaced lines represent the part.
		const samples = 16
		from, to := float64(c.next-fresh)/float64(c.lines), float64(c.next)/float64(c.lines)
		for q := range samples {
			at := from + (to-from)*(float64(q)+0.5)/samples
			written := c.begin + (c.flushed-c.begin)*at
			s.Delays.Add(s.now+s.RequestSeconds/2-written, int(fresh))
		}
		s.AddedDelays.Add(s.now+s.RequestSeconds/2-c.flushed, int(fresh))
	}
	c.delivered = max(c.delivered, c.next)
}

func (s *simulation) measured() bool {
	return s.now >= s.MeasureFrom && (s.MeasureUntil == 0 || s.now < s.MeasureUntil)
}

// wait is the engine's backoff before retry n, from 1: a random whole number of
// seconds from base to min(cap, base * 2^n), and 1 (flb_scheduler.c).
func (s *simulation) wait(n int) float64 {
	high := s.BackoffCap
	if n < 30 {
		high = min(high, s.BackoffBase<<n)
	}
	return float64(s.BackoffBase + s.random.IntN(max(1, high-s.BackoffBase+1)) + 1)
}

// restart stops a host: its chunks stay on disk, and what the plugin knows about
// accepted parts is gone.
func (s *simulation) restart(id int32) {
	h := &s.hosts[id]
	s.Restarts++
	h.restarts++
	h.busy, h.queue = 0, nil
	for n := range h.waiting {
		s.chunks[n].serial++
	}
	s.schedule(h.wholeSecond(s.now)+s.DownSeconds, event{start, id, h.restarts})
}

// start sends the chunks on disk at the first flush, and the lines that were written
// meanwhile.
func (s *simulation) start(id int32) {
	h := &s.hosts[id]
	for _, n := range sorted(h.waiting) {
		c := &s.chunks[n]
		c.next, c.retries = 0, 0
		s.begin(n)
	}
	if h.since < s.Seconds {
		s.tick(event{tick, id, h.restarts})
	}
}

func (s *simulation) point() Point {
	return Point{Seconds: s.now, WaitingLines: s.waitingLines}
}
