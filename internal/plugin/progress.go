package plugin

import (
	"hash/maphash"
	"sync"
	"time"
)

// The bounds of progress. A note has some 60 bytes, and an engine that keeps
// retrying has no more chunks waiting than these; its backoff ends at half an
// hour by default (scheduler.cap, 2000 s).
const (
	maxNotes   = 4096
	maxNoteAge = 6 * time.Hour
)

// progress remembers how much of a chunk Kinesis has when a flush of it fails in
// the middle, so that the retry sends only the rest. It knows a chunk by a hash
// of its bytes, and forgets the oldest ones first; a chunk that is forgotten is
// sent from its beginning. It is safe for concurrent use.
type progress struct {
	now func() time.Time

	mu    sync.Mutex
	notes map[chunkID]note
}

type chunkID struct {
	hash  uint64
	bytes int
}

type note struct {
	offset int // of the first event that is not sent
	made   time.Time
}

// hashSeed is as long-lived as the notes: it ends with the process.
var hashSeed = maphash.MakeSeed()

func identify(tag string, chunk []byte) chunkID {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	_, _ = h.WriteString(tag)
	_ = h.WriteByte(0)
	_, _ = h.Write(chunk)
	return chunkID{h.Sum64(), len(chunk)}
}

// resume returns the offset from which on a chunk is to be sent, and an
// identity for forget and note. That costs a hash of the chunk, so while there
// are no notes at all the identity is left out.
func (p *progress) resume(tag string, chunk []byte) (int, chunkID) {
	p.mu.Lock()
	none := len(p.notes) == 0
	p.mu.Unlock()
	if none {
		return 0, chunkID{}
	}
	id := identify(tag, chunk)
	p.mu.Lock()
	defer p.mu.Unlock()
	n, ok := p.notes[id]
	if !ok || p.now().Sub(n.made) > maxNoteAge {
		return 0, id
	}
	return n.offset, id
}

// note remembers that what stands before offset is sent.
func (p *progress) note(id chunkID, tag string, chunk []byte, offset int) {
	if offset == 0 {
		return
	}
	if id == (chunkID{}) {
		id = identify(tag, chunk)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.notes == nil {
		p.notes = map[chunkID]note{}
	}
	p.notes[id] = note{offset, p.now()}
	p.trim()
}

// trim drops the notes that are too old, and the oldest if there are too many.
func (p *progress) trim() {
	var oldest chunkID
	var made time.Time
	for id, n := range p.notes {
		if p.now().Sub(n.made) > maxNoteAge {
			delete(p.notes, id)
		} else if made.IsZero() || n.made.Before(made) {
			oldest, made = id, n.made
		}
	}
	if len(p.notes) > maxNotes {
		delete(p.notes, oldest)
	}
}

// forget drops the note of a chunk that is done.
func (p *progress) forget(id chunkID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.notes, id)
}
