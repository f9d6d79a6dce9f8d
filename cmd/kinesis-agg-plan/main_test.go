package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"out_kinesis_agg/internal/plan"
	"out_kinesis_agg/internal/version"
)

func command(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = run(args, &out, &err)
	return code, out.String(), err.String()
}

func TestRun_JSON(t *testing.T) {
	code, out, stderr := command("--lines", "100", "--line-bytes", "300", "--max-record-size", "512K", "--json")
	var p plan.Plan
	if err := json.Unmarshal([]byte(out), &p); code != 0 || err != nil || stderr != "" {
		t.Fatalf("exit %d, %v, %s", code, err, stderr)
	}
	if p.Input.MaxRecordBytes != 512_000 || p.Aggregated.RecordsPerSecond != 0.2 {
		t.Errorf("got %+v", p)
	}
}

// TestRun_Units: numbers are accepted as people write them.
func TestRun_Units(t *testing.T) {
	_, want, _ := command("--lines", "10000", "--line-bytes", "1000", "--flush", "5", "--throttled", "0.05", "--retention", "168", "--outage", "24", "--compression", "5", "--batch-size", "100K")
	for _, args := range []string{
		"--lines 10k --line-bytes 1KB --flush 5s --throttled 5% --retention 7d --outage 1d --compression 5x --batch-size 100K",
		"-n 0.01M --line-bytes 1k -f 5000ms --throttled 5% --retention 168h --outage 24h --compression 5 --batch-size 100KB",
	} {
		if code, out, stderr := command(strings.Fields(args)...); code != 0 || out != want {
			t.Errorf("%s: exit %d, %s%s, want %s", args, code, out, stderr, want)
		}
	}
}

func TestRun_Words(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}} {
		if code, out, _ := command(args...); code != 0 || out != usage {
			t.Errorf("%q: exit %d, %s", args, code, out)
		}
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if code, out, _ := command(args...); code != 0 || out != "kinesis-agg-plan "+version.String()+"\n" {
			t.Errorf("%q: exit %d, %s", args, code, out)
		}
	}
}

// TestRun_OwnPrices: printed prices can be edited and read again.
func TestRun_OwnPrices(t *testing.T) {
	_, prices, _ := command("--print-prices")
	file := filepath.Join(t.TempDir(), "prices.json")
	edited := strings.NewReplacer("us-east-1", "eu-south-9", `"shard_hour": 0.015`, `"shard_hour": 1`).Replace(prices)
	if err := os.WriteFile(file, []byte(edited), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := command("--lines", "1", "--line-bytes", "100", "--prices", file)
	if code != 0 || !strings.Contains(out, "USD per month, eu-south-9\nprovisioned                               730.0") {
		t.Errorf("exit %d: %s%s", code, stderr, out)
	}
}

func TestRun_Errors(t *testing.T) {
	damaged := filepath.Join(t.TempDir(), "damaged.json")
	if err := os.WriteFile(damaged, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "lines: 0 is not between"},
		{[]string{"--lines", "x"}, 2, "-lines"},
		{[]string{"--lines", "10q"}, 2, "units g, k, m"},
		{[]string{"--flush", "soon"}, 2, "units m, ms, s"},
		{[]string{"--retention", "1.5h"}, 2, "not a whole number of hours"},
		{[]string{"--max-record-size", "big"}, 2, "not a size such as"},
		{[]string{"--max-record-size", "99999G"}, 2, "not a size such as"},
		{[]string{"--colour"}, 2, "-colour"},
		{[]string{"logs"}, 2, `"logs" is not a flag`},
		{[]string{"--lines", "1", "--line-bytes", "1", "--prices", damaged}, 1, damaged + ": plan: prices: "},
		{[]string{"--prices", damaged + "x"}, 1, "no such file"},
	} {
		code, out, stderr := command(tt.args...)
		if code != tt.code || !strings.Contains(stderr, tt.want) || out != "" {
			t.Errorf("%q: exit %d, %q, %q", tt.args, code, stderr, out)
		}
	}
}

// TestUsage_NamesEveryFlag: help lists the flags that the command accepts, in 80
// columns.
func TestUsage_NamesEveryFlag(t *testing.T) {
	code, out, _ := command("--help")
	if code != 0 || out != usage {
		t.Errorf("exit %d: %s", code, out)
	}
	for line := range strings.SplitSeq(usage, "\n") {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
		if name, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(name, "--") {
			if _, _, stderr := command(name, "?"); strings.Contains(stderr, "not defined") {
				t.Errorf("%s is not a flag", name)
			}
		}
	}
}

var update = flag.Bool("update", false, "rewrite the examples in docs/planning.md")

// TestDocs_ExamplesAreCurrent runs the commands of docs/planning.md and compares their
// output with what the document shows. `make docs` rewrites it.
func TestDocs_ExamplesAreCurrent(t *testing.T) {
	const page = "../../docs/planning.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile("(?s)(build/kinesis-agg-plan (--[^\n]*)\n```\n\n```text\n)(.*?)(```)")
	examples := 0
	current := example.ReplaceAllStringFunc(string(text), func(s string) string {
		examples++
		m := example.FindStringSubmatch(s)
		code, out, stderr := command(strings.Fields(m[2])...)
		if code != 0 {
			t.Errorf("%s: exit %d: %s", m[2], code, stderr)
		}
		return m[1] + out + m[4]
	})
	if examples == 0 {
		t.Error("the page has no example")
	}
	if current == string(text) {
		return
	}
	if !*update {
		t.Fatalf("%s does not show the output of its commands: run `make docs`", page)
	}
	if err := os.WriteFile(page, []byte(current), 0o644); err != nil {
		t.Fatal(err)
	}
}
