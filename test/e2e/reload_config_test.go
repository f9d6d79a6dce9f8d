package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// dummies is an [INPUT] that goes on for ever.
const dummies = "[INPUT]\n    Name dummy\n    Tag app\n    Rate 20\n\n"

// streams counts the records that arrive, by stream.
type streams struct {
	arrived chan string
}

func countStreams() *streams { return &streams{arrived: make(chan string, 10_000)} }

func (s *streams) add(r fakekinesis.Record) {
	select {
	case s.arrived <- r.Stream:
	default: // a test that no longer looks
	}
}

// await forgets what has arrived, and waits until something arrives in each of
// the named streams.
func (s *streams) await(t *testing.T, engine *harness.FluentBit, names ...string) {
	t.Helper()
	for len(s.arrived) > 0 {
		<-s.arrived
	}
	deadline := time.After(engineDeadline)
	for missing := slices.Clone(names); len(missing) > 0; {
		select {
		case name := <-s.arrived:
			if !slices.Contains(names, name) {
				t.Fatalf("a record arrived in stream %s, want only %q\n%.20000s", name, names, engine.Log())
			}
			missing = slices.DeleteFunc(missing, func(m string) bool { return m == name })
		case <-deadline:
			t.Fatalf("nothing arrived in %q within %s\n%.20000s", missing, engineDeadline, engine.Log())
		}
	}
}

// outputNamed is an [OUTPUT] section that writes to a stream of an endpoint.
func outputNamed(server *fakekinesis.Server, stream string, more ...string) string {
	return outputAt(server.URL(), "*", stream, more...) + "\n"
}

// TestFluentBitReload_Changed reloads with another stream, another number of
// workers and one more output, by a signal and by the engine's HTTP interface.
func TestFluentBitReload_Changed(t *testing.T) {
	t.Parallel()
	needVersion(t, 3, 2, reloadWaits)
	for _, by := range []string{"SIGHUP", "HTTP"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			dir, seen := t.TempDir(), countStreams()
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: seen.add, Streams: []string{"a", "b", "c"}})
			defer server.Close()
			port, service := httpServer(t)
			engine := startEngineIn(t, dir, dummies+outputNamed(server, "a", "Workers 1"), service...)
			seen.await(t, engine, "a")
			started := 1
			wantWorkers(t, engine, started)
			for _, change := range []struct {
				outputs string
				workers int
				streams []string
			}{
				{outputNamed(server, "b", "Workers 1"), 1, []string{"b"}},
				{outputNamed(server, "b", "Workers 3"), 3, []string{"b"}},
				{outputNamed(server, "b", "Workers 3") + outputNamed(server, "c"), 4, []string{"b", "c"}},
				{outputNamed(server, "a", "Workers 2"), 2, []string{"a"}},
			} {
				if err := harness.ConfigureFluentBit(dir, fixture.plugin, dummies+change.outputs, service...); err != nil {
					t.Fatal(err)
				}
				if by == "SIGHUP" {
					reload(t, engine)
				} else {
					reloadByHTTP(t, engine, port)
				}
				started += change.workers
				wantWorkers(t, engine, started)
				seen.await(t, engine, change.streams...)
			}
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// reloadByHTTP asks for a reload at the engine's HTTP interface and waits for its
// end.
func reloadByHTTP(t *testing.T, engine *harness.FluentBit, port int) {
	t.Helper()
	before := engine.Reloads()
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	_ = dial(ctx, t, engine, fmt.Sprintf("127.0.0.1:%d", port)).Close()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprintf("http://127.0.0.1:%d/api/v2/reload", port), strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	// A connection that is kept would belong to the server of the old pipeline.
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatalf("%v\n%.20000s", err, engine.Log())
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("reload: %s: %s, %v", response.Status, body, err)
	}
	await(t, engine, "end of the reload", engineDeadline, func() bool { return engine.Reloads() > before })
}

// TestFluentBitReload_Bad reloads with a configuration that is wrong. What the
// engine itself finds does not harm the running pipeline. A wrong option of the
// plugin ends the process, without a crash, also if another output has its threads
// by then, and the log names the option.
func TestFluentBitReload_Bad(t *testing.T) {
	t.Parallel()
	needVersion(t, 3, 2, reloadWaits)
	for _, tt := range []struct {
		name, outputs string
		ends          bool
		say           string
	}{
		{"unknown output", "[OUTPUT]\n    Name no_such_output\n    Match *\n", false, "no_such_output"},
		{"not a section", "[OUTPUT\n", false, "bad header definition"},
		{"option of the plugin", "first+stream b\n    max_record_size 11M", true, "max_record_size"},
		{"no stream", "first+Tag_Key x", true, "option stream"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, seen := t.TempDir(), countStreams()
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: seen.add})
			defer server.Close()
			good := outputNamed(server, "a", "Workers 2")
			engine := startEngineIn(t, dir, dummies+good)
			seen.await(t, engine, "a")
			outputs := tt.outputs
			if option, found := strings.CutPrefix(outputs, "first+"); found {
				outputs = good + strings.Replace(outputNamed(server, "b", "Workers 2"), "stream b", option, 1)
			}
			if err := harness.ConfigureFluentBit(dir, fixture.plugin, dummies+outputs); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
			defer cancel()
			if tt.ends {
				if err := engine.Reload(ctx); err == nil {
					t.Fatalf("the reload succeeded\n%.20000s", engine.Log())
				}
				err := engine.Wait(ctx)
				if ctx.Err() != nil {
					t.Fatalf("the engine runs on\n%.20000s", engine.Log())
				}
				t.Log("the engine ended:", err)
				if strings.Contains(engine.Log(), "caught signal (SIGSEGV)") {
					t.Errorf("the engine crashed\n%.20000s", engine.Log())
				}
			} else {
				if err := engine.Signal(syscall.SIGHUP); err != nil {
					t.Fatal(err)
				}
				awaitLog(t, engine, tt.say, engineDeadline)
				seen.await(t, engine, "a")
				// A good configuration is taken at the next reload.
				if err := harness.ConfigureFluentBit(dir, fixture.plugin, dummies+outputNamed(server, "b", "Workers 2")); err != nil {
					t.Fatal(err)
				}
				// The engine ignores a SIGHUP in the second after a reload that was halted.
				for {
					within, cancel := context.WithTimeout(ctx, 5*time.Second)
					err := engine.Reload(within)
					cancel()
					if err == nil {
						break
					}
					if ctx.Err() != nil || engine.Ended() {
						t.Fatal(err)
					}
				}
				seen.await(t, engine, "b")
				if err := engine.Stop(); err != nil {
					t.Error(err)
				}
			}
			if !strings.Contains(engine.Log(), tt.say) {
				t.Errorf("%q is not in the log:\n%.20000s", tt.say, engine.Log())
			}
		})
	}
}

// TestFluentBitStart_SecondOutputFails starts an engine whose first output has its
// threads when the Init of the second fails: it ends, and does not crash.
func TestFluentBitStart_SecondOutputFails(t *testing.T) {
	t.Parallel()
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	for range 5 {
		engine := startEngine(t, dummies+outputTo(server, "Workers 8")+"\n"+outputTo(server, "Workers 8", "max_record_size 11M"))
		ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
		defer cancel()
		if err := engine.Wait(ctx); err == nil || ctx.Err() != nil {
			t.Fatalf("ended: %v\n%.20000s", err, engine.Log())
		}
		if !strings.Contains(engine.Log(), "max_record_size") || strings.Contains(engine.Log(), "SIGSEGV") {
			t.Errorf("log:\n%.20000s", engine.Log())
		}
	}
}

// TestFluentBitReload_Library replaces the library's file and reloads. The
// library that was loaded first stays as long as its path is the same; under a
// new path the new one is loaded beside it. Delivery goes on in both cases.
func TestFluentBitReload_Library(t *testing.T) {
	t.Parallel()
	needVersion(t, 3, 2, reloadWaits)
	for _, tt := range []struct {
		name, next string
		want       []string // libraries that are mapped in the end
	}{
		{"same path", "one.so", []string{"one.so (deleted)"}},
		{"new path", "two.so", []string{"one.so", "two.so"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir, seen := t.TempDir(), countStreams()
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: seen.add})
			defer server.Close()
			// A new file under a name, as package managers install it.
			install := func(name string) string {
				library, err := os.ReadFile(fixture.plugin)
				if err != nil {
					t.Fatal(err)
				}
				path := filepath.Join(dir, name)
				if err := os.WriteFile(path+".new", library, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(path+".new", path); err != nil {
					t.Fatal(err)
				}
				return path
			}
			pipeline := func(stream string) string { return dummies + outputNamed(server, stream, "Workers 2") }
			path, err := harness.FindFluentBit()
			if err != nil {
				t.Skip(err)
			}
			engine, err := harness.StartFluentBit(path, dir, install("one.so"), pipeline("a"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(engine.Kill)
			seen.await(t, engine, "a")
			next := install(tt.next)
			for round := range 3 {
				stream := fmt.Sprint("b", round)
				if err := harness.ConfigureFluentBit(dir, next, pipeline(stream)); err != nil {
					t.Fatal(err)
				}
				reload(t, engine)
				wantWorkers(t, engine, 2*(round+2))
				seen.await(t, engine, stream)
			}
			mapped, err := engine.Libraries(dir)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, m := range mapped {
				if name := filepath.Base(m); strings.Contains(name, ".so") {
					got = append(got, name)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("mapped: %q, want %q", got, tt.want)
			}
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFluentBitReload_YAML reloads a configuration in YAML whose output has
// workers and a processor.
func TestFluentBitReload_YAML(t *testing.T) {
	t.Parallel()
	needVersion(t, 3, 2, reloadWaits)
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	for _, workers := range []int{0, 2, 8} {
		t.Run(fmt.Sprint(workers, " workers"), func(t *testing.T) {
			t.Parallel()
			dir, texts := t.TempDir(), make(chan string, 10_000)
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: func(r fakekinesis.Record) {
				all, err := open(harness.Record{PartitionKey: r.PartitionKey, Data: r.Data})
				if err != nil {
					t.Error(err)
				}
				for _, text := range all {
					select {
					case texts <- text:
					default:
					}
				}
			}})
			defer server.Close()
			write := func(value string) string {
				file := filepath.Join(dir, "fluent-bit.yaml")
				config := fmt.Sprintf(`service:
  flush: 0.2
  grace: 20
  hot_reload: on
plugins:
  - %s
pipeline:
  inputs:
    - name: dummy
      tag: app
      rate: 20
  outputs:
    - name: kinesis_agg
      match: '*'
      retry_limit: no_limits
      workers: %d
      stream: delivery
      region: %s
      endpoint: %s
      aws_key_id: %s
      aws_sec_key: %s
      processors:
        logs:
          - name: content_modifier
            action: upsert
            key: round
            value: %s
`, fixture.plugin, workers, harness.Region, server.URL(), harness.AccessKeyID, harness.SecretAccessKey, value)
				if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
					t.Fatal(err)
				}
				return file
			}
			await := func(engine *harness.FluentBit, value string) {
				t.Helper()
				deadline := time.After(engineDeadline)
				for {
					select {
					case text := <-texts:
						if strings.Contains(text, `"round":"`+value+`"`) {
							return
						}
					case <-deadline:
						t.Fatalf("no record of %s\n%.20000s", value, engine.Log())
					}
				}
			}
			engine, err := harness.StartFluentBitWith(path, dir, write("r0"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(engine.Kill)
			await(engine, "r0")
			threads := max(1, workers)
			for round := 1; round <= 3; round++ {
				write(fmt.Sprint("r", round))
				reload(t, engine)
				wantWorkers(t, engine, threads*(round+1))
				await(engine, fmt.Sprint("r", round))
			}
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}
