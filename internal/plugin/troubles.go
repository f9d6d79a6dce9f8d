package plugin

import (
	"fmt"
	"sync"
	"time"
)

// troubleQuiet is how long a trouble has to stay away to be over, and how far
// apart the lines about one that lasts are.
const troubleQuiet = time.Minute

// troubles keeps repeated failures from filling the log: a line when a cause
// starts, one a minute with a count while it lasts, and one when it is over. It
// has no clock running: lines come with the flushes. Safe for concurrent use.
type troubles struct {
	now func() time.Time

	mu     sync.Mutex
	active map[string]*trouble
}

type trouble struct {
	since, last, logged time.Time
	count, unlogged     int
}

// failed takes note of a failure and returns the line to log, or an empty text.
// what says what failed and why; it is quoted in lines that are returned.
func (t *troubles) failed(cause, what string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	a := t.active[cause]
	if a == nil {
		if t.active == nil {
			t.active = map[string]*trouble{}
		}
		t.active[cause] = &trouble{since: now, last: now, logged: now, count: 1}
		return what
	}
	a.last = now
	a.count++
	a.unlogged++
	if now.Sub(a.logged) < troubleQuiet {
		return ""
	}
	line := fmt.Sprintf("%s (%d more times in the last %s)", what, a.unlogged, now.Sub(a.logged).Round(time.Second))
	a.logged, a.unlogged = now, 0
	return line
}

// worked takes note of a success and returns a line for each cause that is over.
func (t *troubles) worked() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.active) == 0 {
		return nil
	}
	var lines []string
	now := t.now()
	for cause, a := range t.active {
		if now.Sub(a.last) < troubleQuiet {
			continue
		}
		lines = append(lines, fmt.Sprintf("records are delivered again; %s failures: %d from %s to %s",
			cause, a.count, a.since.UTC().Format(time.RFC3339), a.last.UTC().Format(time.RFC3339)))
		delete(t.active, cause)
	}
	return lines
}
