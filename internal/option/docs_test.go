package option

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the option table in docs/options.md")

// TestTable_MatchesDocs compares the tables in docs/options.md with this
// package's. With -update it rewrites the file instead.
func TestTable_MatchesDocs(t *testing.T) {
	matchDocs(t, "options", markdown(Table()))
	matchDocs(t, "options of other programs", foreignMarkdown())
}

func matchDocs(t *testing.T, name, want string) {
	const file = "../../docs/options.md"
	begin, end := "<!-- "+name+": written by `make docs` -->\n", "<!-- end of "+name+" -->\n"
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := bytes.Cut(old, []byte(begin))
	table, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		t.Fatalf("%s does not contain the lines %q and %q", file, begin, end)
	}
	if string(table) == want {
		return
	}
	if !*update {
		t.Fatalf("the option table in %s is out of date: run `make docs`", file)
	}
	text := string(before) + begin + want + end + string(after)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// foreignMarkdown returns the options of other programs as Markdown.
func foreignMarkdown() string {
	var b strings.Builder
	b.WriteString("\n| option | response |\n| --- | --- |\n")
	for _, o := range foreignOptions {
		kind := "warning"
		if o.refuses {
			kind = "error"
		}
		if o.accepted != "" {
			kind += " unless `" + strings.ReplaceAll(o.accepted, " ", "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s: %s |\n", strings.ReplaceAll(o.names, " ", "`, `"), kind, o.text)
	}
	b.WriteString("\n")
	return b.String()
}

// markdown returns the table as Markdown.
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
