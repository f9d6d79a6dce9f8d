package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// showEvery is how often the line of progress is written.
const showEvery = 500 * time.Millisecond

// progress keeps count of a run, shows it on a terminal, and writes warnings.
// It is safe for concurrent use.
type progress struct {
	w io.Writer

	mu              sync.Mutex
	shown           bool // a line of progress stands on the terminal
	reading, unread int
	records, users  int
	bytes           int
	throttles       int
	behinds         map[string]time.Duration
}

func (p *progress) took(records []record, users int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records += len(records)
	p.users += users
	for _, r := range records {
		p.bytes += len(r.Data)
	}
}

func (p *progress) shards(reading, unread int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading, p.unread = reading, unread
}

func (p *progress) behind(shard string, d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.behinds == nil {
		p.behinds = map[string]time.Duration{}
	}
	p.behinds[shard] = d
}

func (p *progress) throttled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.throttles++
}

// warn writes a line that stays.
func (p *progress) warn(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
	fmt.Fprintf(p.w, "kplcat: "+format+"\n", args...)
}

// show writes the line of progress again and again, until the function that it
// returns is called.
func (p *progress) show() (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(showEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				p.clear()
				return
			case <-ticker.C:
				p.mu.Lock()
				p.wipe()
				fmt.Fprint(p.w, p.line())
				p.shown = true
				p.mu.Unlock()
			}
		}
	}()
	return func() {
		close(done)
		<-gone
	}
}

// clear takes the line of progress away.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wipe()
}

// wipe is clear with the lock held: back to the first column, and erase.
func (p *progress) wipe() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// line is what stands on the terminal: short, so that it stays one line.
func (p *progress) line() string {
	var most time.Duration
	for _, d := range p.behinds {
		most = max(most, d)
	}
	text := fmt.Sprintf("%d records, %d user records, %.1f MB, %d of %d shards", p.records, p.users, float64(p.bytes)/1e6, p.reading, p.unread)
	if most > 0 {
		text += fmt.Sprintf(", %s behind", most.Round(time.Second))
	}
	if p.throttles > 0 {
		text += fmt.Sprintf(", throttled %d times", p.throttles)
	}
	return text
}
