package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/internal/escape"
)

// showInterval is the time between two updates of the progress line.
const showInterval = 500 * time.Millisecond

// progress counts what a run reads, shows the counts on a terminal, and writes
// warnings. It is a consumer.Monitor and safe for concurrent use.
type progress struct {
	w io.Writer

	mu              sync.Mutex
	shown           bool // the progress line is on the terminal
	reading, unread int
	records, logs   int
	bytes           int
	throttles       int
	lags            map[string]time.Duration // by shard
}

// read counts records that were read.
func (p *progress) read(records []consumer.Record, logs int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records += len(records)
	p.logs += logs
	for _, r := range records {
		p.bytes += len(r.Data)
	}
}

// Shards implements consumer.Monitor.
func (p *progress) Shards(reading, unread int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reading, p.unread = reading, unread
}

// Lag implements consumer.Monitor.
func (p *progress) Lag(shard string, lag time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lags == nil {
		p.lags = map[string]time.Duration{}
	}
	p.lags[shard] = lag
}

// Throttled implements consumer.Monitor.
func (p *progress) Throttled() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.throttles++
}

// Warn implements consumer.Monitor. It writes a line that stays on the terminal,
// escaped, since shard IDs, keys and error messages come from outside.
func (p *progress) Warn(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
	fmt.Fprintf(p.w, "kplcat: %s\n", escape.Line(fmt.Sprintf(format, args...)))
}

// show updates the progress line until the returned function is called.
func (p *progress) show() (stop func()) {
	done, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		ticker := time.NewTicker(showInterval)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				p.clear()
				return
			case <-ticker.C:
				p.mu.Lock()
				p.clearLocked()
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

// clear removes the progress line from the terminal.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clearLocked()
}

func (p *progress) clearLocked() {
	if p.shown {
		// Return to the first column and erase the line.
		fmt.Fprint(p.w, "\r\x1b[K")
		p.shown = false
	}
}

// line returns the progress line.
func (p *progress) line() string {
	var longest time.Duration
	for _, d := range p.lags {
		longest = max(longest, d)
	}
	text := fmt.Sprintf("%s, %s, %.1f MB, %d of %s", count(p.records, "record"), count(p.logs, "log record"),
		float64(p.bytes)/1e6, p.reading, count(p.unread, "shard"))
	if longest > 0 {
		text += fmt.Sprintf(", %s behind", longest.Round(time.Second))
	}
	if p.throttles > 0 {
		text += ", throttled " + count(p.throttles, "time")
	}
	return text
}

// count returns "1 record", "2 records".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprint(n, " ", noun)
}
