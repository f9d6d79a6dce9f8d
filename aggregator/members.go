package aggregator

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// seed makes the hash table immune to keys that were chosen to collide.
var seed = maphash.MakeSeed()

// leastSlots is the size that the hash table of a map begins with.
const leastSlots = 128

// members finds the keys that repeat within a map, and where each member stands
// in the text that is written. It is a stack: a map within a map has its members
// above those of the outer one and is done before the outer one goes on.
type members struct {
	list []member
	// table has a region for each map, of slots that are 0 or 1 + a position in
	// the map's part of list.
	table []uint32
}

// member is one key and value; the positions are offsets in the text.
type member struct {
	start, keyEnd, end int
	repeated           bool // a later member has the same key
}

// memberScope is one map's part of the stacks.
type memberScope struct {
	first    int // of list
	table    int // of table
	slots    int // of table, a power of two
	repeated bool
}

func (s *members) enter() memberScope {
	return memberScope{first: len(s.list), table: len(s.table)}
}

func (s *members) leave(c memberScope) {
	s.list = s.list[:c.first]
	s.table = s.table[:c.table]
}

// add takes note of a member whose key is text[start:] and marks an earlier one
// with the same key. It returns the member's position for end.
func (s *members) add(c *memberScope, text []byte, start int) int {
	at := len(s.list)
	s.list = append(s.list, member{start: start, keyEnd: len(text)})
	if count := at - c.first + 1; 2*count > c.slots {
		// The table grows with the keys that came, not with those promised.
		c.slots = max(2*c.slots, leastSlots)
		s.table = slices.Grow(s.table[:c.table], c.slots)[:c.table+c.slots]
		clear(s.table[c.table:])
		for earlier := c.first; earlier < at; earlier++ {
			s.put(c, text, earlier)
		}
	}
	s.put(c, text, at)
	return at
}

func (s *members) end(at, end int) { s.list[at].end = end }

// put enters member at into the table, in the place of an earlier one with the
// same key if there is one.
func (s *members) put(c *memberScope, text []byte, at int) {
	key := text[s.list[at].start:s.list[at].keyEnd]
	table := s.table[c.table : c.table+c.slots]
	slot := maphash.Bytes(seed, key)
	for ; ; slot++ {
		entry := table[slot&uint64(len(table)-1)]
		if entry == 0 {
			break
		}
		m := &s.list[c.first+int(entry)-1]
		if bytes.Equal(text[m.start:m.keyEnd], key) {
			m.repeated, c.repeated = true, true
			break
		}
	}
	table[slot&uint64(len(table)-1)] = uint32(at - c.first + 1)
}

// compact removes the members that a later one repeats from the text, which
// ends with the map.
func (s *members) compact(c memberScope, text []byte) []byte {
	to := s.list[c.first].start
	for _, m := range s.list[c.first:] {
		if !m.repeated {
			to += copy(text[to:], text[m.start:m.end])
			text[to] = ','
			to++
		}
	}
	// The last member is never a repeated one, so there is a comma to replace.
	text[to-1] = '}'
	return text[:to]
}
