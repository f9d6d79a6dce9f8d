package option

import (
	"errors"
	"fmt"
	"strings"
)

// foreignOption is an option of one of the plugins that people come from and that
// this plugin has no use for: AWS's Go plugin and its forks, the engine's
// kinesis_streams, AWS's plugins for Fluentd, and fluent-plugin-kinesis-aggregation
// with what Fluentd adds to them. An option is refused if without it something
// else would be delivered, or nothing.
type foreignOption struct {
	name string
	// answer says what to do instead: a warning where the option can be left
	// out, an error where it is refused, and neither where its value asks for what
	// happens anyway.
	answer func(value string) (warning string, err error)
}

func warned(text string) func(string) (string, error) {
	return func(string) (string, error) { return text, nil }
}

func refused(text string) func(string) (string, error) {
	return func(string) (string, error) { return "", errors.New(text) }
}

// only accepts these values and gives the answer to all others.
func only(values string, answer func(string) (string, error)) func(string) (string, error) {
	return func(value string) (string, error) {
		for allowed := range strings.SplitSeq(values, " ") {
			if strings.EqualFold(value, allowed) {
				return "", nil
			}
		}
		return answer(value)
	}
}

// expect is for options that are true or false. otherwise is for the value that
// is not wanted.
func expect(wanted bool, otherwise string) func(string) (string, error) {
	return func(text string) (string, error) {
		var is bool
		v := boolean(&is)
		if err := v.set(text); err != nil {
			return "", fmt.Errorf("%q is not allowed (%w): write %s", text, err, v.allowed())
		}
		if is != wanted {
			return "", errors.New(otherwise)
		}
		return "", nil
	}
}

var foreignOptions = []foreignOption{
	// AWS's Go plugin and kinesis_streams.
	{"aggregation", expect(true, "records are always aggregated: remove it, or use the output kinesis_streams for records that are not")},
	{"simple_aggregation", expect(false, "records are aggregated in the KPL format, not joined by newlines, and consumers have to take them apart: remove it, and see which consumers can")},
	{"partition_key", refused("a chunk of many records is one record of the stream and has one key, so that none can come from a record: write fixed_partition_key $TAG to keep the records of a tag in order, or nothing for a random key")},
	{"experimental_concurrency", warned("write workers, with the number of threads that send")},
	{"experimental_concurrency_retries", warned("write retry_limit, with no_limits or a number")},
	{"json.escape_unicode", warned("UTF-8 is always written as it is, which is the same JSON")},

	// Forks of AWS's Go plugin.
	{"enrich_records", expect(false, "records are not enriched here: write a filter, such as record_modifier, modify or lua, and remove it")},
	{"aggregation_maximum_record_size", warned("write max_record_size, the size of a whole aggregated record")},
	{"skip_aggregation_record_size", warned("a record of any size is sent in an aggregated record")},

	// AWS's plugins for Fluentd.
	{"data_key", refused("the whole record would be sent: write log_key with the same value")},
	{"chomp_record", expect(false, "newlines are not removed from records: write a filter lua that removes them, and remove it")},
	{"append_new_line", expect(false, "the option is called append_newline here: write that")},
	{"random_partition_key", expect(true, "a random key is what the absence of fixed_partition_key stands for: write fixed_partition_key, and remove it")},
	{"partition_key_expr", refused("a chunk of many records is one record of the stream and has one key, so that none can come from a record: write fixed_partition_key $TAG to keep the records of a tag in order, or nothing for a random key")},
	{"explicit_hash_key", refused("a record is sent without a hash key of its own, as consumers would drop an aggregated record whose keys belong to another shard: write fixed_partition_key")},
	{"explicit_hash_key_expr", refused("a record is sent without a hash key of its own, as consumers would drop an aggregated record whose keys belong to another shard: write fixed_partition_key")},
	{"order_events", expect(false, "chunks are sent without regard to order, records of one chunk in order: write fixed_partition_key and workers 1 to come close, and remove it")},
	{"delivery_stream_name", refused("records go to Kinesis Data Streams and not to a delivery stream: write stream, or use the output kinesis_firehose")},
	{"aws_ses_token", refused("requests would lack the token and be refused: write aws_session_token")},
	{"sts_endpoint_url", refused("roles would be assumed at another endpoint: write sts_endpoint")},
	{"sts_http_proxy", refused("roles would be assumed without it: write http_proxy, which is for Kinesis and STS, or HTTPS_PROXY and NO_PROXY in the environment")},
	{"policy", refused("a role would be assumed with more rights: limit the rights of the role that role_arn names, and remove it")},
	{"ssl_verify_peer", expect(true, "certificates are always verified: name your own certificate authority in AWS_CA_BUNDLE in the environment, and remove it")},
	{"duration_seconds", warned("a role is assumed again before its session ends")},
	{"aws_iam_retries", warned("a flush that finds no credentials is retried: write retry_limit")},
	{"log_truncate_max_size", warned("records are never shown in the log")},
	{"retries_on_batch_request", warned("write retry_limit, with no_limits or a number")},
	{"reset_backoff_if_success", warned("write scheduler.base and scheduler.cap in the section SERVICE")},
	{"batch_request_max_count", warned("a request has one aggregated record of any number of records")},
	{"batch_request_max_size", warned("write max_record_size")},
	{"drop_failed_records_after_batch_request_retries", warned("write retry_limit, and storage.keep.rejected in the section SERVICE to keep what is given up")},
	{"monitor_num_of_batch_request_retries", warned("the engine counts retries in its own metrics")},

	// fluent-plugin-kinesis-aggregation and Fluentd.
	{"num_threads", warned("write workers, with the number of threads that send")},
	{"flush_thread_count", warned("write workers, with the number of threads that send")},
	{"flush_thread_interval", warned("write flush in the section SERVICE")},
	{"flush_thread_burst_interval", warned("write flush in the section SERVICE")},
	{"detach_process", warned("write workers, with the number of threads that send")},
	{"buffer_chunk_limit", warned("the engine ends a chunk at about 2 MB; write max_record_size, and oversize_chunk for what is larger")},
	{"chunk_limit_size", warned("the engine ends a chunk at about 2 MB; write max_record_size, and oversize_chunk for what is larger")},
	{"buffer_type", warned("write storage.type filesystem at the input for chunks on disk")},
	{"buffer_path", warned("write storage.path in the section SERVICE, and storage.type filesystem at the input")},
	{"buffer_queue_limit", warned("write storage.total_limit_size")},
	{"queue_limit_length", warned("write storage.total_limit_size")},
	{"total_limit_size", warned("write storage.total_limit_size")},
	{"overflow_action", warned("the engine drops the oldest chunk when storage.total_limit_size is reached, and pauses an input when mem_buf_limit is")},
	{"buffer_queue_full_action", warned("the engine drops the oldest chunk when storage.total_limit_size is reached, and pauses an input when mem_buf_limit is")},
	{"flush_mode", warned("write flush in the section SERVICE")},
	{"flush_at_shutdown", warned("the engine flushes at shutdown for as long as grace in the section SERVICE")},
	{"flush_interval", warned("write flush in the section SERVICE")},
	{"retry_wait", warned("write scheduler.base in the section SERVICE")},
	{"max_retry_wait", warned("write scheduler.cap in the section SERVICE")},
	{"retry_max_interval", warned("write scheduler.cap in the section SERVICE")},
	{"retry_max_times", warned("write retry_limit")},
	{"retry_timeout", warned("write retry_limit")},
	{"retry_forever", warned("write retry_limit no_limits")},
	{"disable_retry_limit", warned("write retry_limit no_limits")},
	{"utc", expect(true, "times are in UTC: remove it")},
	{"localtime", expect(false, "times are in UTC: remove it")},
	{"timezone", only("UTC Z +00:00 +0000", refused("times are in UTC: remove it"))},
	{"time_type", only("string", refused("times are texts: write time_key_format, in which %s is the Unix time"))},
	{"hostname_key", refused("the host is not added here: write a filter record_modifier with Record and the key and ${HOSTNAME}")},
	{"worker_id_key", refused("the number of a worker is not added here, as flushes change between the engine's threads: remove it, or write a filter record_modifier with Record, the key and a constant")},
	{"format", only("json", refused("records are JSON: remove it, or write log_key to send one value as it is"))},
	{"output_type", only("json", refused("records are JSON: remove it, or write log_key to send one value as it is"))},
	{"output_include_time", expect(false, "write include_time_key or time_key")},
	{"output_include_tag", expect(false, "write include_tag_key or tag_key")},
	{"include_time", expect(false, "write include_time_key or time_key")},
	{"include_tag", expect(false, "write include_tag_key or tag_key")},
}
