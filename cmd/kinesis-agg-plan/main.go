// Command kinesis-agg-plan calculates what a fleet of Fluent Bit hosts with
// out_kinesis_agg sends to Kinesis, what it needs and what it costs.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/dustin/go-humanize"

	"out_kinesis_agg/internal/plan"
	"out_kinesis_agg/internal/version"
)

const usage = `kinesis-agg-plan calculates chunks, records, shards, cost and delay of a fleet
of Fluent Bit hosts that send log records with out_kinesis_agg, next to the same
lines without aggregation.

Usage: kinesis-agg-plan --lines N --line-bytes N [flags]

The load:
  --lines N, -n N      log records per second of all hosts together, such as 10k
  --line-bytes N       JSON bytes of one log record
  --hosts N            Fluent Bit processes (default 1)
  --tags N             tags per host with about the same load (default 1). Each
                       tag has its own chunks; with tail in Kubernetes, each
                       container has a tag

Settings of Fluent Bit and of the plugin:
  --flush SECONDS, -f SECONDS  such as 5 or 5s (default 5)
  --ndjson             record_format ndjson: a record is one batch
  --batch-size SIZE    such as 1M (default 0: off, or with --ndjson as large as
                       a record)
  --compression RATIO  size over compressed size, such as 5 (default 1, none)
  --max-record-size SIZE  (default 1MiB)

The stream:
  --retention HOURS    24 (default) to 8760; 7d are seven days
  --consumers N        consumers that share the throughput (default 1)
  --fan-out N          consumers with enhanced fan-out (default 0)
  --throttled SHARE    share of records that may be throttled at the first
                       attempt (default 0.05, or 5%). Throttled records are
                       delivered by a retry. A smaller share needs more shards
  --outage HOURS       outage for which the disk of a host must have space
                       (default 6)
  --prices FILE        prices of another region, as JSON
  --print-prices       print the prices of us-east-1 as JSON and end

Output:
  --json               JSON instead of tables

Other:
  --version            print the version
  --help               print this text

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
	flags.Func("lines", "", number(&in.LinesPerSecond, decimal))
	flags.Func("n", "", number(&in.LinesPerSecond, decimal))
	flags.Func("line-bytes", "", number(&in.LineBytes, map[string]float64{"b": 1, "k": 1000, "kb": 1000, "ki": 1024, "kib": 1024}))
	flags.IntVar(&in.Hosts, "hosts", in.Hosts, "")
	flags.IntVar(&in.TagsPerHost, "tags", in.TagsPerHost, "")
	seconds := map[string]float64{"ms": 0.001, "s": 1, "m": 60}
	flags.Func("flush", "", number(&in.FlushSeconds, seconds))
	flags.Func("f", "", number(&in.FlushSeconds, seconds))
	flags.Func("compression", "", number(&in.Compression, map[string]float64{"x": 1}))
	flags.BoolVar(&in.NDJSON, "ndjson", false, "")
	flags.Func("batch-size", "", size(&in.BatchBytes))
	flags.Func("max-record-size", "", size(&in.MaxRecordBytes))
	hours := map[string]float64{"h": 1, "d": 24}
	flags.Func("retention", "", func(text string) error {
		var h float64
		if err := number(&h, hours)(text); err != nil || h != math.Trunc(h) || math.Abs(h) > math.MaxInt32 {
			return errors.New("not a whole number of hours, such as 24, 24h or 7d")
		}
		in.RetentionHours = int(h)
		return nil
	})
	flags.IntVar(&in.Consumers, "consumers", in.Consumers, "")
	flags.IntVar(&in.FanOut, "fan-out", in.FanOut, "")
	flags.Func("throttled", "", number(&in.Throttled, map[string]float64{"%": 0.01}))
	flags.Func("outage", "", number(&in.OutageHours, hours))
	pricesFile := flags.String("prices", "", "")
	printPrices := flags.Bool("print-prices", false, "")
	asJSON := flags.Bool("json", false, "")
	showVersion := flags.Bool("version", false, "")
	if len(args) == 1 && (args[0] == "help" || args[0] == "version") {
		args = []string{"--" + args[0]}
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return 0
	case err != nil:
		return fail(2, err)
	case *showVersion:
		fmt.Fprintln(stdout, "kinesis-agg-plan", version.String())
		return 0
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

// decimal are the units of a count.
var decimal = map[string]float64{"k": 1e3, "m": 1e6, "g": 1e9}

// number reads a number, which can end with one of the units.
func number(dst *float64, units map[string]float64) func(string) error {
	return func(text string) error {
		digits := strings.TrimRightFunc(text, func(r rune) bool { return unicode.IsLetter(r) || r == '%' })
		unit := strings.ToLower(text[len(digits):])
		factor, ok := units[unit]
		if unit == "" {
			factor, ok = 1, true
		}
		n, err := strconv.ParseFloat(strings.TrimSpace(digits), 64)
		if err != nil || !ok {
			names := slices.Sorted(maps.Keys(units))
			return fmt.Errorf("not a number, or a number with one of the units %s", strings.Join(names, ", "))
		}
		*dst = n * factor
		return nil
	}
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
