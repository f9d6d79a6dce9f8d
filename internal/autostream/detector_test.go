package autostream

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"out_kinesis_agg/kpl"
)

func hashKey(n int) kpl.HashKey {
	k, err := kpl.ParseHashKey(strconv.Itoa(n))
	if err != nil {
		panic(err)
	}
	return k
}

func shardID(n int) string { return fmt.Sprintf("shardId-%012d", n) }

// one makes a request that no other one overlaps, and reports an alarm.
func one(d *Detector, shard, key int) bool {
	return d.Observe(d.Begin(), hashKey(key), shardID(shard))
}

// contradicts makes requests one after the other, given as pairs of shard and
// hash key, and reports whether the last one completes the first contradiction.
func contradicts(t *testing.T, d *Detector, pairs ...[2]int) bool {
	t.Helper()
	before := d.start
	for i, p := range pairs {
		one(d, p[0], p[1])
		if i < len(pairs)-1 && d.start != before {
			t.Fatalf("request %d is a contradiction already", i)
		}
	}
	return d.start != before
}

func TestObserve_Contradictions(t *testing.T) {
	for _, c := range []struct {
		name  string
		pairs [][2]int
		want  bool
	}{
		{"parent after its child", [][2]int{{0, 10}, {0, 30}, {1, 20}, {0, 5}}, true},
		{"parent after its child, same key", [][2]int{{0, 10}, {1, 10}, {0, 10}}, true},
		{"child at the lowest key", [][2]int{{0, 10}, {0, 30}, {1, 10}, {0, 30}}, true},
		{"child at the highest key", [][2]int{{0, 10}, {0, 30}, {1, 30}, {0, 30}}, true},
		{"neighbors", [][2]int{{0, 10}, {0, 30}, {1, 31}, {0, 10}, {1, 9}}, true},
		{"only neighbors", [][2]int{{0, 10}, {0, 30}, {1, 31}, {0, 11}, {1, 40}, {0, 30}}, false},
		{"a range that grows over another", [][2]int{{0, 10}, {1, 20}, {0, 12}, {1, 22}, {0, 30}}, true},
		{"a range that grows over a single key", [][2]int{{0, 10}, {1, 20}, {0, 30}}, true},
		{"split", [][2]int{{0, 10}, {0, 30}, {1, 10}, {2, 30}, {1, 12}, {2, 28}}, false},
		{"merge", [][2]int{{0, 10}, {1, 20}, {2, 11}, {2, 20}, {2, 30}}, false},
		{"merge of unequal age, then split", [][2]int{{1, 10}, {2, 20}, {1, 5}, {3, 5}, {3, 20}, {4, 6}, {5, 19}, {4, 5}}, false},
		{"grandparent after a split", [][2]int{{0, 10}, {0, 30}, {1, 10}, {3, 10}, {0, 30}}, true},
		{"shards one after the other, one key", [][2]int{{0, 10}, {1, 10}, {2, 10}, {3, 10}, {4, 10}}, false},
	} {
		var d Detector
		if got := contradicts(t, &d, c.pairs...); got != c.want {
			t.Errorf("%s: contradiction is %v", c.name, got)
		}
	}
}

// TestObserve_OverlapProvesNothing: a response of the parent after one of the
// child means nothing if the request began before the child's response.
func TestObserve_OverlapProvesNothing(t *testing.T) {
	var d Detector
	one(&d, 0, 10)
	one(&d, 0, 30)
	late := []Ticket{d.Begin(), d.Begin()}
	child := d.Begin()
	d.Observe(child, hashKey(20), shardID(1))
	for _, ticket := range late {
		d.Observe(ticket, hashKey(20), shardID(0))
	}
	if d.start != 0 {
		t.Fatal("a late response of the parent is a contradiction")
	}
	if one(&d, 0, 20); d.start == 0 {
		t.Error("a request that began after the child's response is not a contradiction")
	}
}

// TestObserve_LateParentIsNew: the parent's first response comes after that of
// its child.
func TestObserve_LateParentIsNew(t *testing.T) {
	var d Detector
	a, b := d.Begin(), d.Begin()
	one(&d, 1, 20)
	d.Observe(a, hashKey(20), shardID(0))
	d.Observe(b, hashKey(20), shardID(0))
	one(&d, 1, 20)
	if d.start != 0 {
		t.Error("late responses of the parent are a contradiction")
	}
}

// TestObserve_LateResponseTakesNothingBack: a shard was open when its latest
// request began, even if the response of an earlier one comes later.
func TestObserve_LateResponseTakesNothingBack(t *testing.T) {
	var d Detector
	early := d.Begin()
	one(&d, 0, 10)
	one(&d, 1, 20)
	one(&d, 0, 12)
	d.Observe(early, hashKey(11), shardID(0))
	if one(&d, 1, 11); d.start == 0 {
		t.Error("two shards alternate in one range, and there is no contradiction")
	}
}

// TestReset_RequestsUnderWay: a request that a stream with AUTO stored responds
// after Reset, and would give its shard a range that it does not have.
func TestReset_RequestsUnderWay(t *testing.T) {
	var d Detector
	underWay := d.Begin()
	d.Reset()
	d.Observe(underWay, hashKey(30), shardID(0))
	one(&d, 2, 30)
	one(&d, 0, 10)
	if d.doubtful {
		t.Error("a contradiction by a request from before Reset")
	}
}

// alarm makes contradictions until the alarm.
func alarm(t *testing.T, d *Detector) {
	t.Helper()
	for range 20 {
		if one(d, 0, 10) || one(d, 1, 10) {
			return
		}
	}
	t.Fatal("no alarm")
}

func TestObserve_AlarmOnceUntilReset(t *testing.T) {
	var d Detector
	for round := range 3 {
		old := d.Begin()
		alarm(t, &d)
		if !d.Detected() {
			t.Fatal("Detected is false after the alarm")
		}
		for range 20 {
			if one(&d, 0, 10) || one(&d, 1, 10) {
				t.Fatal("a second alarm")
			}
		}
		inFlight := []Ticket{d.Begin(), d.Begin(), d.Begin(), old}
		d.Reset()
		if d.Detected() {
			t.Fatal("Detected is true after Reset")
		}
		// The stream has user partition keys again. Requests from before were
		// distributed over all shards.
		one(&d, 2, 10)
		for i, ticket := range inFlight {
			if d.Observe(ticket, hashKey(10), shardID(i%2)) {
				t.Fatal("an alarm by requests from before Reset")
			}
		}
		for range 1000 {
			if one(&d, 2, 10) {
				t.Fatalf("round %d: a false alarm after Reset", round)
			}
		}
		if d.contradictions != 0 || len(d.shards) != 1 {
			t.Fatalf("%d contradictions and %d shards after Reset", d.contradictions, len(d.shards))
		}
		d.Reset()
	}
}

// TestObserve_RareContradictions: a stream is deleted and created again at long
// intervals, for years.
func TestObserve_RareContradictions(t *testing.T) {
	var d Detector
	for range 100 {
		for range maxGap {
			if one(&d, 0, 10) {
				t.Fatal("a false alarm")
			}
		}
		one(&d, 1, 10)
	}
}

func TestObserve_InvalidTickets(t *testing.T) {
	var d, other Detector
	for range 100 {
		other.Begin()
	}
	one(&d, 0, 10)
	one(&d, 0, 30)
	one(&d, 1, 20)
	for _, ticket := range []Ticket{0, other.Begin(), ^Ticket(0)} {
		d.Observe(ticket, hashKey(20), shardID(0))
	}
	if d.start != 0 {
		t.Error("a contradiction by a ticket that the Detector did not give")
	}
}

// TestObserve_OrderOfIDs: the order of ids counts only after a contradiction that
// does without, and only for ids of the usual form.
func TestObserve_OrderOfIDs(t *testing.T) {
	for _, c := range []struct {
		name           string
		doubtful       bool
		older, younger string
		want           bool
	}{
		{"no contradiction yet", false, shardID(1), shardID(2), false},
		{"descending", true, shardID(1), shardID(2), true},
		{"ascending", true, shardID(2), shardID(1), false},
		{"ten and nine", true, shardID(9), shardID(10), true},
		{"without a number", true, "shardId-x", shardID(2), false},
		{"too short", true, "shardId-1", "shardId-2", false},
		{"not ASCII", true, "shardId-00000000000٣", shardID(2), false},
		{"not a digit", true, shardID(2), "shardId-00000000000x", false},
		{"not a digit, older", true, "shardId-00000000000x", shardID(2), false},
		{"a space", true, shardID(2), "shardId-00000000 100", false},
		{"the first one", true, shardID(0), shardID(1), true},
		{"empty", true, "", shardID(2), false},
	} {
		d := Detector{doubtful: c.doubtful}
		d.Observe(d.Begin(), hashKey(1), c.younger)
		d.Observe(d.Begin(), hashKey(1), c.older)
		if got := d.start != 0; got != c.want {
			t.Errorf("%s: contradiction is %v", c.name, got)
		}
	}
}

// TestObserve_OrderOfIDsInDoubt: long after a contradiction, the order of ids does
// not count.
func TestObserve_OrderOfIDsInDoubt(t *testing.T) {
	for _, responses := range []int{maxGap - 1, maxGap} {
		d := Detector{doubtful: true}
		for range responses {
			one(&d, 2, 1)
		}
		one(&d, 1, 1)
		if got, want := d.start != 0, responses < maxGap; got != want {
			t.Errorf("after %d responses: contradiction is %v", responses, got)
		}
	}
}

// TestObserve_BoundedMemory: an endpoint responds with a new shard id each time.
func TestObserve_BoundedMemory(t *testing.T) {
	for _, keys := range []int{1, 1 << 30} {
		var d Detector
		most := 0
		for i := range 3 * maxOpen {
			d.Observe(d.Begin(), hashKey(i*7919%keys), "hostile-"+strconv.Itoa(i))
			most = max(most, len(d.shards))
		}
		if limit := map[int]int{1: 2*minClosed + 2, 1 << 30: maxOpen}[keys]; most > limit || d.Detected() {
			t.Errorf("%d keys: %d shards in memory, detected %v", keys, most, d.Detected())
		}
	}
}

// steady returns a Detector that knows the shards of a stream, and requests to it.
func steady(shards int) (*Detector, []kpl.HashKey, []string) {
	rng := newRand(1)
	s := newSimStream(rng, shards)
	key := simKeys(rng, 0)
	d := &Detector{}
	var keys []kpl.HashKey
	var ids []string
	for range 1 << 16 {
		k := key()
		keys, ids = append(keys, k), append(ids, s.put(k))
		d.Observe(d.Begin(), k, ids[len(ids)-1])
	}
	return d, keys, ids
}

func TestObserve_NoAllocation(t *testing.T) {
	d, keys, ids := steady(1000)
	i := 0
	if n := testing.AllocsPerRun(10_000, func() {
		d.Observe(d.Begin(), keys[i%len(keys)], ids[i%len(ids)])
		i++
	}); n != 0 {
		t.Errorf("%v allocations for a response", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	for _, shards := range []int{1, 4, 128, 10_000} {
		d, keys, ids := steady(shards)
		b.Run(fmt.Sprintf("shards=%d", shards), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				d.Observe(d.Begin(), keys[i%len(keys)], ids[i%len(ids)])
				i++
			}
		})
	}
}

// TestObserve_Goroutines writes from real goroutines while the stream is
// resharded, and switches to AUTO then.
func TestObserve_Goroutines(t *testing.T) {
	const workers = 32
	var mu sync.Mutex
	s := newSimStream(newRand(1), 4)
	var d Detector
	var alarms atomic.Int64
	write := func(each int) {
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				rng := newRand(uint64(w))
				key := simKeys(rng, 0)
				for range each {
					k, ticket := key(), d.Begin()
					mu.Lock()
					id := s.put(k)
					if s.auto == nil && s.rng.IntN(20) == 0 {
						s.reshard()
					}
					mu.Unlock()
					if d.Observe(ticket, k, id) {
						alarms.Add(1)
					}
				}
			})
		}
		group.Wait()
	}
	write(500)
	if n := alarms.Load(); n != 0 || d.Detected() {
		t.Fatalf("%d false alarms", n)
	}
	s.auto = newRand(2).IntN
	write(200)
	if n := alarms.Load(); n != 1 || !d.Detected() {
		t.Errorf("%d alarms with AUTO", n)
	}
}

// TestObserve_KeepsTheLastOfAContradiction: the request that completes a contradiction
// is the first evidence afterwards, if it began after all other responses.
func TestObserve_KeepsTheLastOfAContradiction(t *testing.T) {
	for _, overlaps := range []bool{false, true} {
		var d Detector
		respond := func(shard string) { d.Observe(d.Begin(), hashKey(10), shard) } // ids without an order
		respond("a")
		respond("b")
		other, last := d.Begin(), d.Begin()
		if overlaps {
			d.Observe(other, hashKey(90), "c")
		}
		d.Observe(last, hashKey(10), "a")
		before := d.start
		respond("b")
		if before == 0 || d.start != before {
			t.Fatal("not one contradiction")
		}
		if respond("a"); (d.start == before) != overlaps {
			t.Errorf("overlaps %v: two further responses contradict the last one: %v", overlaps, d.start != before)
		}
	}
}

// TestObserve_Gap: a contradiction counts up to maxGap responses after the last one.
func TestObserve_Gap(t *testing.T) {
	for responses, want := range map[int]int{maxGap: 1, maxGap + 1: 0} {
		var d Detector
		for range responses - 2 {
			one(&d, 0, 10)
		}
		if !contradicts(t, &d, [2]int{1, 10}, [2]int{0, 10}) || d.contradictions != want {
			t.Errorf("%d responses: %d contradictions count, want %d", responses, d.contradictions, want)
		}
	}
}

// TestObserve_LateParentOfTwo: a late response of a parent tells that it is the parent
// of two shards. It was closed when the first one responded, and they stay known.
func TestObserve_LateParentOfTwo(t *testing.T) {
	for name, contradiction := range map[string]func(d *Detector, between Ticket){
		"the parent, begun between its children's responses": func(d *Detector, between Ticket) {
			d.Observe(between, hashKey(35), shardID(0))
		},
		"a child after its own child": func(d *Detector, _ Ticket) {
			one(d, 3, 20)
			one(d, 1, 20)
		},
	} {
		var d Detector
		one(&d, 0, 10)
		late := d.Begin()
		one(&d, 1, 20)
		between := d.Begin()
		one(&d, 2, 30)
		if d.Observe(late, hashKey(35), shardID(0)); d.start != 0 {
			t.Fatalf("%s: too early", name)
		}
		if contradiction(&d, between); d.start == 0 {
			t.Errorf("%s: no contradiction", name)
		}
	}
}

// TestObserve_OpenShardsAreKept: only closed shards are forgotten.
func TestObserve_OpenShardsAreKept(t *testing.T) {
	var d Detector
	one(&d, 0, 20)
	for n := range 2 * minClosed {
		one(&d, 1+n, 10)
	}
	if len(d.shards) > minClosed+2 {
		t.Fatalf("%d shards are kept", len(d.shards))
	}
	if !contradicts(t, &d, [2]int{0, 10}) {
		t.Error("an open shard grows over another one, and there is no contradiction")
	}
}
