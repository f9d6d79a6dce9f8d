package main

import (
	"crypto/md5"
	"sync"
)

// ledger counts how often each log record arrived, separately for requests whose
// response reached the plugin and for the others. As a consumer can, it counts a
// repeated Kinesis record once.
type ledger struct {
	mu           sync.Mutex
	chunks       []chunkAccount
	acknowledged []uint8 // by id
	lost         []uint8 // by id: accepted, and the response did not reach the plugin
	unknown      int     // ids that were never sent

	digests    map[string][16]byte // of Kinesis records, by partition key
	recognized int                 // ids of repeated records
}

type chunkAccount struct {
	first, records int
	done           bool
	// gaveUp: a flush of the chunk reached its deadline. The plugin may have
	// closed the connection after the server had sent the response.
	gaveUp bool
}

// open enters a chunk of n records and returns the id of its first one.
func (l *ledger) open(n int) (first int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	first = len(l.acknowledged)
	l.chunks = append(l.chunks, chunkAccount{first: first, records: n})
	l.acknowledged = append(l.acknowledged, make([]uint8, n)...)
	l.lost = append(l.lost, make([]uint8, n)...)
	return first
}

// arrived enters the ids of a record that the server accepted, in the order of their
// user records and lines.
func (l *ledger) arrived(partitionKey string, data []byte, ids []int, acknowledged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	digest := md5.Sum(data)
	if first, known := l.digests[partitionKey]; known && first == digest {
		l.recognized += len(ids)
		for _, id := range ids {
			if acknowledged && l.lost[id] > 0 {
				l.lost[id]--
				l.acknowledged[id]++
			}
		}
		return
	}
	if l.digests == nil {
		l.digests = map[string][16]byte{}
	}
	l.digests[partitionKey] = digest
	times := l.lost
	if acknowledged {
		times = l.acknowledged
	}
	for _, id := range ids {
		if id < 0 || id >= len(times) {
			l.unknown++
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

// balance is the result of a run.
type balance struct {
	chunks, undelivered int // undelivered: never OK
	ids, lost           int // lost: never arrived
	// Arrivals after the first one of each id.
	recognized  int // by the partition key
	gaveUp      int // the flush had reached its deadline, and sent smaller records then
	unexplained int
	// unproven are ids of chunks that returned OK without a response.
	unproven int
	unknown  int
}

func (b balance) good() bool {
	return b.undelivered == 0 && b.lost == 0 && b.unexplained == 0 && b.unproven == 0 && b.unknown == 0
}

func (l *ledger) balance() balance {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := balance{chunks: len(l.chunks), ids: len(l.acknowledged), unknown: l.unknown, recognized: l.recognized}
	for _, c := range l.chunks {
		if !c.done {
			b.undelivered++
		}
		for id := c.first; id < c.first+c.records; id++ {
			acknowledged, lost := int(l.acknowledged[id]), int(l.lost[id])
			switch {
			case acknowledged+lost == 0:
				b.lost++
			case acknowledged == 0:
				b.unproven++
			case c.gaveUp:
				b.gaveUp += acknowledged + lost - 1
			default:
				b.unexplained += acknowledged + lost - 1
			}
		}
	}
	return b
}
