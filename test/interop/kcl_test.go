package interop

import (
	"bufio"
	"context"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

const (
	linesPerChunk = 250
	chunksPerShip = 8
	kclDeadline   = 5 * time.Minute
)

// TestKCL_ReadsPluginOutput: KCL's scheduler, with leases in a
// local DynamoDB, delivers every line of a log once and in order, before
// and after a shard is split.
func TestKCL_ReadsPluginOutput(t *testing.T) { kclReads(t, nil) }

// TestKCL_ReadsBatches is the same with batches: several in each aggregated record, and
// between them records without the envelope.
func TestKCL_ReadsBatches(t *testing.T) {
	kclReads(t, []string{"batch_size=20K", "compression=zstd"}, []string{"record_format=ndjson", "compression=zstd"})
}

// kclReads sends chunks with several lists of options, which take turns.
func kclReads(t *testing.T, options ...[]string) {
	tools(t)
	ctx, cancel := context.WithTimeout(t.Context(), kclDeadline)
	defer cancel()
	plugin, host := pluginAndHost(t)
	dir := t.TempDir()
	k, err := harness.StartKinesis(ctx, filepath.Join("..", "kit", "readers"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	const stream = "application"
	if err := k.CreateStream(ctx, stream, 2); err != nil {
		t.Fatal(err)
	}
	corpus := chunktest.AccessLog(seed, 2*chunksPerShip*linesPerChunk)
	ship := func(first int) {
		for turn := range options {
			args := []string{"--expect-ok", plugin, "--instance", "stream=" + stream, "region=" + harness.Region, "endpoint=" + k.Endpoint,
				"aws_key_id=" + harness.AccessKeyID, "aws_sec_key=" + harness.SecretAccessKey}
			args = append(args, options[turn]...)
			for n := first + turn; n < first+chunksPerShip; n += len(options) {
				from := 0
				if n > 0 {
					from = corpus.Ends[n*linesPerChunk-1]
				}
				file := filepath.Join(dir, strconv.Itoa(n))
				if err := os.WriteFile(file, corpus.Bytes[from:corpus.Ends[(n+1)*linesPerChunk-1]], 0o644); err != nil {
					t.Fatal(err)
				}
				args = append(args, "--chunk", "app="+file)
			}
			if run, err := harness.RunHost(ctx, host, nil, args...); err != nil || run.ExitCode != 0 {
				t.Fatalf("the plugin: %v\n%s", err, run.Stderr)
			}
		}
	}
	ship(0)

	lines := startKCL(ctx, t, stream, k.Endpoint, startDynamo(ctx, t))
	number := map[string]int{}
	for i, text := range corpus.JSON {
		number[text] = i
	}
	seen := map[int]bool{}
	last := map[string]int{} // of a Kinesis record
	plain := map[bool]bool{} // the kinds of records that arrived
	var decoder decompress.Decoder
	read := func(until int) {
		for len(seen) < until {
			var line string
			select {
			case line = <-lines: // "" where KCL has ended
			case <-ctx.Done():
				t.Fatalf("%d of %d lines arrived within %s", len(seen), until, kclDeadline)
			}
			words := strings.Fields(line) // shard, sequence, sub-sequence, data
			if len(words) != 4 {
				t.Fatalf("KCL printed %q and has delivered %d of %d lines", line, len(seen), until)
			}
			data, err := base64.StdEncoding.DecodeString(words[3])
			if err == nil {
				data, err = decoder.Append(nil, data, decompress.Detect(data))
			}
			// Consume prints -1 for a record without the envelope.
			if sub := strconv.Itoa(last[words[1]]); err != nil || words[2] != sub && words[2] != "-1" {
				t.Fatalf("user record %s of its record, want %s: %v", words[2], sub, err)
			}
			plain[words[2] == "-1"] = true
			for text := range decompress.Lines(data) {
				n, known := number[string(text)]
				switch {
				case !known:
					t.Fatalf("a line that was not sent: %s", text)
				case seen[n]:
					t.Fatalf("line %d arrived twice", n)
				}
				seen[n] = true
			}
			last[words[1]]++
		}
	}
	read(chunksPerShip * linesPerChunk)
	_, err = k.Client.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: aws.String(stream),
		ShardToSplit: aws.String("shardId-000000000000"), NewStartingHashKey: aws.String("85070591730234615865843651857942052864")})
	if err != nil {
		t.Fatal(err)
	}
	ship(chunksPerShip)
	read(len(corpus.JSON))
	if len(plain) != len(options) {
		t.Errorf("records without the envelope: %v, want %d kinds", plain, len(options))
	}
}

// startDynamo starts moto's DynamoDB and returns its URL.
func startDynamo(ctx context.Context, t *testing.T) string {
	t.Helper()
	lines := start(ctx, t, exec.Command(filepath.Join(os.Getenv(toolsVariable), "venv", "bin", "python"), "-c", `
import os, sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
os._exit(0)`))
	select {
	case port := <-lines:
		return "http://127.0.0.1:" + port
	case <-ctx.Done():
		t.Fatal("moto does not start")
		return ""
	}
}

// startKCL starts the application and returns what it prints.
func startKCL(ctx context.Context, t *testing.T, stream, kinesisURL, dynamoURL string) <-chan string {
	t.Helper()
	cmd := consume(stream, kinesisURL, dynamoURL)
	cmd.Env = append(harness.Environ(), "AWS_REGION="+harness.Region,
		"AWS_ACCESS_KEY_ID="+harness.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+harness.SecretAccessKey)
	return start(ctx, t, cmd)
}

// start starts a command that ends when its standard input does, however this
// process ends, and returns the lines that it prints.
func start(ctx context.Context, t *testing.T, cmd *exec.Cmd) <-chan string {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	return lines
}
