package option

import (
	"errors"
	"fmt"
	"strings"
)

// foreignOption is an option of another plugin that this plugin does not have: of
// AWS's Go plugin, the engine's kinesis_streams, fluent-plugin-kinesis-aggregation,
// or Fluentd.
type foreignOption struct {
	name    string
	respond response
}

// response says what to do instead of a foreign option: a warning if the option can
// be ignored, an error if ignoring it would change what is delivered, and neither
// if its value asks for what happens in any case.
type response func(value string) (warning string, err error)

func warns(text string) response {
	return func(string) (string, error) { return text, nil }
}

func refuses(text string) response {
	return func(string) (string, error) { return "", errors.New(text) }
}

// unless accepts these values, separated by spaces, and responds to all others.
func unless(values string, r response) response {
	return func(value string) (string, error) {
		for accepted := range strings.SplitSeq(values, " ") {
			if strings.EqualFold(value, accepted) {
				return "", nil
			}
		}
		return r(value)
	}
}

// expects accepts one of the values of a boolean and refuses the other.
func expects(wanted bool, refusal string) response {
	return func(text string) (string, error) {
		var is bool
		v := boolValue{&is}
		if err := v.Set(text); err != nil {
			return "", fmt.Errorf("%q %w: set %s", text, err, v.allowed())
		}
		if is != wanted {
			return "", errors.New(refusal)
		}
		return "", nil
	}
}

var foreignOptions = []foreignOption{
	// AWS's Go plugin and kinesis_streams.
	{"aggregation", expects(true, "records hold many log records in any case: set record_format ndjson for records without the KPL format, one line for each log record, and remove it")},
	{"simple_aggregation", expects(false, "records are aggregated in the KPL format: set record_format ndjson to join log records by newlines instead, and remove it")},
	{"partition_key", refuses("a chunk becomes one record with one partition key, so the key cannot come from a record: set fixed_partition_key $TAG to keep the records of a tag in order, or remove it for a random key")},
	{"experimental_concurrency", warns("set workers, with the number of threads that send")},
	{"experimental_concurrency_retries", warns("set retry_limit, with no_limits or a number")},
	{"json.escape_unicode", warns("UTF-8 is never escaped, which is the same JSON")},

	// Forks of AWS's Go plugin.
	{"enrich_records", expects(false, "records are not enriched: use a filter, such as record_modifier, modify or lua, and remove it")},
	{"aggregation_maximum_record_size", warns("set max_record_size, the size of an aggregated record")},
	{"skip_aggregation_record_size", warns("a record of any size is part of an aggregated record")},

	// AWS's plugins for Fluentd.
	{"data_key", refuses("the whole record would be sent: set log_key to the same value")},
	{"chomp_record", expects(false, "newlines are not removed from records: use a lua filter that removes them, and remove it")},
	{"append_new_line", expects(false, "the option is called append_newline: set that")},
	{"random_partition_key", expects(true, "the key is random unless fixed_partition_key is set: set fixed_partition_key, and remove it")},
	{"partition_key_expr", refuses("a chunk becomes one record with one partition key, so the key cannot come from a record: set fixed_partition_key $TAG to keep the records of a tag in order, or remove it for a random key")},
	{"explicit_hash_key", refuses("consumers would drop aggregated records whose partition key belongs to another shard: set fixed_partition_key")},
	{"explicit_hash_key_expr", refuses("consumers would drop aggregated records whose partition key belongs to another shard: set fixed_partition_key")},
	{"order_events", expects(false, "only the records of one chunk are in order: set fixed_partition_key and workers 1 to keep most chunks in order, and remove it")},
	{"delivery_stream_name", refuses("records are sent to Kinesis Data Streams, not to a delivery stream: set stream, or use the output kinesis_firehose")},
	{"aws_ses_token", refuses("requests would be refused without the token: set aws_session_token")},
	{"sts_endpoint_url", refuses("roles would be assumed at another endpoint: set sts_endpoint")},
	{"sts_http_proxy", refuses("roles would be assumed without the proxy: set http_proxy, which applies to Kinesis and STS, or HTTPS_PROXY and NO_PROXY in the environment")},
	{"policy", refuses("the role would be assumed with more permissions: restrict the role in role_arn, and remove it")},
	{"ssl_verify_peer", expects(true, "certificates are always verified: set AWS_CA_BUNDLE in the environment for your own certificate authority, and remove it")},
	{"duration_seconds", warns("a role is assumed again before its session expires")},
	{"aws_iam_retries", warns("a flush without credentials is retried: set retry_limit")},
	{"log_truncate_max_size", warns("the log never contains records")},
	{"retries_on_batch_request", warns("set retry_limit, with no_limits or a number")},
	{"reset_backoff_if_success", warns("set scheduler.base and scheduler.cap in the section SERVICE")},
	{"batch_request_max_count", warns("a request is one aggregated record with any number of records")},
	{"batch_request_max_size", warns("set max_record_size")},
	{"drop_failed_records_after_batch_request_retries", warns("set retry_limit, and storage.keep.rejected in the section SERVICE to keep chunks that are given up")},
	{"monitor_num_of_batch_request_retries", warns("the engine has metrics of retries")},

	// fluent-plugin-kinesis-aggregation and Fluentd.
	{"num_threads", warns("set workers, with the number of threads that send")},
	{"flush_thread_count", warns("set workers, with the number of threads that send")},
	{"flush_thread_interval", warns("set flush in the section SERVICE")},
	{"flush_thread_burst_interval", warns("set flush in the section SERVICE")},
	{"detach_process", warns("set workers, with the number of threads that send")},
	{"buffer_chunk_limit", warns("the engine closes a chunk at about 2 MB; set max_record_size, and oversize_chunk for larger chunks")},
	{"chunk_limit_size", warns("the engine closes a chunk at about 2 MB; set max_record_size, and oversize_chunk for larger chunks")},
	{"buffer_type", warns("set storage.type filesystem at the input to keep chunks on disk")},
	{"buffer_path", warns("set storage.path in the section SERVICE, and storage.type filesystem at the input")},
	{"buffer_queue_limit", warns("set storage.total_limit_size")},
	{"queue_limit_length", warns("set storage.total_limit_size")},
	{"total_limit_size", warns("set storage.total_limit_size")},
	{"overflow_action", warns("the engine drops the oldest chunk when storage.total_limit_size is reached, and pauses an input when mem_buf_limit is")},
	{"buffer_queue_full_action", warns("the engine drops the oldest chunk when storage.total_limit_size is reached, and pauses an input when mem_buf_limit is")},
	{"flush_mode", warns("set flush in the section SERVICE")},
	{"flush_at_shutdown", warns("the engine flushes at shutdown for the time of grace in the section SERVICE")},
	{"flush_interval", warns("set flush in the section SERVICE")},
	{"retry_wait", warns("set scheduler.base in the section SERVICE")},
	{"max_retry_wait", warns("set scheduler.cap in the section SERVICE")},
	{"retry_max_interval", warns("set scheduler.cap in the section SERVICE")},
	{"retry_max_times", warns("set retry_limit")},
	{"retry_timeout", warns("set retry_limit")},
	{"retry_forever", warns("set retry_limit no_limits")},
	{"disable_retry_limit", warns("set retry_limit no_limits")},
	{"utc", expects(true, "times are in UTC: remove it")},
	{"localtime", expects(false, "times are in UTC: remove it")},
	{"timezone", unless("UTC Z +00:00 +0000", refuses("times are in UTC: remove it"))},
	{"time_type", unless("string", refuses("times are strings: set time_key_format, in which %s is the Unix time"))},
	{"hostname_key", refuses("the host name is not added: use a record_modifier filter with Record, the key and ${HOSTNAME}")},
	{"worker_id_key", refuses("the number of the worker is not added, because a chunk can be flushed by any of them: remove it, or use a record_modifier filter with Record, the key and a constant")},
	{"format", unless("json", refuses("records are JSON: remove it, or set log_key to send one value as it is"))},
	{"output_type", unless("json", refuses("records are JSON: remove it, or set log_key to send one value as it is"))},
	{"output_include_time", expects(false, "write include_time_key or time_key")},
	{"output_include_tag", expects(false, "write include_tag_key or tag_key")},
	{"include_time", expects(false, "write include_time_key or time_key")},
	{"include_tag", expects(false, "write include_tag_key or tag_key")},
}
