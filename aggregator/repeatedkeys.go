package aggregator

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// seed protects the hash table from keys that are chosen to collide.
var seed = maphash.MakeSeed()

// minSlots is the initial size of a map's hash table.
const minSlots = 128

// repeatedKeys finds the keys that repeat within a map, and where each member is
// in the JSON. It is a stack: the members of a map within a map are above those of
// the outer one, and leave before the outer one continues.
type repeatedKeys struct {
	list []member
	// table has a region for each map, of slots that are 0 or 1 + an index in the
	// map's part of list.
	table []uint32
}

// member is one key and value, by offsets in the JSON. It begins with a comma.
type member struct {
	start, keyEnd, end int
	repeated           bool // a later member has the same key
}

// memberScope is one map's part of the stacks.
type memberScope struct {
	first    int // in list
	table    int // in table
	slots    int // in table, a power of two
	repeated bool
}

func (r *repeatedKeys) enter() memberScope {
	return memberScope{first: len(r.list), table: len(r.table)}
}

func (r *repeatedKeys) leave(s memberScope) {
	r.list = r.list[:s.first]
	r.table = r.table[:s.table]
}

// compact removes the members of the scope that a later one repeats from text,
// which ends with the last member.
func (r *repeatedKeys) compact(s memberScope, text []byte) []byte {
	if !s.repeated {
		return text
	}
	to := r.list[s.first].start
	for _, m := range r.list[s.first:] {
		if !m.repeated {
			to += copy(text[to:], text[m.start:m.end])
		}
	}
	return text[:to]
}

// add adds the member whose comma and key are text[start:], up to the colon, and
// marks an earlier one with the same key. It returns an index for end.
func (r *repeatedKeys) add(s *memberScope, text []byte, start int) int {
	at := len(r.list)
	r.list = append(r.list, member{start: start, keyEnd: len(text)})
	if count := at - s.first + 1; 2*count > s.slots {
		// The table grows with the keys that are there, not with the number that
		// the map declares.
		s.slots = max(2*s.slots, minSlots)
		r.table = slices.Grow(r.table[:s.table], s.slots)[:s.table+s.slots]
		clear(r.table[s.table:])
		for earlier := s.first; earlier < at; earlier++ {
			r.put(s, text, earlier)
		}
	}
	r.put(s, text, at)
	return at
}

// end sets the offset after the value of a member.
func (r *repeatedKeys) end(at, end int) { r.list[at].end = end }

// put enters a member into the table, in place of an earlier one with the same key.
func (r *repeatedKeys) put(s *memberScope, text []byte, at int) {
	key := text[r.list[at].start:r.list[at].keyEnd]
	table := r.table[s.table : s.table+s.slots]
	slot := maphash.Bytes(seed, key)
	for ; ; slot++ {
		entry := table[slot&uint64(len(table)-1)]
		if entry == 0 {
			break
		}
		m := &r.list[s.first+int(entry)-1]
		if bytes.Equal(text[m.start:m.keyEnd], key) {
			m.repeated, s.repeated = true, true
			break
		}
	}
	table[slot&uint64(len(table)-1)] = uint32(at - s.first + 1)
}
