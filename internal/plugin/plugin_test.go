package plugin

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/smithy-go"

	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/kit/chunktest"
)

// fakeSender is a fake Kinesis. put is called for each PutRecord.
type fakeSender struct {
	put    func(key string, data []byte) error
	closed bool
}

func (f *fakeSender) PutRecord(_ context.Context, stream, key string, data []byte) (string, error) {
	if stream != "logs" {
		return "", fmt.Errorf("stream %q", stream)
	}
	return "shardId-000000000000", f.put(key, data)
}

func (*fakeSender) Describe(context.Context, string) (kinesis.Stream, error) {
	return kinesis.Stream{}, errors.New("not expected")
}

func (f *fakeSender) Close() { f.closed = true }

// logged collects log lines.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) log(level engine.Level, line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, strings.TrimSpace(level.String())+": "+line)
}

func (l *logged) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	l.lines = nil
	return lines
}

// start makes an instance over a fake Kinesis with the stream logs. options are
// names and values.
func start(t *testing.T, put func(key string, data []byte) error, options ...string) (*Instance, *logged) {
	t.Helper()
	return startOver(t, &fakeSender{put: put}, append([]string{"stream", "logs"}, options...)...)
}

// parsed caches options, because Parse looks for misspellings for milliseconds.
var parsed sync.Map // of option.Config, by the names and values

// startOver is start without a stream. Its log lacks the line about the first
// delivery.
func startOver(t *testing.T, s sender, options ...string) (*Instance, *logged) {
	t.Helper()
	key := strings.Join(options, "\x00")
	c, ok := parsed.Load(key)
	if !ok {
		p, _, err := option.Parse(getter(options))
		if err != nil {
			t.Fatal(err)
		}
		c, _ = parsed.LoadOrStore(key, p)
	}
	var l logged
	in, err := newInstance(c.(option.Config), s, l.log, uncounted{})
	if err != nil {
		t.Fatal(err)
	}
	in.streams.holdFile = filepath.Join(t.TempDir(), "on_auto_stream")
	in.firstDelivery.Do(func() {})
	return in, &l
}

// keepsRunning is the engine that does not stop.
func keepsRunning() (time.Duration, bool) { return 0, false }

// getter returns the value of an option out of names and values.
func getter(options []string) option.Source {
	return option.Source{Get: func(name string) string {
		for i := 0; i < len(options); i += 2 {
			if options[i] == name {
				return options[i+1]
			}
		}
		return ""
	}}
}

// wantLog checks that there is one log line and that it has all of these texts.
func wantLog(t *testing.T, l *logged, texts ...string) {
	t.Helper()
	lines := l.take()
	if len(lines) != 1 {
		t.Fatalf("log lines: %q", lines)
	}
	for _, text := range texts {
		if !strings.Contains(lines[0], text) {
			t.Errorf("%q is not in: %s", text, lines[0])
		}
	}
}

// TestLines: each error that errors.Join joins is a line, and an error with a message
// of its own is one line, also if it wraps two.
func TestLines(t *testing.T) {
	a, b := errors.New("a"), errors.New("b\nc")
	err := errors.Join(a, errors.Join(fmt.Errorf("%w, because %w", a, b), b), fmt.Errorf("d: %w", errors.Join(a, b)))
	if got, want := Lines(err), []string{"a", "a, because b c", "b c", "d: a b c"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestFlush_OnePutRecordPerChunk(t *testing.T) {
	for _, fixed := range []string{"", "fixed", "Zürich-東京-🚲", "$TAG"} {
		t.Run(fixed, func(t *testing.T) {
			c := chunktest.AccessLog(1, 100)
			var keys []string
			in, _ := start(t, func(key string, data []byte) error {
				keys = append(keys, key)
				a, err := kpl.Open(data)
				if err != nil {
					t.Error(err)
				}
				for i, r := range a.All() {
					if string(r.Data) != c.JSON[i] || r.PartitionKey != key {
						t.Fatalf("user record %d under %q in a record under %q: %s", i, r.PartitionKey, key, r.Data)
					}
				}
				if a.Len() != len(c.JSON) {
					t.Errorf("%d user records, want %d", a.Len(), len(c.JSON))
				}
				return nil
			}, "fixed_partition_key", fixed)
			for range 2 {
				if got := in.Flush("app.log", c.Bytes); got != Delivered {
					t.Errorf("outcome %v", got)
				}
			}
			if len(keys) != 2 || (keys[0] == keys[1]) != (fixed != "") {
				t.Errorf("keys %q", keys)
			}
		})
	}
}

var errThrottled = &smithy.GenericAPIError{Code: "ProvisionedThroughputExceededException", Message: "Rate exceeded"}

// After a refusal the record goes to another shard; after a lost response it is the
// same record again, because Kinesis may have stored it, and stays so whatever the
// repetition returns.
func TestFlush_KeyOfRetry(t *testing.T) {
	lost := errors.New("it broke")
	for name, test := range map[string]struct {
		errs []error
		same []bool // as the record before
	}{
		"refused":              {[]error{errThrottled, errThrottled, nil}, []bool{false, false}},
		"lost":                 {[]error{lost, lost, nil}, []bool{true, true}},
		"timeout":              {[]error{context.DeadlineExceeded, nil}, []bool{true}},
		"refused, then lost":   {[]error{errThrottled, lost, nil}, []bool{false, true}},
		"lost, then refused":   {[]error{lost, errThrottled, errThrottled, nil}, []bool{true, true, true}},
		"the next chunk's key": {[]error{lost, nil, nil}, []bool{true, false}},
	} {
		t.Run(name, func(t *testing.T) {
			c := chunktest.AccessLog(1, 3)
			var records []string
			in, _ := start(t, func(key string, data []byte) error {
				records = append(records, key+string(data))
				return test.errs[len(records)-1]
			})
			for i, err := range test.errs {
				if got := in.Flush("app.log", c.Bytes); (got == Delivered) != (err == nil) {
					t.Fatalf("flush %d: outcome %v", i, got)
				}
				if i > 0 && (records[i] == records[i-1]) != test.same[i-1] {
					t.Errorf("flush %d sends the record of the one before: %v, want %v", i, !test.same[i-1], test.same[i-1])
				}
			}
			if n := in.progress.byAge.Len(); n != 0 {
				t.Errorf("%d notes are left", n)
			}
		})
	}
}

// A refused chunk of one record leaves no note: only an unknown outcome costs one.
func TestFlush_RefusalsLeaveNoNote(t *testing.T) {
	in, l := start(t, func(string, []byte) error { return errThrottled })
	for range 3 {
		if in.Flush("app.log", chunktest.AccessLog(1, 3).Bytes) != Retry || in.progress.byAge.Len() != 0 {
			t.Errorf("%d notes", in.progress.byAge.Len())
		}
	}
	wantLog(t, l, "warn: ", "app.log", "Rate exceeded") // once
}

// The parts of a chunk keep their ends while one of them is unknown, although the
// stream's limit is lowered meanwhile.
func TestFlush_KeyOfRetryWithLowerLimit(t *testing.T) {
	c := chunktest.AccessLog(1, 5000)
	var records []string
	errs := []error{errors.New("it broke"), nil}
	in, _ := start(t, func(key string, data []byte) error {
		records = append(records, key+string(data))
		return errs[len(records)-1]
	}, "max_record_size", "10M")
	if in.Flush("app.log", c.Bytes) != Retry {
		t.Fatal("not retried")
	}
	in.streams.find("logs").recordMax.Store(kpl.DefaultMaxRecordBytes)
	if in.Flush("app.log", c.Bytes) != Delivered || len(records) != 2 || records[0] != records[1] {
		t.Errorf("%d requests; the second one differs from the first one: %v", len(records), records[0] != records[1])
	}
}

func TestFlush_ChunksWithoutRecords(t *testing.T) {
	for name, test := range map[string]struct {
		chunk []byte
		want  Outcome
	}{
		"empty":         {nil, Delivered},
		"markers":       {chunktest.New().GroupOpen(nil, nil).GroupClose().Bytes(), Delivered},
		"no msgpack":    {[]byte{0xc1, 1, 2, 3}, Undeliverable},
		"no events":     {chunktest.New().Value(1).Value("x").Bytes(), Undeliverable},
		"half an event": {chunktest.AccessLog(1, 1).Bytes[:50], Undeliverable},
	} {
		t.Run(name, func(t *testing.T) {
			in, l := start(t, func(string, []byte) error {
				t.Error("it sent a record")
				return nil
			})
			if got := in.Flush("app.log", test.chunk); got != test.want {
				t.Errorf("outcome %v, want %v", got, test.want)
			}
			if lines := l.take(); (len(lines) > 0) != (test.want == Undeliverable) {
				t.Errorf("log %q", lines)
			}
		})
	}
}

func TestFlush_LogsDamageOnceDelivered(t *testing.T) {
	c := chunktest.AccessLog(1, 3)
	damaged := append(append([]byte{}, c.Bytes...), 0xc1, 's', 'e', 'c', 'r', 'e', 't')
	broken := true
	in, l := start(t, func(_ string, data []byte) error {
		if broken {
			return errors.New("it broke")
		}
		if a, err := kpl.Open(data); err != nil || a.Len() != 3 {
			t.Errorf("%d user records, %v", a.Len(), err)
		}
		return nil
	})
	if in.Flush("app.log", damaged) != Retry {
		t.Error("not retried")
	}
	wantLog(t, l, "it broke")
	broken = false
	if in.Flush("app.log", damaged) != Delivered {
		t.Error("not delivered")
	}
	wantLog(t, l, "error: ", "app.log", fmt.Sprintf("byte offset %d", len(c.Bytes)), "7 bytes")
}

func TestInstance_ConcurrentFlushes(t *testing.T) {
	const flushes = 8
	c := chunktest.AccessLog(1, 200)
	// Each PutRecord waits until all are there.
	var arrived sync.WaitGroup
	arrived.Add(flushes)
	in, _ := start(t, func(_ string, data []byte) error {
		arrived.Done()
		arrived.Wait()
		a, err := kpl.Open(data)
		for i, r := range a.All() {
			if string(r.Data) != c.JSON[i] {
				return fmt.Errorf("user record %d differs", i)
			}
		}
		return err
	})
	var done sync.WaitGroup
	for range flushes {
		done.Go(func() {
			if got := in.Flush("app.log", c.Bytes); got != Delivered {
				t.Errorf("outcome %v", got)
			}
		})
	}
	done.Wait()
}

func TestInstance_StopWaitsForFlushes(t *testing.T) {
	began, release := make(chan bool), make(chan bool)
	in, _ := start(t, func(string, []byte) error {
		began <- true
		<-release
		return nil
	})
	c := chunktest.AccessLog(1, 1)
	outcome := make(chan Outcome, 1)
	go func() { outcome <- in.Flush("app.log", c.Bytes) }()
	<-began
	stopped := make(chan bool)
	go func() {
		in.Stop()
		if !in.sender.(*fakeSender).closed {
			t.Error("the sender is not closed")
		}
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("stopped before the flush was done")
	case release <- true:
	}
	<-stopped
	if got := <-outcome; got != Delivered {
		t.Errorf("outcome %v", got)
	}
	if got := in.Flush("app.log", c.Bytes); got != Retry {
		t.Errorf("outcome after Stop: %v", got)
	}
}

func TestInstance_UsableAfterPanic(t *testing.T) {
	panics := true
	in, _ := start(t, func(string, []byte) error {
		if panics {
			panic("out of order")
		}
		return nil
	})
	c := chunktest.AccessLog(1, 1)
	func() {
		defer func() { _ = recover() }()
		in.Flush("app.log", c.Bytes)
	}()
	panics = false
	if got := in.Flush("app.log", c.Bytes); got != Delivered {
		t.Errorf("outcome %v", got)
	}
	in.Stop() // does not wait for the flush that panicked
}

func TestStart_NamesInvalidOptions(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_DEFAULT_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/dev/null")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
	for name, test := range map[string]struct {
		options map[string]string
		want    []string
	}{
		"several": {map[string]string{"debug": "x", "max_record_size": "y"}, []string{"option stream", "option debug:", "option max_record_size:"}},
		"of each kind": {map[string]string{"stream": "a-$TAG[x]", "max_record_size": "11G", "worker_id_key": "w", "region": "Frankfurt!", "aws_key_id": "A"},
			[]string{"option stream", "option max_record_size:", "option worker_id_key:", "option region:", "option aws_key_id and aws_sec_key require each other"}},
		"key part":      {map[string]string{"stream": "logs", "fixed_partition_key": "a$TAG[x]"}, []string{"option fixed_partition_key:", `"a$TAG[x]"`, "$TAG[n]"}},
		"key too long":  {map[string]string{"stream": "logs", "fixed_partition_key": strings.Repeat("é", 257)}, []string{"option fixed_partition_key:", "257", "256"}},
		"no region":     {map[string]string{"stream": "logs"}, []string{"option region:", "AWS_REGION"}},
		"stream's name": {map[string]string{"stream": "my logs", "region": "eu-west-1"}, []string{"option stream", `"my logs"`}},
		"half a key":    {map[string]string{"stream": "logs", "region": "eu-west-1", "aws_key_id": "A"}, []string{"option aws_key_id and aws_sec_key require each other"}},
	} {
		t.Run(name, func(t *testing.T) {
			var l logged
			_, err := Start(option.Source{Get: func(name string) string { return test.options[name] }}, l.log, uncounted{}, keepsRunning)
			if err == nil {
				t.Fatal("it started")
			}
			text := strings.Join(Lines(err), "\n")
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in: %s", want, text)
				}
			}
		})
	}
}

func TestRegistry_FindAndRemove(t *testing.T) {
	var r Registry
	if r.Find(0) != nil || r.Only() != nil || r.Remove(7) != nil {
		t.Error("an empty registry has instances")
	}
	one, two := new(Instance), new(Instance)
	h1 := r.Add(one)
	if h1 == 0 || r.Find(h1) != one || r.Only() != one {
		t.Error("one instance is not found")
	}
	h2 := r.Add(two)
	if h2 == h1 || r.Find(h2) != two || r.Only() != nil {
		t.Error("two instances are not told apart")
	}
	if r.Remove(h1) != one || r.Remove(h1) != nil || r.Only() != two {
		t.Error("an instance is not removed once")
	}
	if all := r.RemoveAll(); len(all) != 1 || r.Find(h2) != nil {
		t.Error("not all are removed")
	}
}

// syncSink accepts two of three records, from any number of goroutines, and counts
// the copies of each user record.
type syncSink struct {
	mu  sync.Mutex
	n   int
	got map[string]int
}

func (s *syncSink) PutRecord(_ context.Context, _, _ string, data []byte) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n++; s.n%3 == 0 {
		return "", errors.New("throttled")
	}
	if data[0] == '{' { // without the envelope
		for line := range decompress.Lines(data) {
			s.got[string(line)]++
		}
		return "shardId-000000000000", nil
	}
	a, err := kpl.Open(data)
	if err != nil {
		panic("syncSink cannot read the record: " + err.Error())
	}
	for _, r := range a.All() {
		s.got[string(r.Data)]++
	}
	return "shardId-000000000000", nil
}

func (*syncSink) Describe(context.Context, string) (kinesis.Stream, error) {
	return kinesis.Stream{}, errors.New("not expected")
}

func (*syncSink) Close() {}

func TestInstance_FirstDelivery(t *testing.T) {
	c := chunktest.AccessLog(1, 3)
	in, l := start(t, func(string, []byte) error { return nil })
	in.firstDelivery = sync.Once{}
	for range 2 {
		if got := in.Flush("app.log", c.Bytes); got != Delivered {
			t.Fatalf("outcome %v", got)
		}
	}
	wantLog(t, l, "info: ", "stream logs", "shardId-000000000000", "user records: 3", " ms")
}

// One stream is missing, another one is healthy: the chunk of the first one is
// stuck, and the log must not claim that its records are delivered.
func TestInstance_NoFalseAllClear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		missing := true
		in, l := startOver(t, streamFunc(func(stream string, _ int) error {
			if stream == "missing" && missing {
				return errors.New("not found")
			}
			return nil
		}), "stream", "$TAG")
		c := chunktest.AccessLog(1, 3)
		flush := func(tag string, want Outcome) {
			t.Helper()
			if got := in.Flush(tag, c.Bytes); got != want {
				t.Fatalf("tag %s: outcome %v, want %v", tag, got, want)
			}
		}
		flush("missing", Retry)
		wantLog(t, l, "warn: ", "not found")
		time.Sleep(10 * logInterval)
		flush("healthy", Delivered)
		if lines := l.take(); lines != nil {
			t.Errorf("log %q while the chunk is stuck", lines)
		}
		missing = false
		flush("missing", Delivered)
		wantLog(t, l, "info: ", "stream missing accepts records again")
	})
}

// streamFunc is a Kinesis whose streams respond with the function's error.
type streamFunc func(stream string, bytes int) error

func (f streamFunc) PutRecord(_ context.Context, stream, _ string, data []byte) (string, error) {
	return "shardId-000000000000", f(stream, len(data))
}

func (streamFunc) Describe(context.Context, string) (kinesis.Stream, error) {
	return kinesis.Stream{}, errors.New("not expected")
}

func (streamFunc) Close() {}
