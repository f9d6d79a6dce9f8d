// Command bench measures the plugin in Fluent Bit: the processor time and the
// memory of the whole process for a log file, beside the same pipeline into the
// null output and into the core's own kinesis_streams.
//
//	make build && go run ./test/bench [--lines 1000000] [--rounds 5]
//
// The outputs take turns, so that a machine whose speed drifts does so for all
// of them, and the table shows medians. All of them send over TLS to the same
// endpoint, in the process of this command, which only counts.
package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"out_kinesis_agg/test/chunktest"
	"out_kinesis_agg/test/harness"
)

// seed makes the log file the same in every run.
const seed = 1

// linesAtOnce is how many lines are made in memory at a time.
const linesAtOnce = 10_000

// output is one way to end the pipeline.
type output struct {
	name    string
	plugin  string   // library to load, if any
	section []string // of [OUTPUT], without Match and workers
	sends   bool
}

// run is what one run of the engine took.
type run struct {
	cpu, wall time.Duration
	maxRSS    int64 // bytes
	counts    counts
}

func main() {
	var (
		plugin    = flag.String("plugin", "build/out_kinesis_agg.so", "the built plugin")
		awsPlugin = flag.String("aws-plugin", os.Getenv("AWS_KINESIS_PLUGIN"), "the library of AWS's Go plugin kinesis, to measure it too")
		lines     = flag.Int("lines", 1_000_000, "lines of the log file")
		rounds    = flag.Int("rounds", 5, "runs of each output")
		workers   = flag.Int("workers", 2, "workers of each output")
		only      = flag.String("only", "", "outputs to run, by name, with commas; null always runs")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := bench(ctx, *plugin, *awsPlugin, *lines, *rounds, *workers, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func bench(ctx context.Context, plugin, awsPlugin string, lines, rounds, workers int, only string) error {
	engine, err := harness.FindFluentBit()
	if err != nil {
		return err
	}
	if plugin, err = filepath.Abs(plugin); err != nil {
		return err
	}
	if _, err := os.Stat(plugin); err != nil {
		return fmt.Errorf("%w: run make build", err)
	}
	dir, err := os.MkdirTemp("", "kinesis-agg-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server, err := startServer(dir)
	if err != nil {
		return err
	}
	defer server.Close()
	file := filepath.Join(dir, "access.log")
	size, err := writeLog(file, lines)
	if err != nil {
		return err
	}
	fmt.Printf("%d lines, %.0f MB of JSON, %d workers, %d rounds\n\n", lines, float64(size)/1e6, workers, rounds)

	outputs := outputs(plugin, awsPlugin, server.port, server.caFile)
	if only != "" {
		outputs = slices.DeleteFunc(outputs, func(o output) bool {
			return o.sends && !slices.Contains(strings.Split(only, ","), o.name)
		})
	}
	runs := map[string][]run{}
	for range rounds {
		for _, o := range outputs {
			r, err := measure(ctx, engine, dir, file, o, workers, server)
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			if o.sends && o.plugin == plugin && r.counts.userRecords != int64(lines) {
				return fmt.Errorf("%s: %d user records came of %d", o.name, r.counts.userRecords, lines)
			}
			if o.sends && r.counts.bytes == 0 {
				return fmt.Errorf("%s: nothing came", o.name)
			}
			runs[o.name] = append(runs[o.name], r)
		}
	}
	printTable(outputs, runs)
	return nil
}

func outputs(plugin, awsPlugin string, port int, caFile string) []output {
	core := []string{"Name kinesis_streams", "region us-east-1", "stream bench", "endpoint 127.0.0.1",
		fmt.Sprint("port ", port), "tls.ca_file " + caFile}
	ours := []string{"Name kinesis_agg", "region us-east-1", "stream bench",
		fmt.Sprintf("endpoint https://127.0.0.1:%d", port), "max_record_size 10MiB"}
	with := func(section []string, more ...string) []string { return append(slices.Clone(section), more...) }
	all := []output{
		{"null", "", []string{"Name null"}, false},
		{"kinesis_streams", "", core, true},
		{"simple_aggregation", "", with(core, "simple_aggregation on"), true},
		{"kinesis_agg json", plugin, ours, true},
		{"kinesis_agg cbor", plugin, with(ours, "wire_format cbor"), true},
	}
	if awsPlugin != "" {
		// It takes no certificate authority, and so no TLS here.
		all = append(all, output{"AWS's kinesis", awsPlugin, []string{"Name kinesis", "region us-east-1", "stream bench",
			"partition_key request_id", "aggregation true", fmt.Sprintf("endpoint http://127.0.0.1:%d", port+1)}, true})
	}
	return all
}

// writeLog writes the log file and returns its size.
func writeLog(path string, lines int) (int64, error) {
	f, err := os.Create(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	for n := 0; n < lines; n += linesAtOnce {
		for _, text := range chunktest.AccessLog(seed+uint64(n), min(linesAtOnce, lines-n)).JSON {
			_, _ = w.WriteString(text)
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
func measure(ctx context.Context, engine, dir, file string, o output, workers int, s *server) (run, error) {
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
`, file, strings.Join(o.section, "\n    "), workers),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return run{}, err
		}
	}
	cmd := exec.CommandContext(ctx, engine, "-c", filepath.Join(dir, "bench.conf"))
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b", "AWS_CA_BUNDLE="+s.caFile,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	s.reset()
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return run{}, fmt.Errorf("%w\n%s", err, out)
	}
	if bytes.Contains(out, []byte("[error]")) || bytes.Contains(out, []byte("[ warn] [output")) {
		return run{}, fmt.Errorf("the engine complains, so the figures mean nothing:\n%s", out)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return run{}, errors.New("this system does not tell what a process used")
	}
	return run{
		cpu:    cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		wall:   time.Since(began),
		maxRSS: usage.Maxrss << 10, // Linux counts in KiB
		counts: s.counts(),
	}, nil
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
	fmt.Println("| output | CPU s | over null | of kinesis_streams | of simple_aggregation | wall s | peak MB | over null | requests | MB sent |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, o := range outputs {
		ratio := func(other string) string {
			if len(runs[other]) == 0 || !o.sends {
				return ""
			}
			return fmt.Sprintf("%.2f", over(o.name)/over(other))
		}
		wall := median(runs[o.name], func(r run) float64 { return r.wall.Seconds() })
		last := runs[o.name][len(runs[o.name])-1].counts
		fmt.Printf("| %s | %.2f | %.2f | %s | %s | %.2f | %.1f | %.1f | %d | %.0f |\n", o.name, cpu(o.name), over(o.name),
			ratio("kinesis_streams"), ratio("simple_aggregation"), wall, rss(o.name)/1e6, (rss(o.name)-rss("null"))/1e6,
			last.requests, float64(last.bytes)/1e6)
	}
}

func median(runs []run, of func(run) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = of(r)
	}
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}
