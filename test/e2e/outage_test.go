package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// outage is a failure around the plugin that begins and ends while it delivers.
type outage struct {
	*testing.T
	server     *fakekinesis.Server
	options    []string // of the instance
	prepare    string   // shell code that runs in the process before the engine does
	begin, end func(pid int)
}

// serve starts the endpoint.
func (o *outage) serve(options fakekinesis.Options) {
	o.server = fakekinesis.Start(options)
	o.Cleanup(o.server.Close)
}

// Each outage of the table begins when no request is under way, so no record can
// arrive twice.
var outages = []struct {
	name  string
	inLog string
	// inEngine is whether the engine itself survives it without a loss.
	inEngine bool
	set      func(o *outage, onRecord func(fakekinesis.Record))
}{
	{"endpoint is silent", "exceeded", true, func(o *outage, onRecord func(fakekinesis.Record)) {
		var silent atomic.Bool
		o.serve(fakekinesis.Options{OnRecord: onRecord, Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
			if silent.Load() {
				return fakekinesis.Hold(nil)
			}
			return fakekinesis.OK
		}})
		o.options = []string{"endpoint=" + o.server.URL(), "request_timeout=3s"}
		o.begin = func(int) { silent.Store(true) }
		o.end = func(int) { silent.Store(false) }
	}},
	{"DNS fails", "cannot be resolved", true, func(o *outage, onRecord func(fakekinesis.Record)) {
		needMounts(o.T)
		var fails atomic.Bool
		o.serve(fakekinesis.Options{OnRecord: onRecord})
		resolver := filepath.Join(o.TempDir(), "resolv.conf")
		if err := os.WriteFile(resolver, []byte("nameserver "+startDNS(o.T, &fails)+"\n"), 0o644); err != nil {
			o.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(o.server.URL(), "http://"))
		o.options = []string{"endpoint=http://kinesis.test:" + port}
		o.prepare = ownMounts + "mount --bind " + resolver + " /etc/resolv.conf\n"
		o.begin = func(int) { fails.Store(true) }
		o.end = func(int) { fails.Store(false) }
	}},
	{"proxy refuses the password", "Proxy Authentication Required", true, func(o *outage, onRecord func(fakekinesis.Record)) {
		var refuses atomic.Bool
		o.serve(fakekinesis.Options{OnRecord: onRecord, TLS: true})
		proxy := fakekinesis.StartProxy(strings.TrimPrefix(o.server.URL(), "https://"), func(int) (t fakekinesis.Tunnel) {
			if refuses.Load() {
				t.Refuse = "407 Proxy Authentication Required"
			}
			return t
		})
		o.Cleanup(proxy.Close)
		ca := filepath.Join(o.TempDir(), "ca.pem")
		if err := os.WriteFile(ca, o.server.CAPEM(), 0o600); err != nil {
			o.Fatal(err)
		}
		o.options = []string{"endpoint=https://example.com", "http_proxy=http://user:pa55w0rd@" + proxy.Addr()}
		o.prepare = "export AWS_CA_BUNDLE='" + ca + "'\n"
		o.begin = func(int) { refuses.Store(true) }
		o.end = func(int) { refuses.Store(false) }
	}},
	// The engine needs a descriptor for each retry, and forgets the chunk until its next
	// start if there is none ("retry for chunk ... could not be scheduled").
	{"no file descriptors", "too many open files", false, func(o *outage, onRecord func(fakekinesis.Record)) {
		o.serve(fakekinesis.Options{OnRecord: onRecord})
		o.options = []string{"endpoint=" + o.server.URL()}
		var limit, none unix.Rlimit
		prlimit := func(pid int, to, was *unix.Rlimit) {
			if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, to, was); err != nil {
				o.Errorf("prlimit: %v", err)
			}
		}
		o.begin = func(pid int) {
			prlimit(pid, nil, &limit)
			none.Max = limit.Max
			prlimit(pid, &none, nil)
		}
		o.end = func(pid int) { prlimit(pid, &limit, nil) }
	}},
}

// notUsed are options of fault.instance: the key is random, and there is no role.
var notUsed = append([]string{"sts_endpoint"}, randomKey...)

// startDNS runs a DNS server for which each name has the address 127.0.0.1, and which
// responds with SERVFAIL while fails is true. It returns its address; its port is 53.
func startDNS(t *testing.T, fails *atomic.Bool) (address string) {
	address = fmt.Sprintf("127.53.0.%d", 1+dnsServers.Add(1)%250)
	conn, err := net.ListenPacket("udp", net.JoinHostPort(address, "53"))
	if err != nil {
		t.Skipf("a DNS server is needed (root, or CAP_NET_BIND_SERVICE): %v", err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go func() {
		query := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(query)
			if err != nil {
				return
			}
			// A header of 12 bytes, then the name, which ends with 0, type and class.
			const header = 12
			end := header + bytes.IndexByte(query[header:n], 0) + 5
			response := append([]byte{query[0], query[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, query[header:end]...)
			if fails.Load() {
				response[3] |= 2
			} else if query[end-3] == 1 { // type A
				response[7] = 1
				response = append(response, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 127, 0, 0, 1)
			}
			_, _ = conn.WriteTo(response, from)
		}
	}()
	return address
}

var dnsServers atomic.Int32

// TestOutages: an outage costs retries. Delivery continues when it ends, and each log
// record arrives once.
func TestOutages(t *testing.T) {
	t.Parallel()
	const threads, chunks = 2, 4 // of each phase: before, during and after
	for _, tt := range outages {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := &outage{T: t}
			tt.set(o, nil)
			events := make(chan harness.Event, 10_000)
			await := func(ret string, n int) {
				t.Helper()
				late := time.After(engineDeadline)
				for n > 0 {
					select {
					case e := <-events:
						if e.Fields["ret"] == ret {
							n--
						}
					case <-late:
						t.Fatalf("%d flushes that return %s are missing", n, ret)
					}
				}
			}
			stdin, stream := io.Pipe()
			defer stream.Close()
			flush := func() {
				for range chunks {
					fmt.Fprintf(stream, "0 %s %d\n%s", faultTag, len(faultChunk.Bytes), faultChunk.Bytes)
				}
			}
			started, done := make(chan int, 1), make(chan harness.HostRun, 1)
			go func() {
				run, err := harness.Host{
					Path:  wrapped(t, t.TempDir(), fixture.host, o.prepare),
					Stdin: stdin,
					Args: slices.Concat([]string{fixture.plugin, "--stream", "/dev/stdin", "--threads", strconv.Itoa(threads),
						"--retry", "1000", "--retry-wait", "100"}, fault{options: o.options, without: notUsed}.instance("")),
					OnStart: func(pid int) { started <- pid },
					OnEvent: func(e harness.Event) bool {
						if e.Word == "flush" {
							events <- e
						}
						return true
					},
				}.Run(t.Context())
				if err != nil {
					t.Error(err)
				}
				done <- run
			}()
			pid := <-started
			flush()
			await("OK", chunks)
			o.begin(pid)
			o.server.Disconnect()
			flush()
			await("RETRY", 2*threads)
			o.end(pid)
			await("OK", chunks)
			flush()
			await("OK", chunks)
			_ = stream.Close()
			run := <-done
			wantTimes(t, o.server.Records(), faultChunk.JSON, 3*chunks)
			wantReported(t, run.Stderr, tt.inLog)
		})
	}
}

func wantReported(t *testing.T, log, words string) {
	t.Helper()
	if !strings.Contains(log, words) || strings.Contains(log, "pa55w0rd") {
		t.Errorf("%q is not in the log, or a password is:\n%s", words, log)
	}
}

// TestFluentBit_Outages is TestOutages in the engine, with the lines of a file that
// grows, in both formats.
func TestFluentBit_Outages(t *testing.T) {
	t.Parallel()
	const lines = 100 // of each phase
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	if path, err = filepath.Abs(path); err != nil {
		t.Fatal(err)
	}
	for _, tt := range outages {
		if !tt.inEngine {
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o, s, dir := &outage{T: t}, newIDsByFormat(3*lines), t.TempDir()
			tt.set(o, s.add)
			log, err := os.Create(filepath.Join(dir, "app.log"))
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			written := 0
			write := func() {
				for range lines {
					if _, err := log.Write(appendLine(nil, written)); err != nil {
						t.Fatal(err)
					}
					written++
				}
			}
			write()
			var outputs strings.Builder
			for _, format := range aggregator.Formats() {
				outputs.WriteString("[OUTPUT]\n    Name kinesis_agg\n    Match *\n    Retry_Limit no_limits\n    Workers 2\n")
				options := append(slices.Clone(o.options), "stream="+string(format), "record_format="+string(format))
				for _, option := range (fault{options: options, without: notUsed}).instance("")[1:] {
					outputs.WriteString("    " + strings.Replace(option, "=", " ", 1) + "\n")
				}
			}
			engine, err := harness.StartFluentBit(wrapped(t, dir, path, o.prepare), dir, fixture.plugin,
				"[INPUT]\n    Name tail\n    Tag app\n    Path "+log.Name()+"\n    Parser json\n    Read_from_Head true\n\n"+outputs.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(engine.Kill)
			s.await(t, engine, written)
			o.begin(engine.PID())
			o.server.Disconnect()
			write()
			await(t, engine, "retries", engineDeadline, func() bool { return strings.Count(engine.Log(), "failed to flush chunk") >= 2 })
			o.end(engine.PID())
			s.await(t, engine, written)
			write()
			s.await(t, engine, written)
			if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			s.wantAll(t, 0)
			wantReported(t, engine.Log(), tt.inLog)
		})
	}
}
