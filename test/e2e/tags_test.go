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

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

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
