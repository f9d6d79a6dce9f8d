package option

import (
	"strings"
	"testing"
)

func TestForeign_Options(t *testing.T) {
	const accepted, warns, refuses = "accepted", "warns", "refuses"
	for _, test := range []struct {
		name, value, want string
		says              string
	}{
		{"aggregation", "true", accepted, ""},
		{"aggregation", "On", accepted, ""},
		{"aggregation", "false", refuses, "set record_format ndjson"},
		{"aggregation", "maybe", refuses, `"maybe" is not a boolean`},
		{"simple_aggregation", "off", accepted, ""},
		{"simple_aggregation", "true", refuses, "set record_format ndjson"},
		{"partition_key", "container_id", refuses, "fixed_partition_key $TAG"},
		{"experimental_concurrency", "4", warns, "workers"},
		{"experimental_concurrency_retries", "4", warns, "retry_limit"},
		{"json.escape_unicode", "off", warns, "UTF-8"},
		{"enrich_records", "true", refuses, "filter"},
		{"enrich_records", "false", accepted, ""},
		{"aggregation_maximum_record_size", "100000", warns, "max_record_size"},
		{"skip_aggregation_record_size", "100000", warns, "any size"},
		{"data_key", "log", refuses, "log_key"},
		{"chomp_record", "true", refuses, "lua"},
		{"chomp_record", "false", accepted, ""},
		{"append_new_line", "true", refuses, "append_newline"},
		{"append_new_line", "false", accepted, ""},
		{"random_partition_key", "true", accepted, ""},
		{"random_partition_key", "false", refuses, "fixed_partition_key"},
		{"partition_key_expr", "record['a']", refuses, "fixed_partition_key $TAG"},
		{"explicit_hash_key", "1", refuses, "fixed_partition_key"},
		{"explicit_hash_key_expr", "1", refuses, "fixed_partition_key"},
		{"order_events", "true", refuses, "workers 1"},
		{"order_events", "false", accepted, ""},
		{"delivery_stream_name", "s", refuses, "kinesis_firehose"},
		{"aws_ses_token", "t", refuses, "aws_session_token"},
		{"sts_endpoint_url", "https://sts", refuses, "sts_endpoint"},
		{"sts_http_proxy", "http://p", refuses, "http_proxy"},
		{"policy", "{}", refuses, "role_arn"},
		{"ssl_verify_peer", "true", accepted, ""},
		{"ssl_verify_peer", "false", refuses, "AWS_CA_BUNDLE"},
		{"duration_seconds", "900", warns, "session"},
		{"aws_iam_retries", "5", warns, "retry_limit"},
		{"log_truncate_max_size", "0", warns, "log"},
		{"retries_on_batch_request", "8", warns, "retry_limit"},
		{"reset_backoff_if_success", "true", warns, "scheduler.base"},
		{"batch_request_max_count", "500", warns, "one aggregated record"},
		{"batch_request_max_size", "1000", warns, "max_record_size"},
		{"drop_failed_records_after_batch_request_retries", "false", warns, "retry_limit"},
		{"monitor_num_of_batch_request_retries", "true", warns, "metrics"},
		{"flush_thread_interval", "1", warns, "flush"},
		{"flush_thread_burst_interval", "1", warns, "flush"},
		{"queue_limit_length", "64", warns, "storage.total_limit_size"},
		{"total_limit_size", "1g", warns, "storage.total_limit_size"},
		{"overflow_action", "block", warns, "mem_buf_limit"},
		{"buffer_queue_full_action", "block", warns, "mem_buf_limit"},
		{"flush_mode", "interval", warns, "flush"},
		{"flush_at_shutdown", "true", warns, "grace"},
		{"retry_max_interval", "1m", warns, "scheduler.cap"},
		{"retry_max_times", "3", warns, "retry_limit"},
		{"retry_timeout", "72h", warns, "retry_limit"},
		{"retry_forever", "true", warns, "retry_limit no_limits"},
		{"worker_id_key", "worker", refuses, "record_modifier"},
		{"format", "json", accepted, ""},
		{"format", "ltsv", refuses, "JSON"},
		{"output_type", "csv", refuses, "JSON"},
		{"output_include_time", "true", refuses, "include_time_key"},
		{"output_include_tag", "true", refuses, "include_tag_key"},
		{"include_time", "true", refuses, "include_time_key"},
		{"include_tag", "true", refuses, "include_tag_key"},
		{"include_tag", "no", accepted, ""},
		{"num_threads", "50", warns, "workers"},
		{"flush_thread_count", "50", warns, "workers"},
		{"detach_process", "2", warns, "workers"},
		{"buffer_chunk_limit", "300k", warns, "max_record_size"},
		{"chunk_limit_size", "300k", warns, "max_record_size"},
		{"buffer_type", "file", warns, "storage.type filesystem"},
		{"buffer_path", "/tmp", warns, "storage.path"},
		{"buffer_queue_limit", "64", warns, "storage.total_limit_size"},
		{"flush_interval", "5s", warns, "flush"},
		{"retry_wait", "1s", warns, "scheduler.base"},
		{"max_retry_wait", "1m", warns, "scheduler.cap"},
		{"disable_retry_limit", "true", warns, "retry_limit no_limits"},
		{"utc", "true", accepted, ""},
		{"utc", "false", refuses, "UTC"},
		{"localtime", "no", accepted, ""},
		{"localtime", "yes", refuses, "UTC"},
		{"timezone", "+00:00", accepted, ""},
		{"timezone", "Europe/Berlin", refuses, "UTC"},
		{"time_type", "string", accepted, ""},
		{"time_type", "unixtime", refuses, "%s"},
		{"hostname_key", "host", refuses, "record_modifier"},
		{"aws_role_arn", "arn:aws:iam::123456789012:role/r", refuses, "set role_arn"},
		{"AWS_Profile", "p", refuses, "set profile"},
		{"aws_external_id", "x", refuses, "set external_id"},
		{"aws_access_key_id", "AKIA", refuses, "set aws_key_id"},
		{"secret_key", "x", refuses, "set aws_sec_key"},
		{"web_identity_token_file", "/t", refuses, "AWS_WEB_IDENTITY_TOKEN_FILE"},
		{"aws_auth", "On", accepted, ""},
		{"aws_auth", "Off", refuses, "always signed"},
		{"aws_service_name", "kinesis", accepted, ""},
		{"aws_service_name", "es", refuses, "signed for kinesis"},
		{"compress", "gzip", refuses, "set compression"},
		{"compress", "none", accepted, ""},
		{"json_date_key", "date", refuses, "set time_key"},
		{"json_date_key", "false", accepted, ""},
		{"json_date_format", "iso8601", refuses, "set time_key_format"},
		{"time_key_nanos", "on", refuses, "%N"},
		{"retry_mode", "standard", warns, "retry_limit"},
		{"verify_ssl", "false", refuses, "AWS_CA_BUNDLE"},
		{"encoding.except_fields", "a", refuses, "Remove_key"},
		{"use_random_partitionkey", "true", accepted, ""},
		{"batch.max_bytes", "1M", warns, "max_record_size"},
		{"storage.type", "filesystem", warns, "at the input"},
		{"flush", "5", warns, "SERVICE"},
	} {
		t.Run(test.name+" "+test.value, func(t *testing.T) {
			_, warnings, err := Parse(from("stream", "logs", test.name, test.value))
			got, text := accepted, ""
			switch {
			case err != nil:
				got, text = refuses, err.Error()
			case len(warnings) > 0:
				got, text = warns, strings.Join(warnings, "\n")
			}
			if got != test.want {
				t.Errorf("%s, want %s: %s", got, test.want, text)
			}
			if text != "" && !strings.Contains(strings.ToLower(text), "option "+strings.ToLower(test.name)) || !strings.Contains(text, test.says) {
				t.Errorf("%q is not in: %s", test.says, text)
			}
		})
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
		"compression", "ZSTD", "compression_level", "19", "check_stream", "true"))
	if err != nil || warnings != nil {
		t.Fatal(err, warnings)
	}
	if c.TimeKey != "time" || c.TagKey != "tag" || c.TimeFormat != "%s" || c.MetadataKey != "meta" ||
		strings.Join(c.DataKeys, ",") != "a,time,tag,meta,b" || c.ReplaceDots != "_" || !c.AppendNewline ||
		c.Compression != "zstd" || c.CompressionLevel != 19 || !c.CheckStream {
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
		{[]string{"compression", "lz4"}, []string{`option compression: "lz4"`, "none, gzip, zlib, zstd or snappy"}},
		{[]string{"compression", "gzip", "compression_level", "fast"}, []string{`option compression_level: "fast"`, "whole number from 1 to 22"}},
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
