package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/harness"
)

// knowsOptions reports whether the engine takes the list of options from a plugin.
func knowsOptions(t *testing.T) bool {
	t.Helper()
	return strings.Contains(optionHelp(t), "fixed_partition_key")
}

// optionHelp is what `fluent-bit -o kinesis_agg -h` prints.
func optionHelp(t *testing.T) string {
	t.Helper()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), path, "-e", fixture.plugin, "-o", "kinesis_agg", "-h").CombinedOutput()
	if err != nil {
		t.Logf("fluent-bit -h: %v", err)
	}
	return string(out)
}

// startLog starts an engine with one output, waits until the output has started or
// the engine has ended, stops it, and returns the log.
func startLog(t *testing.T, options ...string) (log string, started bool) {
	t.Helper()
	engine := startEngine(t, "[INPUT]\n    Name dummy\n\n"+output("*", "s", options...))
	return awaitStart(t, engine)
}

func awaitStart(t *testing.T, engine *harness.FluentBit) (log string, started bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	err := harness.Until(ctx, func() (bool, error) {
		ended := engine.Ended()
		started = strings.Contains(engine.Log(), "] version ")
		return started || ended, nil
	})
	if err != nil {
		t.Fatalf("it neither started nor ended:\n%s", engine.Log())
	}
	engine.Kill()
	return engine.Log(), started
}

// notOptions are 60 names that are not options of this plugin, as people write them.
var notOptions = strings.Fields(`
	streem stream-name regions role-arn rolearn externalid aws_key aws_secret_key
	aws_access_key_id aws_secret_access_key aws_role_arn aws_profile aws_external_id aws_region
	aws_sts_endpoint aws_auth_type aws_web_identity_token_file credential_path end_point requestTimeout
	connect-timeout auto_retry_request partition_key fixedPartitionKey fix_partition_key time-key
	time_key_fromat tagkey include_tagkey data_key logkey replace_dot append_new_line
	batchsize batch_bytes compresion compress compression_lvl max-record-size maxRecordSize
	oversize_chunks wire_formats checkstream debugs json_date_key json_date_format
	retry_mode http_user log_group_name delivery_stream bucket brokers worker
	retry_limits total_file_size encoding.codec batch.max_bytes num_threads enrichment_mode sampling`)

// mentions are the names in error lines and warnings about options.
var mentions = regexp.MustCompile(`option (\S+) (?:has no effect|is unknown)|option (\S+): |configuration property '([^']+)'`)

func TestFluentBit_NoOptionIsSilent(t *testing.T) {
	t.Parallel()
	if len(notOptions) != 60 {
		t.Fatalf("%d names", len(notOptions))
	}
	silent := slices.Clone(notOptions)
	for len(silent) > 0 {
		var lines []string
		for _, name := range silent {
			lines = append(lines, name+" x")
		}
		log, _ := startLog(t, lines...)
		before := len(silent)
		for _, m := range mentions.FindAllStringSubmatch(log, -1) {
			silent = slices.DeleteFunc(silent, func(name string) bool {
				return slices.ContainsFunc(m[1:], func(s string) bool { return strings.EqualFold(s, name) })
			})
		}
		if len(silent) == before {
			t.Fatalf("nothing is said about %q:\n%s", silent, log)
		}
	}
}

func TestFluentBit_Options(t *testing.T) {
	t.Parallel()
	known := knowsOptions(t)
	for _, test := range []struct {
		name    string
		options []string
		starts  bool
		log     []string // of the plugin
		engine  []string // of an engine that knows the options, if it is another one
	}{
		{"none", nil, true, []string{"version "}, nil},
		{"unknown", []string{"enrichment_mode x"}, !known, []string{"option enrichment_mode is unknown and has no effect"}, []string{"unknown configuration property 'enrichment_mode'"}},
		{"misspelled", []string{"max_recrod_size 1M"}, false, []string{"option max_recrod_size is unknown: set max_record_size"}, []string{"unknown configuration property 'max_recrod_size'"}},
		{"of the engine, misspelled", []string{"worker 2"}, false, []string{"option worker is unknown: set workers"}, []string{"unknown configuration property 'worker'"}},
		{"repeated", []string{"tag_key a", "tag_key b"}, false, []string{"option tag_key is set more than once"}, []string{"configuration property 'tag_key' is set 2 times"}},
		{"repeated in another case", []string{"tag_key a", "Tag_Key b"}, false, []string{"option tag_key is set more than once"}, []string{"configuration property 'tag_key' is set 2 times"}},
		{"of another plugin, refused", []string{"partition_key id", "aws_role_arn arn:aws:iam::123456789012:role/r"}, false, []string{"option partition_key: a chunk becomes one record", "option aws_role_arn: the option is called role_arn here"}, nil},
		{"of another plugin, ignored", []string{"num_threads 2"}, true, []string{"option num_threads has no effect: set workers"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			log, started := startLog(t, test.options...)
			if started != test.starts {
				t.Errorf("started: %v", started)
			}
			want := test.log
			if known && test.engine != nil {
				want = test.engine
			}
			for _, text := range want {
				if !strings.Contains(log, text) {
					t.Errorf("%q is not in the log:\n%s", text, log)
				}
			}
		})
	}
}

// TestFluentBit_OptionList: the engine hands over a YAML list as repeated options.
func TestFluentBit_OptionList(t *testing.T) {
	t.Parallel()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	for _, test := range []struct {
		keys   string
		starts bool
	}{{"log,level", true}, {"[log, level]", false}} {
		dir := t.TempDir()
		file := filepath.Join(dir, "fluent-bit.yaml")
		yaml := `plugins: [` + fixture.plugin + `]
pipeline:
  inputs:
    - name: dummy
  outputs:
    - name: kinesis_agg
      match: '*'
      stream: s
      region: ` + harness.Region + `
      endpoint: ` + fixture.kinesis.Endpoint + `
      aws_key_id: ` + harness.AccessKeyID + `
      aws_sec_key: ` + harness.SecretAccessKey + `
      data_keys: ` + test.keys + "\n"
		if err := os.WriteFile(file, []byte(yaml), 0o644); err != nil {
			t.Fatal(err)
		}
		engine, err := harness.StartFluentBitWith(path, dir, file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(engine.Kill)
		log, started := awaitStart(t, engine)
		if started != test.starts || !started && !strings.Contains(log, "option data_keys is set more than once or is a YAML list") &&
			!strings.Contains(log, "configuration property 'data_keys' is set 2 times") {
			t.Errorf("data_keys %s: started %v\n%s", test.keys, started, log)
		}
	}
}

// TestFluentBit_OptionHelp: the help has each option, and none of another plugin.
func TestFluentBit_OptionHelp(t *testing.T) {
	t.Parallel()
	if !knowsOptions(t) {
		t.Skip("this engine does not take the options of a plugin")
	}
	help := optionHelp(t)
	for _, text := range []string{"\nmax_record_size ", "> default: 1048576, type: string", "\nhttp_request_timeout ", "Same as request_timeout."} {
		if !strings.Contains(help, text) {
			t.Errorf("%q is not in the help", text)
		}
	}
	for _, text := range []string{"aggregation", "num_threads", "`"} {
		if strings.Contains(help, "\n"+text) {
			t.Errorf("%q is in the help", text)
		}
	}
	if t.Failed() {
		t.Log(help)
	}
}
