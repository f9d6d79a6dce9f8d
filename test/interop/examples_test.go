package interop

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// examples is the folder of the consumers in docs/reading.md.
var examples = filepath.Join("..", "..", "examples")

// received is a Kinesis record as a consumer gets it.
type received struct {
	key  string // partition key
	data []byte
}

// consumer is an example. run passes it Kinesis records, twice in one process as if
// Lambda repeated the invocation, and returns what it prints: the log records.
type consumer struct {
	name string
	run  func(t *testing.T, records []received) ([]byte, error)
}

// sequenceNumber is the number of the i-th record that a consumer gets.
func sequenceNumber(i int) string { return fmt.Sprint(49_590_338_271_490 + i) }

// failure is the error of a function that reports the i-th record.
func failure(i int) string { return "failure " + sequenceNumber(i) }

func exampleConsumers(t *testing.T) []consumer {
	tools(t)
	built, err := filepath.Abs(os.Getenv(toolsVariable))
	if err != nil {
		t.Fatal(err)
	}
	node := func(module string) func(t *testing.T, records []received) ([]byte, error) {
		return func(t *testing.T, records []received) ([]byte, error) {
			return output(lambdaEvent(t, records), filepath.Join(examples, "node"), "node", "-e", `(async () => {
				const event = JSON.parse(require('fs').readFileSync(0));
				const { handler } = require('./`+module+`');
				await handler(event, {});
				const { batchItemFailures } = await handler(event, {});
				for (const { itemIdentifier } of batchItemFailures) throw 'failure ' + itemIdentifier;
			})()`)
		}
	}
	python := func(module string) func(t *testing.T, records []received) ([]byte, error) {
		return func(t *testing.T, records []received) ([]byte, error) {
			return output(lambdaEvent(t, records), filepath.Join(examples, "python"), filepath.Join(built, "venv", "bin", "python"), "-Bc", `
import json, sys, `+module+` as m
event = json.load(sys.stdin)
m.lambda_handler(event, None)
for failure in m.lambda_handler(event, None)["batchItemFailures"]:
    sys.exit("failure " + failure["itemIdentifier"])`)
		}
	}
	all := []consumer{
		{"Node.js", node("lambda.js")},
		{"TypeScript with Powertools", node("powertools.js")},
		{"Python", python("lambda_function")},
		{"Python with Powertools", python("lambda_powertools")},
		{"Go", runGoLambda},
	}
	for _, mode := range []string{"kcl", "lambda"} {
		all = append(all, consumer{"Java " + mode, func(t *testing.T, records []received) ([]byte, error) {
			var lines bytes.Buffer
			for i, r := range records {
				fmt.Fprintf(&lines, "%s\t%s\t%s\n", r.key, sequenceNumber(i), base64.StdEncoding.EncodeToString(r.data))
			}
			return output(lines.Bytes(), ".", "java", append(javaOptions(t, "examples"), "RunConsumer", mode)...)
		}})
	}
	return all
}

// lambdaEvent is what Lambda passes to a function.
func lambdaEvent(t *testing.T, records []received) []byte {
	t.Helper()
	type kinesis struct {
		Version        string  `json:"kinesisSchemaVersion"`
		PartitionKey   string  `json:"partitionKey"`
		SequenceNumber string  `json:"sequenceNumber"`
		Data           []byte  `json:"data"`
		Arrival        float64 `json:"approximateArrivalTimestamp"`
	}
	type record struct {
		Kinesis           kinesis `json:"kinesis"`
		EventSource       string  `json:"eventSource"`
		EventVersion      string  `json:"eventVersion"`
		EventID           string  `json:"eventID"`
		EventName         string  `json:"eventName"`
		InvokeIdentityARN string  `json:"invokeIdentityArn"`
		AWSRegion         string  `json:"awsRegion"`
		EventSourceARN    string  `json:"eventSourceARN"`
	}
	var event struct{ Records []record }
	for i, r := range records {
		number := sequenceNumber(i)
		event.Records = append(event.Records, record{
			kinesis{"1.0", r.key, number, r.data, 1772366400.25}, "aws:kinesis", "1.0", "shardId-000000000000:" + number,
			"aws:kinesis:record", "arn:aws:iam::123456789012:role/reader", "eu-central-1",
			"arn:aws:kinesis:eu-central-1:123456789012:stream/logs",
		})
	}
	b, err := json.Marshal(event)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// output runs a command to its end and returns what it prints.
func output(stdin []byte, dir, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w\n%s", name, err, stderr.Bytes())
	}
	return out, nil
}

// runGoLambda runs the function in Go, which is a client of Lambda's runtime API.
func runGoLambda(t *testing.T, records []received) ([]byte, error) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "lambda")
	if _, err := output(nil, filepath.Join(examples, "go"), "go", "build", "-o", binary, "."); err != nil {
		t.Fatal(err)
	}
	event := lambdaEvent(t, records)
	const invocations = 2
	responses := make(chan string, invocations)
	invoked := 0
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if invoked == invocations {
				<-r.Context().Done() // There is no other event.
				return
			}
			invoked++
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", "4102444800000")
			_, _ = w.Write(event)
			return
		}
		body, _ := io.ReadAll(r.Body)
		responses <- string(body)
		w.WriteHeader(http.StatusAccepted)
	}))
	defer api.Close()
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), "AWS_LAMBDA_RUNTIME_API="+strings.TrimPrefix(api.URL, "http://"))
	var stdout bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	var last struct {
		BatchItemFailures []struct{ ItemIdentifier string }
	}
	for range invocations {
		select {
		case got := <-responses:
			if err := json.Unmarshal([]byte(got), &last); err != nil {
				t.Fatalf("%v: %s", err, got)
			}
		case err := <-exited:
			return nil, fmt.Errorf("the function exits: %w", err)
		}
	}
	_ = cmd.Process.Kill()
	<-exited // All of stdout is copied.
	for _, f := range last.BatchItemFailures {
		return stdout.Bytes(), errors.New("failure " + f.ItemIdentifier)
	}
	return stdout.Bytes(), nil
}

// TestExamples_Concatenated: Firehose writes user records one after another into an
// object of S3, and Kinesis records if they have no envelope. Such a file is valid.
func TestExamples_Concatenated(t *testing.T) {
	tools(t)
	python, err := filepath.Abs(filepath.Join(os.Getenv(toolsVariable), "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	trino := append(javaOptions(t, "java"), "ReadZstd")
	// Reads a file of lines of JSON, and finds out about its compression by its name.
	const duckdb = `import duckdb, sys
for [line] in duckdb.execute("SELECT json FROM read_ndjson_objects(?)", [sys.argv[1]]).fetchall():
    sys.stdout.buffer.write(line.encode() + b"\n")`
	for _, tt := range []struct {
		format    compression.Format
		extension string
		readers   [][]string
	}{
		{compression.None, ".json", [][]string{{"cat"}, {python, "-c", duckdb}}},
		{compression.Gzip, ".gz", [][]string{
			{"gzip", "-dc"},
			{"node", "-e", `process.stdout.write(require('zlib').gunzipSync(require('fs').readFileSync(process.argv[1])))`},
			{python, "-c", `import gzip, shutil, sys; shutil.copyfileobj(gzip.open(sys.argv[1]), sys.stdout.buffer)`},
			{python, "-c", duckdb},
		}},
		{compression.Zstd, ".zst", [][]string{
			{"zstd", "-dc"},
			{"node", "-e", `process.stdout.write(require('fzstd').decompress(require('fs').readFileSync(process.argv[1])))`},
			{python, "-c", `import shutil, sys, zstandard
f = zstandard.ZstdDecompressor().stream_reader(open(sys.argv[1], "rb"), read_across_frames=True)
shutil.copyfileobj(f, sys.stdout.buffer)`},
			{python, "-c", duckdb},
			append([]string{"java"}, trino...),
		}},
	} {
		c := chunktest.Kubernetes(1, 500)
		var file []byte
		for i, format := range aggregator.Formats() {
			transform := aggregator.Transform{Format: format, BatchBytes: 10_000, Compression: tt.format}
			for _, r := range build(t, c, transform, 50_000, func() string { return "key" }) {
				aggregate, err := kpl.Open(r.data)
				if errors.Is(err, kpl.ErrNotAggregated) && i > 0 {
					file = append(file, r.data...)
					continue
				}
				if err != nil {
					t.Fatal(err)
				}
				for _, user := range aggregate.All() {
					file = append(file, user.Data...)
				}
			}
		}
		path := filepath.Join(t.TempDir(), "object"+tt.extension)
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, reader := range tt.readers {
			t.Run(string(tt.format)+" "+filepath.Base(reader[0]), func(t *testing.T) {
				if _, err := exec.LookPath(reader[0]); err != nil {
					t.Skip(err)
				}
				got, err := output(nil, filepath.Join(examples, "node"), reader[0], append(reader[1:], path)...)
				if err != nil {
					t.Fatal(err)
				}
				if want := strings.Repeat(strings.Join(c.JSON, "\n")+"\n", 2); string(got) != want {
					t.Errorf("%d bytes, want %d: %.200q", len(got), len(want), got)
				}
			})
		}
	}
}

// TestExamples_ReadAll: the examples return the log records of batches and of single
// records, with and without the KPL envelope, in every format that the data itself
// tells, each once although the invocation is repeated; and records of another producer
// between them as they are.
func TestExamples_ReadAll(t *testing.T) {
	all := exampleConsumers(t)
	foreign := []string{
		`{"log":"not aggregated"}`,
		"Hello, this is a test 123.", // the record of Lambda's test event
		"xylophone",                  // begins with the first byte of zlib
		"two lines of text\nof one record\n",
		"{\n  \"log\": \"pretty\"\n}\n",
		"",
	}
	var records []received
	var want []string
	random := rand.New(rand.NewPCG(seed, 1))
	key := func() string {
		return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", random.Uint32(), random.IntN(1<<16), random.IntN(1<<12), random.IntN(1<<12), random.Uint64N(1<<48))
	}
	for _, format := range []compression.Format{compression.None, compression.Gzip, compression.Zlib, compression.Zstd} {
		for i, transform := range []aggregator.Transform{{}, {AppendNewline: true}, {BatchBytes: 1}, {BatchBytes: 5_000}, {BatchBytes: 1 << 20}} {
			transform.Compression = format
			for _, transform.Format = range aggregator.Formats() {
				c := chunktest.Kubernetes(uint64(i), 60)
				records = append(records, build(t, c, transform, 12_000, key)...)
				want = append(want, c.JSON...)
			}
		}
		for _, text := range foreign {
			// Records of another producer may have the same key and the same data.
			records = append(records, received{"a", []byte(text)}, received{"a", []byte(text)})
			want = append(want, text, text)
		}
	}
	for _, consumer := range all {
		t.Run(consumer.name, func(t *testing.T) {
			out, err := consumer.run(t, records)
			if err != nil {
				t.Fatal(err)
			}
			wantText(t, string(out), strings.Join(want, "\n")+"\n")
		})
	}
}

// wantText compares what an example printed.
func wantText(t *testing.T, got, want string) {
	t.Helper()
	if got == want {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Fatalf("%d bytes of %d, and they differ after %d (line %d): %.200q, want %.200q", len(got), len(want), at,
		strings.Count(want[:at], "\n"), got[at:], want[at:])
}

// build returns the aggregated records of a chunk.
func build(t *testing.T, c chunktest.Corpus, transform aggregator.Transform, recordMax int, key func() string) []received {
	t.Helper()
	create, err := aggregator.Factory(transform)
	if err != nil {
		t.Fatal(err)
	}
	a := create()
	var records []received
	for from := 0; from < len(c.Bytes); {
		k := key()
		r := a.Build(aggregator.Chunk{Data: c.Bytes}, from, k, aggregator.Limit{RecordMax: recordMax, SingleRecordMax: 1 << 20})
		from = r.Next
		records = append(records, received{k, bytes.Clone(r.Data)})
	}
	return records
}

// TestExamples_ReportDamage: no example passes on a record that it cannot read. The
// functions report that record to Lambda, and have handled those before it.
func TestExamples_ReportDamage(t *testing.T) {
	good := build(t, chunktest.Kubernetes(1, 60), aggregator.Transform{BatchBytes: 10_000, Compression: compression.Zstd}, 1<<20, func() string { return "key" })[0]
	last := len(good.data) - 1
	wrongDigest := append(bytes.Clone(good.data[:last]), good.data[last]^1)
	const before = "a log record"
	for _, consumer := range exampleConsumers(t) {
		t.Run(consumer.name, func(t *testing.T) {
			for name, damaged := range map[string][]byte{
				"digest": wrongDigest, "aggregate": good.data[:len(good.data)/2], "gzip": []byte("\x1f\x8b\x08 and no valid rest"), "zstd": []byte("\x28\xb5\x2f\xfd and no valid rest"),
			} {
				out, err := consumer.run(t, []received{{"key", []byte(before)}, {"key", damaged}})
				wantText(t, string(out), before+"\n")
				if err == nil || consumer.name != "Java kcl" && !strings.Contains(err.Error(), failure(1)) {
					t.Errorf("%s: %v, want %s", name, err, failure(1))
				}
			}
		})
	}
}

// TestExamples_Duplicates: of responses that are lost on the way, the plugin sends the
// same record again, and each example passes on each log record once, with and without
// batches and the envelope.
func TestExamples_Duplicates(t *testing.T) {
	all := exampleConsumers(t)
	single, wantSingle := duplicates(t)
	batches, wantBatches := duplicates(t, "batch_size=20K", "compression=zstd")
	plain, wantPlain := duplicates(t, "record_format=ndjson", "compression=zstd")
	for _, consumer := range all {
		t.Run(consumer.name, func(t *testing.T) {
			out, err := consumer.run(t, slices.Concat(single, batches, plain))
			if err != nil {
				t.Fatal(err)
			}
			wantText(t, string(out), wantSingle+wantBatches+wantPlain)
		})
	}
}

// duplicates returns what a stream has after the plugin has sent a log, and of every
// second PutRecord the response was lost.
func duplicates(t *testing.T, options ...string) (records []received, want string) {
	t.Helper()
	plugin, host := pluginAndHost(t)
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n%2 == 1 {
			return fakekinesis.ResponseLost
		}
		return fakekinesis.OK
	}})
	defer server.Close()
	corpus := chunktest.AccessLog(seed, 2000)
	chunk := filepath.Join(t.TempDir(), "chunk")
	if err := os.WriteFile(chunk, corpus.Bytes, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{"--retry", "1000", "--expect-ok", plugin, "--instance", "stream=logs", "region=" + harness.Region, "endpoint=" + server.URL(),
		"aws_key_id=" + harness.AccessKeyID, "aws_sec_key=" + harness.SecretAccessKey, "max_record_size=50K"}, options...)
	if run, err := harness.RunHost(t.Context(), host, nil, append(args, "--chunk", "app="+chunk)...); err != nil || run.ExitCode != 0 {
		t.Fatalf("the plugin: %v\n%s", err, run.Stderr)
	}
	different := map[string]bool{}
	for _, r := range server.Records() {
		records = append(records, received{r.PartitionKey, r.Data})
		different[r.PartitionKey+string(r.Data)] = true
	}
	if len(different) == len(records) {
		t.Fatalf("%d records, and no two are the same", len(records))
	}
	return records, strings.Join(corpus.JSON, "\n") + "\n"
}

// TestExamples_FlinkJob: the whole job, in Flink's local cluster, prints each log record
// of a stream once, although one Kinesis record is in it twice.
func TestExamples_FlinkJob(t *testing.T) {
	tools(t)
	ctx, cancel := context.WithTimeout(t.Context(), kclDeadline)
	defer cancel()
	k, err := harness.StartKinesis(ctx, filepath.Join("..", "kit", "readers"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Stop()
	if err := k.CreateStream(ctx, "logs", 1); err != nil {
		t.Fatal(err)
	}
	records, want := duplicates(t, "batch_size=20K", "compression=zstd")
	plain, wantPlain := duplicates(t, "record_format=ndjson", "compression=zstd")
	records, want = append(records, plain...), want+wantPlain
	const last = "of another producer"
	for _, r := range append(records, received{"key", []byte(last)}) {
		if _, err := k.Client.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("logs"), PartitionKey: &r.key, Data: r.data}); err != nil {
			t.Fatal(err)
		}
	}
	args := append([]string{"--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.lang=ALL-UNNAMED"}, javaOptions(t, "examples")...)
	cmd := exec.CommandContext(ctx, "java", append(args, "FlinkJob", "arn:aws:kinesis:"+harness.Region+":000000000000:stream/logs",
		"aws.region="+harness.Region, "aws.endpoint="+k.Endpoint, "aws.credentials.provider=BASIC",
		"aws.credentials.provider.basic.accesskeyid="+harness.AccessKeyID, "aws.credentials.provider.basic.secretkey="+harness.SecretAccessKey)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = cmd.Wait()
	}()
	var got strings.Builder
	for s := bufio.NewScanner(out); s.Scan(); {
		_, line, found := strings.Cut(s.Text(), "> ") // print adds the number of the task
		if !found {
			line = s.Text()
		}
		if line == last {
			wantText(t, got.String(), want)
			return
		}
		got.WriteString(line + "\n")
	}
	t.Fatalf("the job ends: %d bytes of %d\n%s", got.Len(), len(want), stderr.String())
}

// readStrings passes Kinesis records, in stdin as lines of base64, through Flink's
// SimpleStringSchema and through a FlatMapFunction, and prints what that collects.
const readStrings = `
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.flink.api.common.functions.FlatMapFunction;
import org.apache.flink.api.common.functions.util.ListCollector;
import org.apache.flink.api.common.serialization.SimpleStringSchema;
import org.apache.flink.util.Collector;

class ReadStrings {
    public static void main(String[] args) throws Exception {
        FlatMapFunction<String, String> split = %s;
        SimpleStringSchema schema = new SimpleStringSchema();
        PrintStream lines = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String record = in.readLine(); record != null; record = in.readLine()) {
            java.util.ArrayList<String> all = new java.util.ArrayList<>();
            split.flatMap(schema.deserialize(Base64.getDecoder().decode(record)), new ListCollector<>(all));
            all.forEach(line -> lines.print(line + "\n"));
        }
    }
}
`

// TestFlink_SimpleStringSchema: Flink's own schema returns a record without the envelope
// as one string, and the code of docs/reading.md takes the log records from it.
func TestFlink_SimpleStringSchema(t *testing.T) {
	tools(t)
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reading.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```java\n.flatMap(")
	split, _, found := strings.Cut(rest, ").returns(Types.STRING)\n```")
	if !found {
		t.Fatal("docs/reading.md does not have the code")
	}
	program := filepath.Join(t.TempDir(), "ReadStrings.java")
	if err := os.WriteFile(program, fmt.Appendf(nil, readStrings, split), 0o600); err != nil {
		t.Fatal(err)
	}
	c := chunktest.Kubernetes(1, 500)
	var records bytes.Buffer
	for _, r := range build(t, c, aggregator.Transform{Format: aggregator.NDJSON}, 50_000, func() string { return "key" }) {
		fmt.Fprintln(&records, base64.StdEncoding.EncodeToString(r.data))
	}
	out, err := output(records.Bytes(), ".", "java", append(javaOptions(t, "examples"), program)...)
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, string(out), strings.Join(c.JSON, "\n")+"\n")
}

// TestExamples_PowertoolsSchema: the schema of Powertools' parser accepts an aggregated
// record and returns text that is not its log records, as the README warns.
func TestExamples_PowertoolsSchema(t *testing.T) {
	tools(t)
	records := build(t, chunktest.Kubernetes(1, 2), aggregator.Transform{}, 1<<20, func() string { return "key" })
	out, err := output(lambdaEvent(t, records), filepath.Join(examples, "node"), "node", "-e", `
		const { KinesisDataStreamRecordPayload } = require('@aws-lambda-powertools/parser/schemas/kinesis');
		const [{ kinesis }] = JSON.parse(require('fs').readFileSync(0)).Records;
		console.log(KinesisDataStreamRecordPayload.parse(kinesis).data);`)
	if err != nil {
		t.Fatal(err)
	}
	if json.Valid(out) || !strings.Contains(string(out), "\ufffd") {
		t.Errorf("the schema returns %.200q: change examples/node/README.md", out)
	}
}
