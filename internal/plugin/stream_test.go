package plugin

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestStreams_ForgetsTheLeastRecentlyUsed(t *testing.T) {
	var s streams
	first, kept := s.find("first"), s.find("kept")
	auto := s.find("auto")
	auto.detector.Alarm()
	for i := range 10 * maxStreams {
		s.find(fmt.Sprint("stream", i))
		if s.find("kept") != kept {
			t.Fatal("a stream in use is forgotten")
		}
	}
	if len(s.byName) != maxStreams || s.byUse.Len() != maxStreams {
		t.Errorf("%d streams", len(s.byName))
	}
	if s.find("first") == first {
		t.Error("a stream that is not used is not forgotten")
	}
	if s.find("auto") != auto {
		t.Error("a stream with the strategy AUTO is forgotten")
	}
}

// When more streams fail than are known at once, each of them is forgotten before it
// fails again: the log must not get a line for each flush.
func TestStreams_ManyFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s streams
		lines := 0
		fail := func(flushes int) {
			for i := range flushes {
				if s.find(fmt.Sprint("stream", i%(2*maxStreams))).failures.failed("throttled", "too fast") != "" {
					lines++
				}
			}
		}
		fail(100 * maxStreams)
		if most := 2*maxStreams + 1; lines > most {
			t.Errorf("%d lines, want at most %d", lines, most)
		}
		time.Sleep(logInterval)
		s.find("another") // in the place of one whose failure is over
		if s.find("another").failures == &s.crowd {
			t.Error("the stream shares the log of streams that do not fail any more")
		}
	})
}
