package e2e

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// parts is the number of records of a chunk in the tests of this file.
const parts = 6

// splitRun is what an endpoint received of a chunk of that many parts.
type splitRun struct {
	counts  fakekinesis.Counts
	records []fakekinesis.Record // that it accepted, in order
	texts   [][]string           // of each
	flushes []harness.Event
}

// flushSplit flushes such a chunk until it is delivered.
func flushSplit(t *testing.T, respond func(n int) fakekinesis.Fault, options ...string) (r splitRun) {
	t.Helper()
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault { return respond(n) }})
	defer server.Close()
	f := fault{options: append(options, "max_record_size=1046", "request_timeout=2s"), without: randomKey}.instance(server.URL())
	run := runHost(t, fixture.host, []string{"--retry", "100"}, f, chunkFile(t, faultTag, resumeChunk.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	checkLog(t, run)
	r = splitRun{counts: server.Counts(), records: server.Records(), flushes: run.All("flush")}
	for _, record := range r.records {
		r.texts = append(r.texts, texts(t, []fakekinesis.Record{record}))
	}
	return r
}

// faultAt returns the arguments of an instance as in TestFaults.
func faultAt(url string, options ...string) []string { return fault{options: options}.instance(url) }

var resumeChunk = numbered(120, contents)

func never(int) fakekinesis.Fault { return fakekinesis.OK }

// TestResume: of a split chunk whose k-th part fails, the retry sends that part
// and those after it, and none before.
func TestResume(t *testing.T) {
	t.Parallel()
	whole := flushSplit(t, never).texts
	if len(whole) != parts {
		t.Fatalf("%d parts, want %d", len(whole), parts)
	}
	wantSame(t, "parts", slices.Concat(whole...), resumeChunk.JSON)
	for name, failure := range map[string]fakekinesis.Fault{
		"throttled": fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded"),
		"reset":     fakekinesis.ResetRead,
		"hang":      fakekinesis.Hold(nil),
	} {
		for k := 1; k <= parts; k++ {
			if name == "hang" && k != parts/2 {
				continue // each takes a request_timeout
			}
			t.Run(fmt.Sprintf("%s at part %d", name, k), func(t *testing.T) {
				t.Parallel()
				r := flushSplit(t, at(k, failure), "auto_retry_requests=false")
				if r.counts.PutRecords != parts+1 || len(r.flushes) != 2 {
					t.Errorf("%d PutRecords in %d flushes, want %d in 2", r.counts.PutRecords, len(r.flushes), parts+1)
				}
				wantSame(t, "parts", slices.Concat(r.texts...), resumeChunk.JSON)
			})
		}
	}
	t.Run("each part fails twice", func(t *testing.T) {
		t.Parallel()
		r := flushSplit(t, func(n int) fakekinesis.Fault {
			if n%3 != 0 {
				return fakekinesis.Status(503)
			}
			return fakekinesis.OK
		})
		if r.counts.PutRecords != 3*parts || len(r.flushes) != 2*parts+1 {
			t.Errorf("%d PutRecords in %d flushes, want %d in %d", r.counts.PutRecords, len(r.flushes), 3*parts, 2*parts+1)
		}
		wantSame(t, "parts", slices.Concat(r.texts...), resumeChunk.JSON)
	})
}

// TestResponseLost_RepeatsOnePart: Kinesis accepted the k-th part and the response
// was lost: that part arrives twice as the same record, byte for byte, and every other
// part once.
func TestResponseLost_RepeatsOnePart(t *testing.T) {
	t.Parallel()
	for name, failure := range map[string]fakekinesis.Fault{
		"reset":     fakekinesis.ResponseLost,
		"cut":       fakekinesis.ResponseTruncated,
		"no number": fakekinesis.NoNumber,
		"hang":      fakekinesis.ResponseHeld,
	} {
		for _, auto := range []string{"true", "false"} {
			for k := 1; k <= parts; k += 2 {
				if name == "hang" && k != parts/2 {
					continue
				}
				t.Run(fmt.Sprintf("%s at part %d, auto_retry_requests %s", name, k, auto), func(t *testing.T) {
					t.Parallel()
					r := flushSplit(t, at(k, failure), "auto_retry_requests="+auto)
					if r.counts.PutRecords != parts+1 || r.counts.Accepted != parts+1 {
						t.Fatalf("%d PutRecords, %d accepted, want %d", r.counts.PutRecords, r.counts.Accepted, parts+1)
					}
					keys := map[string]bool{}
					for _, record := range r.records {
						keys[record.PartitionKey] = true
					}
					if first, second := r.records[k-1], r.records[k]; first.PartitionKey != second.PartitionKey || !bytes.Equal(first.Data, second.Data) || len(keys) != parts {
						t.Error("the repeated part is not the same record, or another part has its key")
					}
					wantSame(t, "parts", slices.Concat(slices.Delete(r.texts, k, k+1)...), resumeChunk.JSON)
				})
			}
		}
	}
}

// at makes the n-th PutRecord fail.
func at(n int, failure fakekinesis.Fault) func(int) fakekinesis.Fault {
	return func(i int) fakekinesis.Fault {
		if i == n {
			return failure
		}
		return fakekinesis.OK
	}
}
