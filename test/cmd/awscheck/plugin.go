package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

const tag = "check.access"

// linesPerChunk make a chunk of the size that the engine flushes, about 2 MB.
const linesPerChunk = 6000

// chunkLines is linesPerChunk, or fewer for an emulator, which is slow.
func (a *account) chunkLines() int {
	if a.local() {
		return linesPerChunk / 10
	}
	return linesPerChunk
}

// code is the error code of a response, or an empty string.
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// shipment is one run of the built library.
type shipment struct {
	stream  string
	region  string   // the account's, unless it is set
	options []string // KEY=VALUE
	env     []string
	chunk   chunktest.Corpus
	repeat  int
	threads int
	retries int
	onEvent func(harness.Event) bool
	// plain are records without the KPL envelope.
	plain bool
	// anonymous leaves the credentials to options and env.
	anonymous bool
}

// ship flushes the chunk with the ABI host. The result has the plugin's log.
func (a *account) ship(ctx context.Context, s shipment) (harness.HostRun, error) {
	file := filepath.Join(a.dir, "chunk")
	if err := os.WriteFile(file, s.chunk.Bytes, 0o600); err != nil {
		return harness.HostRun{}, err
	}
	env := s.env
	if !s.anonymous {
		c, err := a.config.Credentials.Retrieve(ctx)
		if err != nil {
			return harness.HostRun{}, err
		}
		// In the environment, where other users of the machine do not see them.
		env = append(environ(c), env...)
	}
	args := []string{"--threads", strconv.Itoa(max(s.threads, 1)), "--repeat", strconv.Itoa(max(s.repeat, 1)),
		"--retry", strconv.Itoa(s.retries), "--retry-wait", "1000",
		a.plugin, "--instance", "stream=" + s.stream, "region=" + cmp.Or(s.region, a.region)}
	if a.local() {
		args = append(args, "endpoint="+a.endpoint, "sts_endpoint="+a.endpoint)
	}
	args = append(args, s.options...)
	args = append(args, "--chunk", tag+"="+file)
	return harness.Host{Path: a.host, Args: args, Env: env, OnEvent: s.onEvent}.Run(ctx)
}

func environ(c aws.Credentials) []string {
	env := []string{"AWS_ACCESS_KEY_ID=" + c.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey}
	if c.SessionToken != "" {
		env = append(env, "AWS_SESSION_TOKEN="+c.SessionToken)
	}
	return env
}

// logged is the last line of the plugin's log about a failure.
func logged(run harness.HostRun) string {
	var last string
	for line := range strings.Lines(run.Stderr) {
		if strings.Contains(line, "[error]") || strings.Contains(line, "[ warn]") {
			last = strings.TrimSpace(line)
		}
	}
	return last
}

// delivered ships a chunk, reads the stream as KCL would, and checks that every line
// arrived as often as the chunk was flushed.
func (a *account) delivered(ctx context.Context, kind string, s shipment) (string, error) {
	stream, _, err := a.stream(ctx, kind)
	if err != nil {
		return "", err
	}
	s.stream = stream
	// Lines that no other check sends.
	a.seed++
	s.chunk = chunktest.AccessLog(a.seed, a.chunkLines())
	// Kinesis has a clock of its own.
	since := time.Now().Add(-time.Minute)
	run, err := a.ship(ctx, s)
	if err != nil {
		return "", err
	}
	copies := max(s.repeat, 1)
	if end := run.End(); end.Int("ok") != copies {
		if a.local() && strings.Contains(logged(run), "the response is not one of AWS") {
			return "", errUnavailable // moto fails so when it gets CBOR.
		}
		return "", fmt.Errorf("%d of %d chunks are delivered: %s", end.Int("ok"), copies, logged(run))
	}
	got, err := a.read(ctx, stream, since, s.chunk)
	if err != nil {
		return "", err
	}
	if got.plain != s.plain {
		return "", fmt.Errorf("records without the KPL envelope: %t", got.plain)
	}
	return got.check(copies)
}

// received is what a consumer got of a chunk.
type received struct {
	records, bytes int
	plain          bool // without the KPL envelope
	lines          map[string]int
	dropped        int // user records that KCL drops, because their key is of another shard
}

// check compares it with what was sent: each line as often as its chunk.
func (g received) check(copies int) (string, error) {
	if g.dropped > 0 {
		return "", fmt.Errorf("KCL would drop %d user records: their partition keys belong to other shards", g.dropped)
	}
	lost, extra := 0, 0
	for _, n := range g.lines {
		lost += max(copies-n, 0)
		extra += max(n-copies, 0)
	}
	detail := fmt.Sprintf("%d lines in %d records of %d bytes, %d lost, %d repeated", len(g.lines)*copies, g.records, g.bytes, lost, extra)
	if lost > 0 || extra > 0 {
		return "", errors.New(detail)
	}
	return detail, nil
}

// read counts the lines of a chunk in the records that arrived since a time.
func (a *account) read(ctx context.Context, stream string, since time.Time, chunk chunktest.Corpus) (received, error) {
	got := received{lines: map[string]int{}}
	for _, line := range chunk.JSON {
		got.lines[line] = 0
	}
	var d decompress.Decoder
	r := consumer.Reader{API: a.kinesis, Stream: stream, From: consumer.Position{At: since}, Monitor: quiet{},
		Handle: func(shard *consumer.Shard, records []consumer.Record) error {
			for _, r := range records {
				if err := got.add(&d, shard, r); err != nil {
					return fmt.Errorf("record %s: %w", r.SequenceNumber, err)
				}
			}
			return nil
		}}
	return got, r.Read(ctx)
}

// add counts the lines of a record. Records of other chunks do not count.
func (g *received) add(d *decompress.Decoder, shard *consumer.Shard, r consumer.Record) error {
	if r.Damage != nil {
		return r.Damage
	}
	own := false
	for _, user := range r.UserRecords() {
		if r.Aggregate != nil && !shard.HashKeys.Contains(kpl.HashKeyOf(user.PartitionKey)) {
			g.dropped++
		}
		text := user.Data
		format := decompress.Detect(text)
		if format == compression.None && !bytes.HasPrefix(text, []byte("{")) && !bytes.HasPrefix(text, []byte("x")) {
			format = compression.Snappy // It cannot be detected.
		}
		var err error
		if text, err = d.Append(nil, text, format); err != nil {
			return err
		}
		for line := range decompress.Lines(text) {
			if _, known := g.lines[string(line)]; known {
				g.lines[string(line)]++
				own = true
			}
		}
	}
	if own {
		g.plain = r.Aggregate == nil
		g.records++
		g.bytes += len(r.Data)
	}
	return nil
}
