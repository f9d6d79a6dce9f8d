package option

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each foreign option is accepted with the values that ask for what happens in any
// case. With another value, one start names all of them, and a refusal says what to do.
func TestForeign_EachOption(t *testing.T) {
	others, accepted := []string{"stream", "logs"}, [][]string{}
	for _, o := range foreignOptions {
		other := "another"
		if o.boolean {
			other = map[string]string{"true": "off", "false": "on"}[o.accepted]
		}
		for _, name := range strings.Fields(o.names) {
			others = append(others, name, other)
			for i, value := range strings.Fields(o.accepted) {
				if i == len(accepted) {
					accepted = append(accepted, []string{"stream", "logs"})
				}
				accepted[i] = append(accepted[i], name, strings.ToUpper(value))
			}
		}
	}
	_, warnings, err := Parse(from(others...))
	refusals := strings.Split(fmt.Sprint(err), "\n")
	for _, o := range foreignOptions {
		for _, name := range strings.Fields(o.names) {
			says := func(line string) bool {
				return strings.HasPrefix(line, "option "+name) && strings.HasSuffix(line, o.text)
			}
			if slices.ContainsFunc(refusals, says) != o.refuses || slices.ContainsFunc(warnings, says) == o.refuses {
				t.Errorf("%s is not both named and refused or warned of as in the table", name)
			}
		}
		if o.refuses && !regexp.MustCompile(`\b(set|use|write|remove) `).MatchString(o.text) {
			t.Errorf("%s does not say what to do: %s", o.names, o.text)
		}
		if to := regexp.MustCompile(`the option is called (\w+)`).FindStringSubmatch(o.text); to != nil && !slices.Contains(ownNames(), to[1]) {
			t.Errorf("%s leads to an option that does not exist: %s", o.names, o.text)
		}
	}
	for _, options := range accepted {
		if _, warnings, err := Parse(from(options...)); err != nil || warnings != nil {
			t.Errorf("%v, %q", err, warnings)
		}
	}
}

func TestForeign_Messages(t *testing.T) {
	for _, test := range []struct{ name, value, want string }{
		{"aggregation", "On", ""},
		{"aggregation", "maybe", `option aggregation: "maybe" is not a boolean`},
		{"aggregation", "false", "set record_format ndjson"},
		{"partition_key", "container_id", "option partition_key: a chunk becomes one record with one partition key"},
		{"AWS_Profile", "p", "set profile"},
		{"timezone", "utc", ""},
		{"timezone", "Europe/Berlin", "option timezone: times are in UTC"},
	} {
		_, _, err := Parse(from("stream", "logs", test.name, test.value))
		if (err != nil) != (test.want != "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: %v, want %q", test.name, test.value, err, test.want)
		}
	}
}

// TestForeign_AllAtOnce: one start names each refused option and each bad
// value.
func TestForeign_AllAtOnce(t *testing.T) {
	_, _, err := Parse(from("stream", "logs", "worker_id_key", "w", "hostname_key", "h", "data_key", "d",
		"aggregation", "off", "max_record_size", "11G"))
	for _, name := range []string{"worker_id_key", "hostname_key", "data_key", "aggregation", "max_record_size"} {
		if err == nil || !strings.Contains(err.Error(), "option "+name+":") {
			t.Errorf("%s is not in: %v", name, err)
		}
	}
}

// No foreign option is an own one, or is listed twice.
func TestForeign_AreNotOwn(t *testing.T) {
	own := map[string]bool{}
	for _, o := range Table() {
		for _, name := range append(o.Aliases, o.Name) {
			own[name] = true
		}
	}
	for _, name := range append(foreignNames(), engineNames...) {
		if own[name] || name != strings.ToLower(name) || name == "" {
			t.Errorf("%q is an own option, or listed twice, or not in lower case", name)
		}
		own[name] = true
	}
}

func TestTransformOptions_Values(t *testing.T) {
	c, warnings, err := Parse(from("stream", "logs", "include_time_key", "true", "include_tag_key", "on", "time_format", "%s",
		"metadata_key", "meta", "data_keys", " a, time,tag ,meta,,b", "replace_dots", "_", "append_newline", "yes",
		"compression", "ZSTD", "compression_level", "22", "check_stream", "true"))
	if err != nil || warnings != nil {
		t.Fatal(err, warnings)
	}
	if c.TimeKey != "time" || c.TagKey != "tag" || c.TimeFormat != "%s" || c.MetadataKey != "meta" ||
		strings.Join(c.DataKeys, ",") != "a,time,tag,meta,b" || c.ReplaceDots != "_" || !c.AppendNewline ||
		c.Compression != "zstd" || c.CompressionLevel != 22 || !c.CheckStream {
		t.Errorf("%+v", c)
	}
	c, _, err = Parse(from("stream", "logs", "include_time_key", "true", "time_key", "at", "include_tag_key", "false"))
	if err != nil || c.TimeKey != "at" || c.TagKey != "" {
		t.Errorf("%+v %v", c, err)
	}
	c, _, err = Parse(from("stream", "logs", "log_key", "a->b", "append_newline", "true", "compression", "gzip"))
	if err != nil || c.LogKey != "a->b" {
		t.Errorf("%+v %v", c, err)
	}
}

func TestTransformOptions_Invalid(t *testing.T) {
	for _, test := range []struct {
		options []string
		want    []string
	}{
		{[]string{"time_key_format", "%Y-%Q"}, []string{`option time_key_format: "%Y-%Q" is not a time format`, `strftime has no conversion "%Q"`, "%Y-%m-%d"}},
		{[]string{"time_format", "100%"}, []string{"option time_format", `"%"`}},
		{[]string{"include_time_key", "1"}, []string{`option include_time_key: "1"`, "true, on or yes"}},
		{[]string{"include_tag_key", "x"}, []string{`option include_tag_key: "x"`, "true, on or yes"}},
		{[]string{"append_newline", "\\n"}, []string{"option append_newline", "true, on or yes"}},
		{[]string{"check_stream", "1"}, []string{"option check_stream", "true, on or yes"}},
		{[]string{"data_keys", ", ,"}, []string{`option data_keys: ", ,"`, "separated by commas"}},
		{[]string{"log_key", "a->"}, []string{`option log_key: "a->"`, "a->b"}},
		{[]string{"replace_dots", "a.b"}, []string{`option replace_dots: "a.b"`, `without a dot`}},
		{[]string{"compression", "lz4"}, []string{`option compression: "lz4"`, "set none, gzip, "}},
		{[]string{"compression", "gzip", "compression_level", "fast"}, []string{`option compression_level: "fast"`, "whole number from 1 to 22"}},
		{[]string{"compression", "zstd", "compression_level", "0"}, []string{`"0"`, "out of range"}},
		{[]string{"compression", "zstd", "compression_level", "23"}, []string{`"23"`, "out of range"}},
		{[]string{"compression", "zlib", "compression_level", "10"}, []string{`"10" is out of range for zlib`, "from 1 to 9"}},
		{[]string{"compression", "snappy", "compression_level", "4"}, []string{`"4" is out of range for snappy`, "from 1 to 3"}},
		{[]string{"compression_level", "1"}, []string{"option compression_level", "requires compression"}},
		{[]string{"log_key", "log", "time_key", "time"}, []string{"option log_key", "time_key is set as well"}},
		{[]string{"log_key", "log", "include_tag_key", "true"}, []string{"option log_key", "tag_key is set as well"}},
		{[]string{"log_key", "log", "metadata_key", "m"}, []string{"option log_key", "metadata_key is set as well"}},
		{[]string{"log_key", "log", "data_keys", "log"}, []string{"option log_key", "data_keys is set as well"}},
		{[]string{"time_key", "k", "tag_key", "k"}, []string{`option tag_key: "k" is the key that time_key adds`}},
		{[]string{"time_key", "a.b", "metadata_key", "a_b", "replace_dots", "_"}, []string{"option metadata_key", "time_key"}},
	} {
		t.Run(strings.Join(test.options, " "), func(t *testing.T) {
			_, _, err := Parse(from(append(test.options, "stream", "logs")...))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
		})
	}
}

func TestTransformOptions_DataKeysWarning(t *testing.T) {
	_, warnings, err := Parse(from("stream", "logs", "data_keys", "log,tag", "time_key", "time", "tag_key", "tag"))
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], `option time_key has no effect: data_keys does not list "time"`) {
		t.Errorf("%q, %v", warnings, err)
	}
}

func TestConfig_Summary(t *testing.T) {
	for _, test := range []struct {
		options []string
		want    string
	}{
		{nil, `stream logs, region ""`},
		{[]string{"region", "eu-central-1", "debug", "false", "max_record_size", "1MiB", "request_timeout", "30"}, "stream logs, region eu-central-1"},
		{[]string{"region", "r", "aws_key_id", "AKIA", "aws_sec_key", "hunter2", "http_proxy", "http://me:hunter2@proxy", "fixed_partition_key", "key"},
			"stream logs, region r, aws_key_id AKIA, aws_sec_key set, http_proxy set, fixed_partition_key key"},
		{[]string{"region", "r", "endpoint", "https://me:hunter2@host"}, "stream logs, region r, endpoint https://me:xxxxx@host"},
		{[]string{"region", "r", "request_timeout", "2m", "max_record_size", "5M", "oversize_chunk", "drop", "include_time_key", "on", "data_keys", "time, a",
			"compression", "gzip", "compression_level", "9"},
			`stream logs, region r, request_timeout 120s, time_key time, include_time_key true, data_keys "time,a", compression gzip, compression_level 9, max_record_size 5000000, oversize_chunk drop`},
	} {
		c, _, err := Parse(from(append(test.options, "stream", "logs")...))
		if err != nil {
			t.Fatal(err)
		}
		got := c.Summary()
		if got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}
