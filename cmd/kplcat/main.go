// Command kplcat prints the log records of a Kinesis data stream as lines. The
// records of the stream may be aggregated, compressed, and batches of log records.
//
//	kplcat STREAM | jq .
//	kplcat STREAM --from 15m --json
//	kplcat STREAM --stats
//
// kplcat --help lists all flags and the exit codes.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/internal/escape"
)

// Exit codes, documented in the usage. A shell reports 130 for a command that
// SIGINT has ended.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// outBytes is the size of the buffer for standard output, a few hundred log lines.
const outBytes = 64 << 10

func main() {
	// When the reader of standard output, such as head, ends, the write returns
	// an error, and the run ends without a message.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal has its default effect. It ends a run that the first signal
	// cannot end, for example during a blocked write.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, time.Now(), stdout)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "kplcat: %s\nkplcat --help lists the flags.\n", escape.Line(err.Error()))
		return exitUsage
	}
	client, err := connect(ctx, o)
	if err == nil {
		err = cat(ctx, o, client, stdout, stderr)
	}
	switch {
	case errors.Is(err, syscall.EPIPE):
		return exitOK
	case ctx.Err() != nil:
		return exitInterrupted
	case err != nil:
		fmt.Fprintf(stderr, "kplcat: %s\n", escape.Line(strings.TrimPrefix(err.Error(), "consumer: ")))
		return exitFailed
	}
	return exitOK
}

// cat reads the stream and prints its log records or statistics.
func cat(ctx context.Context, o options, client consumer.API, stdout, stderr io.Writer) error {
	w := bufio.NewWriterSize(stdout, outBytes)
	p := &progress{w: stderr}
	unpack := unpacker{format: o.decompress, noSplit: o.noSplit, warn: p.Warn}
	var out output = &printer{w: w, options: o, escape: isTerminal(stdout) && !o.raw, warn: p.Warn, unpack: unpack}
	if o.stats {
		out = &statistics{w: w, warn: p.Warn, unpack: unpack}
	}
	r := &consumer.Reader{
		API: client, Stream: o.stream, From: o.from, To: o.to, Shards: o.shards, Follow: o.follow,
		Monitor: p,
		Handle: func(s *consumer.Shard, records []consumer.Record) error {
			logs, err := out.print(s, records)
			p.read(records, logs)
			return err
		},
	}
	if isTerminal(stderr) && (o.stats || !isTerminal(stdout)) {
		defer p.show()()
	}
	err := r.Read(ctx)
	p.clear()
	if err == nil && ctx.Err() == nil && p.records == 0 {
		p.Warn("no records in %s%s", o.stream, o.where())
	}
	if err != nil && ctx.Err() == nil && p.records == 0 {
		return err
	}
	// After an error, the records that were read before it are printed too.
	if last := out.end(); err == nil || ctx.Err() != nil {
		err = errors.Join(last, err)
	}
	return err
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}
