package main

import "sync"

// ledger keeps account of every user record: how often it arrived with an
// answer that told the plugin so, and how often with one that did not.
type ledger struct {
	mu       sync.Mutex
	chunks   []chunkAccount
	answered []uint8 // by id
	lost     []uint8 // by id: accepted, and the answer did not come through
	strange  int     // ids that were never sent
}

type chunkAccount struct {
	first, records int
	done           bool
	// gaveUp: a flush of the chunk ran out of time, so that the plugin may
	// have hung up on an answer that the endpoint had sent.
	gaveUp bool
}

// open enters a chunk of n records and returns the id of its first one.
func (l *ledger) open(n int) (first int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = len(l.answered)
	l.chunks = append(l.chunks, chunkAccount{first: first, records: n})
	l.answered = append(l.answered, make([]uint8, n)...)
	l.lost = append(l.lost, make([]uint8, n)...)
	return first
}

// arrived enters a record that the endpoint took.
func (l *ledger) arrived(ids []int, answered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	times := l.lost
	if answered {
		times = l.answered
	}
	for _, id := range ids {
		if id < 0 || id >= len(times) {
			l.strange++
		} else if times[id] < 255 {
			times[id]++
		}
	}
}

func (l *ledger) done(chunk int) { l.change(chunk, func(c *chunkAccount) { c.done = true }) }

func (l *ledger) gaveUp(chunk int) { l.change(chunk, func(c *chunkAccount) { c.gaveUp = true }) }

func (l *ledger) change(chunk int, f func(*chunkAccount)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.chunks[chunk])
}

// balance is what the account of a run comes to.
type balance struct {
	chunks, undelivered int // undelivered: never OK
	ids, lost           int // lost: arrived not once
	// Arrivals after the first one of each id.
	explained   int // the answer to another one was lost
	gaveUp      int // the flush had run out of time
	unexplained int
	// unproven are ids that the plugin called delivered without an answer.
	unproven int
	strange  int
}

func (b balance) good() bool {
	return b.undelivered == 0 && b.lost == 0 && b.unexplained == 0 && b.unproven == 0 && b.strange == 0
}

func (l *ledger) balance() balance {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := balance{chunks: len(l.chunks), ids: len(l.answered), strange: l.strange}
	for _, c := range l.chunks {
		if !c.done {
			b.undelivered++
		}
		for id := c.first; id < c.first+c.records; id++ {
			answered, lost := int(l.answered[id]), int(l.lost[id])
			switch {
			case answered+lost == 0:
				b.lost++
			case answered == 0:
				b.unproven++
			case answered > 1 && c.gaveUp:
				b.gaveUp += answered - 1
			case answered > 1:
				b.unexplained += answered - 1
			}
			if answered > 0 {
				b.explained += lost
			}
		}
	}
	return b
}
