// Command engines runs the tests of test/e2e that need Fluent Bit with one engine,
// and prints the column of the table in docs/engines.md for it.
//
//	make engine FLUENT_BIT=/path/to/fluent-bit
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"regexp"
	"strings"

	"out_kinesis_agg/test/kit/harness"
)

// groups are the rows of the table, and the tests of each. A test belongs to the
// first group that matches.
var groups = []struct {
	name  string
	tests *regexp.Regexp
}{
	{"delivery: `tail`, `dummy`, `forward`, `exec`", regexp.MustCompile(`_(Tail|Dummy|Forward|ExecInput|OnePutRecordPerChunk|OrderPerKey)$`)},
	{"faults, a killed engine, stop with `SIGTERM`", regexp.MustCompile(`_(UnderFaults|Killed|Stopped|Term|Drain|Signals|FullDisk|RetryWaits|MemoryDuringOutage)`)},
	{"split chunks, identical chunks, resume", regexp.MustCompile(`Identical|Split|Resume`)},
	{"metrics, log file", regexp.MustCompile(`Metrics|LogFile`)},
	{"workers: one by default, several", regexp.MustCompile(`DefaultWorker|Workers$`)},
	{"a second output whose start fails", regexp.MustCompile(`SecondOutputFails`)},
	{"hot reload under load", regexp.MustCompile(`_Reload(UnderLoad)?$|Reload_Library`)},
	{"hot reload by HTTP, with another configuration", regexp.MustCompile(`Reload_Changed`)},
	{"hot reload while chunks wait for a retry, and with a mistake", regexp.MustCompile(`Reload_(Waiting|Bad)`)},
	{"hot reload of YAML with a processor", regexp.MustCompile(`Reload_YAML`)},
	{"configurations of the documents and [conf/](../conf)", regexp.MustCompile(`Samples`)},
	{"dead letters", regexp.MustCompile(`DeadLetters`)},
	{"everything else", regexp.MustCompile(``)},
}

// result counts the tests of a group by their outcome.
type result struct {
	passed, skipped int
	failed          []string
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("engines: ")
	engine, err := harness.FindFluentBit()
	if err != nil {
		log.Fatal(err)
	}
	version, err := exec.Command(engine, "--version").Output()
	if err != nil {
		log.Fatalf("%s --version: %v", engine, err)
	}
	name := regexp.MustCompile(`v?(\d+\.\d+\.\d+)`).FindSubmatch(version)
	if name == nil {
		log.Fatalf("%s --version prints no version: %s", engine, version)
	}

	cmd := exec.Command("go", "test", "-count=1", "-json", "-timeout", "60m", "-run", "FluentBit", "./test/e2e")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		log.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		log.Fatal(err)
	}
	results, err := collect(out)
	if err != nil {
		log.Fatal(err)
	}
	ended := cmd.Wait()
	fmt.Print(table(string(name[1]), results))
	if ended != nil {
		log.Fatalf("go test: %v", ended)
	}
}

// collect reads what `go test -json` prints, one result for each group.
func collect(in io.Reader) ([]result, error) {
	results := make([]result, len(groups))
	for events := json.NewDecoder(in); ; {
		var event struct{ Action, Test, Output string }
		if err := events.Decode(&event); err == io.EOF {
			return results, nil
		} else if err != nil {
			return nil, fmt.Errorf("output of go test: %w", err)
		}
		if event.Test == "" || strings.Contains(event.Test, "/") {
			continue
		}
		for i, group := range groups {
			if !group.tests.MatchString(event.Test) {
				continue
			}
			r := &results[i]
			switch event.Action {
			case "pass":
				r.passed++
			case "skip":
				r.skipped++
			case "fail":
				r.failed = append(r.failed, event.Test)
			}
			break
		}
	}
}

// table is one column of the table.
func table(version string, results []result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n| --- | --- |\n", version)
	for i, r := range results {
		cell := "not run"
		switch {
		case len(r.failed) > 0:
			cell = "no: " + strings.Join(r.failed, ", ")
		case r.passed > 0 && r.skipped > 0:
			cell = fmt.Sprintf("yes (%d of %d tests skipped)", r.skipped, r.passed+r.skipped)
		case r.passed > 0:
			cell = "yes"
		case r.skipped > 0:
			cell = "no: skipped"
		}
		fmt.Fprintf(&b, "| %s | %s |\n", groups[i].name, cell)
	}
	return b.String()
}
