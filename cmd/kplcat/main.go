// Command kplcat prints the user records of a Kinesis data stream, whose
// records may be aggregated, as lines.
//
//	kplcat STREAM | jq .
//	kplcat STREAM --from 15m --json
//	kplcat STREAM --stats
//
// kplcat --help lists what else there is.
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
	"syscall"
	"time"
)

// Exit codes. A run that Ctrl-C ends has 130, as a shell says of one that
// SIGINT killed.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

// outBytes is the buffer before standard output: a few hundred lines of a log.
const outBytes = 64 << 10

func main() {
	// A reader of ours that goes away, such as head, is an error of the write
	// then, and no signal: the end of a run, and not of one with a trace.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// A second signal finds no handler, and ends what the first one could not,
	// such as a write that nobody reads.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, time.Now(), stderr)
	if errors.Is(err, flag.ErrHelp) {
		return exitOK
	}
	if err != nil {
		fmt.Fprintf(stderr, "kplcat: %v\nkplcat --help lists the flags.\n", err)
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
		fmt.Fprintf(stderr, "kplcat: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// cat reads the stream and prints what is asked for.
func cat(ctx context.Context, o options, client api, stdout, stderr io.Writer) error {
	w := bufio.NewWriterSize(stdout, outBytes)
	p := &progress{w: stderr}
	var out output = &printer{w: w, options: o, warn: p.warn}
	if o.stats {
		out = &statistics{w: w, warn: p.warn, now: time.Now}
	}
	r := &reader{
		api: client, stream: o.stream, from: o.from, only: o.shard, follow: o.follow,
		progress: p,
		take: func(s *shard, records []record) error {
			users, err := out.take(s, records)
			p.took(records, users)
			return err
		},
	}
	if isTerminal(stderr) && (o.stats || !isTerminal(stdout)) {
		defer p.show()()
	}
	err := r.run(ctx)
	p.clear()
	// What was read is printed also where the reading failed.
	if last := out.end(); err == nil || ctx.Err() != nil {
		err = errors.Join(last, err)
	}
	return err
}

// isTerminal tells whether somebody looks at it.
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
