package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// growing is a log file to which lines are appended at a steady rate.
type growing struct {
	path  string
	lines int
	err   chan error // one value, when all lines are written or ctx ended
}

// grow appends lines with ids from 0 to a new file, perSecond of them in a
// second, and in at least 50 steps a second. A writer that is late catches up.
func grow(ctx context.Context, t *testing.T, lines, perSecond int) *growing {
	t.Helper()
	g := &growing{path: filepath.Join(t.TempDir(), "access.log"), lines: lines, err: make(chan error, 1)}
	file, err := os.Create(g.path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer file.Close()
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		var buffer []byte
		for id, begin := 0, time.Now(); id < lines; {
			select {
			case <-ctx.Done():
				g.err <- ctx.Err()
				return
			case <-ticker.C:
			}
			buffer = buffer[:0]
			for due := int(time.Since(begin).Seconds() * float64(perSecond)); id < min(due, lines); id++ {
				buffer = appendLine(buffer, id)
			}
			if _, err := file.Write(buffer); err != nil {
				g.err <- err
				return
			}
		}
		g.err <- nil
	}()
	return g
}

// wait returns when all lines are written.
func (g *growing) wait(t *testing.T) {
	t.Helper()
	if err := <-g.err; err != nil {
		t.Fatal(err)
	}
}

// freeAddress returns an address of this machine at which nothing listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", port)
}

// TestFluentBit_MemoryDuringOutage lets a file grow by 4,000 lines a second while
// nothing listens at the endpoint. The memory of the engine with the plugin
// stays within the limit that the input sets, and all lines arrive once after
// the outage, in both formats. OUT_KINESIS_AGG_OUTAGE is the length of the outage in seconds.
func TestFluentBit_MemoryDuringOutage(t *testing.T) {
	t.Parallel()
	needVersion(t, 4, 0, "3.2.10 flushes a chunk of a memory input twice now and then")
	const perSecond = 4000
	outage := time.Duration(number(t, "OUT_KINESIS_AGG_OUTAGE", 6)) * time.Second
	n := perSecond * int(outage/time.Second)
	for _, tt := range []struct {
		name    string
		input   []string
		service func(dir string) []string
	}{
		{"memory", []string{"Mem_Buf_Limit 5M"}, func(string) []string { return nil }},
		{"filesystem", []string{"storage.type filesystem"}, func(dir string) []string {
			return []string{"storage.path " + filepath.Join(dir, "chunks"), "storage.max_chunks_up 8", "storage.backlog.mem_limit 5M"}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// The engine with the plugin has about 30 MiB when idle. The lines of a
			// minute take more than 90 MiB as msgpack.
			const most = 80 << 20
			dir, address := t.TempDir(), freeAddress(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			file := grow(ctx, t, n, perSecond)
			pipeline := tail(dir, file.path, tt.input...) + outputsTo("http://"+address, "*", "Workers 2")
			engine := startEngineIn(t, dir, pipeline, tt.service(dir)...)
			file.wait(t)
			during, err := engine.PeakMemory()
			if err != nil {
				t.Fatalf("%v\n%.20000s", err, engine.Log())
			}
			if !strings.Contains(engine.Log(), "connection refused") {
				t.Errorf("the log does not contain that the connection is refused:\n%.5000s", engine.Log())
			}

			s := newIDsByFormat(n)
			listener, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, Listener: listener})
			defer server.Close()
			up := time.Now()
			s.await(t, engine, n)
			drained := time.Since(up)
			after, err := engine.PeakMemory()
			if err != nil {
				t.Fatal(err)
			}
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			s.wantAll(t, 0)
			if max(during, after) > most {
				t.Errorf("peak memory %d MiB during the outage and %d MiB after it, want at most %d MiB", during>>20, after>>20, most>>20)
			}
			t.Logf("%d lines, %s without an endpoint: peak memory %d MiB, %d MiB once all arrived, %s later",
				n, outage, during>>20, after>>20, drained.Round(100*time.Millisecond))
		})
	}
}

// TestFluentBit_ReloadUnderLoad reloads an engine while a file grows by 4,000
// lines a second: each line arrives once, in both formats. Each output has the worker
// that the plugin creates by default. OUT_KINESIS_AGG_RELOADS is the number of reloads.
func TestFluentBit_ReloadUnderLoad(t *testing.T) {
	t.Parallel()
	needVersion(t, 5, 0, "tail of earlier engines continues in the middle of a line after a reload")
	const perSecond = 4000
	reloads := number(t, "OUT_KINESIS_AGG_RELOADS", 5)
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// As many lines as are written in the time of the slowest reload seen.
	n := perSecond * reloads * 2
	s := newIDsByFormat(n)
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add})
	defer server.Close()
	file := grow(ctx, t, n, perSecond)
	engine := startEngineIn(t, dir, tail(dir, file.path)+outputsTo(server.URL(), "*"))
	slowest := time.Duration(0)
	for reload := range reloads {
		// Lines arrive before a reload, and more are on their way.
		s.await(t, engine, (reload+1)*perSecond/4)
		within, cancel := context.WithTimeout(t.Context(), engineDeadline)
		begin := time.Now()
		err := engine.Reload(within)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		slowest = max(slowest, time.Since(begin))
	}
	s.await(t, engine, n)
	file.wait(t)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	s.wantAll(t, 0)
	t.Logf("%d lines, %d reloads, the slowest in %s", n, reloads, slowest.Round(time.Millisecond))
}

// TestFluentBit_Stopped stops the process with SIGSTOP for longer than
// request_timeout while a request is under way. Nothing is lost, and what
// arrives twice are lines of requests whose response arrived during the stop.
func TestFluentBit_Stopped(t *testing.T) {
	t.Parallel()
	// A flush without a stop takes a small part of the time.
	const n, rounds, timeout = 20_000, 3, 2 * time.Second
	for _, tt := range []struct {
		name     string
		accepted bool // of the requests that are under way at the stop
		format   string
	}{
		{"accepted during the stop", true, "kpl"}, {"accepted during the stop and ndjson", true, "ndjson"},
		{"no response", false, "kpl"}, {"no response and ndjson", false, "ndjson"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, path := t.TempDir(), logFile(t, n)
			s := newIDs(n)
			last := 0                 // request that was under way at a stop
			held := map[int]bool{}    // requests, by number, whose response may be lost
			excused := map[int]bool{} // ids of the lines in them
			waits := make(chan struct{})
			releases := make(chan (<-chan struct{}), 1)
			server := fakekinesis.Start(fakekinesis.Options{
				OnRecord: func(r fakekinesis.Record) {
					s.add(r)
					s.mu.Lock()
					defer s.mu.Unlock()
					if held[r.Request] {
						for _, id := range recordIDs(t, r) {
							excused[id] = true
						}
					}
				},
				Fault: func(i int, _ *fakekinesis.Request) fakekinesis.Fault {
					select {
					case release := <-releases:
						s.mu.Lock()
						held[i], last = true, i
						s.mu.Unlock()
						waits <- struct{}{}
						return fakekinesis.Hold(release)
					default:
						// The plugin may read the response before it notices that its time
						// is up, and then gives up the next request, which is accepted too.
						s.mu.Lock()
						if tt.accepted && last > 0 && i == last+1 {
							held[i] = true
						}
						s.mu.Unlock()
						return fakekinesis.OK
					}
				},
			})
			defer server.Close()
			engine := startEngineIn(t, dir, tail(dir, path, "Buffer_Max_Size 64K")+
				// One worker, so that no other request is under way.
				outputTo(server, "Workers 1", "record_format "+tt.format, "max_record_size 256K", "request_timeout "+timeout.String()))
			for range rounds {
				release := make(chan struct{})
				if tt.accepted {
					releases <- release
				} else {
					releases <- nil
				}
				select {
				case <-waits:
				case <-time.After(engineDeadline):
					t.Fatalf("no request came:\n%s", engine.Log())
				}
				if err := engine.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				time.Sleep(timeout * 3 / 2) // The process has to miss its deadline.
				close(release)
				if tt.accepted {
					time.Sleep(timeout / 2) // The response waits in the socket.
				}
				if err := engine.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			}
			s.await(t, engine, n)
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			s.wantAll(t, n)
			repeated := s.repeated()
			for id := range repeated {
				if !tt.accepted || !excused[id] {
					t.Errorf("line %d arrived more than once, and its response was not late", id)
					break
				}
			}
			t.Logf("%d lines, %d stops, %d retries, %d lines of requests that were under way, %d lines repeated",
				n, rounds, strings.Count(engine.Log(), "failed to flush chunk"), len(excused), len(repeated))
		})
	}
}
