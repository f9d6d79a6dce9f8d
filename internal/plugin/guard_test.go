package plugin

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
)

// shardedStream is a stream with several shards that has user partition keys, or
// the strategy AUTO. It is safe for concurrent use.
type shardedStream struct {
	mu        sync.Mutex
	shards    int
	auto      bool
	describe  func() (kinesis.Stream, error) // nil: not permitted
	describes int
	random    *rand.Rand

	records map[string]int // copies of user records, or of records without the envelope
	kcl     map[string]int // the same, without what KCL drops
	plain   int            // records without the envelope
	puts    int            // with user records
	probes  int            // without
}

func newShardedStream(shards int) *shardedStream {
	return &shardedStream{shards: shards, random: rand.New(rand.NewPCG(1, 2)), records: map[string]int{}, kcl: map[string]int{}}
}

func (s *shardedStream) PutRecord(_ context.Context, _, key string, data []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// Ranges of equal size, by the first byte of the hash key.
	owner := int(md5.Sum([]byte(key))[0]) * s.shards / 256
	shard := owner
	if s.auto {
		shard = s.random.IntN(s.shards)
	}
	a, err := kpl.Open(data)
	switch {
	case errors.Is(err, kpl.ErrNotAggregated):
		s.plain++
		s.records[string(data)]++
		s.kcl[strings.TrimSuffix(string(data), "\n")]++
	case err != nil:
		return "", err
	case a.Len() == 0:
		s.probes++
	default:
		s.puts++
		for _, r := range a.All() {
			s.records[string(r.Data)]++
			if shard == owner {
				s.kcl[string(r.Data)]++
			}
		}
	}
	return fmt.Sprintf("shardId-%012d", shard), nil
}

func (s *shardedStream) Describe(context.Context, string) (kinesis.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.describes++
	if s.describe == nil {
		return kinesis.Stream{}, &smithy.GenericAPIError{Code: "AccessDeniedException", Message: "not authorized"}
	}
	return s.describe()
}

func (*shardedStream) Close() {}

// permitDescribe lets Describe report the truth.
func (s *shardedStream) permitDescribe() {
	s.describe = func() (kinesis.Stream, error) { return kinesis.Stream{DistributesRecords: s.auto}, nil }
}

// guardTest is an instance over such a stream, in a synctest bubble.
type guardTest struct {
	*testing.T
	s   *shardedStream
	in  *Instance
	log *logged
	n   int // chunks so far
}

func newGuardTest(t *testing.T, shards int, options ...string) *guardTest {
	g := &guardTest{T: t, s: newShardedStream(shards)}
	g.in, g.log = startOver(t, g.s, append([]string{"stream", "logs"}, options...)...)
	return g
}

func (g *guardTest) flush() Outcome {
	g.Helper()
	return g.in.Flush("app", g.next())
}

func (g *guardTest) next() []byte {
	g.n++
	return chunktest.New().Event(1, chunktest.M("n", g.n)).Bytes()
}

// untilHeld flushes chunks until one is held, and returns how many were sent.
func (g *guardTest) untilHeld() int {
	g.Helper()
	for sent := range 1000 {
		if g.flush() == Retry {
			return sent
		}
	}
	g.Fatal("no chunk is held after 1,000")
	return 0
}

// wait lets the time of the next check come.
func (*guardTest) wait() { time.Sleep(2 * checkInterval) }

func TestGuard_UserKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 8)
		for range 2000 {
			if got := g.flush(); got != Delivered {
				t.Fatalf("outcome %v", got)
			}
		}
		if lines := g.log.take(); lines != nil || g.s.describes != 0 || g.s.probes != 0 {
			t.Errorf("log %q, %d calls of Describe, %d probes", lines, g.s.describes, g.s.probes)
		}
	})
}

func TestGuard_HoldsAndContinues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4)
		g.s.permitDescribe()
		for range 200 {
			g.flush()
		}
		g.s.auto = true
		if sent := g.untilHeld(); sent > 100 {
			t.Errorf("%d PutRecords until the stream is found to have AUTO", sent)
		}
		lines := strings.Join(g.log.take(), "\n")
		for _, text := range []string{"error: ", "stream logs has the record distribution strategy AUTO", "KCL drops", "USER_PARTITION_KEY", "will be retried"} {
			if !strings.Contains(lines, text) {
				t.Errorf("%q is not in the log: %s", text, lines)
			}
		}
		held := g.next()
		puts := g.s.puts
		for range 50 {
			if g.in.Flush("app", held) != Retry {
				t.Fatal("not held")
			}
		}
		g.wait() // for the confirmation
		if g.in.Flush("app", held) != Retry || g.s.describes != 1 {
			t.Errorf("%d calls of Describe, want one", g.s.describes)
		}
		if g.s.puts != puts {
			t.Errorf("%d records were sent while the stream had AUTO", g.s.puts-puts)
		}
		g.s.auto = false
		if g.in.Flush("app", held) != Retry {
			t.Error("the stream is checked before it is due")
		}
		g.wait()
		if g.in.Flush("app", held) != Delivered {
			t.Error("not delivered after the strategy changed back")
		}
		if lines := strings.Join(g.log.take(), "\n"); !strings.Contains(lines, "stream logs has user partition keys, delivery continues") {
			t.Errorf("log: %s", lines)
		}
		if g.s.probes != 0 {
			t.Errorf("%d probes although Describe is permitted", g.s.probes)
		}
		// And again.
		g.s.auto = true
		if sent := g.untilHeld(); sent > 100 {
			t.Errorf("%d PutRecords until the second detection", sent)
		}
	})
}

func TestGuard_ProbesWithoutPermission(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4)
		g.s.auto = true
		g.untilHeld()
		held := g.next()
		g.wait() // for the confirmation, which is not permitted
		if g.in.Flush("app", held) != Retry || g.s.probes != 0 {
			t.Errorf("%d probes right after the detection", g.s.probes)
		}
		for range 3 {
			before := g.s.probes
			g.wait()
			if g.in.Flush("app", held) != Retry {
				t.Fatal("not held")
			}
			if n := g.s.probes - before; n == 0 || n > probeRequests {
				t.Errorf("%d probes", n)
			}
		}
		g.s.auto = false
		g.wait()
		if g.in.Flush("app", held) != Delivered {
			t.Error("not delivered after the strategy changed back")
		}
		if n := g.s.records[fmt.Sprintf(`{"n":%d}`, g.n)]; n != 1 {
			t.Errorf("%d copies of the record that was held", n)
		}
	})
}

func TestGuard_FalseAlarm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4)
		g.s.describe = func() (kinesis.Stream, error) { return kinesis.Stream{}, nil }
		g.s.auto = true
		g.untilHeld()
		g.s.auto = false
		g.wait()
		for range 300 {
			if g.flush() != Delivered {
				t.Fatal("held although Kinesis reports user partition keys")
			}
		}
	})
}

// While Kinesis does not respond to the check, the stream stays held.
func TestGuard_CheckFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4)
		g.s.describe = func() (kinesis.Stream, error) { return kinesis.Stream{}, errors.New("throttled") }
		g.s.auto = true
		g.untilHeld()
		for range 5 {
			g.wait()
			if g.flush() != Retry {
				t.Error("not held")
			}
		}
		if g.s.describes != 5 || g.s.probes != 0 {
			t.Errorf("%d calls of Describe, %d probes; want 5 and 0", g.s.describes, g.s.probes)
		}
	})
}

func TestGuard_OneCheckAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4)
		g.s.auto = true
		g.untilHeld()
		g.wait()
		began, release := make(chan struct{}), make(chan struct{})
		g.s.describe = func() (kinesis.Stream, error) {
			g.s.mu.Unlock()
			close(began)
			<-release
			g.s.mu.Lock()
			return kinesis.Stream{}, nil
		}
		done := make(chan Outcome)
		first := g.next()
		go func() { done <- g.in.Flush("app", first) }()
		<-began
		for range 20 {
			if g.flush() != Retry {
				t.Error("not held during a check")
			}
		}
		close(release)
		if <-done != Delivered || g.s.describes != 1 {
			t.Errorf("%d checks", g.s.describes)
		}
	})
}

func TestGuard_Warn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4, "on_auto_stream", "warn")
		g.s.auto = true
		for range 300 {
			if g.flush() != Delivered {
				t.Fatal("held")
			}
		}
		lines := g.log.take()
		if len(lines) != 2 || !strings.HasPrefix(lines[0], "error: stream logs has") || !strings.Contains(lines[0], "on_auto_stream is warn") {
			t.Errorf("log %q", lines)
		}
		if g.s.probes != 0 {
			t.Errorf("%d probes", g.s.probes)
		}
	})
}

// Records without the envelope reach their consumers from any shard.
func TestGuard_NothingToGuard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4, "record_format", "ndjson")
		g.s.auto = true
		for range 300 {
			if g.flush() != Delivered {
				t.Fatal("held")
			}
		}
		if lines := g.log.take(); len(lines) != 0 || g.s.describes+g.s.probes != 0 {
			t.Errorf("%d checks, %d probes, log %q", g.s.describes, g.s.probes, lines)
		}
		if len(g.s.records) != 300 || g.s.records[`{"n":300}`+"\n"] != 1 {
			t.Errorf("%d records", len(g.s.records))
		}
	})
}

// An emulator that chooses shards in its own way says that it has user partition keys:
// there is one false alarm, and no other one. AUTO is found once it says so.
func TestGuard_BelievesDescribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 4)
		got := counts{}
		g.in.metrics = newMetrics(got)
		reported := false
		g.s.describe = func() (kinesis.Stream, error) { return kinesis.Stream{DistributesRecords: reported}, nil }
		g.s.auto = true
		g.untilHeld()
		g.log.take()
		g.wait()
		for range 2000 {
			if g.flush() != Delivered {
				t.Fatal("held although Kinesis reports user partition keys")
			}
			time.Sleep(time.Second)
		}
		// The second line says that the held flushes are over.
		if lines := g.log.take(); len(lines) != 2 || !strings.Contains(lines[0], "info: stream logs has user partition keys according to DescribeStreamSummary") {
			t.Errorf("log %q", lines)
		}
		if most := 2 + int(2000*time.Second/(checkInterval*4/5)); g.s.describes > most {
			t.Errorf("%d calls of Describe in 2,000 s, want at most %d", g.s.describes, most)
		}
		reported = true
		g.wait()
		if sent := g.untilHeld(); sent > 200 {
			t.Errorf("%d records until the stream is held", sent)
		}
		if n := got["auto_stream_detections_total"]; n != 2 {
			t.Errorf("%d detections, want 2", n)
		}
		reported, g.s.auto = false, false
		g.wait()
		if g.flush() != Delivered {
			t.Error("not delivered after the strategy changed back")
		}
	})
}

func TestGuard_HoldFile(t *testing.T) {
	for word, test := range map[string]struct {
		outcome Outcome
		log     string
	}{
		"":         {Retry, "write warn, ndjson or drop to "},
		"hold\n":   {Retry, "write warn, ndjson or drop to "},
		"release":  {Retry, "none of the words"},
		" Warn \n": {Delivered, "says warn"},
		"ndjson\n": {Delivered, "says ndjson"},
		"drop\n":   {Undeliverable, "says drop, and is not sent"},
	} {
		t.Run(word, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGuardTest(t, 4)
				g.s.auto = true
				g.untilHeld()
				time.Sleep(logInterval) // but less than until the check
				g.log.take()
				if word != "" {
					if err := os.WriteFile(g.in.streams.holdFile, []byte(word), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if got := g.flush(); got != test.outcome {
					t.Errorf("outcome %v, want %v", got, test.outcome)
				}
				if lines := strings.Join(g.log.take(), "\n"); !strings.Contains(lines, test.log) {
					t.Errorf("log: %s", lines)
				}
				if (g.s.plain == 1) != strings.Contains(word, "ndjson") {
					t.Errorf("%d records without the envelope", g.s.plain)
				}
			})
		})
	}
}

// With on_auto_stream ndjson nothing is held, and KCL loses nothing that was sent
// after the detection.
func TestGuard_NDJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuardTest(t, 8, "on_auto_stream", "ndjson")
		got := counts{}
		g.in.metrics = newMetrics(got)
		deliver := func(chunks int) {
			t.Helper()
			for range chunks {
				if got := g.flush(); got != Delivered {
					t.Fatalf("outcome %v", got)
				}
			}
		}
		deliver(200)
		g.s.auto = true
		first := g.n + 1
		for g.s.plain == 0 {
			deliver(1)
		}
		detected := g.n
		if detected-first > 100 {
			t.Errorf("%d records with the envelope until the detection", detected-first)
		}
		deliver(300)
		g.wait() // for the check that only learns that Describe is not permitted
		deliver(10)
		g.wait()
		deliver(10)
		if want := g.n - detected + 1; g.s.plain != want || got["auto_stream_ndjson_records_total"] != want || g.s.probes == 0 {
			t.Errorf("%d records without the envelope, %d counted, want %d; %d probes", g.s.plain, got["auto_stream_ndjson_records_total"], want, g.s.probes)
		}
		g.s.auto = false
		g.wait()
		plain := g.s.plain
		deliver(300)
		if g.s.plain != plain {
			t.Errorf("%d records without the envelope after the strategy changed back", g.s.plain-plain)
		}
		for n := 1; n <= g.n; n++ {
			copies := g.s.kcl[fmt.Sprintf(`{"n":%d}`, n)]
			if copies > 1 || copies == 0 && (n < first || n >= detected) {
				t.Errorf("KCL reads record %d %d times", n, copies)
			}
		}
		lines := strings.Join(g.log.take(), "\n")
		if !strings.Contains(lines, "on_auto_stream is ndjson") || strings.Contains(lines, "held") || !strings.Contains(lines, "delivery continues") {
			t.Errorf("log: %s", lines)
		}
		if got["held_flushes_total"] != 0 {
			t.Errorf("%d flushes were held", got["held_flushes_total"])
		}
	})
}

// A part that may be stored with the envelope is another record without it.
func TestGuard_NDJSONHasAnotherKey(t *testing.T) {
	var keys []string
	fail := true
	in, _ := start(t, func(key string, _ []byte) error {
		keys = append(keys, key)
		if fail {
			return errors.New("the response is lost")
		}
		return nil
	}, "on_auto_stream", "ndjson")
	c := chunktest.AccessLog(1, 3)
	in.Flush("app", c.Bytes)
	in.streams.find("logs").reported()
	in.Flush("app", c.Bytes)
	fail = false
	in.Flush("app", c.Bytes)
	if len(keys) != 3 || keys[0] == keys[1] || keys[1] != keys[2] {
		t.Errorf("keys %q", keys)
	}
}
