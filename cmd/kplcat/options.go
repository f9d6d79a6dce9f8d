package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"out_kinesis_agg/kpl/decompress"
)

const usage = `kplcat prints the user records of a Kinesis data stream as lines.

Usage: kplcat [flags] STREAM

STREAM is a name or an ARN. Aggregated records are taken apart, plain ones are
printed as they are. Without --follow it ends where the stream ended when it
came there. Within a shard, and from a shard to those it was split or merged
into, records come in order.

Where to read:
  --from WHERE       start (default), now (implies --follow), a time such as
                     2026-01-31T12:00:00Z, or how long ago, such as 15m
  --shard ID         only this shard: shardId-000000000002, or 2
  --follow           go on when the end is reached, until Ctrl-C

What to print:
  --json             a JSON object a line: shard, sequence, sub_sequence, arrival,
                     key, and the record as data, or as base64 if it is no text
  --raw              do not take aggregated records apart, do not decompress
  --stats            instead of records, a table of the shards at the end
  --decompress HOW   auto (default) knows gzip, zlib and zstd by their first
                     bytes; none, gzip, zlib, zstd or snappy

AWS:
  --region NAME      default: the ARN's, AWS_REGION, or the profile's
  --profile NAME     of the shared configuration
  --role-arn ARN     a role to assume for reading
  --endpoint URL     of Kinesis, for VPC endpoints and look-alikes

It needs the permissions kinesis:ListShards, kinesis:GetShardIterator and
kinesis:GetRecords. Exit codes: 0 all read, or nobody reads any more; 1 an error
or damaged records, which are passed over; 2 wrong flags; 130 interrupted.
`

// auto is the --decompress that looks at each record.
const auto decompress.Format = "auto"

type options struct {
	stream     string // name or ARN
	from       position
	shard      string
	follow     bool
	json       bool
	raw        bool
	stats      bool
	decompress decompress.Format

	region, profile, roleARN, endpoint string
}

// position is where to begin in a shard.
type position struct {
	kind positionKind
	at   time.Time // of fromTime
}

type positionKind int

const (
	fromStart positionKind = iota
	fromNow
	fromTime
)

// parse reads the command line. It is flag.ErrHelp where help was asked for,
// and printed.
func parse(args []string, now time.Time, help io.Writer) (options, error) {
	var o options
	flags := flag.NewFlagSet("kplcat", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	from := flags.String("from", "start", "")
	flags.StringVar(&o.shard, "shard", "", "")
	flags.BoolVar(&o.follow, "follow", false, "")
	flags.BoolVar(&o.json, "json", false, "")
	flags.BoolVar(&o.raw, "raw", false, "")
	flags.BoolVar(&o.stats, "stats", false, "")
	flags.StringVar((*string)(&o.decompress), "decompress", string(auto), "")
	flags.StringVar(&o.region, "region", "", "")
	flags.StringVar(&o.profile, "profile", "", "")
	flags.StringVar(&o.roleARN, "role-arn", "", "")
	flags.StringVar(&o.endpoint, "endpoint", "", "")

	// Package flag stops at the first word that is no flag; people write them
	// behind the stream as well.
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
	case len(words) != 1:
		return o, fmt.Errorf("want one stream, not %d: %q", len(words), words)
	case o.stats && (o.json || o.raw):
		return o, errors.New("--stats prints no records: leave out --json and --raw")
	case o.decompress != auto && !slices.Contains(decompress.Formats(), o.decompress):
		return o, fmt.Errorf("--decompress %q: want auto or one of %v", o.decompress, decompress.Formats())
	}
	o.stream = words[0]
	if n, err := strconv.ParseUint(o.shard, 10, 32); err == nil {
		o.shard = fmt.Sprintf("shardId-%012d", n)
	}
	if region := arnRegion(o.stream); o.region == "" {
		o.region = region
	} else if region != "" && region != o.region {
		return o, fmt.Errorf("--region %s: the stream's ARN is of %s", o.region, region)
	}
	var err error
	if o.from, err = parsePosition(*from, now); err != nil {
		return o, fmt.Errorf("--from %s: %w", *from, err)
	}
	// From now until the end would be nothing.
	o.follow = o.follow || o.from.kind == fromNow
	return o, nil
}

// timeLayouts are what a time can look like. What has no zone is local.
var timeLayouts = []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly}

func parsePosition(text string, now time.Time) (position, error) {
	switch text {
	case "start":
		return position{kind: fromStart}, nil
	case "now":
		return position{kind: fromNow}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return position{fromTime, now.Add(-ago)}, nil
	}
	for _, layout := range timeLayouts {
		at, err := time.ParseInLocation(layout, text, now.Location())
		if err != nil {
			continue
		}
		if at.After(now) {
			return position{}, errors.New("it is in the future")
		}
		return position{fromTime, at}, nil
	}
	return position{}, errors.New("want start, now, a time such as 2026-01-31T12:00:00Z, or how long ago, such as 15m")
}

func isARN(stream string) bool { return strings.HasPrefix(stream, "arn:") }

// arnRegion is the region in arn:aws:kinesis:REGION:ACCOUNT:stream/NAME.
func arnRegion(stream string) string {
	if parts := strings.Split(stream, ":"); isARN(stream) && len(parts) > 3 {
		return parts[3]
	}
	return ""
}
