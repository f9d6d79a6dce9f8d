package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/test/kit/fakekinesis"
)

// repeated returns the ids that arrived more than once, and how often too many.
func (s *ids) repeated() (ids map[int]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids = map[int]int{}
	for id, times := range s.times {
		if times > 1 {
			ids[id] = int(times) - 1
		}
	}
	return ids
}

// recordIDs returns the ids of the lines of a record.
func recordIDs(t *testing.T, r fakekinesis.Record) (ids []int) {
	t.Helper()
	for _, text := range texts(t, []fakekinesis.Record{r}) {
		var id int
		if _, err := fmt.Sscanf(text, `{"id":%d,`, &id); err != nil {
			t.Fatalf("a user record without an id: %.100s", text)
		}
		ids = append(ids, id)
	}
	return ids
}

// TestFluentBit_Term sends SIGTERM while a flush waits for a response that does
// not arrive, or arrives late. The engine ends in time, and the chunk that is on
// disk arrives after the next start: twice only where Kinesis had taken it and
// the engine did not learn of it. Each of two outputs has another format.
func TestFluentBit_Term(t *testing.T) {
	t.Parallel()
	const n = 200
	const late = 3 * time.Second // after SIGTERM
	for _, tt := range []struct {
		name     string
		fault    func(late <-chan struct{}) fakekinesis.Fault // of the first request
		timeout  int                                          // request_timeout, in seconds
		grace    int                                          // in seconds
		repeated []int                                        // with so many workers, the lines of the first request
	}{
		{"no response", func(<-chan struct{}) fakekinesis.Fault { return fakekinesis.Hold(nil) }, 4, 6, nil},
		{"no response and a short grace", func(<-chan struct{}) fakekinesis.Fault { return fakekinesis.Hold(nil) }, 6, 2, nil},
		{"accepted without a response", func(<-chan struct{}) fakekinesis.Fault { return fakekinesis.ResponseHeld }, 4, 6, []int{0, 2}},
		{"late response", fakekinesis.Hold, 6, 8, nil},
		{"late response and a short grace", fakekinesis.Hold, 6, 2, nil},
	} {
		for _, workers := range []int{0, 2} {
			t.Run(fmt.Sprintf("%s with %d workers", tt.name, workers), func(t *testing.T) {
				t.Parallel()
				dir, path := t.TempDir(), logFile(t, n)
				options := []string{fmt.Sprintf("request_timeout %ds", tt.timeout)}
				if workers > 0 {
					options = append(options, fmt.Sprint("Workers ", workers))
				}
				waits, release := make(chan struct{}), make(chan struct{})
				var servers []*fakekinesis.Server
				pipeline := tail(dir, path, "storage.type filesystem")
				for _, format := range aggregator.Formats() {
					server := fakekinesis.Start(fakekinesis.Options{Fault: func(i int, _ *fakekinesis.Request) fakekinesis.Fault {
						if i > 1 {
							return fakekinesis.OK
						}
						waits <- struct{}{}
						return tt.fault(release)
					}})
					defer server.Close()
					servers = append(servers, server)
					pipeline += outputAt(server.URL(), "*", string(format), append(slices.Clone(options), "record_format "+string(format))...) + "\n"
				}
				service := []string{"storage.path " + filepath.Join(dir, "chunks"), fmt.Sprint("Grace ", tt.grace)}
				engine := startEngineIn(t, dir, pipeline, service...)
				for range servers {
					select {
					case <-waits:
					case <-time.After(engineDeadline):
						t.Fatalf("no request came:\n%s", engine.Log())
					}
				}
				signalled := time.Now()
				timer := time.AfterFunc(late, func() { close(release) })
				defer timer.Stop()
				if err := engine.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				// A second SIGTERM would end it at once.
				ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
				defer cancel()
				if err := engine.Wait(ctx); err != nil {
					t.Errorf("fluent-bit: %v\n%s", err, engine.Log())
				}
				took := time.Since(signalled)
				if most := time.Duration(tt.grace+2) * time.Second; took > most {
					t.Errorf("the engine ended after %s, want at most %s\n%s", took, most, engine.Log())
				}
				log := engine.Log()

				engine = startEngineIn(t, dir, pipeline, service...)
				started(t, engine)
				repeated := slices.Contains(tt.repeated, workers)
				for _, server := range servers {
					want := n
					if repeated {
						want = n + firstRequestLines(t, server)
					}
					await(t, engine, fmt.Sprintf("arrival of %d log records after the log\n%s\nof the first engine", want, log), engineDeadline,
						func() bool { return len(texts(t, server.Records())) >= want })
				}
				if err := engine.Stop(); err != nil {
					t.Error(err)
				}
				for _, server := range servers {
					s := newIDs(n)
					first := map[int]bool{}
					for _, r := range server.Records() {
						if err := wantFormat(r, r.Stream); err != nil {
							t.Error(err)
						}
						s.add(r)
						if r.Request == 1 {
							for _, id := range recordIDs(t, r) {
								first[id] = true
							}
						}
					}
					s.wantAll(t, n)
					for id, times := range s.repeated() {
						if !repeated || !first[id] || times > 1 {
							t.Errorf("line %d arrived %d times", id, times+1)
							break
						}
					}
				}
				t.Logf("ended after %s", took.Round(10*time.Millisecond))
				if strings.Contains(log, "[error]") {
					t.Errorf("errors in the log:\n%s", log)
				}
			})
		}
	}
}

// firstRequestLines returns how many lines the record of the first request has.
func firstRequestLines(t *testing.T, server *fakekinesis.Server) int {
	t.Helper()
	for _, r := range server.Records() {
		if r.Request == 1 {
			return len(recordIDs(t, r))
		}
	}
	t.Fatal("the record of the first request did not arrive")
	return 0
}

// TestFluentBit_StopWithQueue stops an engine whose chunks wait for an endpoint that
// does not respond. It ends within grace and 2 s, however many chunks wait, and after
// the next start each line arrives once in both formats. OUT_KINESIS_AGG_GRACE is grace in seconds.
func TestFluentBit_StopWithQueue(t *testing.T) {
	t.Parallel()
	const linesPerChunk, workers = 5, 4
	grace := number(t, "OUT_KINESIS_AGG_GRACE", 5)
	for _, chunks := range []int{1, 10, 100} {
		t.Run(fmt.Sprint(chunks), func(t *testing.T) {
			t.Parallel()
			dir, logs := t.TempDir(), t.TempDir()
			for file := range chunks { // Each has its own tag, and so its own chunk.
				var lines []byte
				for line := range linesPerChunk {
					lines = appendLine(lines, file*linesPerChunk+line)
				}
				if err := os.WriteFile(filepath.Join(logs, fmt.Sprintf("%d.log", file)), lines, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := newIDsByFormat(chunks * linesPerChunk)
			var silent atomic.Bool
			silent.Store(true)
			var requests atomic.Int32
			waits := make(chan struct{}, 20*chunks+100)
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
				if !silent.Load() {
					return fakekinesis.OK
				}
				requests.Add(1)
				waits <- struct{}{}
				return fakekinesis.Hold(nil)
			}})
			defer server.Close()
			pipeline := strings.Replace(tail(dir, filepath.Join(logs, "*.log"), "storage.type filesystem"), "Tag app.access", "Tag app.*", 1) +
				outputsTo(server.URL(), "*", fmt.Sprint("Workers ", workers), "request_timeout 4s")
			service := []string{"storage.path " + filepath.Join(dir, "chunks"), fmt.Sprint("Grace ", grace)}
			engine := startEngineIn(t, dir, pipeline, service...)
			for range len(s) * min(chunks, workers) {
				select {
				case <-waits:
				case <-time.After(engineDeadline):
					t.Fatalf("no request came:\n%s", engine.Log())
				}
			}
			before := requests.Load()
			signalled := time.Now()
			if err := engine.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			if err := engine.Wait(ctx); err != nil {
				t.Errorf("fluent-bit: %v\n%s", err, engine.Log())
			}
			took := time.Since(signalled)
			if most := time.Duration(grace+2) * time.Second; took > most {
				t.Errorf("the engine ended after %s, want at most %s\n%s", took, most, engine.Log())
			}
			t.Logf("%d chunks, grace %d s: ended after %s, with %d requests before SIGTERM and %d after it", chunks, grace,
				took.Round(10*time.Millisecond), before, requests.Load()-before)

			silent.Store(false)
			engine = startEngineIn(t, dir, pipeline, service...)
			s.await(t, engine, chunks*linesPerChunk)
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			s.wantAll(t, 0)
		})
	}
}
