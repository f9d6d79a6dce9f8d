// Command calibrate compares the simulation of package fleet with real engines: it
// starts Fluent Bit processes with the plugin, which write to a Kinesis look-alike
// whose shards have limits, and simulates the same fleet.
//
//	make build
//	FLUENT_BIT=/path/to/fluent-bit go run ./test/fleet/calibrate
//
// It takes about five minutes and prints a Markdown table.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/fakekinesis"
	"out_kinesis_agg/test/fleet"
)

const (
	linesPerSecond = 20
	timeFormat     = "2006-01-02T15:04:05.000Z" // of the option time_key_format
	keyBytes       = 36
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("calibrate: ")
	engines := flag.Int("engines", 50, "Fluent Bit processes")
	shards := flag.Int("shards", 10, "shards of the stream")
	shardBytes := flag.Float64("shard-bytes", 64<<10, "bytes per second of a shard")
	flush := flag.Float64("flush", 5, "flush interval in seconds")
	steady := flag.Duration("steady", 2*time.Minute, "time to measure before the outage")
	outage := flag.Duration("outage", 40*time.Second, "length of the outage")
	request := flag.Float64("request-seconds", 0.1, "time of a PutRecord on this machine, for the simulation")
	plugin := flag.String("plugin", "build/out_kinesis_agg.so", "the built plugin")
	flag.Parse()
	engine := os.Getenv("FLUENT_BIT")
	if engine == "" {
		engine = "fluent-bit"
	}
	library, err := filepath.Abs(*plugin)
	if err != nil {
		log.Fatal(err)
	}
	s := newStream(*shards, *shardBytes)
	server := fakekinesis.Start(fakekinesis.Options{Fault: s.fault, OnRecord: s.record})
	defer server.Close()

	dir, err := os.MkdirTemp("", "calibrate")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	log.Printf("starting %d engines", *engines)
	processes, err := start(engine, library, server.URL(), dir, *engines, *flush)
	defer stop(processes)
	if err != nil {
		log.Print(err)
		return
	}
	// Let the first flushes pass, then measure.
	time.Sleep(time.Duration(4 * *flush * float64(time.Second)))
	s.measure(time.Now(), time.Now().Add(*steady))
	log.Printf("measuring for %s", *steady)
	time.Sleep(*steady)
	log.Printf("outage of %s", *outage)
	end := time.Now().Add(*outage)
	s.setOutage(end)
	time.Sleep(*outage)
	log.Print("waiting for the backlog")
	settled := s.awaitDrained(end.Add(-time.Duration(*flush*float64(time.Second))), time.Now().Add(10*time.Minute))
	stop(processes)
	if !settled {
		log.Print("the backlog was not drained within 10 minutes")
	}
	s.report(*engines, *flush, *request, *steady, *outage)
}

// stream limits the shards and reads what arrives.
type stream struct {
	size float64

	mu         sync.Mutex
	random     *rand.Rand
	tokens     []float64
	filled     []time.Time
	from, to   time.Time // measured
	outageEnd  time.Time
	oldBefore  time.Time // lines of the backlog were written before
	attempts   int
	throttled  int
	delays     fleet.Histogram
	lines      int
	lineBytes  int
	recordSize int
	records    int
	old        []arrival // accepted after the outage
	errors     int
}

// arrival is a number of lines of the backlog.
type arrival struct {
	at    time.Time
	lines int
}

func newStream(shards int, bytesPerSecond float64) *stream {
	s := &stream{size: bytesPerSecond, random: rand.New(rand.NewPCG(1, 2)), tokens: make([]float64, shards), filled: make([]time.Time, shards)}
	for i := range s.tokens {
		s.tokens[i], s.filled[i] = bytesPerSecond, time.Now()
	}
	return s
}

// fault is asked before the body is read. A random shard stands for the hash of the
// random partition key, and the size follows from the length of the request.
func (s *stream) fault(_ int, r *fakekinesis.Request) fakekinesis.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	measured := now.After(s.from) && now.Before(s.to)
	if measured {
		s.attempts++
	}
	if now.Before(s.outageEnd) {
		return fakekinesis.Error(http.StatusInternalServerError, "InternalFailure", "outage")
	}
	// Around the base64, the JSON of a request has about 110 bytes.
	size := math.Max(0, float64(r.ContentLength-110)*3/4) + keyBytes
	shard := s.random.IntN(len(s.tokens))
	s.tokens[shard] = math.Min(s.size, s.tokens[shard]+now.Sub(s.filled[shard]).Seconds()*s.size)
	s.filled[shard] = now
	if s.tokens[shard] < size {
		if measured {
			s.throttled++
		}
		return fakekinesis.Error(http.StatusBadRequest, "ProvisionedThroughputExceededException", "Rate exceeded for shard")
	}
	s.tokens[shard] -= size
	return fakekinesis.OK
}

var timeKey = []byte(`"time":"`)

func (s *stream) record(r fakekinesis.Record) {
	now := time.Now()
	aggregate, err := kpl.Open(r.Data)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errors++
		return
	}
	s.records++
	s.recordSize += len(r.Data) + keyBytes
	old := 0
	for _, u := range aggregate.All() {
		at := bytes.Index(u.Data, timeKey)
		if at < 0 || at+len(timeKey)+len(timeFormat) > len(u.Data) {
			s.errors++
			continue
		}
		written, err := time.Parse(timeFormat, string(u.Data[at+len(timeKey):][:len(timeFormat)]))
		if err != nil {
			s.errors++
			continue
		}
		s.lines++
		s.lineBytes += kpl.RecordBytes(len(u.Data))
		if now.After(s.from) && now.Before(s.to) {
			s.delays.Add(now.Sub(written).Seconds(), 1)
		}
		if !s.oldBefore.IsZero() && written.Before(s.oldBefore) && now.After(s.outageEnd) {
			old++
		}
	}
	if old > 0 {
		s.old = append(s.old, arrival{now, old})
	}
}

func (s *stream) measure(from, to time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.from, s.to = from, to
}

func (s *stream) setOutage(end time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outageEnd = end
}

// awaitDrained waits until all lines of the backlog have arrived, or until the
// deadline. The engine waits for at most 61 s before a retry, so that a backlog
// from which nothing arrives for longer is drained.
func (s *stream) awaitDrained(before time.Time, deadline time.Time) bool {
	s.mu.Lock()
	s.oldBefore = before
	s.mu.Unlock()
	for time.Now().Before(deadline) {
		time.Sleep(time.Second)
		s.mu.Lock()
		quiet := time.Since(s.outageEnd) > 75*time.Second &&
			(len(s.old) == 0 || time.Since(s.old[len(s.old)-1].at) > 75*time.Second)
		s.mu.Unlock()
		if quiet {
			return true
		}
	}
	return false
}

// drained returns the time from the end of the outage until 99% and all lines of the
// backlog had arrived.
func (s *stream) drained() (most, all float64) {
	total, sum := 0, 0
	for _, a := range s.old {
		total += a.lines
	}
	for _, a := range s.old {
		sum += a.lines
		all = a.at.Sub(s.outageEnd).Seconds()
		if most == 0 && sum*100 >= total*99 {
			most = all
		}
	}
	return most, all
}

func (s *stream) report(engines int, flush, request float64, steady, outage time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.records == 0 || s.errors > 0 {
		log.Fatalf("%d records arrived, %d damaged", s.records, s.errors)
	}
	const runs = 20
	lineBytes := int(math.Round(float64(s.lineBytes) / float64(s.lines)))
	var shares, means, medians, p95s, p99s, mosts, alls []float64
	for seed := range uint64(runs) {
		r, err := fleet.Simulate(fleet.Config{
			Hosts: engines, LinesPerSecond: linesPerSecond, LineBytes: lineBytes, FlushSeconds: flush,
			MaxRecordBytes: kpl.DefaultMaxRecordBytes, OverheadBytes: 94, Workers: 2,
			Shards: len(s.tokens), ShardBytes: s.size, ShardRecords: 1000,
			RequestSeconds: request, RefusalSeconds: 0.01, BackoffBase: 5, BackoffCap: 60,
			Seconds: 4*flush + steady.Seconds() + outage.Seconds() + 600, OutageBegin: 4*flush + steady.Seconds(),
			OutageSeconds: outage.Seconds(), MeasureFrom: 4 * flush, MeasureUntil: 4*flush + steady.Seconds(), Seed: seed, SharedClock: true,
		})
		if err != nil {
			log.Fatal(err)
		}
		shares = append(shares, 100*float64(r.Throttled)/float64(r.Attempts))
		means = append(means, r.Delays.Mean())
		medians = append(medians, r.Delays.Quantile(0.5))
		p95s = append(p95s, r.Delays.Quantile(0.95))
		p99s = append(p99s, r.Delays.Quantile(0.99))
		mosts = append(mosts, r.Drained99)
		alls = append(alls, r.Drained)
	}
	fmt.Printf("%d engines, %d lines/s each, %d bytes per line, records of %d bytes, %d shards of %.0f bytes/s\n\n",
		engines, linesPerSecond, lineBytes, s.recordSize/s.records, len(s.tokens), s.size)
	fmt.Println("| | measured | simulated (range of 20 seeds) |")
	fmt.Println("| --- | --- | --- |")
	row := func(name, unit string, measured float64, simulated []float64) {
		low, high, sum := math.Inf(1), math.Inf(-1), 0.0
		for _, v := range simulated {
			low, high, sum = math.Min(low, v), math.Max(high, v), sum+v
		}
		fmt.Printf("| %s | %.1f%s | %.1f%s (%.1f to %.1f) |\n", name, measured, unit, sum/float64(len(simulated)), unit, low, high)
	}
	row("throttled requests", "%", 100*float64(s.throttled)/float64(max(1, s.attempts)), shares)
	row("delay of a line, mean", " s", s.delays.Mean(), means)
	row("delay, median", " s", s.delays.Quantile(0.5), medians)
	row("delay, 95%", " s", s.delays.Quantile(0.95), p95s)
	row("delay, 99%", " s", s.delays.Quantile(0.99), p99s)
	most, all := s.drained()
	row(fmt.Sprintf("after an outage of %s: 99%% of the backlog accepted", outage), " s", most, mosts)
	row("all of the backlog accepted", " s", all, alls)
}

// start starts engines one after another within one flush interval.
func start(engine, library, url, dir string, n int, flush float64) ([]*exec.Cmd, error) {
	plugins := filepath.Join(dir, "plugins.conf")
	if err := os.WriteFile(plugins, []byte("[PLUGINS]\n    path "+library+"\n"), 0o644); err != nil {
		return nil, err
	}
	var all []*exec.Cmd
	for i := range n {
		config := fmt.Sprintf(`[SERVICE]
    flush          %v
    grace          5
    log_level      error
    plugins_file   %s
    scheduler.base 5
    scheduler.cap  60

[INPUT]
    name           dummy
    tag            host%d
    rate           %d
    dummy          {"host":"host%d","log":"%s"}

[OUTPUT]
    name           kinesis_agg
    match          *
    workers        2
    retry_limit    no_limits
    stream         fleet
    region         us-east-1
    endpoint       %s
    aws_key_id     AKIAEXAMPLE
    aws_sec_key    example
    time_key       time
`, flush, plugins, i, linesPerSecond, i, strings.Repeat("x", 330), url)
		file := filepath.Join(dir, fmt.Sprintf("host%d.conf", i))
		if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
			return all, err
		}
		cmd := exec.Command(engine, "-q", "-c", file)
		// A child must not outlive this program.
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			return all, errors.Join(fmt.Errorf("engine %d", i), err)
		}
		all = append(all, cmd)
		time.Sleep(time.Duration(flush / float64(n) * float64(time.Second)))
	}
	return all, nil
}

func stop(processes []*exec.Cmd) {
	for _, p := range processes {
		if p.ProcessState == nil {
			_ = p.Process.Signal(syscall.SIGTERM)
		}
	}
	for _, p := range processes {
		if p.ProcessState == nil {
			_ = p.Wait()
		}
	}
}
