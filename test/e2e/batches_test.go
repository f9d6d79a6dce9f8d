package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// batchOptions are the options of the tests that run with batches: within aggregated
// records, and each as a record.
var batchOptions = map[string][]string{
	"kpl":    {"batch_size=256K", "compression=zstd"},
	"ndjson": {"record_format=ndjson", "compression=zstd"},
}

const zstdMagic = "\x28\xb5\x2f\xfd"

// logRecords returns the log records of a Kinesis record: of the user records of an
// aggregated record, some of which may be batches, or of the batch that is a record
// without the envelope. The JSON of a log record contains no newline.
func logRecords(r fakekinesis.Record) (all []string, err error) {
	userRecords := []string{string(r.Data)}
	bare := bytes.HasPrefix(r.Data, []byte("{")) || bytes.HasPrefix(r.Data, []byte(zstdMagic))
	if !bare {
		if userRecords, err = open(harness.Record{PartitionKey: r.PartitionKey, Data: r.Data}); err != nil {
			return nil, err
		}
	}
	for _, data := range userRecords {
		if strings.HasPrefix(data, zstdMagic) {
			text, err := zstdDecoder.DecodeAll([]byte(data), nil)
			if err != nil {
				return nil, err
			}
			data = string(text)
		}
		lines, ended := strings.CutSuffix(data, "\n")
		if bare && !ended {
			return nil, fmt.Errorf("the last line has no newline: %.100q", data)
		}
		all = append(all, strings.Split(lines, "\n")...)
	}
	return all, nil
}

var zstdDecoder, _ = zstd.NewReader(nil)

// incompressible returns n records with an id and a text that ends with so many
// random characters. zstd saves only a quarter of them.
func incompressible(n int, text string, chars int) chunktest.Corpus {
	source := rand.NewChaCha8([32]byte{1})
	var bodies []chunktest.Map
	for id := range n {
		random := make([]byte, chars/4*3)
		_, _ = source.Read(random)
		bodies = append(bodies, chunktest.M("id", id, "text", text+base64.StdEncoding.EncodeToString(random)))
	}
	return chunktest.NewCorpus(bodies...)
}

// TestFaults_Batches runs the rows of TestFaults with batches. Their chunks are
// replaced by ones that are as large after compression.
func TestFaults_Batches(t *testing.T) {
	t.Parallel()
	small, large := incompressible(50, contents, 100), incompressible(1200, contents, 1200)
	for format, options := range batchOptions {
		for _, f := range faults {
			switch f.chunk {
			case nil:
				f.chunk = &small
			case &largeChunk:
				f.chunk = &large
			}
			f.options = slices.Concat(f.options, options)
			t.Run(format+" "+f.name, func(t *testing.T) {
				t.Parallel()
				f.run(t)
			})
		}
	}
}

// flushBatches flushes a chunk until it is delivered, and returns the records that the
// endpoint accepted, and the log records of each.
func flushBatches(t *testing.T, c chunktest.Corpus, respond func(n int) fakekinesis.Fault, options ...string) (counts fakekinesis.Counts, records []fakekinesis.Record, got [][]string) {
	t.Helper()
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault { return respond(n) }})
	defer server.Close()
	run := runHost(t, fixture.host, []string{"--retry", "100"}, fault{options: options, without: randomKey}.instance(server.URL()),
		chunkFile(t, faultTag, c.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	checkLog(t, run)
	records = server.Records()
	for _, r := range records {
		got = append(got, texts(t, []fakekinesis.Record{r}))
	}
	return server.Counts(), records, got
}

// TestResume_Batches: a batch that does not fit into a record is split. The parts
// are the same in each flush, so a retry sends the part that failed and those
// after it. A part whose response is lost arrives twice.
func TestResume_Batches(t *testing.T) {
	t.Parallel()
	for format, options := range batchOptions {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			resumeBatches(t, append(slices.Clone(options), "max_record_size=10000"))
		})
	}
}

func resumeBatches(t *testing.T, options []string) {
	c := incompressible(400, contents, 200)
	_, _, whole := flushBatches(t, c, never, options...)
	wantSame(t, "parts", slices.Concat(whole...), c.JSON)
	count := len(whole)
	if count < 5 {
		t.Fatalf("%d parts, want more", count)
	}
	for name, failure := range map[string]fakekinesis.Fault{
		"throttled":       fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded"),
		"response lost":   fakekinesis.ResponseLost,
		"no sequence no.": fakekinesis.NoNumber,
	} {
		for k := 1; k <= count; k++ {
			t.Run(fmt.Sprintf("%s at part %d", name, k), func(t *testing.T) {
				t.Parallel()
				counts, records, got := flushBatches(t, c, at(k, failure), append(slices.Clone(options), "auto_retry_requests=false")...)
				if counts.PutRecords != count+1 {
					t.Errorf("%d PutRecords, want %d", counts.PutRecords, count+1)
				}
				if counts.Accepted == count+1 {
					if first, second := records[k-1], records[k]; first.PartitionKey != second.PartitionKey || !bytes.Equal(first.Data, second.Data) {
						t.Error("the repeated part is not the same record")
					}
					got = slices.Delete(got, k, k+1)
				}
				wantSame(t, "parts", slices.Concat(got...), c.JSON)
			})
		}
	}
}

// TestDrop_Batches: a log record that is too large is dropped and reported, and
// those before and after it in its batch are sent once, also after a failure.
func TestDrop_Batches(t *testing.T) {
	t.Parallel()
	small := incompressible(20, contents, 100)
	for position := range 3 {
		large := incompressible(1, contents, 5000)
		bodies := slices.Insert(slices.Clone(small.Bodies), position*10, large.Bodies[0])
		want := small.JSON
		c := chunktest.NewCorpus(bodies...)
		for name, fault := range map[string]func(int) fakekinesis.Fault{"": never, ", first request fails": at(1, fakekinesis.Status(503))} {
			for format, options := range batchOptions {
				t.Run(fmt.Sprint(format, " at ", position*10, name), func(t *testing.T) {
					t.Parallel()
					server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault { return fault(n) }})
					defer server.Close()
					run := runHost(t, fixture.host, []string{"--retry", "100"}, faultAt(server.URL(), slices.Concat(options, []string{"max_record_size=2000"})...),
						chunkFile(t, faultTag, c.Bytes))
					wantOutcomes(t, run, 1, 0, 0)
					checkLog(t, run)
					wantTimes(t, server.Records(), want, 1)
					logLine(t, run, "[error]", "too large", ": 1 from byte offset", ", 50")
				})
			}
		}
	}
}
