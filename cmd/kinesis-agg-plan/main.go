// Command kinesis-agg-plan calculates what a fleet of Fluent Bit hosts with
// out_kinesis_agg sends to Kinesis, what it needs and what it costs.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/dustin/go-humanize"

	"out_kinesis_agg/internal/plan"
)

const usage = `kinesis-agg-plan calculates chunks, records, shards, cost and delay of a fleet
of Fluent Bit hosts that send log records with out_kinesis_agg, next to the same
lines without aggregation.

Usage: kinesis-agg-plan --lines N --line-bytes N [flags]

The load:
  --lines N            log records per second of all hosts together
  --line-bytes N       JSON bytes of one log record
  --hosts N            Fluent Bit processes (default 1)
  --tags N             tags per host with about the same load (default 1). Each
                       tag has its own chunks; with tail in Kubernetes, each
                       container has a tag

Settings of Fluent Bit and of the plugin:
  --flush SECONDS      (default 5)
  --ndjson             record_format ndjson: a record is one batch
  --batch-size SIZE    such as 1M (default 0: off, or with --ndjson as large as
                       a record)
  --compression RATIO  size over compressed size, such as 5 (default 1, none)
  --max-record-size SIZE  (default 1MiB)

The stream:
  --retention HOURS    24 (default) to 8760
  --consumers N        consumers that share the throughput (default 1)
  --fan-out N          consumers with enhanced fan-out (default 0)
  --throttled SHARE    share of records that may be throttled at the first
                       attempt (default 0.05). Throttled records are delivered
                       by a retry. A smaller share needs more shards
  --outage HOURS       outage for which the disk of a host must have space
                       (default 6)
  --prices FILE        prices of another region, as JSON
  --print-prices       print the prices of us-east-1 as JSON and end

Output:
  --json               JSON instead of tables

docs/planning.md explains the calculation and has the sources of all prices.

Exit codes: 0 success, 1 an error, 2 invalid flags.
`

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	fail := func(code int, err error) int {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(stderr, "kinesis-agg-plan: %s\n", line)
		}
		return code
	}
	in := plan.Defaults()
	flags := flag.NewFlagSet("kinesis-agg-plan", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Float64Var(&in.LinesPerSecond, "lines", 0, "")
	flags.Float64Var(&in.LineBytes, "line-bytes", 0, "")
	flags.IntVar(&in.Hosts, "hosts", in.Hosts, "")
	flags.IntVar(&in.TagsPerHost, "tags", in.TagsPerHost, "")
	flags.Float64Var(&in.FlushSeconds, "flush", in.FlushSeconds, "")
	flags.Float64Var(&in.Compression, "compression", in.Compression, "")
	flags.BoolVar(&in.NDJSON, "ndjson", false, "")
	flags.Func("batch-size", "", size(&in.BatchBytes))
	flags.Func("max-record-size", "", size(&in.MaxRecordBytes))
	flags.IntVar(&in.RetentionHours, "retention", in.RetentionHours, "")
	flags.IntVar(&in.Consumers, "consumers", in.Consumers, "")
	flags.IntVar(&in.FanOut, "fan-out", in.FanOut, "")
	flags.Float64Var(&in.Throttled, "throttled", in.Throttled, "")
	flags.Float64Var(&in.OutageHours, "outage", in.OutageHours, "")
	pricesFile := flags.String("prices", "", "")
	printPrices := flags.Bool("print-prices", false, "")
	asJSON := flags.Bool("json", false, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		return fail(2, err)
	case flags.NArg() > 0:
		return fail(2, fmt.Errorf("%q is not a flag: --help lists the flags", flags.Arg(0)))
	}

	if *printPrices {
		if err := writeJSON(stdout, plan.USEast1()); err != nil {
			return fail(1, err)
		}
		return 0
	}
	prices := plan.USEast1()
	if *pricesFile != "" {
		file, err := os.Open(*pricesFile)
		if err != nil {
			return fail(1, err)
		}
		prices, err = plan.ReadPrices(file)
		file.Close()
		if err != nil {
			return fail(1, fmt.Errorf("%s: %w", *pricesFile, err))
		}
	}
	p, err := plan.New(in, prices)
	if err != nil {
		return fail(2, err)
	}
	if *asJSON {
		err = writeJSON(stdout, p)
	} else {
		err = p.Write(stdout)
	}
	if err != nil {
		return fail(1, err)
	}
	return 0
}

// size reads a size as the plugin's options do: 100K is 100,000, 100Ki 102,400.
func size(dst *int) func(string) error {
	return func(text string) error {
		n, err := humanize.ParseBytes(text)
		if err != nil || n > 1<<30 {
			return errors.New("not a size such as 100K, 1000000 or 1MiB")
		}
		*dst = int(n)
		return nil
	}
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(v)
}
