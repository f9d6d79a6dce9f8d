package plugin

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/test/kit/chunktest"
)

// stoppable is an instance over an endpoint, and an engine that can stop.
type stoppable struct {
	*Instance
	stopping atomic.Bool
	requests atomic.Int32
}

const testGrace = 10 * time.Second

// startStoppable starts with an endpoint that responds as respond says.
func startStoppable(t *testing.T, respond func(ctx context.Context) error) *stoppable {
	var s stoppable
	s.Instance, _ = startOver(t, &contextSender{put: func(ctx context.Context) error {
		s.requests.Add(1)
		return respond(ctx)
	}}, "stream", "logs", "request_timeout", "4s")
	s.watchEngine(func() (time.Duration, bool) { return testGrace, s.stopping.Load() })
	return &s
}

// flushes begins n flushes, and returns the outcomes in the order of their returns.
func (s *stoppable) flushes(n int) <-chan Outcome {
	outcomes := make(chan Outcome, n)
	chunk := chunktest.NewCorpus(chunktest.M("a", 1)).Bytes
	for range n {
		go func() { outcomes <- s.Flush("app", chunk) }()
	}
	return outcomes
}

// stop lets the instance notice that the engine stops.
func (s *stoppable) stop() {
	s.stopping.Store(true)
	time.Sleep(stopPoll)
	synctest.Wait()
}

// contextSender is a fake Kinesis that waits as long as its context does.
type contextSender struct {
	fakeSender
	put func(ctx context.Context) error
}

func (s *contextSender) PutRecord(ctx context.Context, _, _ string, _ []byte) (string, error) {
	return "shardId-000000000000", s.put(ctx)
}

// silence is the response of an endpoint that does not respond.
func silence(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestStop_Silent: the engine stops while an endpoint does not respond. All flushes
// return soon after the end of grace, also those that begin later, and none earlier,
// which would use up the chunk's retries. Meanwhile, one at a time sends.
func TestStop_Silent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStoppable(t, silence)
		defer s.Stop()
		outcomes := s.flushes(8)
		synctest.Wait()
		began := time.Now()
		s.stop()
		for range 8 {
			if outcome := <-outcomes; outcome != Retry {
				t.Errorf("%s, want retry", outcome)
			}
			if took := time.Since(began); took < testGrace || took > testGrace+stopPoll+ignoredAfter {
				t.Errorf("a flush returned after %s, grace is %s", took, testGrace)
			}
		}
		// 8 that were in flight until 4 s, and from then on one every 4 s.
		if n := s.requests.Load(); n != 10 {
			t.Errorf("%d requests, want 10", n)
		}
		if outcome := <-s.flushes(1); outcome != Retry || s.requests.Load() != 10 {
			t.Errorf("after the end: %s, %d requests", outcome, s.requests.Load())
		}
	})
}

// TestStop_Recovers: the endpoint responds again during grace, and all flushes that
// waited are delivered.
func TestStop_Recovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var responds atomic.Bool
		s := startStoppable(t, func(ctx context.Context) error {
			if responds.Load() {
				return nil
			}
			return silence(ctx)
		})
		defer s.Stop()
		outcomes := s.flushes(8)
		synctest.Wait()
		s.stop()
		time.Sleep(4 * time.Second) // All have timed out.
		responds.Store(true)
		began := time.Now()
		for range 8 {
			if outcome := <-outcomes; outcome != Delivered {
				t.Errorf("%s, want delivered", outcome)
			}
		}
		if took := time.Since(began); took > 4*time.Second {
			t.Errorf("delivered after %s, want the end of the request that waits", took)
		}
	})
}

// TestStop_Responds: while the engine stops, an endpoint that responds gets everything
// at once. A refusal is a retry at once, which the engine counts.
func TestStop_Responds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var response error
		s := startStoppable(t, func(context.Context) error { return response })
		defer s.Stop()
		s.stop()
		began := time.Now()
		outcomes := s.flushes(8)
		for range 8 {
			if outcome := <-outcomes; outcome != Delivered {
				t.Errorf("%s, want delivered", outcome)
			}
		}
		response = &kinesis.Error{Cause: kinesis.CauseThrottled, Err: errors.New("slow down")}
		if outcome := <-s.flushes(1); outcome != Retry {
			t.Errorf("throttled: %s, want retry", outcome)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("it took %s", took)
		}
	})
}

// TestStop_Panics: flushes that panic do not keep others waiting.
func TestStop_Panics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var panics atomic.Bool
		panics.Store(true)
		s := startStoppable(t, func(ctx context.Context) error {
			if panics.Load() {
				<-ctx.Done()
				panic("test")
			}
			return nil
		})
		defer s.Stop()
		s.shutdown.observe(true)
		s.stop()
		func() {
			defer func() { _ = recover() }()
			s.Flush("app", chunktest.NewCorpus(chunktest.M("a", 1)).Bytes)
		}()
		panics.Store(false)
		if outcome := <-s.flushes(1); outcome != Delivered {
			t.Errorf("%s, want delivered", outcome)
		}
	})
}

// TestStop_OnTheEngineThread: there, no flush waits.
func TestStop_OnTheEngineThread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startStoppable(t, silence)
		defer s.Stop()
		s.WithoutWorkers()
		outcome := <-s.flushes(1)
		s.stop()
		began := time.Now()
		if outcome != Retry || <-s.flushes(1) != Retry || time.Since(began) > 0 || s.requests.Load() != 1 {
			t.Errorf("%s, then after %s, %d requests", outcome, time.Since(began), s.requests.Load())
		}
	})
}
