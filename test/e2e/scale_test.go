package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"out_kinesis_agg/test/chunktest"
	"out_kinesis_agg/test/fakekinesis"
	"out_kinesis_agg/test/harness"
)

// TestInstances_TwoHundred: 200 [OUTPUT] sections in one engine, each with its stream,
// share nothing: each stream gets each record once, under its instance's options.
func TestInstances_TwoHundred(t *testing.T) {
	t.Parallel()
	const instances, threads, repeat, rounds = 200, 8, 1, 2
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	c := chunktest.AccessLog(50, 20)
	args := [][]string{{"--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(repeat), "--rounds", strconv.Itoa(rounds)}}
	for i := range instances {
		args = append(args, faultAt(server.URL(), fmt.Sprintf("stream=s-%d", i), fmt.Sprintf("fixed_partition_key=k-%d", i)))
	}
	run := runHost(t, fixture.host, append(args, chunkFile(t, "app", c.Bytes))...)
	wantOutcomes(t, run, instances*repeat*rounds, 0, 0)
	wantTimes(t, server.Records(), c.JSON, instances*repeat*rounds)
	puts := map[string]int{}
	for i, r := range server.Records() {
		if r.PartitionKey != strings.Replace(r.Stream, "s-", "k-", 1) {
			t.Errorf("record %d: stream %s, key %s", i, r.Stream, r.PartitionKey)
		}
		puts[r.Stream]++
	}
	for i := range instances {
		if n := puts[fmt.Sprintf("s-%d", i)]; n != repeat*rounds {
			t.Errorf("stream s-%d: %d PutRecords, want %d", i, n, repeat*rounds)
		}
	}
}

// TestWorkers_ThirtyTwo: 32 threads flush at once, which a server that holds the
// first 32 requests until all are there sees, and open no more than two connections each: a
// thread may dial while another one releases its connection.
func TestWorkers_ThirtyTwo(t *testing.T) {
	t.Parallel()
	const threads, flushes = 32, 640
	together := make(chan struct{})
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n == threads {
			close(together)
		}
		return fakekinesis.Hold(together)
	}})
	defer server.Close()
	run := runHost(t, fixture.host, []string{"--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(flushes)},
		faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, flushes, 0, 0)
	wantTimes(t, server.Records(), faultChunk.JSON, flushes)
	if n := server.Counts().Connections; n > 2*threads {
		t.Errorf("%d connections for %d threads", n, threads)
	}
}

// manyTags returns how many tags TestTags_Many uses: a number that a test run can
// afford, or the one in OUT_KINESIS_AGG_TAGS.
func manyTags(t *testing.T) int {
	t.Helper()
	text := os.Getenv("OUT_KINESIS_AGG_TAGS")
	if text == "" {
		return 40_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 10_000 {
		t.Fatalf("OUT_KINESIS_AGG_TAGS=%s: want a number of tags, 10000 or more", text)
	}
	return n
}

// TestTags_Many: many tags, with $TAG in stream and key, need no more memory,
// connections or log lines than a few do, both if Kinesis accepts the records and
// if each tag's stream is missing. With OUT_KINESIS_AGG_TAGS=100000 it takes a
// minute or two.
func TestTags_Many(t *testing.T) {
	t.Parallel()
	const threads, few = 8, 2_000
	many := manyTags(t)
	for _, tt := range []struct {
		name  string
		fault fakekinesis.Fault
		ok    bool
		many  int
		// maxTagBytes is less than what a plugin needs that keeps one string a tag,
		// and in the second case one error a tag. A tag is 100 bytes, and so are
		// stream and key.
		maxTagBytes int
		maxLines    int
	}{
		{"delivered", fakekinesis.OK, true, many, 84, 10},
		{"missing streams", fakekinesis.Error(400, "ResourceNotFoundException", "no such stream"), false, many * 3 / 10, 160, 5_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			peak := map[int]int{}
			for _, tags := range []int{few, tt.many} {
				names := make(chan string, 1024)
				server := fakekinesis.Start(fakekinesis.Options{
					Fault:    func(int, *fakekinesis.Request) fakekinesis.Fault { return tt.fault },
					OnRecord: func(r fakekinesis.Record) { names <- r.Stream + " " + r.PartitionKey },
				})
				distinct := make(chan int)
				go func() {
					seen := map[string]bool{}
					for name := range names {
						stream, key, _ := strings.Cut(name, " ")
						if stream != key {
							t.Errorf("stream %s, key %s", stream, key)
						}
						seen[name] = true
					}
					distinct <- len(seen)
				}()
				run, err := harness.Host{
					Path: fixture.host,
					Args: slices.Concat([]string{fixture.plugin, "--threads", strconv.Itoa(threads), "--stream", tagStream(t, tags)},
						faultAt(server.URL(), "stream=$TAG", "fixed_partition_key=$TAG")),
					OnEvent: func(e harness.Event) bool { return e.Word != "flush" },
				}.Run(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				counts := server.Counts()
				server.Close()
				close(names)
				got := <-distinct
				checkLog(t, run)
				if end := run.End(); tt.ok && (end.Int("ok") != tags || got != tags) || !tt.ok && end.Int("retry") != tags {
					t.Fatalf("%d tags: %v, %d in Kinesis", tags, end.Fields, got)
				}
				if counts.Connections > 2*threads {
					t.Errorf("%d tags: %d connections for %d threads", tags, counts.Connections, threads)
				}
				if n := strings.Count(run.Stderr, "\n"); n > tt.maxLines {
					t.Errorf("%d tags: %d lines in the log, want at most %d", tags, n, tt.maxLines)
				}
				peak[tags] = run.All("round")[0].Int("peak_kib")
				t.Logf("%d tags: %d KiB, %d connections, %d bytes of log", tags, peak[tags], counts.Connections, len(run.Stderr))
			}
			if growth := peak[tt.many] - peak[few]; growth > tt.many*tt.maxTagBytes/1024 {
				t.Errorf("%d KiB more for %d tags than for %d, want at most %d bytes a tag", growth, tt.many, few, tt.maxTagBytes)
			}
		})
	}
}

// tagStream writes a chunk for each of n tags of 100 bytes to a file, as the host's
// --stream reads it.
func tagStream(t *testing.T, n int) string {
	t.Helper()
	events := chunktest.New().Event(chunktest.EventTime{Sec: 1}, chunktest.M("log", "x")).Bytes()
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "0 %0100d %d\n", i, len(events))
		b.Write(events)
	}
	path := filepath.Join(t.TempDir(), "stream")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestLibraries_TwoInOneProcess: two copies of the library, and so two Go runtimes, in one
// process, flush at the same time and are loaded again.
func TestLibraries_TwoInOneProcess(t *testing.T) {
	t.Parallel()
	const threads, repeat, rounds = 4, 50, 5
	library, err := os.ReadFile(fixture.plugin)
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "out_other.so")
	if err := os.WriteFile(other, library, 0o700); err != nil {
		t.Fatal(err)
	}
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	run := runHost(t, fixture.host, []string{"--twin", other, "--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(repeat),
		"--rounds", strconv.Itoa(rounds)},
		faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, 2*rounds*repeat, 0, 0)
	wantTimes(t, server.Records(), faultChunk.JSON, 2*rounds*repeat)
	if n := len(run.All("register")); n != 2*rounds {
		t.Errorf("%d registrations", n)
	}
}
