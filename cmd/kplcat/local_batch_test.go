package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

func TestLocal_Batches(t *testing.T) {
	k, kplcat := setUp(t)
	const stream = "batches"
	if err := k.CreateStream(t.Context(), stream, 1); err != nil {
		t.Fatal(err)
	}
	c := chunktest.Kubernetes(1, 300)
	records := aggregates(t, aggregator.Transform{BatchBytes: 10_000, Compression: compression.Zstd}, c.Bytes)
	for _, data := range records {
		_, err := k.Client.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String(stream), PartitionKey: aws.String("k"), Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
	}
	for n, want := range map[int][]string{0: c.JSON, 7: c.JSON[:7]} {
		args := []string{stream}
		if n > 0 {
			args = append(args, "--limit", fmt.Sprint(n))
		}
		out, err := kplcat(t.Context(), args...).Output()
		result{out: string(out), err: err}.lines(t, want...)
	}
	stats, err := kplcat(t.Context(), stream, "--stats").Output()
	if want := fmt.Sprintf("    0 %6d      0      0 ", len(records)); err != nil || !strings.Contains(string(stats), want) || !strings.Contains(string(stats), " 300 ") {
		t.Errorf("%v\n%s", err, stats)
	}
	t.Logf("\n%s", stats)
}

// TestLocal_DocumentedCommands runs each command line of reading.md as it stands there, on
// a stream that the names and numbers in it fit to.
func TestLocal_DocumentedCommands(t *testing.T) {
	k, kplcat := setUp(t)
	page, err := os.ReadFile("../../docs/reading.md")
	if err != nil {
		t.Fatal(err)
	}
	if err := k.CreateStream(t.Context(), "logs", 3); err != nil {
		t.Fatal(err)
	}
	c := chunktest.Kubernetes(1, 300)
	for i, data := range aggregates(t, aggregator.Transform{BatchBytes: 10_000, Compression: compression.Zstd}, c.Bytes) {
		_, err := k.Client.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: aws.String("logs"), PartitionKey: aws.String(fmt.Sprint("key-", i)), Data: []byte(data)})
		if err != nil {
			t.Fatal(err)
		}
	}
	environ := append(kplcat(t.Context()).Env, "PATH="+filepath.Dir(kplcat(t.Context()).Path)+":"+os.Getenv("PATH"),
		"AWS_ENDPOINT_URL="+k.Endpoint, "AWS_REGION="+harness.Region)
	_, noJQ := exec.LookPath("jq")
	lines := regexp.MustCompile(`(?m)^\$ (kplcat .*)$`).FindAllStringSubmatch(string(page), -1)
	if len(lines) < 7 {
		t.Fatalf("reading.md has only %d command lines", len(lines))
	}
	for _, line := range lines {
		command, _, _ := strings.Cut(line[1], "  #")
		t.Run(strings.TrimSpace(command), func(t *testing.T) {
			if before, _, pipe := strings.Cut(command, " | "); pipe && noJQ != nil {
				t.Log("without jq, which is not installed")
				command = before
			}
			cmd := exec.CommandContext(t.Context(), "sh", "-c", "exec "+command)
			cmd.Env = environ
			var log strings.Builder
			cmd.Stderr = &log
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			n := 0
			for out := bufio.NewScanner(stdout); out.Scan(); {
				if n++; n == len(c.JSON) && strings.Contains(command, "--follow") {
					_ = cmd.Process.Signal(os.Interrupt)
				}
			}
			want := 0
			if strings.Contains(command, "--follow") {
				want = exitInterrupted
			}
			if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != want {
				t.Errorf("%v, want code %d\n%s", cmd.ProcessState, want, log.String())
			}
			least, most := len(c.JSON), len(c.JSON)
			switch {
			case strings.Contains(command, "--stats"):
				least, most = 2+3, 2+3+1 // with the row of all shards
			case strings.Contains(command, "--to"):
				least, most = 0, 0 // of the past
			case strings.Contains(command, "--shard"):
				least, most = 1, most-1
			}
			if n < least || n > most {
				t.Errorf("%d lines, want %d to %d\n%s", n, least, most, log.String())
			}
		})
	}
}
