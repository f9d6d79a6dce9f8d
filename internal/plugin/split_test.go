package plugin

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
)

// fakeStream is a Kinesis stream of a test: it keeps what it accepts.
type fakeStream struct {
	t         *testing.T
	maxBytes  int
	gateway   bool              // maxBytes is the limit of HTTP 413
	fail      func(n int) error // of the n-th PutRecord, from 0; nil: none
	lose      func(n int) error // the same, but the record is kept
	requests  int
	sizes     []int
	aggregate [][]string
}

func (s *fakeStream) put(key string, data []byte) error {
	n := s.requests
	s.requests++
	if s.fail != nil {
		if err := s.fail(n); err != nil {
			return err
		}
	}
	size := len(key) + len(data)
	if s.maxBytes > 0 && size > s.maxBytes && s.gateway {
		return &kinesis.Error{Cause: kinesis.CauseRequestTooLarge, Err: errors.New("413")}
	}
	if s.maxBytes > 0 && size > s.maxBytes {
		return &kinesis.Error{Cause: kinesis.CauseTooLarge, Err: fmt.Errorf("%d bytes, at most %d", size, s.maxBytes)}
	}
	a, err := kpl.Open(data)
	if err != nil {
		s.t.Error(err)
	}
	var texts []string
	for _, r := range a.All() {
		texts = append(texts, string(r.Data))
	}
	s.aggregate = append(s.aggregate, texts)
	s.sizes = append(s.sizes, size)
	if s.lose != nil {
		return s.lose(n)
	}
	return nil
}

func (s *fakeStream) records() []string { return slices.Concat(s.aggregate...) }

// at makes a failure of the requests with these numbers.
func at(numbers ...int) func(int) error {
	return func(n int) error {
		if slices.Contains(numbers, n) {
			return errors.New("it broke")
		}
		return nil
	}
}

func TestSplit_FewestRecordsInOrder(t *testing.T) {
	const limit = 10_000
	c := chunktest.AccessLog(1, 200)
	s := &fakeStream{t: t}
	in, l := start(t, s.put, "max_record_size", fmt.Sprint(limit))
	for range 2 {
		if got := in.Flush("app.log", c.Bytes); got != Delivered {
			t.Fatalf("outcome %v", got)
		}
	}
	if !slices.Equal(s.records(), slices.Concat(c.JSON, c.JSON)) {
		t.Error("the records are not those of the chunk, in order")
	}
	for i, size := range s.sizes {
		next := (i + 1) % (len(s.sizes) / 2)
		if next != 0 {
			size += kpl.RecordBytes(len(s.aggregate[i+1][0]))
			if size <= limit {
				t.Errorf("record %d has room for the first user record of the next", i)
			}
		} else if size > limit {
			t.Errorf("record %d has %d bytes", i, size)
		}
	}
	wantLog(t, l, "info: ", "app.log", fmt.Sprint(len(c.Bytes)), "max_record_size") // once
}

func TestSplit_RetrySendsTheRest(t *testing.T) {
	c := chunktest.AccessLog(1, 200)
	whole := &fakeStream{t: t}
	in, _ := start(t, whole.put, "max_record_size", "10K")
	in.Flush("app.log", c.Bytes)
	parts := whole.requests

	for k := range parts {
		s := &fakeStream{t: t, fail: at(k)}
		in, _ := start(t, s.put, "max_record_size", "10K")
		counted := counts{}
		in.metrics = newMetrics(counted)
		if got := in.Flush("app.log", c.Bytes); got != Retry {
			t.Fatalf("outcome %v", got)
		}
		// Another chunk goes by in between.
		other := chunktest.AccessLog(2, 1)
		if got := in.Flush("app.log", other.Bytes); got != Delivered {
			t.Fatalf("outcome of another chunk %v", got)
		}
		if got := in.Flush("app.log", c.Bytes); got != Delivered {
			t.Fatalf("outcome of the retry %v", got)
		}
		want := slices.Concat(slices.Concat(whole.aggregate[:k]...), other.JSON, slices.Concat(whole.aggregate[k:]...))
		if !slices.Equal(s.records(), want) || s.requests != parts+2 {
			t.Errorf("part %d of %d fails: %d requests, %d records", k, parts, s.requests, len(s.records()))
		}
		if n := in.progress.byAge.Len(); n != 0 {
			t.Errorf("%d notes are left of chunks that are done", n)
		}
		if n := counted["split_chunks_total"]; n != 1 {
			t.Errorf("part %d of %d fails: %d split chunks are counted", k, parts, n)
		}
	}
}

func TestSplit_LostResponseRepeatsOnePart(t *testing.T) {
	const k = 3
	c := chunktest.AccessLog(1, 200)
	s := &fakeStream{t: t, lose: at(k)}
	in, _ := start(t, s.put, "max_record_size", "10K")
	if in.Flush("app.log", c.Bytes) != Retry || in.Flush("app.log", c.Bytes) != Delivered {
		t.Fatal("not delivered with one retry")
	}
	if !slices.Equal(s.aggregate[k], s.aggregate[k+1]) {
		t.Error("the part was not repeated")
	}
	if !slices.Equal(slices.Concat(slices.Delete(s.aggregate, k, k+1)...), c.JSON) {
		t.Error("more or less than the part was repeated")
	}
}

func TestSplit_EachRetryMakesProgress(t *testing.T) {
	c := chunktest.AccessLog(1, 200)
	s := &fakeStream{t: t, fail: func(n int) error {
		if n%2 == 1 {
			return errors.New("it broke")
		}
		return nil
	}}
	in, _ := start(t, s.put, "max_record_size", "10K")
	flushes := 1
	for in.Flush("app.log", c.Bytes) == Retry {
		flushes++
	}
	if !slices.Equal(s.records(), c.JSON) || flushes < 5 {
		t.Errorf("%d records after %d flushes", len(s.records()), flushes)
	}
}

func TestSplit_SameBytesOtherTag(t *testing.T) {
	c := chunktest.AccessLog(1, 200)
	s := &fakeStream{t: t, fail: at(2)}
	in, _ := start(t, s.put, "max_record_size", "10K")
	if in.Flush("a", c.Bytes) != Retry || in.Flush("b", c.Bytes) != Delivered || in.Flush("a", c.Bytes) != Delivered {
		t.Fatal("not delivered")
	}
	if n := len(s.records()); n != 2*len(c.JSON) {
		t.Errorf("%d records, want %d", n, 2*len(c.JSON))
	}
}

func TestSplit_OversizeChunkDrop(t *testing.T) {
	c := chunktest.AccessLog(1, 100)
	s := &fakeStream{t: t}
	in, l := start(t, s.put, "max_record_size", "2K", "oversize_chunk", "drop")
	if got := in.Flush("app.log", c.Bytes); got != Undeliverable || s.requests != 0 {
		t.Errorf("outcome %v, %d requests", got, s.requests)
	}
	wantLog(t, l, "error: ", "app.log", fmt.Sprint(len(c.Bytes)), "2000")
	if got := in.Flush("app.log", chunktest.AccessLog(1, 3).Bytes); got != Delivered {
		t.Errorf("outcome of a small chunk %v", got)
	}

	s = &fakeStream{t: t, maxBytes: kpl.DefaultMaxRecordBytes}
	in, l = start(t, s.put, "max_record_size", "10M", "oversize_chunk", "drop")
	large := chunktest.AccessLog(1, 5000)
	if got := in.Flush("app.log", large.Bytes); got != Undeliverable {
		t.Errorf("outcome %v of a chunk that the stream refuses", got)
	}
	wantLog(t, l, "error: ", "app.log", fmt.Sprint(len(large.Bytes)), "max_record_size")
}

func TestSplit_DropsTooLargeRecordAlone(t *testing.T) {
	secret := strings.Repeat("secret", 1000)
	c := chunktest.NewCorpus(chunktest.M("n", 1), chunktest.M("log", secret), chunktest.M("n", 2))
	s := &fakeStream{t: t}
	in, l := start(t, s.put, "max_record_size", "2K")
	for range 3 {
		if got := in.Flush("app.log", c.Bytes); got != Delivered {
			t.Fatalf("outcome %v", got)
		}
	}
	if want := []string{c.JSON[0], c.JSON[2]}; !slices.Equal(s.aggregate[0], want) || s.requests != 3 {
		t.Errorf("got %q in %d requests", s.aggregate, s.requests)
	}
	lines := strings.Join(l.take(), "\n")
	if strings.Count(lines, "too large for a record") != 1 || !strings.Contains(lines, fmt.Sprint(c.Ends[1]-c.Ends[0], " bytes")) || strings.Contains(lines, "secret") {
		t.Errorf("log: %s", lines)
	}

	only := chunktest.NewCorpus(chunktest.M("log", secret))
	if got := in.Flush("app.log", only.Bytes); got != Delivered || s.requests != 3 {
		t.Errorf("a chunk of nothing else: outcome %v, %d requests", got, s.requests)
	}
}

// A gateway that limits requests to less than 1 MiB: the parts become smaller, and a
// log record that does not pass alone is lost aloud.
func TestSplit_RequestTooLarge(t *testing.T) {
	line := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	var bodies []chunktest.Map
	for range 100 {
		bodies = append(bodies, line(10_000))
	}
	bodies = append(bodies, line(400_000))
	for range 100 {
		bodies = append(bodies, line(10_000))
	}
	c := chunktest.NewCorpus(bodies...)
	s := &fakeStream{t: t, maxBytes: 300 << 10, gateway: true}
	in, l := start(t, s.put)
	if got := in.Flush("app.log", c.Bytes); got != Delivered {
		t.Fatalf("outcome %v", got)
	}
	if want := slices.Concat(c.JSON[:100], c.JSON[101:]); !slices.Equal(s.records(), want) {
		t.Errorf("%d records, want %d", len(s.records()), len(want))
	}
	lines := strings.Join(l.take(), "\n")
	for _, text := range []string{"records of stream logs have at most 245", "max_record_size", fmt.Sprintf("too large for a record of the stream: 1 from byte offset %d, %d bytes", c.Ends[99], c.Ends[100]-c.Ends[99])} {
		if !strings.Contains(lines, text) {
			t.Errorf("%q is not in the log: %s", text, lines)
		}
	}
	// Later chunks fit at once.
	refused := s.requests - len(s.sizes)
	if got := in.Flush("app.log", chunktest.AccessLog(1, 5000).Bytes); got != Delivered || s.requests-len(s.sizes) != refused {
		t.Errorf("outcome %v, %d requests refused", got, s.requests-len(s.sizes)-refused)
	}
}

// A gateway that refuses every request: the chunk is kept, and the flush ends.
func TestSplit_RequestAlwaysTooLarge(t *testing.T) {
	for _, options := range [][]string{nil, {"batch_size", "1M"}} {
		s := &fakeStream{t: t, maxBytes: 1, gateway: true}
		in, l := start(t, s.put, options...)
		if got := in.Flush("app.log", chunktest.AccessLog(1, 5000).Bytes); got != Retry {
			t.Errorf("outcome %v", got)
		}
		if s.requests > 10 {
			t.Errorf("%d requests", s.requests)
		}
		if lines := strings.Join(l.take(), "\n"); !strings.Contains(lines, "will be retried: ") || strings.Contains(lines, "lost") {
			t.Errorf("log: %s", lines)
		}
	}
}

func TestSplit_StreamWithLowerLimit(t *testing.T) {
	text := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	var bodies []chunktest.Map
	for range 30 {
		bodies = append(bodies, text(100_000))
	}
	bodies = append(bodies, text(1_500_000), text(2_500_000), text(10))
	c := chunktest.NewCorpus(bodies...)
	s := &fakeStream{t: t, maxBytes: 2 << 20}
	in, l := start(t, s.put, "max_record_size", "10M")
	if got := in.Flush("app.log", c.Bytes); got != Delivered {
		t.Fatalf("outcome %v", got)
	}
	// All but the one of 2.5 MB, which the stream takes in no way.
	want := slices.Concat(c.JSON[:31], c.JSON[32:])
	if !slices.Equal(s.records(), want) {
		t.Errorf("%d records, want %d", len(s.records()), len(want))
	}
	lines := strings.Join(l.take(), "\n")
	if strings.Count(lines, "until restart, because a larger one is refused") != 1 || !strings.Contains(lines, "too large") {
		t.Errorf("log: %s", lines)
	}

	requests := s.requests
	small := chunktest.AccessLog(1, 5000)
	if got := in.Flush("app.log", small.Bytes); got != Delivered || s.requests != requests+2 {
		t.Errorf("the next chunk: outcome %v, %d requests, want 2", got, s.requests-requests)
	}
}

func TestNeedsSplit(t *testing.T) {
	for _, test := range []struct {
		cause  *kinesis.Cause
		accept int // every stream, proxy and gateway accepts a record of so many bytes
	}{
		{kinesis.CauseTooLarge, kpl.DefaultMaxRecordBytes},
		{kinesis.CauseRequestTooLarge, minPartBytes},
	} {
		if needsSplit(test.cause, test.accept) || !needsSplit(test.cause, test.accept+1) {
			t.Errorf("%s: only above %d bytes a refusal means that smaller records are needed", test.cause.Name, test.accept)
		}
	}
}

func TestSplit_SmallRecordRefusedAsTooLarge(t *testing.T) {
	s := &fakeStream{t: t, maxBytes: 100}
	in, _ := start(t, s.put)
	if got := in.Flush("app.log", chunktest.AccessLog(1, 1).Bytes); got != Retry {
		t.Errorf("outcome %v", got)
	}
}

func TestSplit_LogsLossesOfAcceptedParts(t *testing.T) {
	c := chunktest.AccessLog(1, 100)
	data := slices.Concat(c.Bytes[:c.Ends[0]], []byte{7}, c.Bytes[c.Ends[0]:], []byte{0xc1})
	s := &fakeStream{t: t, fail: at(1)}
	in, l := start(t, s.put, "max_record_size", "10K")
	if in.Flush("app.log", data) != Retry || in.Flush("app.log", data) != Delivered {
		t.Fatal("not delivered with one retry")
	}
	lines := strings.Join(l.take(), "\n")
	if strings.Count(lines, "not log events: 1 from") != 1 || strings.Count(lines, "not msgpack") != 1 {
		t.Errorf("log: %s", lines)
	}
	if !slices.Equal(s.records(), c.JSON) {
		t.Errorf("%d records", len(s.records()))
	}
}

// One record exceeds max_record_size, and the next one the stream's own limit: both
// are lost in the same part.
func TestSplit_CountsBothKindsOfTooLarge(t *testing.T) {
	text := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	c := chunktest.NewCorpus(text(4_000_000), text(2_500_000), text(10))
	s := &fakeStream{t: t, maxBytes: 2 << 20}
	in, l := start(t, s.put, "max_record_size", "3M")
	got := counts{}
	in.metrics = newMetrics(got)
	if in.Flush("app.log", c.Bytes) != Delivered {
		t.Fatal("not delivered")
	}
	if n := got["dropped_records_total too_large"]; n != 2 {
		t.Errorf("%d dropped records, want 2", n)
	}
	if lines := strings.Join(l.take(), "\n"); !strings.Contains(lines, fmt.Sprintf("2 from byte offset 0, %d bytes", c.Ends[1])) {
		t.Errorf("log: %s", lines)
	}
}

// A stream that refuses a record for its size makes the records of that stream
// smaller, and not those of others.
func TestSplit_LimitOfOneStream(t *testing.T) {
	requests := map[string]int{}
	in, _ := startOver(t, streamFunc(func(stream string, bytes int) error {
		requests[stream]++
		if stream == "small" && bytes > kpl.DefaultMaxRecordBytes {
			return &kinesis.Error{Cause: kinesis.CauseTooLarge, Err: errors.New("too large")}
		}
		return nil
	}), "stream", "$TAG", "max_record_size", "10M")
	c := chunktest.AccessLog(1, 5000)
	for _, tag := range []string{"small", "large", "small"} {
		if got := in.Flush(tag, c.Bytes); got != Delivered {
			t.Fatalf("tag %s: outcome %v", tag, got)
		}
	}
	if requests["small"] != 1+2+2 || requests["large"] != 1 {
		t.Errorf("requests %v, want one refused and two for each chunk of small, and one of large", requests)
	}
}
