package plugin

import (
	"container/list"
	"hash/maphash"
	"sync"
	"time"

	"github.com/google/uuid"
)

// The bounds of progress. A note takes about 200 bytes with its places in the
// list and in the map, so this many take about 16 MB: more than an engine whose
// storage.total_limit_size is 100 GB can hold in chunks of 2 MB. The age is far
// above the engine's longest backoff, scheduler.cap, which is 2,000 s by default.
const (
	maxNotes   = 80_000
	maxNoteAge = 6 * time.Hour
)

// progress remembers how much of a chunk Kinesis accepted when a flush of it
// fails in the middle, so that the retry sends only the rest, and the partition key
// of a part whose response is missing, so that the retry repeats the same record.
//
// The engine passes no identity of a chunk, only its bytes, and several chunks
// with the same tag and bytes can wait for a retry at once. The notes are
// therefore a multiset: a flush takes one note of its chunk's content when it
// starts, and puts one back when it fails. Which of the identical chunks a note
// came from does not matter, because their records are the same: every note is
// used once, and so every part is sent once for each chunk that contains it.
//
// A note that is dropped, because of its age or because there are too many, costs
// a repetition: its chunk is sent from its beginning. The zero value is empty.
// It is safe for concurrent use; take and put are O(1) beside the hash of the
// chunk.
type progress struct {
	mu      sync.Mutex
	byAge   list.List // of note, the oldest first
	byChunk map[chunkID][]*list.Element
}

// chunkID identifies a chunk by its content.
type chunkID struct {
	hash  uint64
	bytes int
}

// position is how far a chunk is delivered, and how to continue.
type position struct {
	// offset is that of the first event which Kinesis has not accepted.
	offset int
	// unsettled is the attempt to send the part at offset, if Kinesis may have stored
	// it. A repetition of it is the same record.
	unsettled attempt
	// maxPartBytes bounds the next records of the chunk, because larger ones
	// exceeded the time limit. 0 means that there is no such bound.
	maxPartBytes int
}

// attempt is what the bytes of a part depend on, beside the chunk and the offset.
type attempt struct {
	key       uuid.UUID // uuid.Nil: there is no attempt
	recordMax int32     // where the part ends depends on it
	lines     bool      // without the envelope, because of the strategy AUTO
}

type note struct {
	position
	id   chunkID
	made int64 // nanoseconds, Unix time
}

// hashSeed lives as long as the notes: until the process ends.
var hashSeed = maphash.MakeSeed()

func identify(tag string, chunk []byte) chunkID {
	var h maphash.Hash
	h.SetSeed(hashSeed)
	_, _ = h.WriteString(tag)
	_ = h.WriteByte(0)
	_, _ = h.Write(chunk)
	return chunkID{h.Sum64(), len(chunk)}
}

// take returns the position at which to continue with a chunk, and removes the
// note that it comes from. It is the zero position if there is no note. The
// caller puts the position back if the chunk has to be retried.
func (p *progress) take(tag string, chunk []byte) position {
	if p.empty() {
		return position{} // The usual case does not pay for the hash.
	}
	id := identify(tag, chunk)
	p.mu.Lock()
	defer p.mu.Unlock()
	if notes := p.byChunk[id]; len(notes) > 0 {
		return p.remove(notes[0]).position
	}
	return position{}
}

// empty reports whether there is no note, after dropping the old ones.
func (p *progress) empty() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropOld()
	return p.byAge.Len() == 0
}

// put stores the position of a chunk that has to be retried. The zero position
// needs no note.
func (p *progress) put(tag string, chunk []byte, at position) {
	if at == (position{}) {
		return
	}
	id := identify(tag, chunk)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropOld()
	if p.byAge.Len() == maxNotes {
		p.remove(p.byAge.Front())
	}
	if p.byChunk == nil {
		p.byChunk = map[chunkID][]*list.Element{}
	}
	n := note{position: at, id: id, made: time.Now().UnixNano()}
	p.byChunk[id] = append(p.byChunk[id], p.byAge.PushBack(n))
}

// dropOld removes the notes that are older than maxNoteAge.
func (p *progress) dropOld() {
	for e := p.byAge.Front(); e != nil; e = p.byAge.Front() {
		if time.Now().UnixNano()-e.Value.(note).made <= int64(maxNoteAge) {
			return
		}
		p.remove(e)
	}
}

// remove deletes a note, which must be the oldest of its chunk. The oldest note of all
// is also the oldest of its chunk.
func (p *progress) remove(e *list.Element) note {
	n := p.byAge.Remove(e).(note)
	if rest := p.byChunk[n.id][1:]; len(rest) > 0 {
		p.byChunk[n.id] = rest
	} else {
		delete(p.byChunk, n.id)
	}
	return n
}
