package plugin

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

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
