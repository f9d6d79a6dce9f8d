package plugin

import (
	"context"
	"crypto/md5"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/chunktest"
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

	records map[string]int // copies of user records
	puts    int            // with user records
	probes  int            // without
}

func newShardedStream(shards int) *shardedStream {
	return &shardedStream{shards: shards, random: rand.New(rand.NewPCG(1, 2)), records: map[string]int{}}
}

func (s *shardedStream) PutRecord(_ context.Context, _, key string, data []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := kpl.Open(data)
	switch {
	case errors.Is(err, kpl.ErrNotAggregated):
		s.records[string(data)]++
	case err != nil:
		return "", err
	case a.Len() == 0:
		s.probes++
	default:
		s.puts++
		for _, r := range a.All() {
			s.records[string(r.Data)]++
		}
	}
	shard := s.random.IntN(s.shards)
	if !s.auto {
		// Ranges of equal size, by the first byte of the hash key.
		first := int(md5.Sum([]byte(key))[0])
		shard = first * s.shards / 256
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
