package interop

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/chunktest"
)

// consumers is the folder of the examples in docs/reading.md.
var consumers = filepath.Join("..", "consumers")

// consumer is an example. run gives it Kinesis records and returns what it prints:
// the log records.
type consumer struct {
	name string
	run  func(t *testing.T, records [][]byte) ([]byte, error)
}

func exampleConsumers(t *testing.T) []consumer {
	tools(t)
	built, err := filepath.Abs(os.Getenv(toolsVariable))
	if err != nil {
		t.Fatal(err)
	}
	all := []consumer{
		{"Node.js", func(t *testing.T, records [][]byte) ([]byte, error) {
			return output(lambdaEvent(t, records), filepath.Join(consumers, "node"), "node", "-e",
				`require('./lambda.js').handler(JSON.parse(require('fs').readFileSync(0)))`)
		}},
		{"Python", func(t *testing.T, records [][]byte) ([]byte, error) {
			return output(lambdaEvent(t, records), filepath.Join(consumers, "python"), filepath.Join(built, "venv", "bin", "python"), "-Bc",
				`import json, sys, lambda_function; lambda_function.lambda_handler(json.load(sys.stdin), None)`)
		}},
		{"Go", runGoLambda},
	}
	classpath, err := os.ReadFile(filepath.Join(built, "consumers", "classpath"))
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []string{"kcl", "lambda", "flink"} {
		all = append(all, consumer{"Java " + mode, func(t *testing.T, records [][]byte) ([]byte, error) {
			var lines bytes.Buffer
			for _, r := range records {
				fmt.Fprintln(&lines, base64.StdEncoding.EncodeToString(r))
			}
			return output(lines.Bytes(), ".", "java", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
				filepath.Join(built, "consumers", "classes")+string(os.PathListSeparator)+strings.TrimSpace(string(classpath)), "RunConsumer", mode)
		}})
	}
	return all
}

// lambdaEvent is what Lambda passes to a function.
func lambdaEvent(t *testing.T, records [][]byte) []byte {
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
	for i, data := range records {
		number := fmt.Sprint(49_590_338_271_490 + i)
		event.Records = append(event.Records, record{
			kinesis{"1.0", "key", number, data, 1772366400.25}, "aws:kinesis", "1.0", "shardId-000000000000:" + number,
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
		return nil, fmt.Errorf("%s: %w\n%s", name, err, stderr.Bytes())
	}
	return out, nil
}

// runGoLambda runs the function in Go, which is a client of Lambda's runtime API, for
// one invocation.
func runGoLambda(t *testing.T, records [][]byte) ([]byte, error) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "lambda")
	if _, err := output(nil, filepath.Join(consumers, "go"), "go", "build", "-o", binary, "."); err != nil {
		t.Fatal(err)
	}
	event := lambdaEvent(t, records)
	result := make(chan string, 1)
	invoked := false
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			if invoked {
				<-r.Context().Done() // There is no second event.
				return
			}
			invoked = true
			w.Header().Set("Lambda-Runtime-Aws-Request-Id", "1")
			w.Header().Set("Lambda-Runtime-Deadline-Ms", "4102444800000")
			_, _ = w.Write(event)
			return
		}
		body, _ := io.ReadAll(r.Body)
		result <- r.URL.Path + " " + string(body)
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
	select {
	case got := <-result:
		_ = cmd.Process.Kill()
		<-exited // All of stdout is copied.
		if want := "/2018-06-01/runtime/invocation/1/response"; !strings.HasPrefix(got, want+" ") {
			return nil, fmt.Errorf("the function reports %s", got)
		}
	case err := <-exited:
		return nil, fmt.Errorf("the function exits: %w", err)
	}
	return stdout.Bytes(), nil
}

// TestConsumers_Concatenated: Firehose writes user records one after another into an
// object of S3, and such a file is valid.
func TestConsumers_Concatenated(t *testing.T) {
	tools(t)
	python, err := filepath.Abs(filepath.Join(os.Getenv(toolsVariable), "venv", "bin", "python"))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		format    compression.Format
		extension string
		readers   [][]string
	}{
		{compression.None, ".json", [][]string{{"cat"}}},
		{compression.Gzip, ".gz", [][]string{
			{"gzip", "-dc"},
			{"node", "-e", `process.stdout.write(require('zlib').gunzipSync(require('fs').readFileSync(process.argv[1])))`},
			{python, "-c", `import gzip, shutil, sys; shutil.copyfileobj(gzip.open(sys.argv[1]), sys.stdout.buffer)`},
		}},
		{compression.Zstd, ".zst", [][]string{
			{"zstd", "-dc"},
			{"node", "-e", `process.stdout.write(require('fzstd').decompress(require('fs').readFileSync(process.argv[1])))`},
			{python, "-c", `import shutil, sys, zstandard
f = zstandard.ZstdDecompressor().stream_reader(open(sys.argv[1], "rb"), read_across_frames=True)
shutil.copyfileobj(f, sys.stdout.buffer)`},
		}},
	} {
		create, err := aggregator.Factory(aggregator.Transform{BatchBytes: 10_000, Compression: tt.format})
		if err != nil {
			t.Fatal(err)
		}
		c := chunktest.Kubernetes(1, 500)
		var file []byte
		a := create()
		for from := 0; from < len(c.Bytes); {
			r := a.Build(aggregator.Chunk{Data: c.Bytes}, from, "key", aggregator.Limit{RecordMax: 50_000, SingleRecordMax: 1 << 20})
			from = r.Next
			aggregate, err := kpl.Open(r.Data)
			if err != nil {
				t.Fatal(err)
			}
			for _, user := range aggregate.All() {
				file = append(file, user.Data...)
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
				got, err := output(nil, filepath.Join(consumers, "node"), reader[0], append(reader[1:], path)...)
				if err != nil {
					t.Fatal(err)
				}
				if want := strings.Join(c.JSON, "\n") + "\n"; string(got) != want {
					t.Errorf("%d bytes, want %d: %.200q", len(got), len(want), got)
				}
			})
		}
	}
}

// TestConsumers_ReadAll: the examples return the log records of batches and of single
// records, in every format that the data itself tells, and of records of another
// producer between them.
func TestConsumers_ReadAll(t *testing.T) {
	all := exampleConsumers(t)
	const foreign = `{"log":"not aggregated"}`
	var records [][]byte
	var want []string
	seed := uint64(0)
	for _, format := range []compression.Format{compression.None, compression.Gzip, compression.Zlib, compression.Zstd} {
		for _, transform := range []aggregator.Transform{{}, {AppendNewline: true}, {BatchBytes: 1}, {BatchBytes: 5_000}, {BatchBytes: 1 << 20}} {
			transform.Compression = format
			seed++
			c := chunktest.Kubernetes(seed, 60)
			create, err := aggregator.Factory(transform)
			if err != nil {
				t.Fatal(err)
			}
			a := create()
			for from := 0; from < len(c.Bytes); {
				r := a.Build(aggregator.Chunk{Data: c.Bytes}, from, "key", aggregator.Limit{RecordMax: 12_000, SingleRecordMax: 1 << 20})
				from = r.Next
				records = append(records, bytes.Clone(r.Data))
			}
			records = append(records, []byte(foreign))
			want = append(append(want, c.JSON...), foreign)
		}
	}
	for _, consumer := range all {
		t.Run(consumer.name, func(t *testing.T) {
			out, err := consumer.run(t, records)
			if err != nil {
				t.Fatal(err)
			}
			got := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
			if len(got) != len(want) {
				t.Fatalf("%d log records of %d", len(got), len(want))
			}
			for i := range got {
				var g, w any
				if err := json.Unmarshal([]byte(got[i]), &g); err != nil {
					t.Fatalf("log record %d: %v: %.200q", i, err, got[i])
				}
				if err := json.Unmarshal([]byte(want[i]), &w); err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(g, w) {
					t.Fatalf("log record %d: %.200q, want %.200q", i, got[i], want[i])
				}
			}
		})
	}
}

// TestConsumers_ReportDamage: no example passes on a record that it cannot read.
func TestConsumers_ReportDamage(t *testing.T) {
	create, err := aggregator.Factory(aggregator.Transform{BatchBytes: 10_000, Compression: compression.Zstd})
	if err != nil {
		t.Fatal(err)
	}
	good := create().Build(aggregator.Chunk{Data: chunktest.Kubernetes(1, 60).Bytes}, 0, "key", aggregator.Limit{RecordMax: 1 << 20, SingleRecordMax: 1 << 20}).Data
	last := len(good) - 1
	wrongDigest := append(bytes.Clone(good[:last]), good[last]^1)
	for _, consumer := range exampleConsumers(t) {
		t.Run(consumer.name, func(t *testing.T) {
			for name, damaged := range map[string][]byte{
				"digest": wrongDigest, "aggregate": good[:len(good)/2], "gzip": []byte("\x1f\x8b\x08 and no valid rest"), "zstd": []byte("\x28\xb5\x2f\xfd and no valid rest"),
			} {
				if out, err := consumer.run(t, [][]byte{damaged}); err == nil {
					t.Errorf("%s: no error, and the output is %.200q", name, out)
				}
			}
		})
	}
}
