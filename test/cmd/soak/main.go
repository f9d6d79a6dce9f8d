// Command soak runs the built plugin in the ABI host, for many chunks, against a
// server that fails a share of the requests at random, in all ways of
// fakekinesis.PutRecordFaults. It counts how often each log record arrives at a
// consumer that reads each partition key once: at least once, and more often only if
// a timeout made the records smaller.
//
//	go run ./test/cmd/soak --chunks 100000 --threads 8 --minutes 10 --fail 0.3
//
// With --faults, requests fail in these ways only:
//
//	go run ./test/cmd/soak --chunks 1000 --faults 'response lost,response truncated'
//
// It ends after that many chunks or minutes, prints the counts, and exits with
// code 1 if a record is lost or duplicated without a reason, or if memory grows
// (in runs of 40,000 chunks and more). Requests use TLS and a role whose
// credentials expire within seconds. Six instances receive chunks: one sends each as
// a single record, one splits most, two do the same with batches, and two without
// the envelope.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

const (
	requestTimeout = time.Second
	// splitBytes is the max_record_size of the instance that splits.
	splitBytes = 4000
	// maxGrowth is how much more memory the host may use during the last tenth of
	// the chunks than during the second. The first is left out: meanwhile the
	// buffers and the encoders of all workers grow to their size.
	maxGrowth = 0.05
	// growthChunks is the number of chunks from which maxGrowth applies. In shorter
	// runs the plugin's buffers still grow to their size during the second tenth.
	growthChunks = 40_000
	// maxRetries bounds the retries of a chunk.
	maxRetries = 100_000
)

type settings struct {
	chunks, threads int
	minutes         float64
	fail            float64
	seed            uint64
	plugin          string
	faults          []fakekinesis.NamedFault
}

func main() {
	log.SetFlags(0)
	var s settings
	flag.IntVar(&s.chunks, "chunks", 100_000, "chunks to flush")
	flag.IntVar(&s.threads, "threads", 8, "threads that flush")
	flag.Float64Var(&s.minutes, "minutes", 10, "minutes after which no new chunk starts")
	flag.Float64Var(&s.fail, "fail", 0.3, "share of the requests that fail")
	flag.Uint64Var(&s.seed, "seed", 1, "seed of the chunks and of the failures")
	s.faults = fakekinesis.PutRecordFaults
	flag.Func("faults", "names of fakekinesis.PutRecordFaults, with commas; all by default", func(names string) error {
		s.faults = nil
		for _, name := range strings.Split(names, ",") {
			f, found := fakekinesis.FaultByName(name)
			if !found {
				return fmt.Errorf("no fault has the name %q", name)
			}
			s.faults = append(s.faults, f)
		}
		return nil
	})
	flag.StringVar(&s.plugin, "plugin", os.Getenv("OUT_KINESIS_AGG_SO"), "built library to use, instead of building one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	good, err := run(ctx, s, os.Stdout)
	if err != nil {
		log.Fatalf("soak: %v", err)
	}
	if !good {
		os.Exit(1)
	}
}

// soak is one run.
type soak struct {
	settings
	ledger ledger
	script *script

	pid     int
	plain   atomic.Int64   // records without the envelope
	flushes map[string]int // by what they returned
	memory  []int          // of the host, in KiB, each sampleEvery chunks that were delivered
}

// sampleEvery is the number of chunks between samples of the host's memory.
const sampleEvery = 50

func run(ctx context.Context, s settings, out io.Writer) (good bool, err error) {
	dir, err := os.MkdirTemp("", "soak-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	root, err := harness.ModuleRoot()
	if err != nil {
		return false, err
	}
	if s.plugin == "" {
		if s.plugin, err = harness.BuildPlugin(ctx, root, dir); err != nil {
			return false, err
		}
	}
	host, err := harness.BuildHost(ctx, root, dir, false)
	if err != nil {
		return false, err
	}

	k := &soak{settings: s, script: newScript(s.fail, s.seed, s.faults), flushes: map[string]int{}}
	server := fakekinesis.Start(fakekinesis.Options{
		TLS: true, Fault: k.script.putRecord, Handshake: k.script.handshake, Role: k.script.role, OnRecord: k.arrived,
	})
	defer server.Close()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, server.CAPEM(), 0o600); err != nil {
		return false, err
	}

	chunks, stream := io.Pipe()
	generated := make(chan error, 1)
	go func() {
		err := k.generate(ctx, stream)
		_ = stream.Close()
		generated <- err
	}()
	begin := time.Now()
	result, err := harness.Host{
		Path: host, Env: []string{"AWS_CA_BUNDLE=" + ca}, Stdin: chunks,
		Args: append([]string{
			s.plugin, "--stream", "/dev/stdin", "--threads", strconv.Itoa(s.threads), "--retry", strconv.Itoa(maxRetries)},
			instances(server.URL())...),
		OnStart: func(pid int) { k.pid = pid },
		OnEvent: k.event,
	}.Run(ctx)
	_ = chunks.Close()
	if err != nil {
		return false, err
	}
	if err := <-generated; err != nil {
		return false, err
	}
	return k.report(out, result, server.Counts(), time.Since(begin)), nil
}

func instance(url string, more ...string) []string {
	return append([]string{
		"--instance", "stream=soak", "region=" + harness.Region, "endpoint=" + url, "sts_endpoint=" + url,
		"aws_key_id=" + harness.AccessKeyID, "aws_sec_key=" + harness.SecretAccessKey,
		"role_arn=arn:aws:iam::123456789012:role/writer", "request_timeout=" + requestTimeout.String(),
	}, more...)
}

// generate writes chunks for the host as fast as it reads them.
func (k *soak) generate(ctx context.Context, to io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(k.minutes*float64(time.Minute)))
	defer cancel()
	r := rand.New(rand.NewPCG(k.seed, 0x6368756e6b73))
	w := bufio.NewWriter(to)
	text := strings.Repeat("text of a record ", 8)
	for n := 0; n < k.chunks && ctx.Err() == nil; n++ {
		records := 20 + r.IntN(31)
		if r.IntN(20) == 0 {
			records *= 10
		}
		id := k.ledger.open(records)
		c := chunktest.New()
		for range records {
			c.Event(chunktest.EventTime{Sec: 1_772_366_400, Nsec: uint32(id % 1e9)}, chunktest.M("id", id, "text", text[:r.IntN(len(text))]))
			id++
		}
		instance := 0
		if r.IntN(4) == 0 {
			instance = 1
		}
		instance += 2 * r.IntN(3) // with batches, or without the envelope
		if _, err := fmt.Fprintf(w, "%d app.%d %d\n", instance, n, len(c.Bytes())); err != nil {
			return err
		}
		if _, err := w.Write(c.Bytes()); err != nil {
			return err
		}
	}
	return w.Flush()
}

// arrived is the server's OnRecord.
func (k *soak) arrived(r fakekinesis.Record) {
	var ids []int
	if !bytes.HasPrefix(r.Data, []byte(kpl.Magic)) {
		k.plain.Add(1)
	}
	users, err := userRecords(r.Data)
	if err != nil {
		log.Printf("soak: %v", err)
		ids = append(ids, -1)
	}
	for _, data := range users {
		texts, err := logRecords(data)
		if err != nil {
			log.Printf("soak: %v", err)
			ids = append(ids, -1)
		}
		for _, text := range texts {
			var body struct{ ID *int }
			if err := json.Unmarshal(text, &body); err != nil || body.ID == nil {
				ids = append(ids, -1)
				continue
			}
			ids = append(ids, *body.ID)
		}
	}
	k.ledger.arrived(r.PartitionKey, r.Data, ids, k.script.acknowledged(r.Request))
}

// event handles an event of the host's report.
func (k *soak) event(e harness.Event) (keep bool) {
	if e.Word != "flush" {
		return true
	}
	ret := e.Fields["ret"]
	k.flushes[ret]++
	// The host measures a flush less exactly than the plugin does.
	if ms := time.Duration(e.Int("ms")) * time.Millisecond; ms >= requestTimeout*9/10 {
		k.ledger.gaveUp(e.Int("chunk"))
	}
	if ret == "OK" {
		k.ledger.done(e.Int("chunk"))
		if k.flushes[ret]%sampleEvery == 0 {
			if kib, running := residentKiB(k.pid); running {
				k.memory = append(k.memory, kib)
			}
		}
	}
	return false
}

// residentKiB returns a process's resident memory. The host may have ended
// before its report is read to the end.
func residentKiB(pid int) (kib int, running bool) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return 0, false
	}
	kib, err = strconv.Atoi(fields[0])
	return kib, err == nil
}

// tenths returns the mean memory during the second and the last tenth of the
// chunks.
func tenths(memory []int) (second, last float64) {
	n := len(memory) / 10
	if n == 0 {
		return 0, 0
	}
	for i := range n {
		second += float64(memory[n+i]) / float64(n)
		last += float64(memory[len(memory)-1-i]) / float64(n)
	}
	return second, last
}

// report prints the counts, and returns whether the run passed.
func (k *soak) report(out io.Writer, result harness.HostRun, counts fakekinesis.Counts, took time.Duration) bool {
	b := k.ledger.balance()
	second, last := tenths(k.memory)
	growth := 0.0
	if second > 0 {
		growth = last/second - 1
	}
	secrets := 0
	for _, word := range []string{harness.SecretAccessKey, "role-secret-key", "role-session-token", "text of a record"} {
		secrets += strings.Count(result.Stderr, word)
	}
	flat := growth <= maxGrowth || b.chunks < growthChunks
	good := b.good() && flat && secrets == 0 && b.chunks > 0

	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(what string, value any) { fmt.Fprintf(w, "%s\t%v\n", what, value) }
	line("time", took.Round(100*time.Millisecond))
	line("chunks", b.chunks)
	line("flushes", k.flushes["OK"]+k.flushes["RETRY"]+k.flushes["ERROR"])
	line("  that returned OK", k.flushes["OK"])
	line("  that returned RETRY", k.flushes["RETRY"])
	line("  that returned ERROR", k.flushes["ERROR"])
	line("PutRecords", counts.PutRecords)
	line("  accepted", counts.Accepted)
	line("  accepted without the envelope", k.plain.Load())
	for i, f := range k.faults {
		line("  "+f.Name, k.script.counts[i])
	}
	line("connections", counts.Connections)
	line("  untrusted certificate", k.script.handshakes)
	line("requests for a role", counts.RoleRequests)
	line("  failed", k.script.roles)
	line("ids", b.ids)
	line("  lost", b.lost)
	line("  repeated in the same Kinesis record", b.recognized)
	line("  twice, the flush ran out of time", b.gaveUp)
	line("  twice without a reason", b.unexplained)
	line("  returned OK without a response", b.unproven)
	line("  never sent", b.unknown)
	line("chunks never delivered", b.undelivered)
	line("log lines", strings.Count(result.Stderr, "\n"))
	line("  secrets and record contents in them", secrets)
	for n := len(k.memory) / 5; n > 0 && n <= len(k.memory); n += 2 * (len(k.memory) / 5) {
		line(fmt.Sprintf("memory of the host, %d chunks", n*sampleEvery), fmt.Sprintf("%.1f MiB", float64(k.memory[n-1])/1024))
	}
	line("memory of the host, second tenth", fmt.Sprintf("%.1f MiB", second/1024))
	line("  last tenth", fmt.Sprintf("%.1f MiB (%+.1f%%)", last/1024, 100*growth))
	line("result", map[bool]string{true: "pass", false: "FAIL"}[good])
	_ = w.Flush()
	return good
}
