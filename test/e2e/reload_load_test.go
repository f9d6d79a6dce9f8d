package e2e

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// steadyLine is the length of a line that steady writes.
const steadyLine = 400

// steadyBuffer makes tail read whole lines of steadyLine only: it reads one byte
// less than its buffer has. At a reload, tail of engines before 5.0 forgets the
// beginning of a line whose end it has not read.
const steadyBuffer = "Buffer_Chunk_Size 32801\n    Buffer_Max_Size 32801" // 82 lines and a byte

// reloadWaits is why the tests of reloads need Fluent Bit 3.2.3.
const reloadWaits = "once a reload has begun, 2.2.0 to 3.2.2 retry each chunk of an output in Go without calling the plugin, and wait for it"

// steady is a log file that grows until stop.
type steady struct {
	path string
	end  chan struct{}
	done chan struct{}
	n    int // lines written; read after done
	err  error
}

// write appends lines with ids from 0 to a new file, perSecond of them in a
// second. A writer that is late catches up.
func write(t *testing.T, perSecond int) *steady {
	t.Helper()
	s := &steady{path: filepath.Join(t.TempDir(), "access.log"), end: make(chan struct{}), done: make(chan struct{})}
	file, err := os.Create(s.path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		defer file.Close()
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		var lines []byte
		for begin := time.Now(); ; {
			select {
			case <-s.end:
				return
			case <-t.Context().Done():
				return
			case <-ticker.C:
			}
			lines = lines[:0]
			for due := int(time.Since(begin).Seconds() * float64(perSecond)); s.n < due; s.n++ {
				lines = appendSteady(lines, s.n)
			}
			if _, s.err = file.Write(lines); s.err != nil {
				return
			}
		}
	}()
	return s
}

// appendSteady appends the line with that id, with spaces at its end.
func appendSteady(dst []byte, id int) []byte {
	from := len(dst)
	dst = bytes.TrimSuffix(appendLine(dst, id), []byte("\n"))
	dst = append(dst, bytes.Repeat([]byte(" "), steadyLine-1-(len(dst)-from))...)
	return append(dst, '\n')
}

// steadyFile writes n lines to a file and returns its path.
func steadyFile(t *testing.T, n int) string {
	t.Helper()
	var lines []byte
	for id := range n {
		lines = appendSteady(lines, id)
	}
	path := filepath.Join(t.TempDir(), "access.log")
	if err := os.WriteFile(path, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// stop ends the writer and returns how many lines there are.
func (s *steady) stop(t *testing.T) int {
	t.Helper()
	close(s.end)
	<-s.done
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.n
}

// only makes ids expect n lines instead of as many as it has room for.
func (s *ids) only(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.times = s.times[:n]
}

func (all idsByFormat) only(n int) {
	for _, s := range all {
		s.only(n)
	}
}

// arrived returns how many lines have arrived in all formats.
func (all idsByFormat) arrived() (n int) {
	n = math.MaxInt
	for _, s := range all {
		distinct, _, _ := s.state()
		n = min(n, distinct)
	}
	return n
}

// reload sends SIGHUP and waits for the end of the reload.
func reload(t *testing.T, engine *harness.FluentBit) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	if err := engine.Reload(ctx); err != nil {
		t.Fatal(err)
	}
}

// workerStarts is what a worker writes when it starts.
var workerStarts = regexp.MustCompile(`\[output:kinesis_agg:[^]]*\] worker #\d+ started`)

// wantWorkers waits until so many workers have started in all pipelines so far: a
// second pool of an output shows as too many. The names of the threads cannot
// tell, since threads of the Go runtime inherit them, and the log of a pipeline
// can lose its last lines, which are about workers that stop.
func wantWorkers(t *testing.T, engine *harness.FluentBit, all int) {
	t.Helper()
	const within = 5 * time.Second // for threads that begin
	started := 0
	await(t, engine, fmt.Sprintf("start of %d workers", all), within, func() bool {
		started = len(workerStarts.FindAllString(engine.Log(), -1))
		return started >= all
	})
	if started > all {
		t.Fatalf("%d workers have started, want %d\n%.20000s", started, all, engine.Log())
	}
}

// usage returns what the engine uses.
func usage(t *testing.T, engine *harness.FluentBit) harness.Usage {
	t.Helper()
	u, err := engine.Usage()
	if err != nil {
		t.Fatalf("%v\n%.20000s", err, engine.Log())
	}
	return u
}

// TestFluentBitReload_Workers reloads an engine while a file grows by 4,000 lines
// a second. Each line arrives once in both formats, each output has exactly the
// configured number of worker threads, and nothing grows. OUT_KINESIS_AGG_RELOADS is the number of
// reloads.
func TestFluentBitReload_Workers(t *testing.T) {
	t.Parallel()
	needVersion(t, 3, 2, reloadWaits)
	const perSecond = 4000
	reloads := number(t, "OUT_KINESIS_AGG_RELOADS", 3)
	for _, tt := range []struct {
		name    string
		options []string // of the two outputs
		workers int      // threads of each
	}{
		{"none", nil, 1},
		{"0", []string{"Workers 0"}, 1},
		{"1", []string{"Workers 1"}, 1},
		{"2 and zstd", []string{"Workers 2", "compression zstd"}, 2},
		{"4", []string{"Workers 4"}, 4},
		{"8", []string{"Workers 8"}, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			// No reload was seen that took more than 10 seconds.
			s := newIDsByFormat(perSecond * (reloads + 2) * 10)
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add})
			defer server.Close()
			file := write(t, perSecond)
			engine := startEngineIn(t, dir, tail(dir, file.path, steadyBuffer, "storage.type filesystem")+
				outputsTo(server.URL(), "*", tt.options...),
				"storage.path "+filepath.Join(dir, "chunks"))
			var all []harness.Usage
			var slowest time.Duration
			for n := range reloads {
				s.await(t, engine, s.arrived()+perSecond/4)
				wantWorkers(t, engine, (n+1)*2*tt.workers)
				all = append(all, usage(t, engine))
				begin := time.Now()
				reload(t, engine)
				slowest = max(slowest, time.Since(begin))
				t.Logf("reload %d: %+v before it", n+1, all[n])
			}
			wantWorkers(t, engine, (reloads+1)*2*tt.workers)
			all = append(all, usage(t, engine))
			n := file.stop(t)
			s.only(n)
			s.await(t, engine, n)
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			s.wantAll(t, 0)
			// 3.2.10 leaves two descriptors open for each worker, of core outputs too.
			wantFlat(t, all, !strings.Contains(engine.Log(), "[fluent bit] version=3."))
			t.Logf("%d lines, %d reloads, the slowest in %s", n, reloads, slowest.Round(time.Millisecond))
		})
	}
}

// wantFlat compares the second third of a run with the last, in file descriptors
// only if told to.
func wantFlat(t *testing.T, all []harness.Usage, files bool) {
	t.Helper()
	third := len(all) / 3
	if third < 5 {
		return // too few to tell growth from warm-up
	}
	for _, field := range []struct {
		name string
		of   func(harness.Usage) int
		most float64
	}{
		// A Go runtime that is busy may start a thread late.
		{"threads", func(u harness.Usage) int { return u.Threads }, 1.1},
		{"files", func(u harness.Usage) int { return u.Files }, 1.1},
		{"memory", func(u harness.Usage) int { return u.Memory }, 1.2},
	} {
		median := func(part []harness.Usage) int {
			part = slices.Clone(part)
			slices.SortFunc(part, func(a, b harness.Usage) int { return cmp.Compare(field.of(a), field.of(b)) })
			return field.of(part[len(part)/2])
		}
		before, after := median(all[third:2*third]), median(all[2*third:])
		t.Logf("%s: median %d in the second third, %d in the last", field.name, before, after)
		if float64(after) > float64(before)*field.most && (files || field.name != "files") {
			t.Errorf("%s grow from %d to %d", field.name, before, after)
		}
	}
}

// TestFluentBitReload_Waiting reloads while chunks wait for their retry: the old
// pipeline goes on until all are delivered, and then the new one starts.
func TestFluentBitReload_Waiting(t *testing.T) {
	t.Parallel()
	needVersion(t, 3, 2, reloadWaits)
	for _, storage := range []string{"memory", "filesystem"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			const n = 3000
			dir, s := t.TempDir(), newIDsByFormat(n)
			up, refused := make(chan struct{}), make(chan struct{}, 1000)
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
				select {
				case <-up:
					return fakekinesis.OK
				default:
					select {
					case refused <- struct{}{}:
					default:
					}
					return fakekinesis.Status(503)
				}
			}})
			defer server.Close()
			engine := startEngineIn(t, dir, tail(dir, steadyFile(t, n), steadyBuffer, "storage.type "+storage)+outputsTo(server.URL(), "*", "Workers 2"),
				"storage.path "+filepath.Join(dir, "chunks"))
			await := func(what string, c <-chan struct{}) {
				t.Helper()
				select {
				case <-c:
				case <-time.After(engineDeadline):
					t.Fatalf("%s did not happen in %s\n%.20000s", what, engineDeadline, engine.Log())
				}
			}
			await("a refused request", refused)
			reloaded := make(chan error, 1)
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
				defer cancel()
				reloaded <- engine.Reload(ctx)
			}()
			for !strings.Contains(engine.Log(), "stop everything of the old context") {
				await("a retry before the end of the old pipeline", refused)
			}
			for len(refused) > 0 {
				<-refused
			}
			for range 3 {
				await("a retry during the reload", refused)
			}
			select {
			case err := <-reloaded:
				t.Fatalf("the reload ended while chunks waited: %v\n%.20000s", err, engine.Log())
			default:
			}
			close(up)
			if err := <-reloaded; err != nil {
				t.Fatal(err)
			}
			s.await(t, engine, n)
			wantWorkers(t, engine, 8)
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			s.wantAll(t, 0)
			t.Logf("%d lines, %d requests", n, server.Counts().PutRecords)
		})
	}
}
