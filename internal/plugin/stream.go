package plugin

import (
	"container/list"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxStreams bounds the streams that an instance knows at once. With $TAG in stream
// there can be any number; the one that was used least recently is forgotten.
const maxStreams = 1024

// stream is what an instance knows of one stream. It is safe for concurrent use.
type stream struct {
	guard
	// recordMax is max_record_size until the stream refuses such a record.
	recordMax atomic.Int64
	failures  *logThrottle // of delivery, by cause
}

// streams are those that an instance writes to. It is safe for concurrent use.
type streams struct {
	client    streamClient
	onAuto    string // on_auto_stream
	holdFile  string // its path
	interval  time.Duration
	recordMax int

	mu     sync.Mutex
	byName map[string]*list.Element // of byUse
	byUse  list.List                // of *stream, the most recently used first
	// crowd has the failures of streams that are forgotten too soon to have their
	// own: when more than maxStreams fail at once, each would log a line at each use.
	crowd logThrottle
}

// find returns the stream with this name.
func (s *streams) find(name string) *stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.byName[name]; e != nil {
		s.byUse.MoveToFront(e)
		return e.Value.(*stream)
	}
	found := &stream{
		guard:    guard{name: name, client: s.client, onAuto: s.onAuto, holdFile: s.holdFile, interval: s.interval},
		failures: new(logThrottle),
	}
	found.recordMax.Store(int64(s.recordMax))
	if s.byUse.Len() == maxStreams && s.forget().failures.lasts() {
		found.failures = &s.crowd
	}
	if s.byName == nil {
		s.byName = map[string]*list.Element{}
	}
	s.byName[name] = s.byUse.PushFront(found)
	return found
}

// forget removes the stream that was used least recently, and returns it. A stream
// with the strategy AUTO is the last to go, because its next records would be lost.
func (s *streams) forget() *stream {
	oldest := s.byUse.Back()
	for e := oldest; e != nil; e = e.Prev() {
		if !e.Value.(*stream).detector.Detected() {
			oldest = e
			break
		}
	}
	gone := s.byUse.Remove(oldest).(*stream)
	delete(s.byName, gone.name)
	return gone
}

// logInterval is the shortest time between two lines about the same failure, and
// the time without that failure after which it is over.
const logInterval = time.Minute

// logThrottle keeps repeated failures from filling the log: it permits one line
// when a failure starts, one a minute with a count while it lasts, and one when
// it is over. It has no timer: lines come with the flushes. The zero value is ready
// to use. It is safe for concurrent use.
type logThrottle struct {
	mu     sync.Mutex
	active map[string]*occurrences // by cause, of which there are few
}

type occurrences struct {
	first, last, logged time.Time
	count, unlogged     int
}

// failed records a failure and returns the line to log, or an empty string. what
// says what failed and why; a returned line quotes it.
func (t *logThrottle) failed(cause, what string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	o := t.active[cause]
	if o == nil {
		if t.active == nil {
			t.active = map[string]*occurrences{}
		}
		t.active[cause] = &occurrences{first: now, last: now, logged: now, count: 1}
		return what
	}
	o.last = now
	o.count++
	o.unlogged++
	if now.Sub(o.logged) < logInterval {
		return ""
	}
	line := fmt.Sprintf("%s (%d more times in the last %s)", what, o.unlogged, now.Sub(o.logged).Round(time.Second))
	o.logged, o.unlogged = now, 0
	return line
}

// succeeded records that the stream accepted a record, and returns a line for
// each failure that is over.
func (t *logThrottle) succeeded(stream string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.active) == 0 {
		return nil
	}
	var lines []string
	now := time.Now()
	for _, cause := range slices.Sorted(maps.Keys(t.active)) {
		o := t.active[cause]
		if now.Sub(o.last) < logInterval {
			continue
		}
		lines = append(lines, fmt.Sprintf("stream %s accepts records again; %s failures: %d from %s to %s",
			stream, cause, o.count, o.first.UTC().Format(time.RFC3339), o.last.UTC().Format(time.RFC3339)))
		delete(t.active, cause)
	}
	return lines
}

// lasts reports whether a failure is not over.
func (t *logThrottle) lasts() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.active {
		if time.Since(o.last) < logInterval {
			return true
		}
	}
	return false
}
