package fleet

import (
	"flag"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the tables and pictures in docs/")

// TestDocs_Current compares the tables and pictures in docs/ with what the code
// gives. The simulations have fixed seeds. `make docs` rewrites them.
func TestDocs_Current(t *testing.T) {
	if testing.Short() || raceDetector {
		t.Skip("simulates for ten seconds, and for minutes with the race detector")
	}
	if runtime.GOARCH != "amd64" {
		t.Skip("other processors round floating-point numbers differently, so that the last digits can differ")
	}
	steadyTable, steadyPicture, err := steady()
	if err != nil {
		t.Fatal(err)
	}
	outageTable, outagePicture, err := outages()
	if err != nil {
		t.Fatal(err)
	}
	restartTable, err := restarts()
	if err != nil {
		t.Fatal(err)
	}
	costPicture, err := costs()
	if err != nil {
		t.Fatal(err)
	}
	const page = "../../docs/fleet.md"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	current := string(text)
	for name, table := range map[string]string{"steady": steadyTable, "outage": outageTable, "restart": restartTable} {
		block := regexp.MustCompile(`(?s)(<!-- ` + name + `: written by .make docs. -->\n).*?(<!-- end of ` + name + ` -->)`)
		if !block.MatchString(current) {
			t.Fatalf("%s has no block %q", page, name)
		}
		current = block.ReplaceAllString(current, "${1}\n"+table+"\n${2}")
	}
	for name, want := range map[string]string{
		page:                           current,
		"../../docs/planning-cost.svg": costPicture,
		"../../docs/fleet-delay.svg":   steadyPicture,
		"../../docs/fleet-outage.svg":  outagePicture,
	} {
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != want {
			t.Errorf("%s is not current (first difference at byte %d): run `make docs`",
				strings.TrimPrefix(name, "../../"), differ(string(got), want))
		}
	}
}

// differ returns the index of the first different byte.
func differ(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
