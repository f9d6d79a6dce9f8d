package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/harness"
)

// sample is a configuration that people copy: a file of conf/, or a block of
// a document, which may be a part of a configuration.
type sample struct {
	name, format, text string
}

// configuration is a fenced block, which may be indented as a part of a list.
var configuration = regexp.MustCompile("(?ms)^( *)```(ini|yaml)\n(.*?)^ *```$")

// samples returns the configurations of conf/, README.md and docs/.
func samples(t *testing.T) []sample {
	t.Helper()
	root, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	var all []sample
	for _, name := range []string{"fluent-bit.conf", "fluent-bit.yaml"} {
		all = append(all, sample{"conf/" + name, filepath.Ext(name), readFile(t, root, "conf", name)})
	}
	documents, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	formats := map[string]int{}
	for _, document := range append(documents, filepath.Join(root, "README.md")) {
		for i, block := range configuration.FindAllStringSubmatch(readFile(t, document), -1) {
			text := strings.ReplaceAll("\n"+block[3], "\n"+block[1], "\n")
			if strings.Contains(text, "\napiVersion:") || strings.Contains(text, "\n  processors:") {
				continue // a manifest of Kubernetes, or a pipeline of Redpanda Connect
			}
			format := map[string]string{"ini": ".conf", "yaml": ".yaml"}[block[2]]
			formats[format]++
			all = append(all, sample{fmt.Sprintf("%s %d", filepath.Base(document), i+1), format, text})
		}
	}
	if formats[".conf"] == 0 || formats[".yaml"] == 0 {
		t.Fatalf("the documents have configurations in these formats only: %v", formats)
	}
	return all
}

func readFile(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var outputName = regexp.MustCompile(`(?mi)^([ -]*)name(:? +)kinesis_agg$`)

// httpPort is the engine's, which is free on a host of the reader's.
var httpPort = regexp.MustCompile(`(?m)^( +http_port:? +)\d+$`)

// ownEndpoint is a sample's, in place of which the local Kinesis is used.
var ownEndpoint = regexp.MustCompile(`(?m)^ +endpoint +https://.*\n`)

// here makes a sample work on this machine, in dir: it replaces paths, ports,
// and the region and address of kinesis-local, and adds what a part of a
// configuration lacks.
func (s sample) here(t *testing.T, dir string) string {
	t.Helper()
	root, err := harness.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	paths := strings.NewReplacer(
		"/fluent-bit/lib/out_kinesis_agg.so", fixture.plugin,
		"/fluent-bit/", dir+"/",
		"/var/log/app/", dir+"/",
		"/var/log/containers/", dir+"/",
		"eu-central-1", harness.Region,
	)
	plugins := paths.Replace(readFile(t, root, "conf", "plugins.conf"))
	if err := os.WriteFile(filepath.Join(dir, "plugins.conf"), []byte(plugins), 0o644); err != nil {
		t.Fatal(err)
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	text := httpPort.ReplaceAllString(paths.Replace(s.text), fmt.Sprintf("${1}%d", port))
	text = ownEndpoint.ReplaceAllString(text, "")
	text = outputName.ReplaceAllStringFunc(text, func(line string) string {
		m := outputName.FindStringSubmatch(line)
		for _, option := range [][2]string{
			{"endpoint", fixture.kinesis.Endpoint}, {"sts_endpoint", fixture.kinesis.Endpoint},
			{"aws_key_id", harness.AccessKeyID}, {"aws_sec_key", harness.SecretAccessKey},
		} {
			line += "\n" + strings.ReplaceAll(m[1], "-", " ") + option[0] + m[2] + option[1]
		}
		return line
	})
	if s.format == ".conf" {
		if !strings.Contains(text, "[SERVICE]") {
			text = "[SERVICE]\n    plugins_file plugins.conf\n\n" + text
		}
		if !strings.Contains(text, "[INPUT]") {
			text += "\n[INPUT]\n    name tail\n    path " + dir + "/none\n"
		}
	}
	return text
}

// outputs are the options of each output kinesis_agg of a configuration.
func outputs(text string) [][][2]string {
	var all [][][2]string
	for _, at := range outputName.FindAllStringIndex(text, -1) {
		var options [][2]string
		for line := range strings.Lines(text[at[0]:]) {
			line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "- "))
			if strings.HasPrefix(line, "#") || line == "" {
				continue
			}
			key, value, found := strings.Cut(line, " ")
			key = strings.ToLower(strings.TrimSuffix(key, ":"))
			if !found || len(options) > 0 && key == "name" {
				break // the next section
			}
			options = append(options, [2]string{key, strings.Trim(strings.TrimSpace(value), "'")})
		}
		all = append(all, options)
	}
	return all
}

// TestSamples_InTheHost: the plugin knows every option of every sample and
// accepts its value.
func TestSamples_InTheHost(t *testing.T) {
	t.Parallel()
	known := []string{"name", "match", "match_regex", "alias", "workers", "retry_limit", "storage.total_limit_size"}
	engines := len(known)
	for _, o := range option.Table() {
		known = append(append(known, o.Name), o.Aliases...)
	}
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			all := outputs(s.here(t, t.TempDir()))
			if len(all) == 0 {
				t.Fatal("the sample has no output kinesis_agg")
			}
			var args [][]string
			for _, options := range all {
				words := []string{"--instance"}
				for _, o := range options {
					if !slices.Contains(known, o[0]) {
						t.Errorf("unknown option %s", o[0])
					}
					if !slices.Contains(known[:engines], o[0]) {
						words = append(words, o[0]+"="+o[1])
					}
				}
				args = append(args, words)
			}
			run := runHost(t, fixture.host, args...)
			for _, init := range run.All("init") {
				if init.Fields["outcome"] != "OK" {
					t.Errorf("the plugin does not start:\n%s", run.Stderr)
				}
			}
		})
	}
}

// TestSamples_InFluentBit: every sample starts without an error in the log. The
// configurations of conf/ also deliver.
func TestSamples_InFluentBit(t *testing.T) {
	t.Parallel()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	for _, s := range samples(t) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			text := s.here(t, dir)
			stream := newStream(t, 1)
			text = regexp.MustCompile(`(?m)( stream:? +)logs$`).ReplaceAllString(text, "${1}"+stream)
			file := filepath.Join(dir, "fluent-bit"+s.format)
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			var want []string
			if strings.HasPrefix(s.name, "conf/") {
				lines := "one\ntwo\n"
				if err := os.WriteFile(filepath.Join(dir, "app.log"), []byte(lines), 0o644); err != nil {
					t.Fatal(err)
				}
				for line := range strings.Lines(lines) {
					want = append(want, chunktest.JSON(chunktest.M("log", strings.TrimSpace(line))))
				}
			}
			engine, err := harness.StartFluentBitWith(path, dir, file)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(engine.Kill)
			started(t, engine)
			if want != nil {
				wantSame(t, "lines", shipped(t, engine, stream, len(want)), want)
			} else if err := engine.Stop(); err != nil {
				t.Error(err)
			}
			if strings.Contains(engine.Log(), "[error]") {
				t.Errorf("errors in the log:\n%s", engine.Log())
			}
		})
	}
}

// started waits until the engine has started all outputs.
func started(t *testing.T, engine *harness.FluentBit) {
	t.Helper()
	const afterOutputs = "stream processor started"
	awaitLog(t, engine, afterOutputs, engineDeadline)
}
