package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/google/uuid"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

// checks are all promises, in the order in which they run: those that change a stream
// come last.
var checks = []check{
	{"delivery: provisioned stream", deliver(provisioned)},
	{"delivery: on-demand stream", deliver(onDemand)},
	{"delivery: stream with a KMS key", deliver(encrypted)},
	{"wire_format json", deliver(provisioned, "wire_format=json")},
	{"wire_format cbor", deliver(provisioned, "wire_format=cbor")},
	{"batches, no compression", deliver(provisioned, "batch_size=256K")},
	{"batches, gzip", deliver(provisioned, "batch_size=256K", "compression=gzip")},
	{"batches, zlib", deliver(provisioned, "batch_size=256K", "compression=zlib")},
	{"batches, zstd", deliver(provisioned, "batch_size=256K", "compression=zstd")},
	{"batches, snappy", deliver(provisioned, "batch_size=256K", "compression=snappy")},
	{"record_format ndjson", plain()},
	{"record_format ndjson, zstd", plain("compression=zstd")},
	{"a record of 1 MiB is accepted", exactly(kpl.DefaultMaxRecordBytes)},
	{"a record of 1 MiB and 1 byte is refused", tooLarge(kpl.DefaultMaxRecordBytes)},
	{"max_record_size above the stream's: split, none lost", deliver(provisioned, "max_record_size=10M")},
	{"throttled on one shard: retried, none lost", throttled},
	{"wrong stream", refused(func(a *account, s *shipment) { s.stream += "-missing" }, "stream")},
	{"wrong region", refused(func(a *account, s *shipment) { s.region = otherRegion(a.region) }, "stream")},
	{"wrong access key", refused(func(_ *account, s *shipment) {
		s.anonymous, s.env = true, []string{"AWS_ACCESS_KEY_ID=" + harness.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + harness.SecretAccessKey}
	}, "credentials")},
	{"wrong secret key", wrongSecret},
	{"no permission kinesis:PutRecord", restricted(provisioned, "kinesis:PutRecord", "kinesis:PutRecord")},
	{"no permission kms:GenerateDataKey", restricted(encrypted, "kms:GenerateDataKey", "KMS")},
	{"credentials file with keys that are replaced", rotated},
	{"role_arn with external_id", assume(externalID)},
	{"role_arn with a wrong external_id", assume("wrong")},
	{"DryRun, and its limit of one call a second", dryRun},
	{"endpoint: FIPS", endpoint("AWS_USE_FIPS_ENDPOINT=true")},
	{"endpoint: dual-stack", endpoint("AWS_USE_DUALSTACK_ENDPOINT=true")},
	{"endpoint: account-based", endpoint("AWS_ACCOUNT_ID_ENDPOINT_MODE=required")},
	{"endpoint: set explicitly, as for a VPC endpoint", vpcEndpoint},
	{"seen: body with Content-Encoding gzip", raw(func(r *rawRequest) { r.gzip = true })},
	{"seen: unsigned payload", raw(func(r *rawRequest) { r.unsigned = true })},
	{"seen: clock 20 minutes fast", raw(func(r *rawRequest) { r.clock = 20 * time.Minute })},
	{"seen: clock 20 minutes slow", raw(func(r *rawRequest) { r.clock = -20 * time.Minute })},
	{"AUTO: on_auto_stream warn", auto("warn")},
	{"AUTO: on_auto_stream hold", auto("hold")},
	{"AUTO: on_auto_stream ndjson", auto("ndjson")},
	{"split while records are written", reshard(splitShard)},
	{"merge while records are written", reshard(mergeShards)},
	{"UpdateShardCount while records are written", reshard(resize)},
	{"10 MiB after UpdateMaxRecordSize", raised},
}

func deliver(kind string, options ...string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		return a.delivered(ctx, kind, shipment{options: options, retries: 20})
	}
}

// plain delivers records without the KPL envelope.
func plain(options ...string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		return a.delivered(ctx, provisioned, shipment{options: append(options, "record_format=ndjson"), retries: 20, plain: true})
	}
}

// put sends a record that has bytes in all, with its key.
func (a *account) put(ctx context.Context, stream string, size int) error {
	key := uuid.NewString()
	_, err := a.kinesis.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: &key,
		Data: bytes.Repeat([]byte{'x'}, size-len(key))})
	return err
}

func exactly(size int) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		// Not the stream whose lines are read back.
		stream, _, err := a.stream(ctx, narrow)
		if err != nil {
			return "", err
		}
		return "", a.put(ctx, stream, size)
	}
}

func tooLarge(size int) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		stream, _, err := a.stream(ctx, narrow)
		if err != nil {
			return "", err
		}
		return wanted(a, a.put(ctx, stream, size+1))
	}
}

// wanted returns the text of a refusal that has to come. An emulator that accepts
// the request shows nothing.
func wanted(a *account, err error) (string, error) {
	switch {
	case err == nil && a.local():
		return "", errUnavailable
	case err == nil:
		return "", errors.New("it is accepted")
	case code(err) == "":
		return "", err
	}
	return err.Error(), nil
}

// throttled sends 30 MB to one shard, which takes 1 MB a second.
func throttled(ctx context.Context, a *account) (string, error) {
	if a.local() {
		return "", errUnavailable // Emulators have no limits of throughput.
	}
	retries := 0
	detail, err := a.delivered(ctx, narrow, shipment{threads: 4, repeat: 15, retries: 200, onEvent: func(e harness.Event) bool {
		if e.Word == "flush" && e.Fields["ret"] == "RETRY" {
			retries++
		}
		return true
	}})
	if err == nil && retries == 0 {
		return "", errors.New("no request was throttled")
	}
	return fmt.Sprintf("%s, %d retries", detail, retries), err
}

func otherRegion(region string) string {
	if region == "us-west-2" {
		return "us-east-2"
	}
	return "us-west-2"
}

// refused ships one chunk with a mistake, and expects a retry and a log line that
// names the cause.
func refused(mistake func(*account, *shipment), word string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		stream, _, err := a.stream(ctx, provisioned)
		if err != nil {
			return "", err
		}
		s := shipment{stream: stream}
		mistake(a, &s)
		return a.refusal(ctx, s, word)
	}
}

func (a *account) refusal(ctx context.Context, s shipment, word string) (string, error) {
	s.chunk = chunktest.AccessLog(1, 10)
	run, err := a.ship(ctx, s)
	if err != nil {
		return "", err
	}
	line := logged(run)
	switch end := run.End(); {
	case end.Int("ok") > 0 && a.local():
		return "", errUnavailable
	case end.Int("ok") > 0:
		return "", errors.New("it is delivered")
	case end.Int("retry") == 0:
		return "", fmt.Errorf("the flush does not return RETRY: %s", line)
	case !strings.Contains(line, word):
		return "", fmt.Errorf("the log does not name %s: %s", word, line)
	}
	return line, nil
}

func wrongSecret(ctx context.Context, a *account) (string, error) {
	c, err := a.config.Credentials.Retrieve(ctx)
	if err != nil {
		return "", err
	}
	c.SecretAccessKey = strings.Repeat("x", 40)
	return refused(func(_ *account, s *shipment) { s.anonymous, s.env = true, environ(c) }, "signature")(ctx, a)
}

// restricted uses a session of the role that denies one action.
func restricted(kind, action, word string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		if _, err := a.role(ctx); err != nil {
			return "", err
		}
		stream, _, err := a.stream(ctx, kind)
		if err != nil {
			return "", err
		}
		c, err := a.session(ctx, fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"%s","Resource":"*"}]}`, action))
		if err != nil {
			return "", err
		}
		return a.refusal(ctx, shipment{stream: stream, anonymous: true, env: environ(c)}, word)
	}
}

// rotated starts with a credentials file of invalid keys and replaces it after the
// first refusal: the same process has to deliver with the new ones.
func rotated(ctx context.Context, a *account) (string, error) {
	c, err := a.config.Credentials.Retrieve(ctx)
	if err != nil {
		return "", err
	}
	file := filepath.Join(a.dir, "credentials")
	write := func(c aws.Credentials) error {
		return os.WriteFile(file, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\naws_session_token = %s\n",
			c.AccessKeyID, c.SecretAccessKey, c.SessionToken), 0o600)
	}
	if err := write(aws.Credentials{AccessKeyID: harness.AccessKeyID, SecretAccessKey: harness.SecretAccessKey}); err != nil {
		return "", err
	}
	defer os.Remove(file)
	refusals := 0
	detail, err := a.delivered(ctx, provisioned, shipment{anonymous: true, retries: 30, options: []string{"credentials_path=" + file},
		onEvent: func(e harness.Event) bool {
			if e.Word == "flush" && e.Fields["ret"] == "RETRY" {
				if refusals++; refusals == 1 {
					_ = write(c) // Otherwise the chunk is not delivered.
				}
			}
			return true
		}})
	switch {
	case err == nil && refusals == 0 && a.local():
		return "", errUnavailable // It accepts any keys.
	case err == nil && refusals == 0:
		return "", errors.New("the invalid keys are accepted")
	}
	return detail, err
}

func assume(external string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		role, err := a.role(ctx)
		if err != nil {
			return "", err
		}
		options := []string{"role_arn=" + role, "external_id=" + external}
		if external == externalID {
			return a.delivered(ctx, provisioned, shipment{options: options, retries: 5})
		}
		return refused(func(_ *account, s *shipment) { s.options = options }, "role")(ctx, a)
	}
}

func dryRun(ctx context.Context, a *account) (string, error) {
	if a.local() {
		return "", errUnavailable // An emulator stores the record.
	}
	stream, _, err := a.stream(ctx, provisioned)
	if err != nil {
		return "", err
	}
	key := uuid.NewString()
	in := &kinesis.PutRecordInput{StreamName: &stream, PartitionKey: &key, Data: kpl.Seal(kpl.AppendHead(nil, key)), DryRun: aws.Bool(true)}
	_, err = a.kinesis.PutRecord(ctx, in)
	var success *types.DryRunOperationException
	if !errors.As(err, &success) {
		return "", fmt.Errorf("no DryRunOperationException: %v", err)
	}
	for range 5 {
		if _, err = a.kinesis.PutRecord(ctx, in, func(o *kinesis.Options) { o.Retryer = aws.NopRetryer{} }); !errors.As(err, &success) {
			return fmt.Sprintf("more than one call a second: %v", err), nil
		}
	}
	return "5 more calls at once are not limited", nil
}

func endpoint(env string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		if a.local() {
			return "", errUnavailable
		}
		detail, err := a.delivered(ctx, provisioned, shipment{env: []string{env}, retries: 5})
		if err != nil && strings.Contains(err.Error(), "no such host") {
			err = fmt.Errorf("%w: the region has no such endpoint: %w", errUnavailable, err)
		}
		return detail, err
	}
}

func vpcEndpoint(ctx context.Context, a *account) (string, error) {
	if a.local() {
		return "", errUnavailable
	}
	url, err := a.url(ctx)
	if err != nil {
		return "", err
	}
	return a.delivered(ctx, provisioned, shipment{options: []string{"endpoint=" + url}, retries: 5})
}

// rawRequest is a PutRecord that the plugin does not send.
type rawRequest struct {
	gzip, unsigned bool
	clock          time.Duration
}

// raw shows what Kinesis says to such a request. Every response passes.
func raw(change func(*rawRequest)) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		if a.local() {
			return "", errUnavailable
		}
		stream, _, err := a.stream(ctx, narrow)
		if err != nil {
			return "", err
		}
		var r rawRequest
		change(&r)
		return r.send(ctx, a, stream)
	}
}

func (r rawRequest) send(ctx context.Context, a *account, stream string) (string, error) {
	key := uuid.NewString()
	body := fmt.Appendf(nil, `{"StreamName":"%s","PartitionKey":"%s","Data":"%s"}`, stream, key,
		base64.StdEncoding.EncodeToString([]byte("{}")))
	if r.gzip {
		body = compressed(body)
	}
	url, err := a.url(ctx)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecord")
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if r.gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	sum := sha256.Sum256(body)
	hash := hex.EncodeToString(sum[:])
	if r.unsigned {
		hash = "UNSIGNED-PAYLOAD"
		req.Header.Set("X-Amz-Content-Sha256", hash)
	}
	c, err := a.config.Credentials.Retrieve(ctx)
	if err != nil {
		return "", err
	}
	if err := v4.NewSigner().SignHTTP(ctx, c, req, hash, "kinesis", a.region, time.Now().Add(r.clock)); err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<12))
	return resp.Status + " " + string(text), err
}

// auto sends chunks to a stream with the strategy AUTO until the plugin notices.
func auto(mode string) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		stream, arn, err := a.stream(ctx, automatic)
		if err != nil {
			return "", err
		}
		_, err = a.kinesis.UpdateStreamRecordDistributionStrategy(ctx, &kinesis.UpdateStreamRecordDistributionStrategyInput{
			StreamARN: &arn, RecordDistributionStrategy: types.RecordDistributionStrategyAuto})
		if err != nil && !strings.Contains(err.Error(), "already") {
			return "", a.unsupported(err)
		}
		if _, err := a.active(ctx, stream); err != nil {
			return "", err
		}
		// An on-demand stream has four shards. In simulations a few dozen records
		// show that they are not chosen by the key.
		accepted, retries := 0, 0
		run, err := a.ship(ctx, shipment{stream: stream, options: []string{"on_auto_stream=" + mode}, repeat: 300,
			chunk: chunktest.AccessLog(1, 10), onEvent: func(e harness.Event) bool {
				switch {
				case e.Word != "flush":
				case e.Fields["ret"] == "OK":
					accepted++
				case e.Fields["ret"] == "RETRY":
					retries++
				}
				return true
			}})
		if err != nil {
			return "", err
		}
		line := logged(run)
		switch {
		case !strings.Contains(line, "AUTO"):
			return "", fmt.Errorf("300 records are sent and AUTO is not detected: %s", line)
		case mode == "hold" && retries == 0:
			return "", errors.New("no chunk is held")
		case mode != "hold" && retries > 0:
			return "", fmt.Errorf("%d chunks are not delivered: %s", retries, line)
		}
		return fmt.Sprintf("%d chunks accepted, %d held: %s", accepted, retries, line), nil
	}
}

// reshard changes the shards of the stream while chunks are delivered.
func reshard(change func(context.Context, *account, string) error) func(context.Context, *account) (string, error) {
	return func(ctx context.Context, a *account) (string, error) {
		stream, _, err := a.stream(ctx, provisioned)
		if err != nil {
			return "", err
		}
		changed := make(chan error, 1)
		started := false
		detail, err := a.delivered(ctx, provisioned, shipment{threads: 2, repeat: 10, retries: 100, onEvent: func(e harness.Event) bool {
			if e.Word == "flush" && !started {
				started = true
				go func() { changed <- change(ctx, a, stream) }()
			}
			return true
		}})
		if !started {
			return detail, err
		}
		changeErr := <-changed
		if _, activeErr := a.active(ctx, stream); changeErr == nil {
			changeErr = activeErr
		}
		if changeErr != nil {
			return "", a.unsupported(changeErr)
		}
		return detail, err
	}
}

// open returns the open shards in the order of their hash keys.
func (a *account) open(ctx context.Context, stream string) ([]types.Shard, error) {
	out, err := a.kinesis.ListShards(ctx, &kinesis.ListShardsInput{StreamName: &stream})
	if err != nil {
		return nil, err
	}
	var open []types.Shard
	for _, s := range out.Shards {
		if s.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, s)
		}
	}
	return open, nil
}

func splitShard(ctx context.Context, a *account, stream string) error {
	shards, err := a.open(ctx, stream)
	if err != nil {
		return err
	}
	keys, err := kpl.ParseHashKeyRange(aws.ToString(shards[0].HashKeyRange.StartingHashKey), aws.ToString(shards[0].HashKeyRange.EndingHashKey))
	if err != nil {
		return err
	}
	_, err = a.kinesis.SplitShard(ctx, &kinesis.SplitShardInput{StreamName: &stream, ShardToSplit: shards[0].ShardId,
		NewStartingHashKey: aws.String(middle(keys))})
	return err
}

// mergeShards merges two shards with adjacent hash keys.
func mergeShards(ctx context.Context, a *account, stream string) error {
	shards, err := a.open(ctx, stream)
	if err != nil {
		return err
	}
	for _, left := range shards {
		for _, right := range shards {
			if adjacent(left.HashKeyRange, right.HashKeyRange) {
				_, err := a.kinesis.MergeShards(ctx, &kinesis.MergeShardsInput{StreamName: &stream, ShardToMerge: left.ShardId, AdjacentShardToMerge: right.ShardId})
				return err
			}
		}
	}
	return errors.New("no two shards are adjacent")
}

func resize(ctx context.Context, a *account, stream string) error {
	_, err := a.kinesis.UpdateShardCount(ctx, &kinesis.UpdateShardCountInput{StreamName: &stream,
		TargetShardCount: aws.Int32(4), ScalingType: types.ScalingTypeUniformScaling})
	return err
}

// raised raises the limit of the stream and sends the largest record, one above it,
// and a chunk of 8 MB in one record.
func raised(ctx context.Context, a *account) (string, error) {
	stream, arn, err := a.stream(ctx, narrow)
	if err != nil {
		return "", err
	}
	if _, err := a.kinesis.UpdateMaxRecordSize(ctx, &kinesis.UpdateMaxRecordSizeInput{StreamARN: &arn, MaxRecordSizeInKiB: aws.Int32(kpl.LargestMaxRecordBytes >> 10)}); err != nil {
		return "", a.unsupported(err)
	}
	if _, err := a.active(ctx, stream); err != nil {
		return "", err
	}
	if err := a.put(ctx, stream, kpl.LargestMaxRecordBytes); err != nil {
		return "", a.unsupported(fmt.Errorf("10 MiB: %w", err))
	}
	refusal, err := wanted(a, a.put(ctx, stream, kpl.LargestMaxRecordBytes+1))
	if err != nil {
		return "", err
	}
	run, err := a.ship(ctx, shipment{stream: stream, options: []string{"max_record_size=10M"}, retries: 60, chunk: chunktest.AccessLog(1, 4*linesPerChunk)})
	if err != nil {
		return "", err
	}
	if run.End().Int("ok") != 1 {
		return "", fmt.Errorf("a chunk of 8 MB is not delivered: %s", logged(run))
	}
	return "1 byte more: " + refusal, nil
}
