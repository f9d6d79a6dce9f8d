// Package docs tests the documents: their links, and the blocks that people
// copy. Package e2e loads their configurations into the plugin.
package docs

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
)

// root is the folder of the module.
var root = os.DirFS("../..")

// documents returns the Markdown files that people read, by path.
func documents(t *testing.T) map[string]string {
	t.Helper()
	files, err := read(root)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(fsys fs.FS) (map[string]string, error) {
	files := map[string]string{}
	for _, pattern := range []string{"*.md", "docs/*.md", "examples/*.md", "examples/*/*.md"} {
		names, err := fs.Glob(fsys, pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				return nil, err
			}
			files[name] = string(text)
		}
	}
	return files, nil
}

// block is a fenced code block.
type block struct {
	line           int // of the text in its file, from 1
	language, text string
}

// split separates the fenced code blocks of a document from its prose, in
// which their lines are empty. A block in a list loses its indentation.
func split(text string) (prose []string, blocks []block) {
	var open *block
	var indent string
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			open = &block{line: i + 2, language: strings.TrimPrefix(trimmed, "```")}
			indent = line[:len(line)-len(trimmed)]
			line = ""
		case open != nil && trimmed == "```":
			blocks = append(blocks, *open)
			open = nil
			line = ""
		case open != nil:
			open.text += strings.TrimPrefix(line, indent) + "\n"
			line = ""
		}
		prose = append(prose, line)
	}
	return prose, blocks
}

var (
	link     = regexp.MustCompile(`\]\(([^()\s]+(?:\([^()]*\))?)\)`)
	code     = regexp.MustCompile("`[^`]*`")
	heading  = regexp.MustCompile(`^#{1,6} +(.*?) *#*$`)
	linkText = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors returns the anchors that GitHub gives to the headings of a document.
func anchors(text string) map[string]bool {
	all := map[string]bool{}
	prose, _ := split(text)
	for _, line := range prose {
		m := heading.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', unicode.IsLetter(r), unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linkText.ReplaceAllString(m[1], "$1"))
		for n, first := 1, slug; all[slug]; n++ {
			slug = fmt.Sprintf("%s-%d", first, n)
		}
		all[slug] = true
	}
	return all
}

// brokenLinks returns a line for each relative link to a file or a heading that
// does not exist.
func brokenLinks(fsys fs.FS) ([]string, error) {
	files, err := read(fsys)
	if err != nil {
		return nil, err
	}
	var broken []string
	for name, text := range files {
		prose, _ := split(text)
		for i, line := range prose {
			for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(line, ""), -1) {
				if strings.HasPrefix(m[1], "https://") {
					continue
				}
				target, anchor, _ := strings.Cut(m[1], "#")
				file := name
				if target != "" {
					file = path.Join(path.Dir(name), target)
				}
				_, err := fs.Stat(fsys, file)
				if err != nil || anchor != "" && !anchors(files[file])[anchor] {
					broken = append(broken, fmt.Sprintf("%s:%d: %s", name, i+1, m[1]))
				}
			}
		}
	}
	slices.Sort(broken)
	return broken, nil
}

func TestLinks_Exist(t *testing.T) {
	broken, err := brokenLinks(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range broken {
		t.Errorf("broken link: %s", line)
	}
}

// TestLinks_BrokenFound proves that TestLinks_Exist can fail.
func TestLinks_BrokenFound(t *testing.T) {
	fsys := fstest.MapFS{
		"README.md": {Data: []byte("# A\n[1](docs/a.md#b-c) [2](docs/no.md) [3](#a) [4](#b)\n`[5](no)`\n```\n[6](no)\n```\n[7](conf)\n")},
		"docs/a.md": {Data: []byte("## B, `C`?\n## D\n## D\n```\n## E\n```\n[1](../README.md#a) [2](#d-1) [3](#e) [4](README.md)\n")},
		"conf/x":    {},
	}
	got, err := brokenLinks(fsys)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"README.md:2: #b", "README.md:2: docs/no.md", "docs/a.md:7: #e", "docs/a.md:7: README.md"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestBlocks_Parse: what people copy has no syntax errors.
func TestBlocks_Parse(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	parsed := map[string]int{}
	for name, text := range documents(t) {
		_, blocks := split(text)
		for _, b := range blocks {
			var err error
			switch b.language {
			case "json":
				err = json.Unmarshal([]byte(b.text), new(any))
			case "go":
				_, err = parser.ParseFile(token.NewFileSet(), "", "package p\nfunc f() error {\n"+b.text+"return nil }", 0)
			case "sh":
				check := exec.Command(shell, "-n")
				check.Stdin = strings.NewReader(b.text)
				var out []byte
				if out, err = check.CombinedOutput(); err != nil {
					err = fmt.Errorf("%w: %s", err, out)
				}
			default:
				continue
			}
			parsed[b.language]++
			if err != nil {
				t.Errorf("%s:%d: %s: %v", name, b.line, b.language, err)
			}
		}
	}
	for _, language := range []string{"json", "go", "sh"} {
		if parsed[language] == 0 {
			t.Errorf("no document has a block of %s", language)
		}
	}
}

// TestReading_WorkedRecord: the aggregated record that reading.md shows in hexadecimal
// digits is valid, and its user records are those of the table below it.
func TestReading_WorkedRecord(t *testing.T) {
	text := documents(t)["docs/reading.md"]
	_, blocks := split(text)
	i := slices.IndexFunc(blocks, func(b block) bool { return b.language == "hex" })
	if i < 0 {
		t.Fatal("reading.md has no block of hex")
	}
	digits := regexp.MustCompile(`#.*|\s`).ReplaceAllString(blocks[i].text, "")
	data, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	aggregate, err := kpl.Open(data)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	for sub, user := range aggregate.All() {
		if !strings.Contains(text, "partition key `"+user.PartitionKey+"`") {
			t.Errorf("reading.md does not show the partition key %q", user.PartitionKey)
		}
		fmt.Fprintf(&table, "| %d | `%s` |\n", sub, user.Data)
	}
	if !strings.Contains(text, "| --- | --- |\n"+table.String()+"\n") {
		t.Errorf("the table below the record is not\n%s", table.String())
	}
}

// TestConfigurations_KeepRecords: every configuration of the plugin, in documents and
// in files to copy, has the settings without which records are lost or inputs are
// blocked.
func TestConfigurations_KeepRecords(t *testing.T) {
	configurations := map[string]string{}
	for name, text := range documents(t) {
		_, blocks := split(text)
		for _, b := range blocks {
			if regexp.MustCompile(`(?mi)^[ -]*name:? +kinesis_agg$`).MatchString(b.text) {
				configurations[fmt.Sprintf("%s:%d", name, b.line)] = b.text
			}
		}
	}
	if len(configurations) == 0 {
		t.Error("no document has a configuration of the plugin")
	}
	for _, files := range []string{
		"conf/fluent-bit.conf", "conf/fluent-bit.yaml", "deploy/compose/fluent-bit.conf",
		"deploy/kubernetes/values.yaml", "deploy/kubernetes/manifests.yaml", "deploy/ecs/template.yaml deploy/ecs/kinesis-agg.conf",
	} {
		for file := range strings.FieldsSeq(files) {
			text, err := fs.ReadFile(root, file)
			if err != nil {
				t.Fatal(err)
			}
			configurations[files] += string(text)
		}
	}
	for name, text := range configurations {
		settings := []string{`retry_limit:? +no_limits`, `scheduler\.cap:? +60`, `workers:? +"?[1-9]"?`}
		if !strings.Contains(name, ".md") {
			settings = append(settings, `grace:? +35`)
		}
		for _, setting := range settings {
			if !regexp.MustCompile(`(?mi)^ +` + setting + `$`).MatchString(text) {
				t.Errorf("%s: no line matches %s", name, setting)
			}
		}
	}
}

// TestImports_PointDown: the table in design.md has every package of the library, and
// each imports only packages of the rows below its own.
func TestImports_PointDown(t *testing.T) {
	row := map[string]int{}
	for i, line := range strings.Split(documents(t)["docs/design.md"], "\n") {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| `"), " | ")
		for name := range strings.SplitSeq(strings.Trim(cell, "`"), "`, `") {
			if row[name] == 0 {
				row[name] = i
			}
		}
	}
	list := exec.Command("go", "list", "-deps", "-f", "{{if and (not .Standard) .Module.Main}}{{.ImportPath}} {{join .Imports \" \"}}{{end}}", ".")
	list.Dir = "../.."
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	// The last package is that of the root, whose path all others begin with.
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	module, _, _ := strings.Cut(lines[len(lines)-1], " ")
	for _, line := range lines {
		paths := strings.Fields(line)
		name := strings.TrimPrefix(paths[0], module+"/")
		if name == module {
			name = "out_kinesis_agg.go"
		}
		if row[name] == 0 {
			t.Errorf("the table of packages in design.md has no %s", name)
		}
		for _, path := range paths[1:] {
			if imported, own := strings.CutPrefix(path, module+"/"); own && row[imported] <= row[name] {
				t.Errorf("%s imports %s, which is not below it in the table of packages in design.md", name, imported)
			}
		}
	}
}

// TestTargets_Documented: CONTRIBUTING.md has a row for each target of the Makefile that
// `make help` lists, and no other.
func TestTargets_Documented(t *testing.T) {
	makefile, err := fs.ReadFile(root, "Makefile")
	if err != nil {
		t.Fatal(err)
	}
	names := func(pattern, text string) map[string]bool {
		all := map[string]bool{}
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			all[m[1]] = true
		}
		return all
	}
	targets := names(`(?m)^([a-z0-9-]+):.* ##`, string(makefile))
	delete(targets, "help")
	documented := names("(?m)^\\| `make ([a-z0-9-]+)", documents(t)["CONTRIBUTING.md"])
	if len(targets) == 0 || !maps.Equal(targets, documented) {
		t.Errorf("targets: %v, documented: %v", targets, documented)
	}
}

// TestNamedTests_Exist: the tests that documents name can be run.
func TestNamedTests_Exist(t *testing.T) {
	var sources strings.Builder
	names, err := fs.Glob(root, "test/e2e/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		sources.Write(text)
	}
	// The first name in a cell is whole; the next ones are `/SUBTEST`.
	named := regexp.MustCompile("`(Test[A-Z]\\w*)?(/[^`/]+)?`")
	found := 0
	for name, text := range documents(t) {
		if !strings.HasPrefix(name, "docs/") {
			continue // CONTRIBUTING.md shows the pattern of test names
		}
		prose, _ := split(text)
		for i, line := range prose {
			test := ""
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				if m[1] != "" {
					test = m[1]
				}
				if test == "" {
					continue // a path, such as `/api/v1`
				}
				found++
				if !strings.Contains(sources.String(), "func "+test+"(") {
					t.Errorf("%s:%d: the test %s does not exist", name, i+1, test)
				}
				subtest := strings.ReplaceAll(strings.TrimPrefix(m[2], "/"), "_", " ")
				// The names of options keep their underscores.
				subtest = strings.ReplaceAll(subtest, "auto retry requests", "auto_retry_requests")
				if subtest != "" && !strings.Contains(sources.String(), `{name: "`+subtest+`"`) {
					t.Errorf("%s:%d: %s has no subtest %q", name, i+1, test, subtest)
				}
			}
		}
	}
	if found == 0 {
		t.Error("no document names a test")
	}
}

// TestQuotedLogLines_Exist: a log line that troubleshooting.md quotes as a
// symptom is one that the plugin writes.
func TestQuotedLogLines_Exist(t *testing.T) {
	var sources strings.Builder
	for _, pattern := range []string{"*.go", "aggregator/*.go", "internal/*/*.go", "internal/*/*.c"} {
		names, err := fs.Glob(root, pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			text, err := fs.ReadFile(root, name)
			if err != nil {
				t.Fatal(err)
			}
			sources.Write(text)
		}
	}
	const file = "docs/troubleshooting.md"
	// A symptom that begins with a quote. The name of a cause has no space.
	symptom := regexp.MustCompile("^\\| `([^`]* [^`]*)`")
	prose, _ := split(documents(t)[file])
	quoted := 0
	for i, line := range prose {
		m := symptom.FindStringSubmatch(line)
		if m == nil || strings.Contains(m[1], "GLIBC") { // of the dynamic linker
			continue
		}
		quoted++
		for part := range strings.SplitSeq(m[1], "...") {
			if !strings.Contains(sources.String(), part) {
				t.Errorf("%s:%d: no log line of the plugin contains %q", file, i+1, part)
			}
		}
	}
	if quoted == 0 {
		t.Errorf("%s quotes no log line", file)
	}
}

// TestCauses_Documented compares the causes of failed requests with their table.
func TestCauses_Documented(t *testing.T) {
	_, table, found := strings.Cut(documents(t)["docs/troubleshooting.md"], "## Causes of failed requests\n")
	if !found {
		t.Fatal("the section about causes is missing")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(table, -1) {
		documented = append(documented, m[1])
	}
	causes := kinesis.CauseNames()
	for _, cause := range causes {
		if !slices.Contains(documented, cause) {
			t.Errorf("the table has no cause %s", cause)
		}
	}
	for i, cause := range documented {
		if !slices.Contains(causes, cause) || slices.Contains(documented[:i], cause) {
			t.Errorf("the table has %s, which is not a cause or is in it twice", cause)
		}
	}
}

// TestMetrics_Documented: metrics.md lists each metric that the plugin creates,
// and no other.
func TestMetrics_Documented(t *testing.T) {
	source, err := fs.ReadFile(root, "internal/plugin/metrics.go")
	if err != nil {
		t.Fatal(err)
	}
	list := func(pattern, text string) []string {
		var names []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			names = append(names, m[1])
		}
		slices.Sort(names)
		return names
	}
	created := list(`"([a-z_]+_(?:total|seconds))"`, string(source))
	documented := list("(?m)^\\| `([a-z_]+_(?:total|seconds))`", documents(t)["docs/metrics.md"])
	if len(created) == 0 || !slices.Equal(created, documented) {
		t.Errorf("created: %q, documented: %q", created, documented)
	}
}
