package autostream

import (
	"slices"
	"testing"
)

// response is one request with its response, in whatever time there is.
type response struct {
	shard      int
	key        int
	begin, end uint64
}

// explains reports whether user partition keys explain the responses: there is
// an order in which the stream stored them, each between its request's beginning
// and end, so of any two shards whose ranges overlap one stored everything
// before the other one. With ascending, that is the one with the lower number.
// It tries all orders.
func explains(all []response, ascending bool) bool {
	var order func(stored []response, left []response) bool
	order = func(stored, left []response) bool {
		if !disjoint(stored, all, ascending) {
			return false
		}
		if len(left) == 0 {
			return true
		}
		for i, next := range left {
			if slices.ContainsFunc(left, func(r response) bool { return r.end < next.begin }) {
				continue // r was stored before
			}
			rest := slices.Delete(slices.Clone(left), i, i+1)
			if order(append(slices.Clone(stored), next), rest) {
				return true
			}
		}
		return false
	}
	return order(nil, all)
}

// disjoint reports whether no two shards with overlapping ranges alternate.
func disjoint(stored, all []response, ascending bool) bool {
	for i, a := range stored {
		for j, b := range stored[i+1:] {
			if a.shard == b.shard || !rangesOverlap(all, a.shard, b.shard) {
				continue
			}
			if ascending && a.shard > b.shard {
				return false
			}
			for _, c := range stored[i+1+j:] {
				if c.shard == a.shard {
					return false
				}
			}
		}
	}
	return true
}

func rangesOverlap(all []response, a, b int) bool {
	lo, hi := map[int]int{a: 99, b: 99}, map[int]int{a: -1, b: -1}
	for _, r := range all {
		if r.shard == a || r.shard == b {
			lo[r.shard], hi[r.shard] = min(lo[r.shard], r.key), max(hi[r.shard], r.key)
		}
	}
	return lo[a] <= hi[b] && lo[b] <= hi[a]
}

// obvious reports whether a shard responded, then another one within the range
// known by then, then the first one again, none of the requests overlapping.
func obvious(all []response) bool {
	for i, b := range all {
		for _, a := range all[:i] {
			lo, hi := 99, -1
			for _, other := range all[:i] {
				if other.shard == a.shard {
					lo, hi = min(lo, other.key), max(hi, other.key)
				}
			}
			if a.shard != b.shard && lo <= b.key && b.key <= hi &&
				slices.ContainsFunc(all[i+1:], func(c response) bool { return c.shard == a.shard }) {
				return true
			}
		}
	}
	return false
}

// checkHistory makes requests as data says, up to the first contradiction, and
// compares with the reference.
func checkHistory(t *testing.T, data []byte) (contradiction bool) {
	t.Helper()
	const maxResponses, maxInFlight = 7, 4
	if len(data) == 0 {
		return false
	}
	ascending, sequential := data[0]&1 == 1, data[0]&2 == 2
	var d Detector
	d.doubtful = ascending
	var inFlight []Ticket
	var all []response
	for _, b := range data[1:] {
		if sequential || b&0x80 == 0 && len(inFlight) < maxInFlight {
			inFlight = append(inFlight, d.Begin())
			if !sequential {
				continue
			}
		}
		if len(inFlight) == 0 {
			continue
		}
		i := int(b>>5&3) % len(inFlight)
		ticket := inFlight[i]
		inFlight = slices.Delete(inFlight, i, i+1)
		r := response{int(b & 3), int(b >> 2 & 7), uint64(ticket), d.begun.Load()}
		all = append(all, r)
		d.Observe(ticket, hashKey(r.key), shardID(r.shard))
		if d.start != 0 {
			if explains(all, ascending) {
				t.Fatalf("a contradiction, but user partition keys explain %+v (ascending ids: %v)", all, ascending)
			}
			return true
		}
		if sequential && obvious(all) {
			t.Fatalf("no contradiction in %+v", all)
		}
		if len(all) == maxResponses {
			break
		}
	}
	return false
}

// TestObserve_Reference compares random small histories with the reference.
func TestObserve_Reference(t *testing.T) {
	histories := 20_000 / runsDivisor()
	rng := newRand(1)
	found := 0
	for range histories {
		data := make([]byte, 24)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		if checkHistory(t, data) {
			found++
		}
	}
	if found < histories/10 || found > histories*99/100 {
		t.Errorf("contradictions in %d of %d histories: the test does not test", found, histories)
	}
	t.Logf("contradictions in %d of %d histories", found, histories)
}

func FuzzObserve(f *testing.F) {
	f.Add([]byte{2, 0, 1, 0})                            // one key, one request at a time
	f.Add([]byte{3, 1, 0})                               // ids that descend
	f.Add([]byte{0, 0, 0, 0, 0x80, 0x94, 0x89, 0, 0x84}) // requests that overlap
	f.Fuzz(func(t *testing.T, data []byte) { checkHistory(t, data) })
}
