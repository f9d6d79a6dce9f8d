package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"out_kinesis_agg/internal/arn"
	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/internal/version"
	"out_kinesis_agg/kpl/compression"
)

const usage = `kplcat prints the log records of a Kinesis data stream as lines.

Usage: kplcat [flags] STREAM

STREAM is a name or an ARN. Aggregated records are de-aggregated, user records
are decompressed, and batches are split into log records. A record without the
envelope of the KPL is one user record. A user record is a batch if it is UTF-8
and ends with a newline, unless it is one JSON value in several lines.
Without --follow the command ends at the end of the stream.
Records are in order within a shard, and from a shard to the shards that it is
split or merged into. Records of different shards are interleaved.

What to read:
  --from WHEN        start (default), now (implies --follow), a time such as
                     2026-01-31T12:00:00Z, or a duration before now, such as 15m
  --to WHEN          only records that arrived before this time: now, a time or
                     a duration, as above
  --limit N, -n N    only the first N log records
  --shard ID,...     only these shards: shardId-000000000002, or 2
  --follow, -f       wait for more records, until --to, --limit or Ctrl-C

What to print:
  --json             one JSON object per line: shard, sequence, sub_sequence (of
                     the user record), line (in a batch, from 0), arrival, key,
                     and data, or base64 if the data are not UTF-8
  --raw              neither de-aggregate nor decompress nor split: the bytes of
                     each record, and a newline unless it ends with one; --limit
                     then counts Kinesis records. Without it, control characters
                     in records are escaped if standard output is a terminal
  --stats            a table of the shards instead of the records: aggregated
                     and plain Kinesis records, user records, log records,
                     their bytes in the stream and decompressed (unpacked), and
                     the log records and the size of an aggregated record or of
                     a batch without the KPL's envelope
  --decompress HOW   auto (default) detects the format of each user record,
                     except for snappy; or the value of the option compression
  --no-split         do not split batches: for streams with strings of the
                     option log_key, which may contain newlines

AWS:
  --region NAME      default: the region of the ARN, AWS_REGION, or the profile
  --profile NAME     profile of the shared AWS configuration
  --role-arn ARN     role to assume
  --endpoint URL     for VPC endpoints and local servers, such as
                     http://localhost:4567

Other:
  --version          print the version
  --help             print this text

Permissions: kinesis:ListShards, kinesis:GetShardIterator, kinesis:GetRecords.

Exit codes:
  0    success, or the reader of standard output has ended
  1    an error, or damaged records: an aggregated record or a compressed user
       record that is damaged is skipped
  2    invalid flags
  130  interrupted by Ctrl-C or SIGTERM
`

// auto is the --decompress that detects the format of each record.
const auto compression.Format = "auto"

type options struct {
	stream     string // name or ARN
	from       consumer.Position
	to         time.Time // zero: no end
	limit      int       // log records, or Kinesis records with raw; 0: no limit
	shards     []string  // IDs; empty: all shards
	follow     bool
	json       bool
	raw        bool
	stats      bool
	decompress compression.Format // or auto
	noSplit    bool

	region, profile, roleARN, endpoint string
}

// parse reads the command line. If it contains --help or --version, parse prints
// the usage or the version to help and returns flag.ErrHelp.
func parse(args []string, now time.Time, help io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("kplcat", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	from := flags.String("from", "start", "")
	to := flags.String("to", "", "")
	limit := flags.String("limit", "", "")
	flags.StringVar(limit, "n", "", "")
	flags.Func("shard", "", o.addShards)
	flags.BoolVar(&o.follow, "follow", false, "")
	flags.BoolVar(&o.follow, "f", false, "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.BoolVar(&o.raw, "raw", false, "")
	flags.BoolVar(&o.stats, "stats", false, "")
	flags.StringVar((*string)(&o.decompress), "decompress", string(auto), "")
	flags.BoolVar(&o.noSplit, "no-split", false, "")
	flags.StringVar(&o.region, "region", "", "")
	flags.StringVar(&o.profile, "profile", "", "")
	flags.StringVar(&o.roleARN, "role-arn", "", "")
	flags.StringVar(&o.endpoint, "endpoint", "", "")
	showVersion := flags.Bool("version", false, "")

	// Package flag stops at the first word that is not a flag. Flags after the
	// stream are accepted too.
	if len(args) == 1 && (args[0] == "help" || args[0] == "version") {
		args = []string{"--" + args[0]}
	}
	var words []string
	for rest := args; ; {
		if err := flags.Parse(rest); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				fmt.Fprint(help, usage)
			}
			return o, err
		}
		if flags.NArg() == 0 {
			break
		}
		words, rest = append(words, flags.Arg(0)), flags.Args()[1:]
	}
	switch {
	case *showVersion:
		fmt.Fprintln(help, "kplcat", version.String())
		return o, flag.ErrHelp
	case len(words) != 1:
		return o, fmt.Errorf("want one stream, not %d: %q", len(words), words)
	case words[0] == "":
		return o, errors.New("the name of the stream is empty")
	case arn.Is(words[0]) && !strings.Contains(words[0], ":stream/"):
		if strings.Contains(words[0], ":firehose:") {
			return o, fmt.Errorf("%s is a delivery stream of Firehose, which cannot be read: give the data stream that is its source", words[0])
		}
		return o, fmt.Errorf("%s is not the ARN of a data stream, such as arn:aws:kinesis:eu-central-1:123456789012:stream/logs", words[0])
	case o.stats && (o.json || o.raw || *limit != ""):
		return o, errors.New("--stats prints no records: leave out --json, --raw and --limit")
	case o.decompress != auto && !slices.Contains(compression.Formats(), o.decompress):
		return o, fmt.Errorf("--decompress %q: want auto or one of %v", o.decompress, compression.Formats())
	}
	o.stream = words[0]
	if err := checkEndpoint(o.endpoint); err != nil {
		return o, err
	}
	if region := arn.Region(o.stream); o.region == "" {
		o.region = region
	} else if region != "" && region != o.region {
		return o, fmt.Errorf("--region %s: the stream's ARN has the region %s", o.region, region)
	}
	if *limit != "" {
		n, err := strconv.Atoi(*limit)
		if err != nil || n < 1 {
			return o, fmt.Errorf("--limit %s: want a number of records, at least 1", *limit)
		}
		o.limit = n
	}
	return o, o.parseRange(*from, *to, now)
}

// parseRange parses --from and --to.
func (o *options) parseRange(from, to string, now time.Time) error {
	switch from {
	case "start":
	case "now":
		o.from.Latest = true
		// Without follow, this range would always be empty.
		o.follow = true
	default:
		at, ok := parseTime(from, now)
		switch {
		case !ok:
			return fmt.Errorf("--from %s: want start, now, %s", from, timeForms)
		case at.After(now):
			return fmt.Errorf("--from %s: the time is in the future", from)
		}
		o.from.At = at
	}
	if to == "" {
		return nil
	}
	var ok bool
	if o.to, ok = parseTime(to, now); to == "now" {
		o.to = now
	} else if !ok {
		return fmt.Errorf("--to %s: want now, %s", to, timeForms)
	}
	if start := o.from.At; o.from.Latest && !o.to.After(now) || !start.IsZero() && !o.to.After(start) {
		return fmt.Errorf("--to %s is not after --from %s", to, from)
	}
	return nil
}

// addShards adds the shards of one --shard. A number means the shard ID that
// Kinesis makes of it.
func (o *options) addShards(list string) error {
	for id := range strings.SplitSeq(list, ",") {
		if id == "" {
			return errors.New("want a shard ID such as shardId-000000000002, or its number")
		}
		if n, err := strconv.ParseUint(id, 10, 32); err == nil {
			id = fmt.Sprintf(shardFormat, n)
		}
		if !slices.Contains(o.shards, id) {
			o.shards = append(o.shards, id)
		}
	}
	return nil
}

// shardFormat is the format of the shard IDs that Kinesis makes.
const shardFormat = "shardId-%012d"

// where describes the part of the stream that the flags select.
func (o *options) where() string {
	var text string
	if !o.from.At.IsZero() {
		text += " from " + o.from.At.Format(time.RFC3339)
	}
	if !o.to.IsZero() {
		text += " to " + o.to.Format(time.RFC3339)
	}
	if len(o.shards) > 0 {
		text += " (only " + strings.Join(o.shards, ", ") + ")"
	}
	return text
}

func checkEndpoint(endpoint string) error {
	if endpoint == "" {
		return nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case !strings.Contains(endpoint, "://"):
		return fmt.Errorf("--endpoint %s: the scheme is missing: write http://%[1]s or https://%[1]s", endpoint)
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("--endpoint %s: want a URL such as http://localhost:4567", endpoint)
	}
	return nil
}

// timeLayouts are the formats of a time. A time without a zone is a local time.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly}

const timeForms = "a time such as 2026-01-31T12:00:00Z, or a duration before now, such as 15m"

// parseTime parses a time, or a duration before now.
func parseTime(text string, now time.Time) (at time.Time, ok bool) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), true
	}
	for _, layout := range timeLayouts {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, true
		}
	}
	return time.Time{}, false
}
