package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// lines is how many lines the tests of this file ship, each: a number that a
// test run can afford, or the one in OUT_KINESIS_AGG_LINES.
func lines(t *testing.T) int {
	t.Helper()
	text := os.Getenv("OUT_KINESIS_AGG_LINES")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("OUT_KINESIS_AGG_LINES=%s: want a number of lines", text)
	}
	return n
}

// shipping bounds the wait for n lines; an engine ships many more in that time.
func shipping(n int) time.Duration { return engineDeadline + time.Duration(n)*time.Millisecond }

// appendLine appends the line with that id, some 320 bytes of JSON.
func appendLine(dst []byte, id int) []byte {
	return fmt.Appendf(dst, `{"id":%d,"time":"2026-03-01T12:00:00.000Z","remote_addr":"203.0.113.%d","method":"GET","path":"/api/v1/orders/%d?page=2",`+
		`"status":200,"bytes":%d,"duration_ms":%d,"referer":"https://example.com/cart",`+
		`"user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0","request_id":"%016x"}`+"\n",
		id, id%256, id*7919%1_000_000, id%200_000, id%1000, uint64(id)*0x9e3779b97f4a7c15)
}

// logFile writes lines with ids from 0 to a file and returns its path.
func logFile(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	var line []byte
	for id := range n {
		line = appendLine(line[:0], id)
		if _, err := w.Write(line); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// ids counts the lines that arrive at an endpoint.
type ids struct {
	mu       sync.Mutex
	times    []uint8 // by id; 255 is that or more
	distinct int
	total    int
	wrong    error
	changed  chan struct{} // holds something after a change
}

func newIDs(n int) *ids { return &ids{times: make([]uint8, n), changed: make(chan struct{}, 1)} }

// add counts the lines of a record, which have to be in the order of the file.
func (s *ids) add(r fakekinesis.Record) {
	texts, err := logRecords(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.wrong = err
	}
	before := -1
	for _, text := range texts {
		digits, _, _ := strings.Cut(strings.TrimPrefix(text, `{"id":`), ",")
		id, err := strconv.Atoi(digits)
		if err != nil || id >= len(s.times) || text+"\n" != string(appendLine(nil, id)) {
			s.wrong = fmt.Errorf("not a line of the file: %.100s", text)
			continue
		}
		if id <= before {
			s.wrong = fmt.Errorf("line %d comes after line %d", id, before)
		}
		before = id
		s.total++
		if s.times[id] == 0 {
			s.distinct++
		}
		if s.times[id] < 255 {
			s.times[id]++
		}
	}
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

func (s *ids) state() (distinct, total int, wrong error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.distinct, s.total, s.wrong
}

// await waits until so many lines have arrived.
func (s *ids) await(t *testing.T, engine *harness.FluentBit, n int) {
	t.Helper()
	deadline := time.NewTimer(shipping(len(s.times)))
	defer deadline.Stop()
	for {
		distinct, _, wrong := s.state()
		if wrong != nil {
			t.Fatal(wrong)
		}
		if distinct >= n {
			return
		}
		select {
		case <-s.changed:
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-deadline.C:
			t.Fatalf("%d of %d lines arrived in %s; fluent-bit ended: %v\n%.20000s", distinct, n, shipping(len(s.times)), engine.Ended(), engine.Log())
		}
	}
}

// wantAll checks that every line arrived, and how many arrived more than once.
func (s *ids) wantAll(t *testing.T, maxRepeated int) {
	t.Helper()
	distinct, total, wrong := s.state()
	if wrong != nil {
		t.Error(wrong)
	}
	if distinct != len(s.times) {
		t.Errorf("%d of %d lines arrived", distinct, len(s.times))
	}
	if repeated := total - distinct; repeated > maxRepeated {
		t.Errorf("%d lines too many arrived", repeated)
	}
}

// idsByFormat counts the lines that arrive from outputsTo, in the stream of each format.
type idsByFormat map[string]*ids

func newIDsByFormat(n int) idsByFormat {
	all := idsByFormat{}
	for _, format := range aggregator.Formats() {
		all[string(format)] = newIDs(n)
	}
	return all
}

func (all idsByFormat) add(r fakekinesis.Record) {
	s := all[r.Stream]
	if err := wantFormat(r, r.Stream); err != nil {
		s.mu.Lock()
		s.wrong = err
		s.mu.Unlock()
	}
	s.add(r)
}

// wantFormat checks whether a record has the envelope.
func wantFormat(r fakekinesis.Record, format string) error {
	if aggregated := bytes.HasPrefix(r.Data, []byte(magic)); aggregated != (format == string(aggregator.KPL)) {
		return fmt.Errorf("a record in the stream %s begins with % x", format, r.Data[:min(len(r.Data), 4)])
	}
	return nil
}

func (all idsByFormat) await(t *testing.T, engine *harness.FluentBit, n int) {
	t.Helper()
	for _, s := range all {
		s.await(t, engine, n)
	}
}

func (all idsByFormat) wantAll(t *testing.T, maxRepeated int) {
	t.Helper()
	for _, s := range all {
		s.wantAll(t, maxRepeated)
	}
}

// failing makes three in ten requests fail, in ways in which Kinesis does not
// accept the record.
func failing() func(int, *fakekinesis.Request) fakekinesis.Fault {
	var possible []fakekinesis.Fault
	for _, f := range fakekinesis.PutRecordFaults {
		if !f.Accepted && !f.UntilTimeout {
			possible = append(possible, f.Fault)
		}
	}
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	return func(int, *fakekinesis.Request) fakekinesis.Fault {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(10) < 3 {
			return possible[r.IntN(len(possible))]
		}
		return fakekinesis.OK
	}
}

// tail is an input of JSON lines that remembers in dir how far it read.
func tail(dir, path string, more ...string) string {
	return strings.Join(append([]string{
		"[INPUT]", "Name tail", "Tag app.access", "Path " + path, "Parser json", "Read_from_Head true",
		"Refresh_Interval 1", "DB " + filepath.Join(dir, "tail.db"),
	}, more...), "\n    ") + "\n\n"
}

// outputTo is an [OUTPUT] section that writes to an endpoint.
func outputTo(server *fakekinesis.Server, more ...string) string {
	return outputAt(server.URL(), "*", "delivery", more...)
}

// outputsTo is an [OUTPUT] section for each format of Kinesis records. The format's name
// is its alias, is the name of its stream, and replaces FORMAT in match.
func outputsTo(url, match string, more ...string) string {
	var sections strings.Builder
	for _, f := range aggregator.Formats() {
		format := string(f)
		options := append([]string{"Alias " + format, "record_format " + format}, more...)
		sections.WriteString(outputAt(url, strings.ReplaceAll(match, "FORMAT", format), format, options...) + "\n")
	}
	return sections.String()
}

func outputAt(url, match, stream string, more ...string) string {
	return strings.Join(append([]string{
		"[OUTPUT]", "Name kinesis_agg", "Match " + match, "Retry_Limit no_limits", "stream " + stream,
		"region " + harness.Region, "endpoint " + url,
		"aws_key_id " + harness.AccessKeyID, "aws_sec_key " + harness.SecretAccessKey,
	}, more...), "\n    ") + "\n"
}

// startEngineIn starts Fluent Bit with its files in dir, where another may have
// been before.
func startEngineIn(t *testing.T, dir, pipeline string, service ...string) *harness.FluentBit {
	t.Helper()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	engine, err := harness.StartFluentBit(path, dir, fixture.plugin, pipeline, service...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Kill)
	return engine
}

// TestFluentBit_UnderFaults: three requests in ten fail, and every line arrives
// once in both formats.
func TestFluentBit_UnderFaults(t *testing.T) {
	t.Parallel()
	n, dir := lines(t), t.TempDir()
	path := logFile(t, n)
	s := newIDsByFormat(n)
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, Fault: failing()})
	defer server.Close()
	begin := time.Now()
	engine := startEngineIn(t, dir, tail(dir, path)+outputsTo(server.URL(), "*", "Workers 2", "max_record_size 256K"))
	s.await(t, engine, n)
	took := time.Since(begin)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	s.wantAll(t, 0)
	counts := server.Counts()
	t.Logf("%d lines in %s: %d PutRecords, %d of which failed", n, took.Round(time.Millisecond), counts.PutRecords, counts.PutRecords-counts.Accepted)
	if counts.PutRecords == counts.Accepted {
		t.Error("no PutRecord failed")
	}
}

// TestFluentBit_Killed: the engine dies in the middle, and what another finds on
// disk makes up for it, in both formats.
func TestFluentBit_Killed(t *testing.T) {
	t.Parallel()
	n, dir := lines(t), t.TempDir()
	path := logFile(t, n)
	s := newIDsByFormat(n)
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, Fault: failing()})
	defer server.Close()
	pipeline := tail(dir, path, "storage.type filesystem") + outputsTo(server.URL(), "*", "Workers 2", "max_record_size 256K")
	service := []string{"storage.path " + filepath.Join(dir, "chunks"), "storage.sync full"}
	begin := time.Now()
	engine := startEngineIn(t, dir, pipeline, service...)
	s.await(t, engine, n/2)
	engine.Kill()
	killed := s.arrived()
	if killed == n {
		t.Error("the engine was killed when all was done")
	}
	engine = startEngineIn(t, dir, pipeline, service...)
	s.await(t, engine, n)
	took := time.Since(begin)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	s.wantAll(t, n)
	counts := server.Counts()
	t.Logf("%d lines in %s, killed after %d; %d PutRecords, %d of which failed",
		n, took.Round(time.Millisecond), killed, counts.PutRecords, counts.PutRecords-counts.Accepted)
}

// TestFluentBit_OnePutRecordPerChunk: on a stream of records up to 10 MiB, the
// engine's chunks and the PutRecords are the same in number, in both formats.
func TestFluentBit_OnePutRecordPerChunk(t *testing.T) {
	t.Parallel()
	needVersion(t, 4, 1, "earlier engines do not count the chunks that were delivered")
	n, dir := lines(t), t.TempDir()
	path := logFile(t, n)
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := newIDsByFormat(n)
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: s.add, RecordLimitBytes: fakekinesis.MaxRecordLimitBytes})
	defer server.Close()
	begin := time.Now()
	engine := startEngineIn(t, dir, tail(dir, path)+outputsTo(server.URL(), "*", "Workers 2", "max_record_size 10MiB"),
		"HTTP_Server On", "HTTP_Listen 127.0.0.1", fmt.Sprintf("HTTP_Port %d", port))
	s.await(t, engine, n)
	took := time.Since(begin)
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	// The engine counts a chunk when the plugin is done with it.
	chunks, puts := 0, server.Counts().PutRecords
	await(t, engine, fmt.Sprintf("count of %d chunks", puts), engineDeadline, func() bool {
		text := metrics(ctx, t, port)
		chunks = 0
		for output := range s {
			chunks += metric(t, text, fmt.Sprintf(`fluentbit_output_latency_seconds_count{input="tail.0",output="%s"}`, output))
		}
		return chunks >= puts
	})
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	s.wantAll(t, 0)
	if chunks != puts || server.Counts().Accepted != puts {
		t.Errorf("%d chunks, %d PutRecords, %d accepted", chunks, puts, server.Counts().Accepted)
	}
	t.Logf("%d lines in %s: %d chunks, %d PutRecords", n, took.Round(time.Millisecond), chunks, puts)
}

// metric is the value of one of the engine's metrics, 0 if it is not there.
func metric(t *testing.T, text, name string) int {
	t.Helper()
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\d+)`).FindStringSubmatch(text)
	if found == nil {
		return 0
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFluentBit_Reload: the engine unloads and loads the library in one process,
// while a file grows that it reads, with an output for each format and the worker
// that the plugin creates by default.
func TestFluentBit_Reload(t *testing.T) {
	t.Parallel()
	needVersion(t, 5, 0, "tail of earlier engines goes on in the middle of a line after a reload")
	const (
		rounds   = 20
		ahead    = 2000 // lines written and not arrived
		batch    = 100
		perRound = 1500
		n        = rounds * perRound
	)
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	s := newIDsByFormat(n)
	more := make(chan struct{}, 2*n)
	server := fakekinesis.Start(fakekinesis.Options{OnRecord: func(r fakekinesis.Record) {
		s.add(r)
		more <- struct{}{}
	}})
	defer server.Close()
	engine := startEngineIn(t, dir, tail(dir, file.Name())+outputsTo(server.URL(), "*"))

	// The file grows as fast as lines arrive, so that always some are on their way.
	ctx, stop := context.WithCancel(t.Context())
	written := make(chan error, 1)
	go func() {
		var lines bytes.Buffer
		for id := 0; id < n; {
			if id-s.arrived() >= ahead {
				select {
				case <-more:
					continue
				case <-ctx.Done():
					written <- ctx.Err()
					return
				}
			}
			lines.Reset()
			for range batch {
				lines.Write(appendLine(nil, id))
				id++
			}
			if _, err := file.Write(lines.Bytes()); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	defer func() {
		stop()
		<-written
	}()

	for round := range rounds {
		s.await(t, engine, round*perRound+1)
		within, cancel := context.WithTimeout(t.Context(), engineDeadline)
		err := engine.Reload(within)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	s.await(t, engine, n)
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	// A line may arrive twice if tail had not yet stored that it read it.
	s.wantAll(t, n)
}
