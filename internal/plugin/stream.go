package plugin

import (
	"container/list"
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
