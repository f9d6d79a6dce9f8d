package docs

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/harness"
)

// consumer is the program around the Go code of reading.md: it gives each record to
// that code and prints what the code passes to handle.
const consumer = `package main

import (
	"errors"
	"fmt"

	"out_kinesis_agg/kpl"
)

type kinesisRecord struct{ Data []byte }

func handle(data []byte) error {
	fmt.Printf("%%s\n", data)
	return nil
}

func each(record kinesisRecord) error {
%s	return nil
}

func main() {
	aggregated := kpl.AppendHead(nil, "key")
	for _, data := range []string{"first", "second"} {
		open := len(aggregated)
		aggregated = kpl.OpenRecord(aggregated, len(data))
		start := len(aggregated)
		aggregated = kpl.CloseRecord(append(aggregated, data...), open, start)
	}
	aggregated = kpl.Seal(aggregated)
	damaged := append([]byte(nil), aggregated...)
	damaged[len(damaged)-1]++
	for _, data := range [][]byte{aggregated, []byte("plain"), damaged} {
		if err := each(kinesisRecord{data}); err != nil {
			fmt.Println("error")
		}
	}
}
`

// TestReading_GoRuns: the Go code of reading.md compiles in another module, which
// requires this one with the command of that page, and takes each kind of record
// apart.
func TestReading_GoRuns(t *testing.T) {
	if testing.Short() {
		t.Skip("this test compiles a program: run it without -short")
	}
	text := documents(t)["docs/reading.md"]
	_, section, _ := strings.Cut(text, "\n## Go\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, blocks := split(section)
	code := map[string]string{}
	for _, b := range blocks {
		code[b.language] += b.text
	}
	if code["go"] == "" || code["sh"] == "" {
		t.Fatal("the section Go of reading.md has no block of go or of sh")
	}
	root, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	module := filepath.Join(dir, "consumer")
	if err := errors.Join(
		os.Symlink(root, filepath.Join(dir, "out_kinesis_agg")),
		os.Mkdir(module, 0o777),
		os.WriteFile(filepath.Join(module, "main.go"), fmt.Appendf(nil, consumer, code["go"]), 0o666),
	); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-ec", "go mod init consumer\n"+code["sh"]+"\ngo run .")
	cmd.Dir = module
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.Output()
	if want := "first\nsecond\nplain\nerror\n"; err != nil || string(out) != want {
		t.Errorf("%v: got %q, want %q\n%s", err, out, want, log.String())
	}
}
