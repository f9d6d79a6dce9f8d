// Command soak runs the built plugin in the ABI host, for many chunks, against
// an endpoint that fails a share of the requests at random in every way that
// it knows, and keeps account of every record: each has to arrive, and more
// than once only where the answer was lost on its way.
//
//	go run ./test/soak --chunks 100000 --threads 8 --minutes 10 --fail 0.3
//
// It ends after that many chunks or minutes, whichever comes first, prints the
// tally, and exits 1 on a loss, a duplicate without reason, or, from 20,000
// chunks on, memory that grows. The host and its endpoint speak TLS, with a role whose credentials
// last for seconds, and four instances get chunks: one makes a record of each,
// one splits most, and two do the same with batches.
package main

import (
	"bufio"
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
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	kplproto "out_kinesis_agg/proto"
	"out_kinesis_agg/test/chunk"
	"out_kinesis_agg/test/endpoint"
	"out_kinesis_agg/test/local"
)

// What a run is made of.
const (
	requestTimeout = time.Second
	// splitBytes is the max_record_size of the instance that splits.
	splitBytes = 4000
	// mostGrowth is how much more memory the host may have in the last tenth of
	// the chunks than in the first.
	mostGrowth = 0.05
	// growthChunks is from how many chunks on that counts: before, the first
	// tenth is the time in which the plugin's buffers take their size.
	growthChunks = 20_000
	// mostRetries keeps a chunk from being tried for ever.
	mostRetries = 100_000
)

type settings struct {
	chunks, threads int
	minutes         float64
	fail            float64
	seed            uint64
	plugin          string
}

func main() {
	log.SetFlags(0)
	var s settings
	flag.IntVar(&s.chunks, "chunks", 100_000, "chunks to flush")
	flag.IntVar(&s.threads, "threads", 8, "threads that flush")
	flag.Float64Var(&s.minutes, "minutes", 10, "minutes after which no other chunk is begun")
	flag.Float64Var(&s.fail, "fail", 0.3, "share of the requests that fail")
	flag.Uint64Var(&s.seed, "seed", 1, "of the chunks and of the failures")
	flag.StringVar(&s.plugin, "plugin", os.Getenv("OUT_KINESIS_AGG_SO"), "built library to take, instead of building one")
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
	ledger  ledger
	weather *weather

	pid     int
	flushes map[string]int // by what they returned
	memory  []int          // of the host, in KiB, each sampleEvery chunks
}

// sampleEvery is after how many chunks the host's memory is looked at.
const sampleEvery = 50

func run(ctx context.Context, s settings, out io.Writer) (good bool, err error) {
	dir, err := os.MkdirTemp("", "soak-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	root, err := local.ModuleRoot()
	if err != nil {
		return false, err
	}
	if s.plugin == "" {
		if s.plugin, err = local.BuildPlugin(ctx, root, dir); err != nil {
			return false, err
		}
	}
	host, err := local.BuildHost(ctx, root, dir, false)
	if err != nil {
		return false, err
	}

	k := &soak{settings: s, weather: newWeather(s.fail, s.seed), flushes: map[string]int{}}
	server := endpoint.Start(endpoint.Options{
		TLS: true, Fault: k.weather.putRecord, Handshake: k.weather.handshake, Role: k.weather.role, OnRecord: k.arrived,
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
	result, err := local.Host{
		Path: host, Env: []string{"AWS_CA_BUNDLE=" + ca}, Stdin: chunks,
		Args: append([]string{
			s.plugin, "--stream", "/dev/stdin", "--threads", strconv.Itoa(s.threads), "--retry", strconv.Itoa(mostRetries)},
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
		"--instance", "stream=soak", "region=" + local.Region, "endpoint=" + url, "sts_endpoint=" + url,
		"aws_key_id=" + local.AccessKeyID, "aws_sec_key=" + local.SecretAccessKey,
		"role_arn=arn:aws:iam::123456789012:role/writer", "request_timeout=" + requestTimeout.String(),
	}, more...)
}

// generate writes chunks for the host as fast as it takes them.
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
		c := chunk.New()
		for range records {
			c.Event(chunk.EventTime{Sec: 1_772_366_400, Nsec: uint32(id % 1e9)}, chunk.M("id", id, "text", text[:r.IntN(len(text))]))
			id++
		}
		instance := 0
		if r.IntN(4) == 0 {
			instance = 1
		}
		if r.IntN(2) == 0 {
			instance += 2 // with batches
		}
		if _, err := fmt.Fprintf(w, "%d app.%d %d\n", instance, n%10, len(c.Bytes())); err != nil {
			return err
		}
		if _, err := w.Write(c.Bytes()); err != nil {
			return err
		}
	}
	return w.Flush()
}

// arrived is the endpoint's OnRecord.
func (k *soak) arrived(r endpoint.Record) {
	var ids []int
	var aggregate kplproto.AggregatedRecord
	data := r.Data[min(len(r.Data), len(kpl.Magic)):max(len(r.Data)-kpl.DigestBytes, len(kpl.Magic))]
	if err := proto.Unmarshal(data, &aggregate); err != nil {
		log.Printf("soak: a record that is no aggregate: %v", err)
		ids = append(ids, -1)
	}
	for _, record := range aggregate.Records {
		texts, err := logRecords(record.Data)
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
	k.ledger.arrived(ids, k.weather.answered(r.Request))
}

// event takes in what the host reports.
func (k *soak) event(e local.Event) (keep bool) {
	if e.Word != "flush" {
		return true
	}
	ret := e.Fields["ret"]
	k.flushes[ret]++
	// The host's clock and the plugin's do not agree to the millisecond.
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

// residentKiB is a process's resident memory. The host may have ended before
// all that it reported is read.
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

// tenths returns the mean memory during the first and the last tenth of the
// chunks.
func tenths(memory []int) (first, last float64) {
	n := len(memory) / 10
	if n == 0 {
		return 0, 0
	}
	for i := range n {
		first += float64(memory[i]) / float64(n)
		last += float64(memory[len(memory)-1-i]) / float64(n)
	}
	return first, last
}

// report prints the tally and says whether all is well.
func (k *soak) report(out io.Writer, result local.HostRun, counts endpoint.Counts, took time.Duration) bool {
	b := k.ledger.balance()
	first, last := tenths(k.memory)
	growth := 0.0
	if first > 0 {
		growth = last/first - 1
	}
	secrets := 0
	for _, word := range []string{local.SecretAccessKey, "role-secret-key", "role-session-token", "text of a record"} {
		secrets += strings.Count(result.Stderr, word)
	}
	flat := growth <= mostGrowth || b.chunks < growthChunks
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
	for i, t := range troubles {
		line("  "+t.name, k.weather.counts[i])
	}
	line("connections", counts.Connections)
	line("  untrusted certificate", k.weather.handshakes)
	line("requests for a role", counts.RoleRequests)
	line("  failed", k.weather.roles)
	line("ids", b.ids)
	line("  lost", b.lost)
	line("  twice, an answer was lost", b.explained)
	line("  twice, the flush ran out of time", b.gaveUp)
	line("  twice without reason", b.unexplained)
	line("  called delivered without an answer", b.unproven)
	line("  never sent", b.strange)
	line("chunks never delivered", b.undelivered)
	line("lines of log", strings.Count(result.Stderr, "\n"))
	line("  secrets and contents in them", secrets)
	line("memory of the host, first tenth", fmt.Sprintf("%.1f MiB", first/1024))
	line("  last tenth", fmt.Sprintf("%.1f MiB (%+.1f%%)", last/1024, 100*growth))
	line("verdict", map[bool]string{true: "good", false: "BAD"}[good])
	_ = w.Flush()
	return good
}
