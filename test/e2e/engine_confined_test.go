package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// needMounts skips a test where a process cannot have mounts of its own.
func needMounts(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("unshare", "--mount", "sh", "-c", "mount -t tmpfs -o size=1M none /mnt && setpriv --version").CombinedOutput(); err != nil {
		t.Skipf("a mount namespace with a tmpfs, and setpriv, are needed (root, or CAP_SYS_ADMIN): %v: %s", err, out)
	}
}

// ownMounts is shell code for wrapped: what follows runs in a mount namespace.
const ownMounts = "[ \"$1\" = inside ] || exec unshare --mount \"$0\" inside \"$@\"\nshift\n"

// wrapped returns a script in dir that runs prepare, shell code, and then, in the same
// process, a program with the arguments of the script.
func wrapped(t *testing.T, dir, program, prepare string) (script string) {
	t.Helper()
	script = filepath.Join(dir, "wrapped")
	if err := os.WriteFile(script, []byte("#!/bin/sh\nset -e\n"+prepare+"exec '"+program+"' \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return script
}

// startIn starts Fluent Bit with its files in dir, in a mount namespace in which
// prepare, a shell script, has run. prepare ends with the command that runs its
// arguments.
func startIn(t *testing.T, dir, plugin, prepare, pipeline string, service ...string) *harness.FluentBit {
	t.Helper()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	needMounts(t)
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	script := wrapped(t, dir, path, ownMounts+"set -- '"+path+"' \"$@\"\n"+prepare+"\n")
	engine, err := harness.StartFluentBit(script, dir, plugin, pipeline, service...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Kill)
	return engine
}

// TestFluentBit_ReadOnlyRoot runs the engine as a user without rights, without
// capabilities and without a home, on a root file system that is read-only. Only
// the folder of storage.path can be written. A chunk outlives a restart there. Each
// line arrives once in both formats.
func TestFluentBit_ReadOnlyRoot(t *testing.T) {
	t.Parallel()
	needVersion(t, 5, 0, "tail of earlier engines continues in the middle of a line after a restart")
	const n, user = 5000, "65532"
	dir, path := t.TempDir(), logFile(t, n)
	storage := filepath.Join(dir, "storage")
	if err := os.Mkdir(storage, 0o700); err != nil {
		t.Fatal(err)
	}
	// The test's folders are for root alone, up to the one for all tests.
	for _, name := range []string{path, dir} {
		for ; name != os.TempDir() && name != "/"; name = filepath.Dir(name) {
			if err := os.Chmod(name, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	// So may be the folder of the library.
	plugin := filepath.Join(dir, filepath.Base(fixture.plugin))
	library, err := os.ReadFile(fixture.plugin)
	if err == nil {
		err = os.WriteFile(plugin, library, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	// The tmpfs is made once, outside of the namespace of an engine: it has to
	// outlive the first one.
	needMounts(t)
	if path, err := harness.FindFluentBit(); err != nil {
		t.Skip(err)
	} else if err := exec.Command("setpriv", "--reuid", user, "--regid", user, "--clear-groups", "test", "-x", path).Run(); err != nil {
		t.Skipf("a user without rights cannot run %s: %v", path, err)
	}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=64M,mode=0700,uid="+user+",gid="+user, "none", storage).CombinedOutput(); err != nil {
		t.Skipf("mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "--lazy", storage).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	prepare := strings.NewReplacer("DIR", dir, "USER", user).Replace(`
mount -o remount,bind,ro /
mount --rbind 'DIR' 'DIR'
mount -o remount,bind,ro 'DIR'
if touch 'DIR/probe' 2>/dev/null; then echo 'the folder of the test can be written'; exit 1; fi
unset HOME
exec setpriv --reuid USER --regid USER --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"`)

	s := newIDsByFormat(n)
	var healthy atomic.Bool
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
		if healthy.Load() {
			return fakekinesis.OK
		}
		return fakekinesis.Status(503)
	}})
	defer server.Close()
	pipeline := tail(storage, path, "storage.type filesystem") + outputsTo(server.URL(), "*", "Workers 2", "max_record_size 256K")
	service := []string{"storage.path " + filepath.Join(storage, "chunks"), "Grace 1"}
	engine := startIn(t, dir, plugin, prepare, pipeline, service...)
	awaitLog(t, engine, "failed to flush chunk", engineDeadline)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", engine.PID()))
	if err != nil || !strings.Contains(string(status), "\nUid:\t"+user+"\t") {
		t.Errorf("the engine runs as another user: %v\n%s", err, status)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	healthy.Store(true)
	engine = startIn(t, dir, plugin, prepare, pipeline, service...)
	s.await(t, engine, n)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	s.wantAll(t, 0)
	for line := range strings.Lines(engine.Log()) {
		if strings.Contains(line, "[error]") {
			t.Errorf("an error in the log: %s", line)
		}
	}
}

// TestFluentBit_FullDisk fills the disk of storage.path while nothing is
// accepted. The engine and the plugin keep running, and afterwards all that could
// be written arrives, once; lines that are written to the file after that arrive
// as well. What the engine's input could not write is lost, with a line of log
// for each buffer of it, unless storage.pause_on_chunks_overlimit stops the
// input before the disk is full.
func TestFluentBit_FullDisk(t *testing.T) {
	t.Parallel()
	const (
		n    = 60_000 // 20 MB, more than the disk has
		more = 1000
	)
	for _, tt := range []struct {
		name    string
		input   []string
		service []string
		format  string
		full    bool
	}{
		{"full", nil, nil, "ndjson", true},
		// Three chunks of 2 MB fit on the disk.
		{"paused before", []string{"storage.pause_on_chunks_overlimit on"}, []string{"storage.max_chunks_up 2"}, "kpl", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, path := t.TempDir(), logFile(t, n)
			storage := filepath.Join(dir, "storage")
			if err := os.Mkdir(storage, 0o700); err != nil {
				t.Fatal(err)
			}
			prepare := fmt.Sprintf("mount -t tmpfs -o size=8M none '%s'\nexec \"$@\"", storage)
			s := newIDs(n + more)
			var healthy atomic.Bool
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
				if healthy.Load() {
					return fakekinesis.OK
				}
				return fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded")
			}})
			defer server.Close()
			port, service := httpServer(t)
			service = append(append(service, tt.service...), "storage.path "+storage,
				// The engine counts chunk files that it could not write to as chunks
				// that wait, and takes all of its grace to stop.
				"Grace 3")
			// tail notes how far it read on another disk.
			engine := startIn(t, dir, fixture.plugin, prepare, tail(dir, path, append(tt.input, "storage.type filesystem")...)+
				outputTo(server, "Workers 2", "record_format "+tt.format, "max_record_size 256K"), service...)
			const (
				noSpace = "No space left on device"
				lost    = "error writing data from tail"
			)
			if tt.full {
				awaitLog(t, engine, noSpace, engineDeadline)
			} else {
				awaitMetric(t, engine, port, `fluentbit_output_retries_total{name="kinesis_agg.0"}`, 4, engineDeadline)
			}
			healthy.Store(true)
			if !tt.full {
				s.await(t, engine, n)
			}

			// Lines written from now on fit on the disk.
			file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			count := func(from int) (count int) {
				s.mu.Lock()
				defer s.mu.Unlock()
				for _, times := range s.times[from:] {
					if times > 0 {
						count++
					}
				}
				return count
			}
			// The input may still be losing lines when the disk has room again: append
			// until a batch arrives.
			const batch = 100
			id := n
			for begin := time.Now(); count(n) == 0; time.Sleep(20 * time.Millisecond) {
				if due := n + batch*(1+int(time.Since(begin)/(5*time.Second))); id < min(due, n+more) {
					var buffer []byte
					for range batch {
						buffer = appendLine(buffer, id)
						id++
					}
					if _, err := file.Write(buffer); err != nil {
						t.Fatal(err)
					}
				}
				if engine.Ended() || time.Since(begin) > engineDeadline {
					t.Fatalf("no line that was written after the disk had room arrived\n%.20000s", engine.Log())
				}
			}
			// The engine counts what the plugin delivered, so nothing is under way when
			// it has counted all that arrived.
			awaitMetric(t, engine, port, `fluentbit_output_proc_records_total{name="kinesis_agg.0"}`, count(0), engineDeadline)
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			if repeated := s.repeated(); len(repeated) > 0 {
				t.Errorf("%d lines arrived more than once", len(repeated))
			}
			log := engine.Log()
			missing := id - count(0)
			buffers := strings.Count(log, lost)
			// A buffer of tail has up to 32 KiB of lines, some 320 bytes each.
			if missing > 0 && !tt.full || missing > buffers*120 {
				t.Errorf("%d lines are missing, and the log has %d lines %q", missing, buffers, lost)
			}
			if strings.Contains(log, noSpace) != tt.full {
				t.Errorf("%q is in the log: %v, want %v", noSpace, !tt.full, tt.full)
			}
			t.Logf("%d of %d lines arrived; %d buffers lost by the input", id-missing, id, buffers)
		})
	}
}
