package option

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the option table in README.md")

// TestREADMETableIsCurrent holds the README's option table to this package's.
func TestREADMETableIsCurrent(t *testing.T) {
	const file = "../../README.md"
	const begin, end = "<!-- options: written by `make readme` -->\n", "<!-- end of options -->\n"
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := bytes.Cut(old, []byte(begin))
	table, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		t.Fatalf("README.md has no lines %q and %q", begin, end)
	}
	want := markdown(Table())
	if string(table) == want {
		return
	}
	if !*update {
		t.Fatal("the option table in README.md is not current: run `make readme`")
	}
	text := string(before) + begin + want + end + string(after)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// markdown is the table as Markdown.
func markdown(options []Option) string {
	var b strings.Builder
	b.WriteString("\n| option | default | value | meaning |\n| --- | --- | --- | --- |\n")
	for _, o := range options {
		name := "`" + o.Name + "`"
		for _, alias := range o.Aliases {
			name += ", also `" + alias + "`"
		}
		def := ""
		if o.Default != "" {
			def = "`" + o.Default + "`"
		}
		if o.Required() {
			def = "required"
		}
		row := []string{name, def, o.Allowed(), o.Help}
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
	}
	b.WriteString("\n")
	return b.String()
}
