package e2e

import (
	"fmt"
	"slices"
	"testing"

	"out_kinesis_agg/test/fakekinesis"
	"out_kinesis_agg/test/harness"
)

// parts is the number of records of a chunk in the tests of this file.
const parts = 6

// flushSplit flushes a chunk of that many parts until it is delivered, and returns
// the parts that the endpoint accepted, in order.
func flushSplit(t *testing.T, fault func(n int) fakekinesis.Fault, options ...string) (counts fakekinesis.Counts, got [][]string, flushes []harness.Event) {
	t.Helper()
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault { return fault(n) }})
	defer server.Close()
	f := faultAt(server.URL(), append(options, "max_record_size=1000", "request_timeout=2s")...)
	run := runHost(t, fixture.host, []string{"--retry", "100"}, f, chunkFile(t, faultTag, resumeChunk.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	checkLog(t, run)
	for _, r := range server.Records() {
		got = append(got, texts(t, []fakekinesis.Record{r}))
	}
	return server.Counts(), got, run.All("flush")
}

// faultAt returns the arguments of an instance as in TestFaults.
func faultAt(url string, options ...string) []string { return fault{options: options}.instance(url) }

var resumeChunk = numbered(120, contents)

func never(int) fakekinesis.Fault { return fakekinesis.OK }

// TestResume: of a split chunk whose k-th part fails, the retry sends that part
// and those after it, and none before.
func TestResume(t *testing.T) {
	t.Parallel()
	_, whole, _ := flushSplit(t, never)
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
				counts, got, flushes := flushSplit(t, at(k, failure), "auto_retry_requests=false")
				if counts.PutRecords != parts+1 || len(flushes) != 2 {
					t.Errorf("%d PutRecords in %d flushes, want %d in 2", counts.PutRecords, len(flushes), parts+1)
				}
				wantSame(t, "parts", slices.Concat(got...), resumeChunk.JSON)
			})
		}
	}
	t.Run("each part fails twice", func(t *testing.T) {
		t.Parallel()
		counts, got, flushes := flushSplit(t, func(n int) fakekinesis.Fault {
			if n%3 != 0 {
				return fakekinesis.Status(503)
			}
			return fakekinesis.OK
		})
		if counts.PutRecords != 3*parts || len(flushes) != 2*parts+1 {
			t.Errorf("%d PutRecords in %d flushes, want %d in %d", counts.PutRecords, len(flushes), 3*parts, 2*parts+1)
		}
		wantSame(t, "parts", slices.Concat(got...), resumeChunk.JSON)
	})
}

// TestResponseLost_RepeatsOnePart: Kinesis accepted the k-th part and the response
// was lost: that part arrives twice, and every other part once.
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
					counts, got, _ := flushSplit(t, at(k, failure), "auto_retry_requests="+auto)
					if counts.PutRecords != parts+1 || counts.Accepted != parts+1 {
						t.Fatalf("%d PutRecords, %d accepted, want %d", counts.PutRecords, counts.Accepted, parts+1)
					}
					wantSame(t, "the part that arrived twice", got[k], got[k-1])
					wantSame(t, "parts", slices.Concat(slices.Delete(got, k, k+1)...), resumeChunk.JSON)
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
