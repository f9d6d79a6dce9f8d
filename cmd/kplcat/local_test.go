package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/consumertest"
	"out_kinesis_agg/test/kit/harness"
)

// recordsVariable sets how many user records TestLocal_EachRecordOnce
// sends.
const recordsVariable = "KPLCAT_TEST_RECORDS"

const (
	localRecords = 20_000
	perAggregate = 1000 // of one key
	keys         = 8
)

// started is shared by the tests.
type started struct {
	kinesis *harness.Kinesis
	binary  string
}

// startLocal starts kinesis-local and builds the command, once.
var startLocal = sync.OnceValues(func() (started, error) {
	root, err := harness.ModuleRoot()
	if err != nil {
		return started{}, err
	}
	readers, err := harness.ReadersDir(root)
	if err != nil {
		return started{}, errors.Join(errNotInstalled, err)
	}
	s := started{binary: filepath.Join(scratch, "kplcat")}
	if out, err := exec.Command("go", "build", "-o", s.binary, ".").CombinedOutput(); err != nil {
		return started{}, fmt.Errorf("%w\n%s", err, out)
	}
	s.kinesis, err = harness.StartKinesis(context.Background(), readers)
	return s, err
})

var (
	scratch         string // a directory for all tests
	errNotInstalled = errors.New("kinesis-local is not installed")
)

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "kplcat-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(scratch)
	os.Exit(code) // kinesis-local ends with this process
}

// setUp returns a local Kinesis and a function that creates a kplcat command for it.
// It skips the test if kinesis-local is not installed.
func setUp(t *testing.T) (*harness.Kinesis, func(ctx context.Context, args ...string) *exec.Cmd) {
	t.Helper()
	if testing.Short() {
		t.Skip("this test starts a server: run it without -short")
	}
	s, err := startLocal()
	if errors.Is(err, errNotInstalled) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.kinesis, func(ctx context.Context, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, s.binary, append(args, "--endpoint", s.kinesis.Endpoint, "--region", harness.Region)...)
		cmd.Env = append(harness.Environ(), "AWS_ACCESS_KEY_ID="+harness.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+harness.SecretAccessKey)
		return cmd
	}
}

// checker checks lines of the form KEY NUMBER. The numbers of a key must be
// consecutive from 0.
type checker struct {
	next  map[string]int
	lines int
}

func (c *checker) check(line string) error {
	key, number, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("line %q was not sent", line)
	}
	if c.next == nil {
		c.next = map[string]int{}
	}
	if n != c.next[key] {
		return fmt.Errorf("%s: want number %d", line, c.next[key])
	}
	c.next[key]++
	c.lines++
	return nil
}

// put sends one aggregated record for each key, with the user records from to to-1.
func put(ctx context.Context, k *harness.Kinesis, stream string, from, to int) error {
	for key := range keys {
		name := fmt.Sprint("key-", key)
		var texts []string
		for n := from; n < to; n++ {
			texts = append(texts, fmt.Sprint(name, " ", n))
		}
		_, err := k.Client.PutRecord(ctx, &kinesis.PutRecordInput{
			StreamName: &stream, PartitionKey: &name, Data: []byte(consumertest.Aggregate(name, texts...)),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reshard splits the first open shard, or merges the first two,
// and returns when the stream can be written again.
func reshard(ctx context.Context, k *harness.Kinesis, stream string, split bool) error {
	out, err := k.Client.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		return err
	}
	var open []types.Shard
	for _, s := range out.Shards {
		if s.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, s)
		}
	}
	start := func(s types.Shard) kpl.HashKey {
		at, _ := kpl.ParseHashKey(aws.ToString(s.HashKeyRange.StartingHashKey))
		return at
	}
	slices.SortFunc(open, func(a, b types.Shard) int { return start(a).Compare(start(b)) })
	if split {
		_, err = k.Client.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: open[0].ShardId,
			NewStartingHashKey: aws.String("85070591730234615865843651857942052864")}) // a quarter of the range
	} else {
		_, err = k.Client.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: &stream,
			ShardToMerge: open[0].ShardId, AdjacentShardToMerge: open[1].ShardId})
	}
	if err != nil {
		return err
	}
	return harness.Until(ctx, func() (bool, error) {
		d, err := k.Client.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &stream})
		return err == nil && d.StreamDescriptionSummary.StreamStatus == types.StreamStatusActive, err
	})
}

// One kplcat follows the stream while shards are split and merged, and another
// one reads the stream afterwards. Each prints every record once, and the records
// of a key, which are in one shard at a time, in order.
func TestLocal_EachRecordOnce(t *testing.T) {
	k, kplcat := setUp(t)
	total := localRecords
	if text := os.Getenv(recordsVariable); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", recordsVariable, err)
		}
		total = n
	}
	perKey := total / keys
	total = perKey * keys
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	const stream = "reshard"
	if err := k.CreateStream(ctx, stream, 2); err != nil {
		t.Fatal(err)
	}

	follow := kplcat(ctx, stream, "--follow")
	pipe, stderr := startPiped(t, follow)
	sent := make(chan error, 1)
	go func() {
		err := func() error {
			for from := 0; from < perKey; from += perAggregate {
				to := min(from+perAggregate, perKey)
				if err := put(ctx, k, stream, from, to); err != nil {
					return err
				}
				if third := perKey / 3; from <= third && third < to {
					if err := reshard(ctx, k, stream, true); err != nil {
						return fmt.Errorf("split: %w", err)
					}
				}
				if half := perKey / 2; from <= half && half < to {
					if err := reshard(ctx, k, stream, false); err != nil {
						return fmt.Errorf("merge: %w", err)
					}
				}
			}
			return nil
		}()
		if err != nil {
			cancel() // no more records are sent
		}
		sent <- err
	}()
	var c checker
	for lines := bufio.NewScanner(pipe); c.lines < total && lines.Scan(); {
		if err := c.check(lines.Text()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if c.lines != total {
		t.Fatalf("--follow: %d lines of %d\n%s", c.lines, total, stderr.String())
	}
	if err := follow.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	more, _ := io.ReadAll(pipe)
	err := follow.Wait()
	if follow.ProcessState.ExitCode() != exitInterrupted || len(more) > 0 || stderr.Len() > 0 {
		t.Errorf("interrupted: %v, printed %q %q", err, more, stderr.String())
	}

	out, err := kplcat(ctx, stream).Output()
	if err != nil {
		t.Fatal(err)
	}
	c = checker{}
	for line := range strings.Lines(string(out)) {
		if err := c.check(strings.TrimSuffix(line, "\n")); err != nil {
			t.Fatal(err)
		}
	}
	if c.lines != total {
		t.Errorf("afterwards: %d lines of %d", c.lines, total)
	}
	stats, err := kplcat(ctx, stream, "--stats", "--from", "1h").Output()
	if err != nil || !strings.Contains(string(stats), fmt.Sprint(" ", total, " ")) || strings.Count(string(stats), "\n") < 2+4+1 {
		t.Errorf("%v\n%s", err, stats)
	}
	t.Logf("%d records\n%s", total, stats)
}

// When the reader of its output ends, kplcat ends without a message.
func TestLocal_Head(t *testing.T) {
	k, kplcat := setUp(t)
	if err := k.CreateStream(t.Context(), "head", 1); err != nil {
		t.Fatal(err)
	}
	if err := put(t.Context(), k, "head", 0, 20_000); err != nil {
		t.Fatal(err)
	}
	cmd := kplcat(t.Context(), "head", "--follow")
	pipe, stderr := startPiped(t, cmd)
	line, err := bufio.NewReaderSize(pipe, 16).ReadString('\n')
	if err != nil || line != "key-0 0\n" {
		t.Errorf("%q, %v", line, err)
	}
	_ = pipe.Close()
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("%v %s", err, stderr.String())
	}
}

func TestLocal_NoSuchStream(t *testing.T) {
	_, kplcat := setUp(t)
	cmd := kplcat(t.Context(), "nowhere", "--stats") // without an empty table
	out, err := cmd.CombinedOutput()
	if err == nil || cmd.ProcessState.ExitCode() != exitFailed ||
		!strings.HasPrefix(string(out), "kplcat: list the shards: ResourceNotFoundException: ") || !strings.Contains(string(out), "nowhere") {
		t.Errorf("%v %s", err, out)
	}
}

// startPiped starts a command. stderr can be read after its end.
func startPiped(t *testing.T, cmd *exec.Cmd) (stdout io.ReadCloser, stderr *bytes.Buffer) {
	t.Helper()
	stderr = new(bytes.Buffer)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	return stdout, stderr
}
