// Command bench measures the plugin in Fluent Bit: processor time and memory of the
// whole process for a log file, next to the same pipeline with the null output and
// with the engine's own kinesis_streams.
//
//	make build && go run ./test/cmd/bench [-corpus access,kubernetes] [-lines 1000000] [-rounds 5]
//
// The outputs alternate, so that changes in the machine's speed affect all of them,
// and the table shows medians. All send over TLS to a server in the process of this
// command. In the first round the server also counts the log records that it
// receives from the plugin.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// seed makes the log file the same in every run.
const seed = 1

// linesAtOnce is how many lines are generated in memory at a time.
const linesAtOnce = 10_000

// batchBytes is the batch_size of the rows with batches.
const batchBytes = "1M"

// output is one way to end the pipeline.
type output struct {
	name    string
	plugin  string   // library to load, if any
	section []string // of [OUTPUT], without Match and Workers; PORT and CA are replaced
	plain   bool     // sends over plain HTTP
	// count returns how many log records a Kinesis record holds, nil if unknown.
	count func(d *decompress.Decoder, data []byte) (int, error)
}

func (o output) sends() bool { return o.name != "null" }

// run is the result of one run of the engine.
type run struct {
	cpu, wall time.Duration
	maxRSS    int64 // bytes
	counts    fakekinesis.Counts
}

type settings struct {
	plugin, awsPlugin, corpora, only string
	lines, rounds, workers           int
}

func main() {
	var s settings
	flag.StringVar(&s.plugin, "plugin", "build/out_kinesis_agg.so", "the built plugin")
	flag.StringVar(&s.awsPlugin, "aws-plugin", os.Getenv("AWS_KINESIS_PLUGIN"), "the library of AWS's Go plugin kinesis, to measure it too")
	flag.StringVar(&s.corpora, "corpus", "access,kubernetes", "log files to use, separated by commas: access, kubernetes, longtext, numbers, or all")
	flag.IntVar(&s.lines, "lines", 300_000, "lines of each log file")
	flag.IntVar(&s.rounds, "rounds", 5, "runs of each output")
	flag.IntVar(&s.workers, "workers", 2, "workers of each output")
	flag.StringVar(&s.only, "only", "", "outputs to run, by name, separated by commas; null always runs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, s settings) error {
	engine, err := harness.FindFluentBit()
	if err != nil {
		return err
	}
	if s.plugin, err = filepath.Abs(s.plugin); err != nil {
		return err
	}
	if _, err := os.Stat(s.plugin); err != nil {
		return fmt.Errorf("%w: run make build", err)
	}
	outputs := outputs(s.plugin, s.awsPlugin)
	if s.only != "" {
		outputs = slices.DeleteFunc(outputs, func(o output) bool {
			return o.sends() && !slices.Contains(strings.Split(s.only, ","), o.name)
		})
	}
	names := strings.Split(s.corpora, ",")
	if s.corpora == "all" {
		names = slices.Sorted(maps.Keys(chunktest.Corpora))
	}
	for _, name := range names {
		generate := chunktest.Corpora[name]
		if generate == nil {
			return fmt.Errorf("-corpus: %q: want access, kubernetes, longtext, numbers or all", name)
		}
		if err := benchCorpus(ctx, s, engine, name, generate, outputs); err != nil {
			return err
		}
	}
	return nil
}

// benchCorpus runs all outputs over one log file and prints its table.
func benchCorpus(ctx context.Context, s settings, engine, name string, generate func(uint64, int) chunktest.Corpus, outputs []output) error {
	dir, err := os.MkdirTemp("", "kinesis-agg-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "bench.log")
	size, err := writeLog(file, generate, s.lines)
	if err != nil {
		return err
	}
	fmt.Printf("Corpus %s: %d lines, %.0f MB of JSON, %d workers, %d rounds\n\n", name, s.lines, float64(size)/1e6, s.workers, s.rounds)
	runs := map[string][]run{}
	for round := range s.rounds {
		for _, o := range outputs {
			var counter *counter
			if round == 0 && o.count != nil {
				counter = newCounter(o)
			}
			r, err := measure(ctx, engine, dir, file, o, s.workers, counter)
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			if err := counter.check(s.lines); err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			if o.sends() && r.counts.DataBytes == 0 {
				return fmt.Errorf("%s: the server received nothing", o.name)
			}
			runs[o.name] = append(runs[o.name], r)
		}
	}
	printTable(outputs, runs)
	return nil
}

func outputs(plugin, awsPlugin string) []output {
	core := []string{"Name kinesis_streams", "region us-east-1", "stream bench", "endpoint 127.0.0.1", "port PORT", "tls.ca_file CA"}
	ours := []string{"Name kinesis_agg", "region us-east-1", "stream bench", "endpoint https://127.0.0.1:PORT"}
	with := func(section []string, more ...string) []string { return append(slices.Clone(section), more...) }
	all := []output{
		{name: "null", section: []string{"Name null"}},
		{name: "kinesis_streams", section: core},
		{name: "simple_aggregation", section: with(core, "simple_aggregation on")},
		{name: "simple_aggregation zstd", section: with(core, "simple_aggregation on", "compression zstd")},
		{name: "simple_aggregation gzip", section: with(core, "simple_aggregation on", "compression gzip")},
	}
	for _, wire := range []string{"json", "cbor"} {
		all = append(all, output{name: "kinesis_agg " + wire, plugin: plugin, section: with(ours, "wire_format "+wire), count: countUserRecords})
	}
	for _, format := range []compression.Format{compression.Zstd, compression.Gzip, compression.Snappy} {
		for _, wire := range []string{"json", "cbor"} {
			all = append(all, output{name: fmt.Sprintf("kinesis_agg %s %s", wire, format), plugin: plugin, count: countLines(format),
				section: with(ours, "wire_format "+wire, "batch_size "+batchBytes, "compression "+string(format))})
		}
	}
	for _, wire := range []string{"json", "cbor"} {
		all = append(all, output{name: fmt.Sprintf("kinesis_agg %s ndjson zstd", wire), plugin: plugin, count: countLines(compression.Zstd),
			section: with(ours, "wire_format "+wire, "record_format ndjson", "compression zstd")})
	}
	if awsPlugin != "" {
		// It has no option for a certificate authority, and so sends over plain HTTP.
		all = append(all, output{name: "AWS's kinesis", plugin: awsPlugin, plain: true, section: []string{"Name kinesis", "region us-east-1",
			"stream bench", "partition_key request_id", "aggregation true", "endpoint http://127.0.0.1:PORT"}})
	}
	return all
}

// countUserRecords counts log records that are user records of their own.
func countUserRecords(_ *decompress.Decoder, data []byte) (int, error) {
	a, err := kpl.Open(data)
	if err != nil {
		return 0, err
	}
	return a.Len(), nil
}

// countLines returns a function that counts log records in compressed batches.
func countLines(format compression.Format) func(*decompress.Decoder, []byte) (int, error) {
	return func(d *decompress.Decoder, data []byte) (int, error) {
		batches := [][]byte{data}
		a, err := kpl.Open(data)
		switch {
		case err == nil:
			batches = batches[:0]
			for _, u := range a.All() {
				batches = append(batches, u.Data)
			}
		case !errors.Is(err, kpl.ErrNotAggregated):
			return 0, err
		}
		n := 0
		var text []byte
		for _, batch := range batches {
			if text, err = d.Append(text[:0], batch, format); err != nil {
				return 0, err
			}
			n += bytes.Count(text, []byte("\n"))
		}
		return n, nil
	}
}

// counter counts the log records that arrive. A nil counter counts nothing.
type counter struct {
	output   output
	decoders sync.Pool
	records  atomic.Int64
	failure  atomic.Value // of error
}

func newCounter(o output) *counter {
	return &counter{output: o, decoders: sync.Pool{New: func() any { return new(decompress.Decoder) }}}
}

func (c *counter) add(r fakekinesis.Record) {
	if c == nil {
		return
	}
	d := c.decoders.Get().(*decompress.Decoder)
	defer c.decoders.Put(d)
	n, err := c.output.count(d, r.Data)
	if err != nil {
		c.failure.Store(err)
	}
	c.records.Add(int64(n))
}

func (c *counter) check(want int) error {
	if c == nil {
		return nil
	}
	if err, failed := c.failure.Load().(error); failed {
		return err
	}
	if got := c.records.Load(); got != int64(want) {
		return fmt.Errorf("%d of %d log records arrived", got, want)
	}
	return nil
}

// writeLog writes the log file and returns its size.
func writeLog(path string, generate func(uint64, int) chunktest.Corpus, lines int) (int64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for n := 0; n < lines; n += linesAtOnce {
		for _, line := range generate(seed+uint64(n), min(linesAtOnce, lines-n)).JSON {
			_, _ = w.WriteString(line)
			_ = w.WriteByte('\n')
		}
	}
	if err := w.Flush(); err != nil {
		return 0, err
	}
	stat, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return stat.Size(), f.Close()
}

// measure runs the engine over the log file once.
func measure(ctx context.Context, engine, dir, file string, o output, workers int, c *counter) (run, error) {
	server := fakekinesis.Start(fakekinesis.Options{TLS: !o.plain, OnRecord: c.add})
	defer server.Close()
	ca := filepath.Join(dir, "ca.pem")
	if !o.plain {
		if err := os.WriteFile(ca, server.CAPEM(), 0o644); err != nil {
			return run{}, err
		}
	}
	section := strings.NewReplacer("PORT", server.URL()[strings.LastIndexByte(server.URL(), ':')+1:], "CA", ca).Replace(strings.Join(o.section, "\n    "))
	plugins := "[PLUGINS]\n"
	if o.plugin != "" {
		plugins += "    Path " + o.plugin + "\n"
	}
	files := map[string]string{
		"plugins.conf": plugins,
		"parsers.conf": "[PARSER]\n    Name json\n    Format json\n",
		"bench.conf": fmt.Sprintf(`[SERVICE]
    Flush 1
    Grace 60
    Log_Level warn
    Plugins_File plugins.conf
    Parsers_File parsers.conf

[INPUT]
    Name tail
    Tag bench
    Path %s
    Parser json
    Read_from_Head true
    Exit_On_Eof true
    Buffer_Chunk_Size 512K
    Buffer_Max_Size 1M

[OUTPUT]
    %s
    Match *
    Workers %d
    Retry_Limit no_limits
`, file, section, workers),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return run{}, err
		}
	}
	cmd := exec.CommandContext(ctx, engine, "-c", filepath.Join(dir, "bench.conf"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_CA_BUNDLE="+ca,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	began := time.Now()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return run{}, err
	}
	peak := watchPeak(cmd.Process.Pid)
	err := cmd.Wait()
	maxRSS := peak()
	out := log.Bytes()
	if err != nil {
		return run{}, fmt.Errorf("%w\n%s", err, out)
	}
	if bytes.Contains(out, []byte("[error]")) || bytes.Contains(out, []byte("retr")) { // an error or a retry
		return run{}, fmt.Errorf("the log has errors or retries, so the figures are not valid:\n%s", out)
	}
	return run{
		cpu:    cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		wall:   time.Since(began),
		maxRSS: maxRSS,
		counts: server.Counts(),
	}, nil
}

// watchPeak samples the peak memory of a process until it ends. The function that it
// returns ends that and returns the peak in bytes. The peak in the process state
// would be at least the memory of this command, which starts the process.
func watchPeak(pid int) func() int64 {
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		var last int64
		for {
			status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
			if _, rest, found := strings.Cut(string(status), "VmHWM:"); found {
				var kib int64
				if _, err := fmt.Sscan(rest, &kib); err == nil {
					last = kib << 10
				}
			}
			select {
			case <-ticker.C:
			case <-stop:
				peak <- last
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-peak
	}
}

// printTable prints the medians of each output.
func printTable(outputs []output, runs map[string][]run) {
	cpu := func(name string) float64 {
		return median(runs[name], func(r run) float64 { return r.cpu.Seconds() })
	}
	rss := func(name string) float64 {
		return median(runs[name], func(r run) float64 { return float64(r.maxRSS) })
	}
	over := func(name string) float64 { return cpu(name) - cpu("null") }
	fmt.Println("| output | CPU s | over null | of kinesis_streams | of simple_aggregation zstd | wall s | peak MB | over null | requests | data MB | wire MB |")
	fmt.Println("| --- |" + strings.Repeat(" ---: |", 10))
	for _, o := range outputs {
		ratio := func(other string) string {
			if len(runs[other]) == 0 || !o.sends() {
				return ""
			}
			return fmt.Sprintf("%.2f", over(o.name)/over(other))
		}
		of := func(value func(run) float64) float64 { return median(runs[o.name], value) }
		fmt.Printf("| %s | %.2f | %.2f | %s | %s | %.2f | %.1f | %.1f | %.0f | %.1f | %.1f |\n", o.name, cpu(o.name), over(o.name),
			ratio("kinesis_streams"), ratio("simple_aggregation zstd"), of(func(r run) float64 { return r.wall.Seconds() }),
			rss(o.name)/1e6, (rss(o.name)-rss("null"))/1e6,
			of(func(r run) float64 { return float64(r.counts.PutRecords) }),
			of(func(r run) float64 { return float64(r.counts.DataBytes) / 1e6 }),
			of(func(r run) float64 { return float64(r.counts.WireBytes) / 1e6 }))
	}
	fmt.Println()
}

func median(runs []run, of func(run) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
