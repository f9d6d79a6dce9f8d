package e2e

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// backoff is how long the engine delays the retry of a chunk: a random number
// of seconds from base to base*2^n, and at most cap, plus one. n counts the
// failures of the chunk; it does not start over when a part of it was sent.
// Source: backoff_full_jitter and flb_sched_request_create in flb_scheduler.c.
type backoff struct{ base, cap int }

// bounds returns the least and the most seconds after failure n.
func (b backoff) bounds(n int) (least, most int) {
	most = b.cap
	if n < 20 {
		most = min(b.cap, b.base<<n)
	}
	return b.base + 1, most + 1
}

// wait returns a wait after failure n. The engine's timer runs on whole seconds
// of its clock, and therefore fires up to one second early.
func (b backoff) wait(r *rand.Rand, n int) time.Duration {
	least, most := b.bounds(n)
	seconds := float64(least+r.IntN(most-least+1)) - r.Float64()
	return time.Duration(seconds * float64(time.Second))
}

// simulate returns what one chunk takes, many times, in ascending order.
func simulate(one func(*rand.Rand) time.Duration) []time.Duration {
	r := rand.New(rand.NewPCG(1, 2))
	all := make([]time.Duration, 20_000)
	for i := range all {
		all[i] = one(r)
	}
	slices.Sort(all)
	return all
}

// summary returns the mean and three quantiles of times in ascending order.
func summary(times []time.Duration) string {
	var sum time.Duration
	for _, t := range times {
		sum += t
	}
	quantile := func(percent int) time.Duration {
		return times[(len(times)-1)*percent/100].Round(100 * time.Millisecond)
	}
	return fmt.Sprintf("mean %s, median %s, 90%% in %s, all in %s",
		(sum / time.Duration(len(times))).Round(100*time.Millisecond), quantile(50), quantile(90), quantile(100))
}

var retryLine = regexp.MustCompile(`failed to flush chunk '([^']+)', retry in (\d+) seconds`)

// wantBackoff checks every wait that the engine announced.
func wantBackoff(t *testing.T, b backoff, log string) {
	t.Helper()
	failures := map[string]int{}
	for _, line := range retryLine.FindAllStringSubmatch(log, -1) {
		failures[line[1]]++
		n := failures[line[1]]
		seconds, err := strconv.Atoi(line[2])
		if err != nil {
			t.Fatal(err)
		}
		if least, most := b.bounds(n); seconds < least || seconds > most {
			t.Errorf("the engine waits %d s after failure %d, want %d to %d", seconds, n, least, most)
		}
	}
	if len(failures) == 0 {
		t.Error("no chunk was retried")
	}
}

// arrivals notes when a tag's records arrived. The tag is the partition key.
type arrivals struct {
	mu      sync.Mutex
	records map[string]int
	last    map[string]time.Time
	changed chan struct{}
}

func newArrivals() *arrivals {
	return &arrivals{records: map[string]int{}, last: map[string]time.Time{}, changed: make(chan struct{}, 1)}
}

func (a *arrivals) add(r fakekinesis.Record) {
	texts, err := logRecords(r)
	if err != nil || wantFormat(r, r.Stream) != nil {
		return // The records are missing then.
	}
	a.mu.Lock()
	a.records[r.PartitionKey] += len(texts)
	a.last[r.PartitionKey] = r.Received
	a.mu.Unlock()
	select {
	case a.changed <- struct{}{}:
	default:
	}
}

// await waits until so many records of each of so many tags arrived.
func (a *arrivals) await(t *testing.T, engine *harness.FluentBit, tags, records int, within time.Duration) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	for {
		complete := 0
		a.mu.Lock()
		for _, n := range a.records {
			if n >= records {
				complete++
			}
		}
		a.mu.Unlock()
		if complete >= tags {
			return
		}
		select {
		case <-a.changed:
		case <-deadline.C:
			t.Fatalf("%d of %d chunks arrived in %s\n%.20000s", complete, tags, within, engine.Log())
		}
	}
}

// startForward starts an engine whose input is the forward protocol at a port. A tag
// that forwardTag returns selects the format of the records.
func startForward(t *testing.T, server *fakekinesis.Server, b backoff, more ...string) (*harness.FluentBit, int) {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	engine := startEngineIn(t, t.TempDir(), fmt.Sprintf("[INPUT]\n    Name forward\n    Listen 127.0.0.1\n    Port %d\n\n", port)+
		outputsTo(server.URL(), "FORMAT.*", append([]string{"Workers 4", "fixed_partition_key $TAG"}, more...)...),
		fmt.Sprint("Scheduler.Base ", b.base), fmt.Sprint("Scheduler.Cap ", b.cap))
	return engine, port
}

// forwardTag is the tag of the i-th chunk. The formats take turns.
func forwardTag(i int) string {
	formats := aggregator.Formats()
	return fmt.Sprintf("%s.%d", formats[i%len(formats)], i)
}

// TestFluentBit_RetryWaits sends chunks of several parts while every second
// request is throttled. The engine keeps to the waits that the comment on
// scheduler.cap in conf/ describes, and each record arrives once. The log of
// the test has the time that a chunk takes next to the time that a simulation
// of the waits gives. OUT_KINESIS_AGG_SCHEDULER_CAP=60 measures the setting of
// conf/ in about ten minutes.
func TestFluentBit_RetryWaits(t *testing.T) {
	t.Parallel()
	b, chunks, parts := backoff{1, 2}, 8, 3
	if upper := number(t, "OUT_KINESIS_AGG_SCHEDULER_CAP", b.cap); upper != b.cap {
		b, chunks, parts = backoff{5, upper}, 40, 10
	}
	arrived := newArrivals()
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: arrived.add, Fault: throttled(50, 3)})
	defer server.Close()
	engine, port := startForward(t, server, b, "max_record_size 1500")
	corpus := numbered(parts, strings.Repeat("x", 1000))
	sent := map[string]time.Time{}
	for i := range chunks {
		tag := forwardTag(i)
		forward(t, engine, port, tag, corpus.Bytes)
		sent[tag] = time.Now()
	}
	arrived.await(t, engine, chunks, parts, time.Duration(parts*20*b.cap)*time.Second)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	wantBackoff(t, b, engine.Log())
	var took []time.Duration
	for tag, at := range sent {
		if arrived.records[tag] != parts {
			t.Errorf("%d records of %s arrived, want %d", arrived.records[tag], tag, parts)
		}
		took = append(took, arrived.last[tag].Sub(at))
	}
	slices.Sort(took)
	t.Logf("%d chunks of %d parts, scheduler.cap %d: %s", chunks, parts, b.cap, summary(took))
	for _, other := range []backoff{b, {b.base, 2000}} {
		t.Logf("simulated, scheduler.cap %d: %s", other.cap, summary(simulate(func(r *rand.Rand) (took time.Duration) {
			for accepted, failures := 0, 0; accepted < parts; {
				if r.IntN(2) == 0 {
					accepted++
				} else {
					failures++
					took += other.wait(r, failures)
				}
			}
			return took
		})))
	}
}

// TestFluentBit_Drain counts how long chunks take to arrive after a time in which
// every request was throttled. OUT_KINESIS_AGG_DRAIN is the scheduler.cap of a
// longer run: 50 chunks that arrived during 60 s.
func TestFluentBit_Drain(t *testing.T) {
	t.Parallel()
	b, chunks, outage := backoff{1, 2}, 10, 4*time.Second
	if upper := number(t, "OUT_KINESIS_AGG_DRAIN", b.cap); upper != b.cap {
		b, chunks, outage = backoff{5, upper}, 50, time.Minute
	}
	arrived := newArrivals()
	end := time.Now().Add(outage)
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: arrived.add, Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
		if time.Now().Before(end) {
			return fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded")
		}
		return fakekinesis.OK
	}})
	defer server.Close()
	engine, port := startForward(t, server, b)
	every := time.NewTicker(outage / time.Duration(chunks+1))
	defer every.Stop()
	for i := range chunks {
		forward(t, engine, port, forwardTag(i), chunktest.AccessLog(uint64(i), 10).Bytes)
		<-every.C
	}
	arrived.await(t, engine, chunks, 10, outage+time.Duration(b.cap+30)*time.Second)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	wantBackoff(t, b, engine.Log())
	var took []time.Duration
	for tag, last := range arrived.last {
		if arrived.records[tag] != 10 {
			t.Errorf("%d records of %s arrived, want 10", arrived.records[tag], tag)
		}
		took = append(took, max(last.Sub(end), 0))
	}
	slices.Sort(took)
	t.Logf("%d chunks after %s, scheduler.cap %d: %s", chunks, outage, b.cap, summary(took))
	for _, other := range []backoff{b, {b.base, 2000}} {
		all := simulate(func(r *rand.Rand) (last time.Duration) {
			for i := range chunks {
				at := outage * time.Duration(i) / time.Duration(chunks)
				for failures := 1; at < outage; failures++ {
					at += other.wait(r, failures)
				}
				last = max(last, at-outage)
			}
			return last
		})
		t.Logf("simulated, scheduler.cap %d, the last of the chunks: %s", other.cap, summary(all))
	}
}
