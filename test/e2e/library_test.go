package e2e

import (
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

// TestLibrary_LoadedRepeatedly loads, runs and unloads the library over and over in one process,
// as hot reloads do, with one instance that fails and two that work. Memory,
// threads and connections do not grow.
func TestLibrary_LoadedRepeatedly(t *testing.T) {
	t.Parallel()
	const rounds, instances, threads, repeat = 200, 2, 4, 3
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	chunks := []chunktest.Corpus{chunktest.AccessLog(40, 50), chunktest.Kubernetes(40, 50)}
	args := slices.Concat(
		[]string{fixture.plugin, "--rounds", strconv.Itoa(rounds), "--threads", strconv.Itoa(threads), "--repeat", strconv.Itoa(repeat)},
		faultAt(server.URL()), faultAt(server.URL(), "max_record_size=11M"), faultAt(server.URL(), "max_record_size=5000"),
		chunkFile(t, "app.access", chunks[0].Bytes), chunkFile(t, "app.kubernetes", chunks[1].Bytes),
	)
	maxOpen := 0
	run, err := harness.Host{Path: fixture.host, Args: args, OnEvent: func(e harness.Event) bool {
		if e.Word == "round" {
			maxOpen = max(maxOpen, server.Counts().OpenConnections)
		}
		return true
	}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	checkLog(t, run)
	flushes := rounds * repeat * len(chunks)
	if end := run.End(); end.Int("ok") != instances*flushes || end.Int("skipped") != flushes || end.Int("error")+end.Int("retry") != 0 {
		t.Fatalf("flushes: %v; log:\n%s", end.Fields, run.Stderr)
	}
	logLine(t, run, "[error]", "max_record_size", "11M")
	wantTimes(t, server.Records(), slices.Concat(chunks[0].JSON, chunks[1].JSON), rounds*repeat*instances)

	// A worker has a connection to each instance's endpoint, and none is left after
	// a round. The next round may have begun when they are counted.
	const perRound = instances * threads
	if n := server.Counts().Connections; n > rounds*perRound || maxOpen > 2*perRound {
		t.Errorf("%d connections, at most %d at a time, want %d a round", n, maxOpen, perRound)
	}
	t.Logf("at most %d connections open after a round", maxOpen)

	states := run.All("round")
	mean := func(field string, from, to int) float64 {
		sum := 0
		for _, s := range states[from:to] {
			sum += s.Int(field)
		}
		return float64(sum) / float64(to-from)
	}
	for field, most := range map[string]float64{
		// A Go runtime that is never idle may start a thread late, and a
		// connection closes a moment after its instance.
		"rss_kib": 1.05, "threads": 1.25, "fds": 1.25,
	} {
		second, last := mean(field, rounds/4, rounds/2), mean(field, 3*rounds/4, rounds)
		t.Logf("%s: %.1f in the second quarter, %.1f in the last", field, second, last)
		if last > second*most {
			t.Errorf("%s grows from %.1f to %.1f", field, second, last)
		}
	}
}

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
