package plugin

import (
	"strings"
	"testing"
	"time"
)

func TestTroublesAreLoggedWhenTheyStartEachMinuteAndWhenTheyEnd(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	tr := troubles{now: func() time.Time { return now }}
	expect := func(got string, want ...string) {
		t.Helper()
		if (got == "") != (len(want) == 0) {
			t.Fatalf("at %s: %q", now, got)
		}
		for _, text := range want {
			if !strings.Contains(got, text) {
				t.Fatalf("at %s: %q is not in %q", now, text, got)
			}
		}
	}

	expect(strings.Join(tr.worked(), ""))
	expect(tr.failed("throttled", "too fast"), "too fast")
	for range 59 {
		now = now.Add(time.Second)
		expect(tr.failed("throttled", "too fast"))
		expect(strings.Join(tr.worked(), "")) // one success does not end it
	}
	expect(tr.failed("timeout", "too slow"), "too slow") // another cause
	now = now.Add(time.Second)
	expect(tr.failed("throttled", "too fast"), "too fast", "60 more times in the last 1m0s")
	now = now.Add(time.Second)
	expect(tr.failed("throttled", "too fast"))

	now = now.Add(59 * time.Second)
	expect(strings.Join(tr.worked(), ""), "again", "timeout failures: 1")
	now = now.Add(time.Second)
	expect(strings.Join(tr.worked(), ""), "again", "throttled failures: 62 from 2026-01-02T03:04:05Z to 2026-01-02T03:05:06Z")
	expect(strings.Join(tr.worked(), ""))
	expect(tr.failed("throttled", "too fast"), "too fast")
}
