package plugin

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

type throttleTest struct {
	*testing.T
	logThrottle
}

func (tt *throttleTest) recovered() string { return strings.Join(tt.succeeded("logs"), "\n") }

// want checks that got contains all the texts, and is empty if there are none.
func (tt *throttleTest) want(got string, texts ...string) {
	tt.Helper()
	if (got == "") != (len(texts) == 0) {
		tt.Fatalf("at %s: %q", time.Now().UTC(), got)
	}
	for _, text := range texts {
		if !strings.Contains(got, text) {
			tt.Fatalf("at %s: %q is not in %q", time.Now().UTC(), text, got)
		}
	}
}

func TestLogThrottle_StartMinuteEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tt := throttleTest{T: t}
		time.Sleep(time.Until(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
		tt.want(tt.recovered())
		tt.want(tt.failed("throttled", "too fast"), "too fast")
		for range 59 {
			time.Sleep(time.Second)
			tt.want(tt.failed("throttled", "too fast"))
			tt.want(tt.recovered()) // One success does not end it.
		}
		tt.want(tt.failed("timeout", "too slow"), "too slow")
		time.Sleep(time.Second)
		tt.want(tt.failed("throttled", "too fast"), "too fast", "(60 more times in the last 1m0s)")
		time.Sleep(time.Second)
		tt.want(tt.failed("throttled", "too fast"))

		time.Sleep(59 * time.Second)
		tt.want(tt.recovered(), "logs accepts records again", "timeout failures: 1")
		time.Sleep(time.Second)
		tt.want(tt.recovered(), "again", "throttled failures: 62 from 2026-01-02T03:04:05Z to 2026-01-02T03:05:06Z")
		tt.want(tt.recovered())
		tt.want(tt.failed("throttled", "too fast"), "too fast")
	})
}
