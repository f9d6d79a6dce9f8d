package decompress_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/kpl/decompress"
)

func TestLines_Texts(t *testing.T) {
	for _, tt := range []struct {
		text  string
		lines []string
		batch bool
	}{
		{`{"n":1}`, []string{`{"n":1}`}, false}, // one log record
		{"{\"n\":1}\n", []string{`{"n":1}`}, true},
		{"{\"n\":1}\n{\"n\":2}\n", []string{`{"n":1}`, `{"n":2}`}, true},
		{"{\"n\":1}\n{\"n\":2}", []string{`{"n":1}`, `{"n":2}`}, false},
		{"", []string{""}, false},
		{"\n", []string{""}, true},
		{"\n\n", []string{"", ""}, true},
		{"\na\n\nb", []string{"", "a", "", "b"}, false},
		{"a\r\nb\r\n", []string{"a\r", "b\r"}, true},
		{"\r", []string{"\r"}, false},
		{" a \n\tb\n", []string{" a ", "\tb"}, true},
		{"{\"log\":\"one\\ntwo\u2028\u0085\"}\n", []string{"{\"log\":\"one\\ntwo\u2028\u0085\"}"}, true},
	} {
		var got []string
		for line := range decompress.Lines([]byte(tt.text)) {
			got = append(got, string(line))
		}
		if !slices.Equal(got, tt.lines) {
			t.Errorf("Lines(%q): %q, want %q", tt.text, got, tt.lines)
		}
		if batch := decompress.IsBatch([]byte(tt.text)); batch != tt.batch {
			t.Errorf("IsBatch(%q): %v", tt.text, batch)
		}
	}
	for line := range decompress.Lines(nil) {
		if len(line) > 0 {
			t.Errorf("Lines(nil): %q", line)
		}
	}
}

func TestLines_Stop(t *testing.T) {
	count := 0
	for range decompress.Lines([]byte("a\nb\nc\n")) {
		if count++; count == 2 {
			break
		}
	}
	if count != 2 {
		t.Errorf("%d lines after a break in the second", count)
	}
}

// An append to a line must not overwrite the next one.
func TestLines_AppendLeavesText(t *testing.T) {
	text := []byte("one\ntwo\nthree and room after it"[:13])
	var all [][]byte
	for line := range decompress.Lines(text) {
		all = append(all, append(line, "XXXX"...))
	}
	if string(text) != "one\ntwo\nthree" {
		t.Errorf("text is changed to %q", text)
	}
	if got := fmt.Sprintf("%s", all); got != "[oneXXXX twoXXXX threeXXXX]" {
		t.Error(got)
	}
}

func TestLines_DoesNotAllocate(t *testing.T) {
	text := bytes.Repeat([]byte("{\"log\":\"a line\"}\n"), 1000)
	count := 0
	allocs := testing.AllocsPerRun(10, func() {
		for line := range decompress.Lines(text) {
			count += len(line)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations for 1000 lines", allocs)
	}
}

func FuzzLines(f *testing.F) {
	for _, text := range []string{"", "\n", "a", "a\n", "a\r\n\nb", "\n\n\x00\xff"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		var lines [][]byte
		for line := range decompress.Lines(text) {
			if bytes.IndexByte(line, '\n') >= 0 {
				t.Fatalf("a line contains a newline: %q", line)
			}
			lines = append(lines, line)
		}
		joined := bytes.Join(lines, []byte("\n"))
		if decompress.IsBatch(text) {
			joined = append(joined, '\n')
		}
		if !bytes.Equal(joined, before) || !bytes.Equal(text, before) {
			t.Fatalf("the lines of %q join to %q", before, joined)
		}
	})
}

func BenchmarkLines(b *testing.B) {
	text := []byte(strings.Repeat(strings.Repeat("x", 300)+"\n", 1000))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		for line := range decompress.Lines(text) {
			_ = line
		}
	}
}

func ExampleLines() {
	batch := []byte("{\"log\":\"one\"}\n{\"log\":\"two\"}\n")
	single := []byte(`{"log":"three"}`)
	for _, text := range [][]byte{batch, single} {
		for line := range decompress.Lines(text) {
			fmt.Printf("%s\n", line)
		}
	}
	// Output:
	// {"log":"one"}
	// {"log":"two"}
	// {"log":"three"}
}
