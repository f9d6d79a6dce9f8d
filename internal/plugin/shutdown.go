package plugin

import (
	"sync"
	"time"
)

// A shutdown bounds how long the flushes of an instance delay the end of the process.
//
// The engine does not interrupt flushes. When it stops, it waits for the time grace,
// then ignores the outcomes of flushes, but its workers run all flushes that are
// queued. Each of them would wait for an endpoint that does not respond.
//
// While the engine stops, flushes send as before as long as the endpoint responds. If
// it does not, one flush at a time sends, and the others wait until it responds again.
// At the end of grace, requests are canceled, and nothing is sent any more.
//
// A flush that cannot send waits instead of returning Retry, because each return would
// use up one of the retries of its chunk, and the engine drops a chunk without any. It
// returns once the engine ignores it, and so leaves the chunk in the storage.
type shutdown struct {
	mu      sync.Mutex
	changed sync.Cond // of any of these
	phase   phase
	sending int  // flushes that send
	silent  bool // the last request got no response in time
}

type phase int

const (
	engineRuns phase = iota
	inGrace
	afterGrace // requests are canceled
	ignored    // the engine has begun to ignore flushes
)

const (
	// stopPoll is how often an instance looks whether the engine is stopping.
	stopPoll = 500 * time.Millisecond
	// ignoredAfter is how long after the end of grace waiting flushes return: the engine
	// notices the end a few milliseconds late, and stopPoll may be early for it.
	ignoredAfter = 500 * time.Millisecond
)

func newShutdown() *shutdown {
	s := &shutdown{}
	s.changed.L = &s.mu
	return s
}

// watch calls stopping until it reports a stop or done is closed. It calls cancel at the
// end of grace.
func (s *shutdown) watch(stopping func() (grace time.Duration, ok bool), cancel func(), done <-chan struct{}) {
	wait := func(d time.Duration) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-done:
			return false
		case <-timer.C:
			return true
		}
	}
	grace, ok := stopping()
	for ; !ok; grace, ok = stopping() {
		if !wait(stopPoll) {
			return
		}
	}
	s.enter(inGrace)
	if !wait(max(grace, time.Second)) { // The engine looks at its tasks once a second.
		return
	}
	s.enter(afterGrace)
	cancel()
	if wait(ignoredAfter) {
		s.enter(ignored)
	}
}

func (s *shutdown) enter(p phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase = p
	s.changed.Broadcast()
}

// begin waits until a flush may send, and reports whether it may. Call end afterwards.
// mayWait is false for a flush on the engine's own thread, which must not be blocked.
func (s *shutdown) begin(mayWait bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.phase == engineRuns,
			s.phase == inGrace && (!s.silent || s.sending == 0 && mayWait):
			s.sending++
			return true
		case s.phase == ignored || !mayWait:
			return false
		}
		s.changed.Wait()
	}
}

// end follows a flush that begin has let send. It reports whether the flush has to be
// repeated instead of returning Retry.
func (s *shutdown) end() (again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending--
	s.changed.Broadcast()
	return s.phase == inGrace && s.silent || s.phase == afterGrace
}

// observe notes whether a request got a response in time.
func (s *shutdown) observe(silent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent != silent {
		s.silent = silent
		s.changed.Broadcast()
	}
}
