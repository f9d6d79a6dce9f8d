package plugin

import (
	"fmt"
	"sync"
	"time"
)

const (
	// logInterval is the shortest time between two lines about the same failure,
	// and the time without that failure after which it is over.
	logInterval = time.Minute

	// maxFailures bounds the failures that are told apart. With $TAG in stream
	// there can be any number of streams; those above the bound share one entry
	// for each cause.
	maxFailures = 1024

	// failureMaxAge is the time after which a failure that does not occur again
	// makes room for others, although its stream never accepted a record.
	failureMaxAge = time.Hour
)

// logThrottle keeps repeated failures from filling the log: it permits one line
// when a failure starts, one a minute with a count while it lasts, and one when
// it is over. It has no timer: lines come with the flushes. The zero value with a
// clock is ready to use. It is safe for concurrent use.
type logThrottle struct {
	now func() time.Time

	mu     sync.Mutex
	active map[failure]*occurrences
	swept  time.Time
}

// failure identifies what fails: a cause, at a stream where the cause has to do
// with one.
type failure struct{ stream, cause string }

type occurrences struct {
	first, last, logged time.Time
	count, unlogged     int
}

// failed records a failure and returns the line to log, or an empty string. what
// says what failed and why; a returned line quotes it.
func (t *logThrottle) failed(f failure, what string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	o := t.active[f]
	if o == nil && t.full(now) {
		f.stream = ""
		o = t.active[f]
	}
	if o == nil {
		if t.active == nil {
			t.active = map[failure]*occurrences{}
		}
		t.active[f] = &occurrences{first: now, last: now, logged: now, count: 1}
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

// full reports whether there are as many failures as are told apart, after
// dropping the outdated ones, at most once a minute because it looks at each.
func (t *logThrottle) full(now time.Time) bool {
	if len(t.active) >= maxFailures && now.Sub(t.swept) >= logInterval {
		t.swept = now
		for f, o := range t.active {
			if now.Sub(o.last) >= failureMaxAge {
				delete(t.active, f)
			}
		}
	}
	return len(t.active) >= maxFailures
}

// succeeded records that the stream accepted a record, and returns a line for
// each of its failures that is over. causes are those that can occur at a stream.
func (t *logThrottle) succeeded(stream string, causes []string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.active) == 0 {
		return nil
	}
	var lines []string
	now := t.now()
	for _, cause := range causes {
		o := t.active[failure{stream, cause}]
		if o == nil || now.Sub(o.last) < logInterval {
			continue
		}
		lines = append(lines, fmt.Sprintf("stream %s accepts records again; %s failures: %d from %s to %s",
			stream, cause, o.count, o.first.UTC().Format(time.RFC3339), o.last.UTC().Format(time.RFC3339)))
		delete(t.active, failure{stream, cause})
	}
	return lines
}
