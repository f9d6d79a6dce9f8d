package plugin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/internal/kinesis"
)

// throttleTest is a log throttle with a clock.
type throttleTest struct {
	*testing.T
	logThrottle
	at time.Time
}

func newThrottleTest(t *testing.T) *throttleTest {
	tt := &throttleTest{T: t, at: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	tt.now = func() time.Time { return tt.at }
	return tt
}

func (tt *throttleTest) pass(d time.Duration) { tt.at = tt.at.Add(d) }

func (tt *throttleTest) recovered(stream string) string {
	lines := tt.succeeded(stream, kinesis.Causes())
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// want checks that got contains all the texts, and is empty if there are none.
func (tt *throttleTest) want(got string, texts ...string) {
	tt.Helper()
	if (got == "") != (len(texts) == 0) {
		tt.Fatalf("at %s: %q", tt.at, got)
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			tt.Fatalf("at %s: %q is not in %q", tt.at, text, got)
		}
	}
}

func TestLogThrottle_StartMinuteEnd(t *testing.T) {
	tt := newThrottleTest(t)
	throttled, timeout := failure{"logs", "throttled"}, failure{"logs", "timeout"}
	tt.want(tt.recovered("logs"))
	tt.want(tt.failed(throttled, "too fast"), "too fast")
	for range 59 {
		tt.pass(time.Second)
		tt.want(tt.failed(throttled, "too fast"))
		tt.want(tt.recovered("logs")) // One success does not end it.
	}
	tt.want(tt.failed(timeout, "too slow"), "too slow")
	tt.pass(time.Second)
	tt.want(tt.failed(throttled, "too fast"), "too fast", "60 more times in the last 1m0s")
	tt.pass(time.Second)
	tt.want(tt.failed(throttled, "too fast"))

	tt.pass(59 * time.Second)
	tt.want(tt.recovered("logs"), "logs accepts records again", "timeout failures: 1")
	tt.pass(time.Second)
	tt.want(tt.recovered("logs"), "again", "throttled failures: 62 from 2026-01-02T03:04:05Z to 2026-01-02T03:05:06Z")
	tt.want(tt.recovered("logs"))
	tt.want(tt.failed(throttled, "too fast"), "too fast")
}

// A stream that is missing stays reported while another one accepts records.
func TestLogThrottle_PerStream(t *testing.T) {
	tt := newThrottleTest(t)
	missing := failure{"missing", "stream_not_found"}
	tt.want(tt.failed(missing, "not found"), "not found")
	tt.pass(2 * logInterval)
	tt.want(tt.recovered("healthy"))
	tt.want(tt.failed(missing, "not found"), "1 more times")
	tt.pass(2 * logInterval)
	tt.want(tt.recovered("missing"), "stream missing accepts records again; stream_not_found failures: 2")
}

func TestLogThrottle_ManyStreams(t *testing.T) {
	tt := newThrottleTest(t)
	lines := 0
	for i := range 100_000 {
		if tt.failed(failure{fmt.Sprint("stream", i), "throttled"}, "too fast") != "" {
			lines++
		}
	}
	if lines != maxFailures+1 || len(tt.active) != maxFailures+1 {
		t.Errorf("%d lines and %d entries, want %d", lines, len(tt.active), maxFailures+1)
	}
	tt.pass(failureMaxAge)
	tt.want(tt.failed(failure{"another", "timeout"}, "too slow"), "too slow")
	if n := len(tt.active); n != 1 {
		t.Errorf("%d entries after %s", n, failureMaxAge)
	}
}
