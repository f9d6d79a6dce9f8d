// Command demo shows the plugin's main job on this machine, without AWS: it
// ships a log file through Fluent Bit and the plugin into a Kinesis look-alike,
// reads the stream back with kplcat, and, for a second opinion, with the library
// that a Node.js consumer would use, and checks that every line came, once,
// unchanged, and in order.
//
//	make demo
//
// Where there is no Fluent Bit, the ABI host of the tests flushes the chunks.
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

	"out_kinesis_agg/test/chunk"
	"out_kinesis_agg/test/local"
)

// What AWS charges for a PUT. Source: "Amazon Kinesis Data Streams pricing",
// https://aws.amazon.com/kinesis/data-streams/pricing/, provisioned mode, US
// East (N. Virginia): a record counts in payload units of 25 KB, rounded up.
// On demand, each record counts in full KB of 1,024 bytes, rounded up.
const (
	payloadUnitBytes      = 25 << 10
	dollarsPerPayloadUnit = 0.014 / 1e6
	onDemandRoundingBytes = 1 << 10
	projectedLines        = 1e9
	projectedLinesInWords = "a billion lines"
	uuidBytes             = 36 // the partition key that a line on its own would have
)

const (
	stream            = "demo"
	shards            = 2
	tag               = "demo.access"
	maxRecordKiB      = 10 << 10
	maxRecordSize     = "10MiB" // the same, as the plugin's option
	seed              = 1
	linesPerHostChunk = 1000
	linesShown        = 3
	lineShownBytes    = 160
	deliveryDeadline  = 2 * time.Minute
)

type options struct {
	plugin, host, kplcat string
	lines                int
	out                  io.Writer
}

func main() {
	var o options
	flag.StringVar(&o.plugin, "plugin", "build/out_kinesis_agg.so", "the built plugin")
	flag.StringVar(&o.host, "abihost", "build/abihost", "the built ABI host, used where there is no Fluent Bit")
	flag.StringVar(&o.kplcat, "kplcat", "build/kplcat", "the built kplcat")
	flag.IntVar(&o.lines, "lines", 5000, "lines of the sample log")
	flag.Parse()
	o.out = os.Stdout

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		if ctx.Err() != nil {
			err = errors.New("stopped")
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
		return fmt.Errorf("no plugin: %w: build it first, or name it with -plugin", err)
	}
	if o.kplcat, err = filepath.Abs(o.kplcat); err != nil {
		return err
	}
	if _, err := os.Stat(o.kplcat); err != nil {
		return fmt.Errorf("no kplcat: %w: build it first, or name it with -kplcat", err)
	}
	root, err := local.ModuleRoot()
	if err != nil {
		return err
	}
	readers, err := local.ReadersDir(root)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "kinesis-agg-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	fmt.Fprintln(o.out, "Starting kinesis-local, a Kinesis look-alike ...")
	kinesis, err := local.StartKinesis(ctx, readers)
	if err != nil {
		return err
	}
	defer kinesis.Stop()
	if err := kinesis.CreateStream(ctx, stream, shards); err != nil {
		return err
	}

	// So that a chunk, about 2 MB at most, is one record.
	if err := kinesis.SetMaxRecordSize(ctx, stream, maxRecordKiB); err != nil {
		return err
	}

	d := &delivery{options: o, plugin: plugin, dir: dir, kinesis: kinesis, readers: readers,
		corpus: chunk.AccessLog(seed, o.lines)}
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
	d.print(took)
	return nil
}

// delivery is one log on its way.
type delivery struct {
	options
	plugin, dir, readers string
	kinesis              *local.Kinesis
	corpus               chunk.Corpus

	records []local.Record     // what is in the stream
	users   []local.UserRecord // what is in those, as aws-kinesis-agg sees it
	printed []string           // those, as kplcat prints them
	stats   string             // kplcat's table
}

// ship sends the log and reads back until as many lines came as were sent.
func (d *delivery) ship(ctx context.Context) error {
	fluentBit, err := local.FindFluentBit()
	if err != nil {
		fmt.Fprintf(d.out, "Shipping through the ABI host of the tests, because there is no Fluent Bit here:\n  %s.\n", local.HowToGetFluentBit)
		if err := d.shipByHost(ctx); err != nil {
			return err
		}
		return d.receive(ctx, func() error { return nil })
	}
	fmt.Fprintf(d.out, "Shipping through Fluent Bit (%s) ...\n", fluentBit)
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
	// What the engine sent while it stopped would be sent twice.
	return d.receive(ctx, func() error { return nil })
}

// startEngine writes the sample log and lets Fluent Bit tail it.
func (d *delivery) startEngine(fluentBit string) (*local.FluentBit, error) {
	file := filepath.Join(d.dir, "access.log")
	if err := os.WriteFile(file, []byte(strings.Join(d.corpus.JSON, "\n")+"\n"), 0o644); err != nil {
		return nil, err
	}
	return local.StartFluentBit(fluentBit, d.dir, d.plugin, fmt.Sprintf(`[INPUT]
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
    max_record_size %s
`, tag, file, stream, local.Region, d.kinesis.Endpoint, local.AccessKeyID, local.SecretAccessKey, maxRecordSize))
}

// shipByHost cuts the log into chunks and flushes them.
func (d *delivery) shipByHost(ctx context.Context) error {
	args := []string{
		"--expect-ok", "--log-level", "warn", d.plugin, "--instance",
		"stream=" + stream, "region=" + local.Region, "endpoint=" + d.kinesis.Endpoint,
		"aws_key_id=" + local.AccessKeyID, "aws_sec_key=" + local.SecretAccessKey,
		"max_record_size=" + maxRecordSize,
	}
	from := 0
	for n := 0; n < d.lines; n += linesPerHostChunk {
		to := d.corpus.Ends[min(n+linesPerHostChunk, d.lines)-1]
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
		return fmt.Errorf("no ABI host: %w: build it first, or name it with -abihost", err)
	}
	result, err := local.RunHost(ctx, host, nil, args...)
	if err == nil && result.ExitCode != 0 {
		err = fmt.Errorf("chunks were not taken: %v", result.End().Fields)
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, result.Stderr)
	}
	return nil
}

// receive reads the stream from its beginning until all lines are there.
// alive says why to give up before.
func (d *delivery) receive(ctx context.Context, alive func() error) error {
	ctx, cancel := context.WithTimeout(ctx, deliveryDeadline)
	defer cancel()
	d.users = nil
	read := 0
	var err error
	d.records, err = d.kinesis.ReadUntil(ctx, stream, func(all []local.Record) (bool, error) {
		if len(all) > read {
			users, err := local.Deaggregate(ctx, d.readers, all[read:])
			if err != nil {
				return false, err
			}
			d.users, read = append(d.users, users...), len(all)
		}
		return len(d.users) >= d.lines, alive()
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("only %d of %d lines came within %s", len(d.users), d.lines, deliveryDeadline)
	}
	return err
}

// readBack reads the stream with kplcat, and checks that, too.
func (d *delivery) readBack(ctx context.Context) error {
	lines, err := d.cat(ctx, "--json")
	if err != nil {
		return err
	}
	var users []local.UserRecord
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
		users = append(users, local.UserRecord{PartitionKey: u.Key, SequenceNumber: u.Sequence, SubSequenceNumber: u.SubSequence, Data: u.Data})
		d.printed = append(d.printed, string(u.Data))
	}
	if err := d.check(users); err != nil {
		return err
	}
	d.stats, err = d.cat(ctx, "--stats")
	return err
}

// cat is what kplcat prints of the stream.
func (d *delivery) cat(ctx context.Context, flag string) (string, error) {
	cmd := exec.CommandContext(ctx, d.kplcat, stream, flag, "--region", local.Region, "--endpoint", d.kinesis.Endpoint)
	cmd.Env = append(local.Environ(), "AWS_ACCESS_KEY_ID="+local.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+local.SecretAccessKey)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return string(out), err
}

// check compares what came with what was sent.
func (d *delivery) check(users []local.UserRecord) error {
	number := make(map[string]int, len(d.corpus.JSON)) // lines differ: they are numbered
	for i, line := range d.corpus.JSON {
		number[line] = i
	}
	seen := make([]bool, len(d.corpus.JSON))
	sequence, last := "", -1
	for _, u := range users {
		n, known := number[string(u.Data)]
		switch {
		case !known:
			return fmt.Errorf("a line came that was not sent: %s", u.Data)
		case seen[n]:
			return fmt.Errorf("line %d came twice", n)
		case u.SubSequenceNumber == nil:
			return fmt.Errorf("line %d came outside of an aggregated record", n)
		case u.SequenceNumber == sequence && n <= last:
			return fmt.Errorf("line %d came after line %d of the same aggregated record", n, last)
		}
		seen[n], sequence, last = true, u.SequenceNumber, n
	}
	if n := slices.Index(seen, false); n >= 0 {
		return fmt.Errorf("line %d did not come: %s", n, d.corpus.JSON[n])
	}
	return nil
}

// cost is what records of these sizes are billed as.
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

func (d *delivery) print(took time.Duration) {
	var aggregated, single cost
	for _, r := range d.records {
		aggregated.add(len(r.Data), len(r.PartitionKey))
	}
	for _, line := range d.corpus.JSON {
		single.add(len(line), uuidBytes)
	}

	fmt.Fprintf(d.out, "\n%d lines in, %d bytes of JSON\n", d.lines, d.corpus.JSONBytes())
	fmt.Fprintf(d.out, "%d PutRecord calls, %d bytes, in %.1f s\n", aggregated.records, aggregated.bytes, took.Seconds())
	fmt.Fprintf(d.out, "%d lines out, read by kplcat, and again by aws-kinesis-agg: each line once, unchanged, in order\n", len(d.printed))

	fmt.Fprintf(d.out, "\n$ kplcat %s | head -n %d\n", stream, linesShown)
	for _, text := range d.printed[:min(linesShown, len(d.printed))] {
		if len(text) > lineShownBytes {
			text = text[:lineShownBytes] + " ..."
		}
		fmt.Fprintln(d.out, text)
	}
	fmt.Fprintf(d.out, "\n$ kplcat %s --stats\n%s", stream, d.stats)

	fmt.Fprintf(d.out, "\n%-34s %15s %15s\n", "", "aggregated", "one by one")
	row := func(what string, a, b any) { fmt.Fprintf(d.out, "%-34s %15v %15v\n", what, a, b) }
	row("PutRecord calls", aggregated.records, single.records)
	row("PUT payload units of 25 KB", aggregated.payloadUnits, single.payloadUnits)
	row("bytes billed on demand", aggregated.onDemandBytes, single.onDemandBytes)
	row("PUT units of "+projectedLinesInWords, d.dollars(aggregated), d.dollars(single))
	fmt.Fprintln(d.out, "(dollars: list price of provisioned mode in us-east-1, without shard hours)")
}

// dollars is what the payload units cost at projectedLines lines.
func (d *delivery) dollars(c cost) string {
	return fmt.Sprintf("$%.2f", float64(c.payloadUnits)/float64(d.lines)*projectedLines*dollarsPerPayloadUnit)
}
