// Command awscheck proves the plugin's promises in a real AWS account: it creates
// streams, a KMS key and a role, sends records through the built library, reads them
// back, and removes everything that it created.
//
//	./run aws-check
//
// It first prints what it creates, what that costs and which permissions it needs,
// and asks. It prints one line for each promise (passed, failed or not available) and
// writes the same table as Markdown. It is a module of its own, because it needs
// clients of IAM and KMS that the plugin does not.
package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// prefix begins the name of everything that is created.
const prefix = "kinesis-agg-check-"

type flags struct {
	region, endpoint, plugin, host, report, only, cleanup string
	yes                                                   bool
	// keys are those of an emulator that checks them.
	keys aws.Credentials
}

func main() {
	var f flags
	flag.StringVar(&f.region, "region", "", "region to create the streams in (default: the profile's or AWS_REGION)")
	flag.StringVar(&f.endpoint, "endpoint", "", "base URL of an emulator of AWS, for the development of this command")
	flag.StringVar(&f.plugin, "plugin", "build/out_kinesis_agg.so", "the built plugin")
	flag.StringVar(&f.host, "abihost", "build/abihost", "the built ABI host")
	flag.StringVar(&f.report, "report", "build/aws-check.md", "file for the table, in Markdown")
	flag.StringVar(&f.only, "only", "", "run only the checks whose name matches this regular expression")
	flag.StringVar(&f.cleanup, "cleanup", "", "only remove what the run with this ID has left, if it was killed")
	flag.BoolVar(&f.yes, "yes", false, "do not ask before anything is created")
	flag.Parse()
	// From the second signal on, the removal goes on all the same.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// In `aws-check | tee FILE`, Ctrl-C ends tee too. Without this, the next line would
	// end the process before it has removed anything.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	failed, err := run(ctx, f, os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "aws-check:", err)
		os.Exit(1)
	}
	if failed > 0 {
		os.Exit(1)
	}
}

// run returns the number of checks that failed.
func run(ctx context.Context, f flags, in io.Reader, out io.Writer) (failed int, err error) {
	only, err := regexp.Compile(f.only)
	if err != nil {
		return 0, fmt.Errorf("-only: %w", err)
	}
	id := f.cleanup
	if id == "" {
		id = randomID()
	}
	a, err := openAccount(ctx, f, id, out)
	if err != nil {
		return 0, err
	}
	if f.cleanup != "" {
		a.expectEverything()
		return 0, a.removeAll(ctx)
	}
	for _, file := range []string{f.plugin, f.host} {
		if _, err := os.Stat(file); err != nil {
			return 0, fmt.Errorf("%w: run `make build`", err)
		}
	}
	fmt.Fprint(out, plan(a))
	if !f.yes && !confirmed(ctx, in, out) {
		return 0, errors.New("nothing was created")
	}
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	defer func() {
		// The signal that ended the checks does not end the removal.
		err = errors.Join(err, a.removeAll(context.WithoutCancel(ctx)))
	}()
	a.dir = dir
	if a.plugin, err = filepath.Abs(f.plugin); err != nil {
		return 0, err
	}
	if a.host, err = filepath.Abs(f.host); err != nil {
		return 0, err
	}
	report := newReport(a, out)
	for _, c := range checks {
		if ctx.Err() != nil {
			break
		}
		if only.MatchString(c.name) {
			report.run(ctx, a, c)
		}
	}
	if err := os.WriteFile(f.report, []byte(report.markdown()), 0o644); err != nil {
		return report.failed, err
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d not available; the table is in %s\n", report.passed, report.failed, report.unavailable, f.report)
	return report.failed, ctx.Err()
}

func randomID() string {
	b := make([]byte, 4)
	_, _ = rand.Read(b) // It never returns an error.
	return hex.EncodeToString(b)
}

// confirmed asks. A signal or the end of the input is a no.
func confirmed(ctx context.Context, in io.Reader, out io.Writer) bool {
	fmt.Fprint(out, "\nCreate them? Type yes: ")
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(in).ReadString('\n')
		line <- text
	}()
	select {
	case text := <-line:
		return strings.TrimSpace(text) == "yes"
	case <-ctx.Done():
		return false
	}
}

// plan says what the command does before it does it.
func plan(a *account) string {
	where := "account " + a.id + ", region " + a.region
	if a.local() {
		where = "emulator at " + a.endpoint
	}
	return fmt.Sprintf(`This command checks the plugin in a real AWS account: %s

It creates, uses and removes (all names begin with %s):
- 1 provisioned stream of 2 shards, which is split, merged and resized to 4 shards
- 1 provisioned stream of 1 shard, 1 stream encrypted with a KMS key, 2 on-demand streams
- 1 customer managed KMS key (removed after the shortest waiting time, 7 days, without cost)
- 1 IAM role that only this account can assume, with an external ID

It takes about 15 minutes. It sends about 150 MB. The cost is below $0.50 at list
prices of us-east-1: 10 shard hours and 2 on-demand stream hours at most ($0.23),
6,000 payload units and 0.2 GB of on-demand data ($0.03), one KMS key for less than
a day ($0.04).

If this process is killed, remove what is left with: ./run aws-check ARGS="-cleanup %s"

The credentials in use need these permissions:
%s`, where, prefix, a.run, policy(a))
}

// duration for a person.
func roundDuration(d time.Duration) string { return d.Round(100 * time.Millisecond).String() }
