package plugin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
)

// slowKinesis reads a number of bytes a second, and does not store a record that
// it has not read when the flush ends.
type slowKinesis struct {
	t              *testing.T
	bytesPerSecond int

	records []string
	sizes   []int // of all requests
	stored  []int
}

func (k *slowKinesis) PutRecord(ctx context.Context, _, key string, data []byte) (string, error) {
	size := len(key) + len(data)
	k.sizes = append(k.sizes, size)
	select {
	case <-time.After(time.Duration(size) * time.Second / time.Duration(k.bytesPerSecond)):
	case <-ctx.Done():
		return "", ctx.Err()
	}
	k.stored = append(k.stored, size)
	a, err := kpl.Open(data)
	if err != nil {
		k.t.Error(err)
	}
	for _, r := range a.All() {
		k.records = append(k.records, string(r.Data))
	}
	return "shardId-000000000000", nil
}

func (*slowKinesis) Describe(context.Context, string) (kinesis.Stream, error) {
	return kinesis.Stream{}, errors.New("not expected")
}

func (*slowKinesis) Close() {}

// flushAll retries a chunk until it is delivered, and returns the number of
// flushes.
func (k *slowKinesis) flushAll(in *Instance, c chunktest.Corpus) int {
	for n := 1; n <= 100; n++ {
		if in.Flush("app.log", c.Bytes) == Delivered {
			return n
		}
	}
	k.t.Fatal("not delivered in 100 flushes")
	return 0
}

func startSlow(t *testing.T, bytesPerSecond int, options ...string) (*slowKinesis, *Instance, *logged) {
	k := &slowKinesis{t: t, bytesPerSecond: bytesPerSecond}
	in, l := startOver(t, k, append([]string{"stream", "logs", "request_timeout", "1s", "max_record_size", "10M"}, options...)...)
	return k, in, l
}

// A part of 9 MB needs 9 s at 1 MB/s, which request_timeout 1s does not permit.
func TestFlush_SlowConnectionMakesProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chunktest.AccessLog(1, 30_000)
		k, in, l := startSlow(t, 1_000_000)
		flushes := k.flushAll(in, c)
		if !slices.Equal(k.records, c.JSON) {
			t.Errorf("%d records, want %d, each once and in order", len(k.records), len(c.JSON))
		}
		// Four halvings to get below 1 MB, then at least half a megabyte a flush.
		if most := 4 + 2*len(c.Bytes)/1_000_000 + 1; flushes > most {
			t.Errorf("%d flushes for %d bytes, want at most %d", flushes, len(c.Bytes), most)
		}
		if wasted := len(k.sizes) - len(k.stored); wasted > 4 {
			t.Errorf("%d parts exceeded the time limit, want at most 4: %v", wasted, k.sizes)
		}
		for _, line := range l.take() {
			if strings.Contains(line, "UpdateMaxRecordSize") {
				t.Errorf("the log blames the record size: %s", line)
			}
		}
	})
}

// The bound belongs to the chunk that was slow, and goes when the connection is
// fast again.
func TestFlush_SlowConnectionRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chunktest.AccessLog(1, 5_000)
		k, in, _ := startSlow(t, 1_000)
		for range 20 {
			if in.Flush("app.log", c.Bytes) != Retry {
				t.Fatal("not retried")
			}
		}
		if least := slices.Min(k.sizes); least > minPartBytes || least < minPartBytes/2 {
			t.Errorf("parts shrink to %d bytes, want about %d", least, minPartBytes)
		}
		k.bytesPerSecond, k.sizes = 1_000_000_000, nil
		if n := k.flushAll(in, c); n != 1 || !slices.Equal(k.records, c.JSON) {
			t.Errorf("%d flushes, %d records", n, len(k.records))
		}
		if len(k.sizes) > 12 {
			t.Errorf("%d parts, want sizes that double: %v", len(k.sizes), k.sizes)
		}
		for i, size := range k.sizes[1:] {
			if size > 2*k.sizes[i]+1000 {
				t.Errorf("a part of %d bytes follows one of %d", size, k.sizes[i])
			}
		}
		k.sizes = nil
		if k.flushAll(in, c); len(k.sizes) != 1 {
			t.Errorf("the next chunk is sent in %d parts", len(k.sizes))
		}
	})
}

// The process was suspended during a request: what follows it is left to a flush with
// more time.
func TestFlush_TimeLimitHasPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chunktest.AccessLog(1, 100)
		s := &fakeStream{t: t}
		in, l := start(t, func(key string, data []byte) error {
			if s.requests == 0 {
				time.Sleep(2 * time.Second)
			}
			return s.put(key, data)
		}, "request_timeout", "1s", "max_record_size", "10K")
		if got := in.Flush("app.log", c.Bytes); got != Retry || s.requests != 1 {
			t.Errorf("outcome %v after %d requests", got, s.requests)
		}
		if lines := strings.Join(l.take(), "\n"); !strings.Contains(lines, "request_timeout of 1s is too short") {
			t.Errorf("log: %s", lines)
		}
		if got := in.Flush("app.log", c.Bytes); got != Delivered || !slices.Equal(s.records(), c.JSON) {
			t.Errorf("outcome %v of the retry, %d records", got, len(s.records()))
		}
	})
}

func TestFlush_SlowConnectionWithDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := chunktest.AccessLog(1, 1000)
		k, in, _ := startSlow(t, 1_000, "oversize_chunk", "drop")
		for range 3 {
			if got := in.Flush("app.log", c.Bytes); got != Retry {
				t.Fatalf("outcome %v", got)
			}
		}
		if slices.Min(k.sizes) != slices.Max(k.sizes) {
			t.Errorf("the chunk is sent in parts: %v", k.sizes)
		}
	})
}

// A chunk with one record that is too large sends nothing, so the log must
// not say that it is sent as several.
func TestFlush_TooLargeAloneIsNotSplit(t *testing.T) {
	in, l := start(t, func(string, []byte) error { return nil }, "max_record_size", "2K")
	if got := in.Flush("app.log", chunktest.NewCorpus(chunktest.M("log", strings.Repeat("x", 3000))).Bytes); got != Delivered {
		t.Errorf("outcome %v", got)
	}
	wantLog(t, l, "error: ", "too large")
}
