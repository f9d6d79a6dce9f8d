package option

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
)

// from is a section with these names and values, on an engine that does not list names.
func from(pairs ...string) Source {
	return Source{Get: func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if strings.EqualFold(pairs[i], name) {
				return pairs[i+1]
			}
		}
		return ""
	}}
}

func literal(text string) TagTemplate {
	t, err := parseTagTemplate(text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestParse_Defaults(t *testing.T) {
	got, _, err := Parse(from("stream", "logs"))
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Stream: Stream{literal("logs")},
		Connection: Connection{
			RoleSessionName: "fluent-bit",
			RequestTimeout:  30 * time.Second,
			ConnectTimeout:  5 * time.Second,
			AutoRetry:       true,
		},
		MaxRecordBytes: kpl.DefaultMaxRecordBytes,
		OversizeChunk:  Split,
		WireFormat:     "auto",
		OnAutoStream:   Hold,
		Transform: aggregator.Transform{
			TimeFormat:  "%Y-%m-%dT%H:%M:%S.%LZ",
			Format:      aggregator.KPL,
			Compression: compression.None,
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestParse_Values(t *testing.T) {
	for _, test := range []struct {
		name, value string
		got         func(Config) any
		want        any
	}{
		{"stream_name", "other", func(c Config) any { return c.Stream.For("tag") }, "other"},
		{"request_timeout", "1", func(c Config) any { return c.RequestTimeout }, time.Second},
		{"request_timeout", "600", func(c Config) any { return c.RequestTimeout }, 10 * time.Minute},
		{"request_timeout", "10m", func(c Config) any { return c.RequestTimeout }, 10 * time.Minute},
		{"request_timeout", "7", func(c Config) any { return c.RequestTimeout }, 7 * time.Second},
		{"http_request_timeout", "2m", func(c Config) any { return c.RequestTimeout }, 2 * time.Minute},
		{"connect_timeout", "10S", func(c Config) any { return c.ConnectTimeout }, 10 * time.Second},
		{"max_record_size", "1K", func(c Config) any { return c.MaxRecordBytes }, 1000},
		{"max_record_size", "512k", func(c Config) any { return c.MaxRecordBytes }, 512_000},
		{"max_record_size", "1M", func(c Config) any { return c.MaxRecordBytes }, 1_000_000},
		{"max_record_size", "1.5MB", func(c Config) any { return c.MaxRecordBytes }, 1_500_000},
		{"max_record_size", "10M", func(c Config) any { return c.MaxRecordBytes }, 10_000_000},
		{"max_record_size", "10MiB", func(c Config) any { return c.MaxRecordBytes }, kpl.LargestMaxRecordBytes},
		{"max_record_size", "1048576", func(c Config) any { return c.MaxRecordBytes }, kpl.DefaultMaxRecordBytes},
		{"batch_size", "0", func(c Config) any { return c.BatchBytes }, 0},
		{"batch_size", "256K", func(c Config) any { return c.BatchBytes }, 256_000},
		{"record_format", "NDJSON", func(c Config) any { return c.Format }, aggregator.NDJSON},
		{"oversize_chunk", "Drop", func(c Config) any { return c.OversizeChunk }, Drop},
		{"wire_format", "cbor", func(c Config) any { return c.WireFormat }, "cbor"},
		{"debug", "On", func(c Config) any { return c.Debug }, true},
		{"auto_retry_requests", "no", func(c Config) any { return c.AutoRetry }, false},
		{"endpoint", "http://127.0.0.1:4568", func(c Config) any { return c.Endpoint }, "http://127.0.0.1:4568"},
		{"region", "us-gov-west-1", func(c Config) any { return c.Region }, "us-gov-west-1"},
		{"role_arn", "arn:aws-us-gov:iam::123456789012:role/a/path/log-writer", func(c Config) any { return c.RoleARN }, "arn:aws-us-gov:iam::123456789012:role/a/path/log-writer"},
		{"data_keys", `"a,b"`, func(c Config) any { return strings.Join(c.DataKeys, "|") }, `"a|b"`},
		{"data_keys", `log, "service.name" ,"user id"`, func(c Config) any { return strings.Join(c.DataKeys, "|") }, "log|service.name|user id"},
		{"aws_sec_key", " key ", func(c Config) any { return c.SecretKey }, "key"},
	} {
		t.Run(test.name+" "+test.value, func(t *testing.T) {
			c, _, err := Parse(from(test.name, test.value, "stream", "other", "aws_key_id", "AKIA", "aws_sec_key", "key"))
			if err != nil {
				t.Fatal(err)
			}
			if got := test.got(c); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestParse_RecordFormat(t *testing.T) {
	for _, test := range []struct {
		options        []string
		refusal, warns string // parts of the message; empty: none
	}{
		{[]string{"record_format", "ndjson"}, "", ""},
		{[]string{"record_format", "ndjson", "batch_size", "1000", "oversize_chunk", "drop"}, "option batch_size: it bounds each record", ""},
		{[]string{"record_format", "ndjson", "batch_size", "1000"}, "", ""},
		{[]string{"record_format", "ndjson", "oversize_chunk", "drop"}, "", ""},
		{[]string{"batch_size", "1000", "oversize_chunk", "drop"}, "", ""},
		{[]string{"record_format", "ndjson", "on_auto_stream", "warn"}, "", "option on_auto_stream has no effect"},
		{[]string{"record_format", "ndjson", "log_key", "log"}, "", "option record_format: log_key sends"},
		{[]string{"batch_size", "1000", "log_key", "log"}, "", "option batch_size: log_key sends"},
		{[]string{"batch_size", "1000"}, "", ""},
		{[]string{"log_key", "log"}, "", ""},
	} {
		_, warnings, err := Parse(from(append(test.options, "stream", "logs")...))
		if (err != nil) != (test.refusal != "") || err != nil && !strings.HasPrefix(err.Error(), test.refusal) {
			t.Errorf("%q: %v, want %q", test.options, err, test.refusal)
		}
		if all := strings.Join(warnings, ""); (all != "") != (test.warns != "") || !strings.HasPrefix(all, test.warns) {
			t.Errorf("%q: warnings %q, want %q", test.options, warnings, test.warns)
		}
	}
}

func TestParse_InvalidValues(t *testing.T) {
	for _, test := range []struct {
		name, value string
		want        []string
	}{
		{"request_timeout", "soon", []string{`option request_timeout: "soon"`, "from 1s to 10m", "such as 30, 30s or 2m"}},
		{"request_timeout", "0", []string{`"0"`, "out of range"}},
		{"request_timeout", "601", []string{`"601"`, "out of range"}},
		{"http_request_timeout", "1h", []string{"option http_request_timeout", "out of range"}},
		{"connect_timeout", "1.5", []string{"option connect_timeout", "whole number"}},
		{"connect_timeout", "5w", []string{`"5w" is not a whole number of seconds`}},
		{"connect_timeout", "99999999999999999999d", []string{"option connect_timeout"}},
		{"max_record_size", "999", []string{`option max_record_size: "999"`, "from 1000 to 10485760 bytes"}},
		{"max_record_size", "11M", []string{"out of range"}},
		{"max_record_size", "-5", []string{"is not a size"}},
		{"max_record_size", "1X", []string{`"1X" is not a size`}},
		{"max_record_size", "1,000,000", []string{"is not a size"}},
		{"max_record_size", "1T", []string{"is not a size"}},
		{"max_record_size", "999999999999G", []string{"out of range"}},
		{"max_record_size", "big", []string{"is not a size"}},
		{"max_record_size", "NaN", []string{"option max_record_size"}},
		{"oversize_chunk", "cut", []string{`option oversize_chunk: "cut"`, "split or drop"}},
		{"record_format", "json", []string{`option record_format: "json"`, "set kpl"}},
		{"wire_format", "xml", []string{`option wire_format: "xml"`, "auto, json or cbor"}},
		{"debug", "1", []string{`option debug: "1"`, "true, on or yes"}},
		{"endpoint", "localhost:4568", []string{"option endpoint", "does not begin with https:// or http://"}},
		{"endpoint", "https://", []string{"has no host"}},
		{"sts_endpoint", "https://sts?x=1", []string{"option sts_endpoint"}},
		{"http_proxy", "http://[::1", []string{"option http_proxy", "not a URL"}},
		{"stream_name", "my logs", []string{`option stream_name: "my logs" is not a stream name`, "set a stream name or ARN"}},
		{"stream_name", strings.Repeat("x", 129), []string{"is not a stream name"}},
		{"stream_name", "arn:aws:sqs:eu-west-1:123456789012:logs", []string{"is not the ARN of a stream"}},
		{"stream_name", "arn:aws:kinesis:eu-west-1:1:stream/a", []string{"is not the ARN of a stream"}},
		{"stream_name", "arn:aws:kinesis:eu-west-1:123456789012:stream/a/consumer/b", []string{"is not the ARN of a stream"}},
		{"stream_name", "arn:aws:kinesis:eu-central-1:123456789012:stream/$TAG", []string{"is an ARN with $TAG"}},
		{"stream_name", "$TAG[", []string{`option stream_name: "$TAG[" has a $TAG[ without a number and ]`}},
		{"fixed_partition_key", "$TAG[x]", []string{`option fixed_partition_key: "$TAG[x]"`, "1 to 256 characters"}},
		{"fixed_partition_key", strings.Repeat("x", 257), []string{"option fixed_partition_key", "has 257 characters"}},
		{"region", "Frankfurt!", []string{`option region: "Frankfurt!" is not a region`, "eu-central-1"}},
		{"aws_key_id", "AKIA", []string{"option aws_key_id and aws_sec_key require each other"}},
		{"aws_session_token", "token", []string{"option aws_session_token requires aws_key_id"}},
		{"batch_size", "999", []string{`option batch_size: "999" is out of range`, "0, or a size from 1000 to 10485760 bytes"}},
		{"external_id", "42", []string{"option external_id", "requires role_arn"}},
		{"region", "eu-central-1a", []string{`option region: "eu-central-1a" is an availability zone`, "eu-central-1"}},
		{"region", "us-west-2-lax-1a", []string{"is an availability zone"}},
		{"role_arn", "log-writer", []string{`option role_arn: "log-writer" is not the ARN of a role`, "arn:aws:iam::123456789012:role/name"}},
		{"role_arn", "arn:aws:iam::123456789012:user/me", []string{"is not the ARN of a role"}},
		{"role_arn", "arn:aws:sts::123456789012:assumed-role/r/s", []string{"is not the ARN of a role"}},
		{"stream_name", "$kubernetes['namespace_name']", []string{"option stream_name", "does not begin $TAG or $TAG[n]"}},
		{"fixed_partition_key", "$tag", []string{`option fixed_partition_key: "$tag" contains a $`, "$TAG is the tag"}},
		{"replace_dots", "On", []string{`option replace_dots: "On" would be part of the keys`, "such as _"}},
		{"replace_dots", "no", []string{`"no" would be part of the keys`}},
		{"data_keys", "log level", []string{`option data_keys: "log level" contains "log level", which is not a single key`, "separated by commas"}},
		{"data_keys", "log,$level", []string{`contains "$level"`}},
		{"data_keys", "log,kubernetes.pod_name", []string{`contains "kubernetes.pod_name"`, "top-level keys", "in double quotes"}},
		{"data_keys", "kubernetes->labels", []string{`contains "kubernetes->labels"`}},
		{"data_keys", "kubernetes['labels']", []string{"not a single key"}},
		{"data_keys", `""`, []string{"contains no key"}},
		{"time_key_format", "%s", []string{"option time_key_format requires time_key"}},
		{"time_key_format", "yyyy-MM-dd", []string{`option time_key_format: "yyyy-MM-dd" contains no conversion`, "%Y-%m-%d"}},
		{"time_format", "100%%", []string{"option time_format", "contains no conversion"}},
		{"stream_name", "another", []string{"option stream", "stream_name"}},
	} {
		t.Run(test.name+" "+test.value, func(t *testing.T) {
			pairs := []string{test.name, test.value}
			if test.name != "stream_name" || test.value == "another" {
				pairs = append(pairs, "stream", "logs")
			}
			_, _, err := Parse(from(pairs...))
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

func TestParse_HidesSecrets(t *testing.T) {
	for _, proxy := range []string{"http://user:hunter2@pro xy", "ftp://user:hunter2@proxy"} {
		_, _, err := Parse(from("stream", "logs", "http_proxy", proxy))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", proxy, err)
		}
	}
}

func TestParse_NamesEachInvalidOption(t *testing.T) {
	_, _, err := Parse(from("debug", "maybe", "max_record_size", "1"))
	for _, name := range []string{"stream", "debug", "max_record_size"} {
		if err == nil || !strings.Contains(err.Error(), "option "+name) {
			t.Errorf("%s is not in: %v", name, err)
		}
	}
}

func TestTable_IsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, o := range Table() {
		for _, name := range append([]string{o.Name}, o.Aliases...) {
			if seen[name] || name != strings.ToLower(name) {
				t.Errorf("%s is listed twice or not in lower case", name)
			}
			seen[name] = true
		}
		if o.Help == "" || o.Allowed() == "" {
			t.Errorf("%s: help or range is missing", o.Name)
		}
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
