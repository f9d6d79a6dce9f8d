// Command demo shows what the plugin does, on this machine and without AWS. It
// ships a log file through Fluent Bit and the plugin into a local Kinesis and
// reads the stream with kplcat and with the library that a Node.js consumer
// uses. It checks that every line arrives once, unchanged, and in order within
// each record.
//
//	make demo
//	KEEP=1 make demo
//
// The second command keeps the local Kinesis running until Ctrl-C. Without Fluent
// Bit, the ABI host of the tests flushes the same chunks.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

// The price of a PUT. Source: "Amazon Kinesis Data Streams pricing",
// https://aws.amazon.com/kinesis/data-streams/pricing/, provisioned mode, US
// East (N. Virginia): a record is billed in payload units of 25 KB, rounded up.
// In on-demand mode, the size of a record is rounded up to full KB of 1,024 bytes.
const (
	payloadUnitBytes      = 25 << 10
	dollarsPerPayloadUnit = 0.014 / 1e6
	onDemandRoundingBytes = 1 << 10
	projectedLines        = 1e9
	projectedLinesInWords = "a billion lines"
	uuidBytes             = 36 // the partition key of a record with one line
)

const (
	stream           = "demo"
	shards           = 2
	tag              = "demo.access"
	seed             = 1
	linesShown       = 3
	lineShownBytes   = 160
	deliveryDeadline = 2 * time.Minute

	// Fluent Bit adds events to a chunk until it has this size.
	// Source: FLB_INPUT_CHUNK_FS_MAX_SIZE in flb_input_chunk.h.
	chunkBytes = 2_048_000
)

type options struct {
	plugin, host, kplcat string
	lines                int
	keep                 bool
	out                  io.Writer
}

func main() {
	var o options
	flag.StringVar(&o.plugin, "plugin", "build/out_kinesis_agg.so", "the built plugin")
	flag.StringVar(&o.host, "abihost", "build/abihost", "the built ABI host, used without Fluent Bit")
	flag.StringVar(&o.kplcat, "kplcat", "build/kplcat", "the built kplcat")
	flag.IntVar(&o.lines, "lines", 5000, "lines of the sample log")
	flag.BoolVar(&o.keep, "keep", false, "keep the local Kinesis running until Ctrl-C")
	flag.Parse()
	o.out = os.Stdout

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(os.Stderr, "\ndemo: FAILED: %v\n", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	if o.lines < 1 {
		return fmt.Errorf("-lines %d: want at least 1", o.lines)
	}
	plugin, err := filepath.Abs(o.plugin)
	if err != nil {
		return err
	}
	if _, err := os.Stat(plugin); err != nil {
		return fmt.Errorf("no plugin: %w: run `make build`, or set -plugin", err)
	}
	if _, err := os.Stat(o.kplcat); err != nil {
		return fmt.Errorf("no kplcat: %w: run `make build`, or set -kplcat", err)
	}
	root, err := harness.ModuleRoot()
	if err != nil {
		return err
	}
	readers, err := harness.ReadersDir(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kinesis-agg-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	fmt.Fprintln(o.out, "Starting kinesis-local, a local Kinesis ...")
	kinesis, err := harness.StartKinesis(ctx, readers)
	if err != nil {
		return err
	}
	defer kinesis.Stop()
	if err := kinesis.CreateStream(ctx, stream, shards); err != nil {
		return err
	}

	d := &delivery{options: o, plugin: plugin, dir: dir, kinesis: kinesis, readers: readers,
		corpus: chunktest.AccessLog(seed, o.lines)}
	began := time.Now()
	if err := d.ship(ctx); err != nil {
		return err
	}
	took := time.Since(began)
	if err := d.check(d.users); err != nil {
		return fmt.Errorf("aws-kinesis-agg: %w", err)
	}
	if err := d.readBack(ctx); err != nil {
		return fmt.Errorf("kplcat: %w", err)
	}
	if err := d.print(ctx, took); err != nil {
		return err
	}
	if o.keep {
		fmt.Fprintf(o.out, "\nThe local Kinesis is running at %s. Ctrl-C stops it.\n", kinesis.Endpoint)
		<-ctx.Done()
		fmt.Fprintln(o.out, "\nStopped.")
	}
	return nil
}

// delivery is one delivery of the sample log.
type delivery struct {
	options
	plugin, dir, readers string
	kinesis              *harness.Kinesis
	corpus               chunktest.Corpus

	engine  bool                 // Fluent Bit ships the log, not the ABI host
	records []harness.Record     // the records of the stream
	users   []harness.UserRecord // their user records, as aws-kinesis-agg reads them
}

// ship sends the log and reads the stream until all lines have arrived.
func (d *delivery) ship(ctx context.Context) error {
	fluentBit, err := harness.FindFluentBit()
	if err != nil && os.Getenv("FLUENT_BIT") != "" {
		return err
	}
	if err != nil {
		fmt.Fprintln(d.out, "Fluent Bit is not installed: shipping chunks of the same size with the ABI host of the tests ...")
		if err := d.shipByHost(ctx); err != nil {
			return err
		}
		return d.receive(ctx, func() error { return nil })
	}
	fmt.Fprintf(d.out, "Shipping through Fluent Bit (%s) ...\n", fluentBit)
	d.engine = true
	engine, err := d.startEngine(fluentBit)
	if err != nil {
		return err
	}
	defer engine.Kill()
	err = d.receive(ctx, func() error {
		if engine.Ended() {
			return fmt.Errorf("fluent-bit ended:\n%s", engine.Log())
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, engine.Log())
	}
	if err := engine.Stop(); err != nil {
		return err
	}
	// Read again, to find lines that the engine has sent twice while it stopped.
	return d.receive(ctx, func() error { return nil })
}

// startEngine writes the sample log and starts a Fluent Bit that tails it.
func (d *delivery) startEngine(fluentBit string) (*harness.FluentBit, error) {
	file := filepath.Join(d.dir, "access.log")
	if err := os.WriteFile(file, []byte(strings.Join(d.corpus.JSON, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	return harness.StartFluentBit(fluentBit, d.dir, d.plugin, fmt.Sprintf(`[INPUT]
    Name             tail
    Tag              %s
    Path             %s
    Parser           json
    Read_from_Head   true
    Refresh_Interval 1

[OUTPUT]
    Name        kinesis_agg
    Match       *
    Workers     1
    Retry_Limit no_limits
    stream      %s
    region      %s
    endpoint    %s
    aws_key_id  %s
    aws_sec_key %s
`, tag, file, stream, harness.Region, d.kinesis.Endpoint, harness.AccessKeyID, harness.SecretAccessKey))
}

// shipByHost divides the log into chunks as Fluent Bit does and flushes them.
func (d *delivery) shipByHost(ctx context.Context) error {
	args := []string{
		"--expect-ok", "--log-level", "warn", d.plugin, "--instance",
		"stream=" + stream, "region=" + harness.Region, "endpoint=" + d.kinesis.Endpoint,
		"aws_key_id=" + harness.AccessKeyID, "aws_sec_key=" + harness.SecretAccessKey,
	}
	for from, n := 0, 0; n < d.lines; {
		to := from
		for ; n < d.lines && to-from < chunkBytes; n++ {
			to = d.corpus.Ends[n]
		}
		file := filepath.Join(d.dir, strconv.Itoa(n)+".chunk")
		if err := os.WriteFile(file, d.corpus.Bytes[from:to], 0o644); err != nil {
			return err
		}
		args = append(args, "--chunk", tag+"="+file)
		from = to
	}
	host, err := filepath.Abs(d.host)
	if err != nil {
		return err
	}
	if _, err := os.Stat(host); err != nil {
		return fmt.Errorf("no ABI host: %w: run `make build`, or set -abihost", err)
	}
	result, err := harness.RunHost(ctx, host, nil, args...)
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("chunks were not delivered: %v", result.End().Fields)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, result.Stderr)
	}
	return nil
}

// receive reads the stream from its start until all lines have arrived. An error
// of alive ends it early.
func (d *delivery) receive(ctx context.Context, alive func() error) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryDeadline)
	defer cancel()
	d.users = nil
	read := 0
	var err error
	d.records, err = d.kinesis.ReadUntil(ctx, stream, func(all []harness.Record) (bool, error) {
		if len(all) > read {
			users, err := harness.Deaggregate(ctx, d.readers, all[read:])
			if err != nil {
				return false, err
			}
			d.users, read = append(d.users, users...), len(all)
		}
		return len(d.users) >= d.lines, alive()
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("only %d of %d lines arrived within %s", len(d.users), d.lines, deliveryDeadline)
	}
	return err
}

// readBack reads the stream with kplcat and checks the lines again.
func (d *delivery) readBack(ctx context.Context) error {
	lines, err := d.shell(ctx, d.command("--json"))
	if err != nil {
		return err
	}
	var users []harness.UserRecord
	for line := range strings.Lines(lines) {
		var u struct {
			Key         string
			Sequence    string
			SubSequence *int `json:"sub_sequence"`
			Data        json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &u); err != nil {
			return err
		}
		users = append(users, harness.UserRecord{PartitionKey: u.Key, SequenceNumber: u.Sequence, SubSequenceNumber: u.SubSequence, Data: u.Data})
	}
	return d.check(users)
}

// command returns a kplcat command that works in a shell in the working
// directory, as long as the local Kinesis runs. That accepts any credentials.
func (d *delivery) command(flags string) string {
	return fmt.Sprintf("AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local \\\n    %s %s %s --region %s --endpoint %s",
		d.kplcat, stream, flags, harness.Region, d.kinesis.Endpoint)
}

// shell runs a command and returns its output.
func (d *delivery) shell(ctx context.Context, command string) (string, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.Env = harness.Environ()
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w", command, err)
	}
	return string(out), nil
}

// check compares the user records with the lines that were sent.
func (d *delivery) check(users []harness.UserRecord) error {
	number := make(map[string]int, len(d.corpus.JSON)) // lines differ, because they are numbered
	for i, line := range d.corpus.JSON {
		number[line] = i
	}
	seen := make([]bool, len(d.corpus.JSON))
	sequence, last := "", -1
	for _, u := range users {
		n, known := number[string(u.Data)]
		switch {
		case !known:
			return fmt.Errorf("a line arrived that was not sent: %s", u.Data)
		case seen[n]:
			return fmt.Errorf("line %d arrived twice", n)
		case u.SubSequenceNumber == nil:
			return fmt.Errorf("line %d arrived in a record that is not aggregated", n)
		case u.SequenceNumber == sequence && n <= last:
			return fmt.Errorf("line %d is after line %d in the same aggregated record", n, last)
		}
		seen[n], sequence, last = true, u.SequenceNumber, n
	}
	if n := slices.Index(seen, false); n >= 0 {
		return fmt.Errorf("line %d did not arrive: %s", n, d.corpus.JSON[n])
	}
	return nil
}

// cost is the billed size of records.
type cost struct {
	records, bytes, payloadUnits, onDemandBytes int
}

func (c *cost) add(data, partitionKey int) {
	c.records++
	c.bytes += data
	c.payloadUnits += roundUp(data+partitionKey, payloadUnitBytes)
	c.onDemandBytes += roundUp(data+partitionKey, onDemandRoundingBytes) * onDemandRoundingBytes
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit }

func (d *delivery) print(ctx context.Context, took time.Duration) error {
	var aggregated, single cost
	for _, r := range d.records {
		aggregated.add(len(r.Data), len(r.PartitionKey))
	}
	for _, line := range d.corpus.JSON {
		single.add(len(line), uuidBytes)
	}

	fmt.Fprintf(d.out, "\nSent:     %s, %s of JSON.\n", count(d.lines, "line"), count(d.corpus.JSONBytes(), "byte"))
	fmt.Fprintf(d.out, "Stored:   %s, %s, in %.1f s. A record holds a chunk, or a part\n          of a chunk that is larger than max_record_size (1 MiB).\n",
		count(aggregated.records, "aggregated record"), count(aggregated.bytes, "byte"), took.Seconds())
	fmt.Fprintln(d.out, "Checked:  with kplcat and with aws-kinesis-agg: each line arrived once,\n          unchanged, and in order within each record.")

	for _, flags := range []string{fmt.Sprintf("--limit %d", linesShown), "--stats"} {
		command := d.command(flags)
		out, err := d.shell(ctx, command)
		if err != nil {
			return err
		}
		fmt.Fprintf(d.out, "\n$ %s\n", command)
		for line := range strings.Lines(out) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > lineShownBytes {
				line = line[:lineShownBytes] + " ..."
			}
			fmt.Fprintln(d.out, line)
		}
	}

	fmt.Fprintf(d.out, "\n%-36s %15s %15s\n", "", "aggregated", "line by line")
	row := func(what string, a, b any) { fmt.Fprintf(d.out, "%-36s %15v %15v\n", what, a, b) }
	row("PutRecord calls", aggregated.records, single.records)
	row("PUT payload units of 25 KB", aggregated.payloadUnits, single.payloadUnits)
	row("bytes billed in on-demand mode", aggregated.onDemandBytes, single.onDemandBytes)
	row("payload units of "+projectedLinesInWords, d.dollars(aggregated), d.dollars(single))
	fmt.Fprintln(d.out, "(List price of provisioned mode in us-east-1, without shard hours.)")

	fmt.Fprintln(d.out, "\nNext:")
	if !d.keep {
		fmt.Fprintln(d.out, "- KEEP=1 make demo keeps the local Kinesis running until Ctrl-C. Until then, the\n  commands that it prints work in another terminal, in this directory.")
	}
	if !d.engine {
		fmt.Fprintln(d.out, "- Install Fluent Bit (https://docs.fluentbit.io/manual/installation), set FLUENT_BIT\n  to its path if it is not on PATH, and repeat the demo with it.")
	}
	fmt.Fprintln(d.out, "- To ship your own logs, set stream and region in conf/fluent-bit.conf and load\n  build/out_kinesis_agg.so in conf/plugins.conf. README.md describes the options.\n- make test runs all tests.")
	return nil
}

// dollars returns the price of the payload units of projectedLines lines.
func (d *delivery) dollars(c cost) string {
	return fmt.Sprintf("$%.2f", float64(c.payloadUnits)/float64(d.lines)*projectedLines*dollarsPerPayloadUnit)
}

// count returns "1 line", "2 lines".
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprint(n, " ", noun)
}
