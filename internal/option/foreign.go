package option

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// foreignOption is an option of other programs that this plugin does not have, under
// the names that it has there, separated by spaces.
type foreignOption struct {
	names string
	response
}

// response says what to do instead of a foreign option: an error if ignoring it would
// change what is delivered, else a warning.
type response struct {
	text     string
	refuses  bool
	accepted string // values that ask for what the plugin does, separated by spaces
	boolean  bool   // accepted is true or false
}

func warns(text string) response { return response{text: text} }

func refuses(text string) response { return response{text: text, refuses: true} }

// renamed refuses a name of an option that this plugin has under another one.
func renamed(to string) response { return refuses("the option is called " + to + " here: set " + to) }

// unless accepts these values, separated by spaces, and responds to all others.
func unless(values string, r response) response {
	r.accepted = values
	return r
}

// expects accepts one of the values of a boolean and refuses the other.
func expects(wanted bool, refusal string) response {
	return response{text: refusal, refuses: true, accepted: strconv.FormatBool(wanted), boolean: true}
}

// to responds to a value.
func (r response) to(value string) (warning string, err error) {
	if r.boolean {
		var is bool
		v := boolValue{&is}
		if err := v.Set(value); err != nil {
			return "", fmt.Errorf("%q %w: set %s", value, err, v.allowed())
		}
		value = strconv.FormatBool(is)
	}
	switch accepted := strings.Fields(strings.ToLower(r.accepted)); {
	case slices.Contains(accepted, strings.ToLower(value)):
		return "", nil
	case r.refuses:
		return "", errors.New(r.text)
	}
	return r.text, nil
}

// foreignOptions are those of AWS's Go plugin and its forks, of the engine's other
// outputs, of Fluentd with AWS's plugins and fluent-plugin-kinesis-aggregation, of
// Vector, Telegraf and Logstash, and what the SDKs call the same.
var foreignOptions = []foreignOption{
	// Identity.
	{"aws_role_arn assume_role_arn assume_role auth.assume_role iam_role role", renamed("role_arn")},
	{"aws_external_id sts_external_id auth.external_id", renamed("external_id")},
	{"aws_role_session_name aws_session_name session_name auth.session_name", renamed("role_session_name")},
	{"aws_profile profile_name auth.profile", renamed("profile")},
	{"aws_access_key_id aws_access_key access_key_id access_key auth.access_key_id", renamed("aws_key_id")},
	{"aws_secret_access_key aws_secret_key aws_secret_key_id secret_access_key secret_key auth.secret_access_key", renamed("aws_sec_key")},
	{"aws_ses_token aws_token session_token token auth.session_token", renamed("aws_session_token")},
	{"aws_shared_credentials_file aws_credentials_file aws_credentials_path shared_credentials_file shared_credential_file credentials_file auth.credentials_file", renamed("credentials_path")},
	{"aws_config_file", refuses("the file would not be read: set AWS_CONFIG_FILE in the environment")},
	{"aws_web_identity_token_file web_identity_token_file", refuses("the role would not be assumed: set AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN in the environment")},
	{"aws_credential_process credential_process", refuses("the process would not be run: set credential_process in a profile of the shared configuration, and profile")},
	{"aws_use_sts", expects(false, "a role is assumed if role_arn is set: set that")},
	{"aws_auth", expects(true, "requests are always signed: remove it")},
	{"aws_service aws_service_name", unless("kinesis", refuses("requests are signed for kinesis: remove it"))},
	{"aws_region region_name auth.region", renamed("region")},
	{"aws_sts_endpoint sts_endpoint_url", renamed("sts_endpoint")},
	{"sts_http_proxy", refuses("roles would be assumed without the proxy: set http_proxy, which applies to Kinesis and STS, or HTTPS_PROXY and NO_PROXY in the environment")},
	{"policy", refuses("the role would be assumed with more permissions: restrict the role in role_arn, and remove it")},
	{"duration_seconds auth.load_timeout_secs", warns("a role is assumed again before its session expires")},
	{"aws_iam_retries", warns("a flush without credentials is retried: set retry_limit")},

	// Destination and connection.
	{"aws_stream_name kinesis_stream stream_arn", renamed("stream")},
	{"delivery_stream_name delivery_stream", refuses("records are sent to Kinesis Data Streams, not to a delivery stream: set stream, or use the output kinesis_firehose")},
	{"log_group_name log_stream_name log_stream_prefix log_group_template log_stream_template", refuses("records are sent to a stream of Kinesis, not to CloudWatch Logs: set stream, or use the output cloudwatch_logs")},
	{"bucket s3_key_format", refuses("records are sent to Kinesis, not to S3: set stream, or use the output s3")},
	{"topics topic topic_key brokers", refuses("records are sent to Kinesis, not to Kafka: set stream, or use the output kafka")},
	{"index logstash_format logstash_prefix", refuses("records are sent to Kinesis, not to an index: set stream, or use the output es or opensearch")},
	{"uri url", refuses("the path of a request is always that of Kinesis: set endpoint to another base URL, or remove it")},
	{"header headers", refuses("requests have no headers of your own: remove it")},
	{"http_user http_passwd", refuses("requests are signed with AWS credentials: set aws_key_id and aws_sec_key, role_arn or profile")},
	{"endpoint_url aws_endpoint aws_endpoint_url kinesis_endpoint custom_endpoint", renamed("endpoint")},
	{"proxy proxy_uri https_proxy proxy.http proxy.https", renamed("http_proxy")},
	{"no_proxy", refuses("hosts would be reached through the proxy: set HTTPS_PROXY and NO_PROXY in the environment")},
	{"ssl_verify_peer ssl_verify verify_ssl verify_certificate use_ssl", expects(true, "connections to AWS always use TLS with verified certificates: set AWS_CA_BUNDLE in the environment for your own certificate authority, and remove it")},
	{"ca_file ca_path ca_bundle ca_cert ssl_ca_file ssl_ca_cert aws_ca_bundle", refuses("the certificate authority would not be known: set AWS_CA_BUNDLE in the environment")},
	{"timeout http_timeout read_timeout aws_http_timeout request.timeout_secs http.response_timeout", renamed("request_timeout")},
	{"connection_timeout open_timeout", renamed("connect_timeout")},

	// Partition keys.
	{"partition_key partition_key_expr partition_key_field partitionkey event_partition_keys message_key message_key_field", refuses("a chunk becomes one record with one partition key, so the key cannot come from a record: set fixed_partition_key $TAG to keep the records of a tag in order, or remove it for a random key")},
	{"random_partition_key randomized_partition_key use_random_partitionkey", expects(true, "the key is random unless fixed_partition_key is set: set fixed_partition_key, and remove it")},
	{"explicit_hash_key explicit_hash_key_expr", refuses("consumers would drop aggregated records whose partition key belongs to another shard: set fixed_partition_key")},
	{"order_events", expects(false, "only the records of one chunk are in order: set fixed_partition_key and workers 1 to keep most chunks in order, and remove it")},

	// Records.
	{"aggregation aggregation_enabled kpl_aggregation", expects(true, "records hold many log records in any case: set record_format ndjson for records without the KPL format, one line for each log record, and remove it")},
	{"simple_aggregation", expects(false, "records are aggregated in the KPL format: set record_format ndjson to join log records by newlines instead, and remove it")},
	{"json.escape_unicode", warns("UTF-8 is never escaped, which is the same JSON")},
	{"enrich_records", expects(false, "records are not enriched: use a filter, such as record_modifier, modify or lua, and remove it")},
	{"data_key raw_log_key body_key message_field", refuses("the whole record would be sent: set log_key to the same value")},
	{"encoding.only_fields keep_keys allowlist_key whitelist_key", renamed("data_keys")},
	{"encoding.except_fields remove_keys exclude_keys", refuses("the keys would be sent: use the filter record_modifier with Remove_key, or set data_keys to the keys to send")},
	{"chomp_record", expects(false, "newlines are not removed from records: use a lua filter that removes them, and remove it")},
	{"append_new_line add_newline", expects(false, "the option is called append_newline: set that")},
	{"compress compression_type compression_codec", unless("none off false", renamed("compression"))},
	{"format output_type codec encoding.codec data_format serializer", unless("json json_lines", refuses("records are JSON: remove it, or set log_key to send one value as it is"))},
	{"log_format", unless("json", refuses("records are JSON: remove it, or use the output cloudwatch_logs"))},
	{"output_include_time include_time include_timestamp", expects(false, "write include_time_key or time_key")},
	{"output_include_tag include_tag", expects(false, "write include_tag_key or tag_key")},
	{"json_date_key timestamp_key", unless("false off no", renamed("time_key"))},
	{"json_date_format timestamp_format encoding.timestamp_format", refuses("the option is called time_key_format here, in the format of strftime: set time_key_format, in which %s is the Unix time")},
	{"time_key_nanos", expects(false, "the time would have milliseconds: set time_key_format with %N for nanoseconds")},
	{"utc", expects(true, "times are in UTC: remove it")},
	{"localtime", expects(false, "times are in UTC: remove it")},
	{"timezone", unless("UTC Z +00:00 +0000", refuses("times are in UTC: remove it"))},
	{"time_type", unless("string", refuses("times are strings: set time_key_format, in which %s is the Unix time"))},
	{"hostname_key", refuses("the host name is not added: use a record_modifier filter with Record, the key and ${HOSTNAME}")},
	{"worker_id_key", refuses("the number of the worker is not added, because a chunk can be flushed by any of them: remove it, or use a record_modifier filter with Record, the key and a constant")},
	{"generate_id id_key", refuses("records have no ID of their own: use a filter that adds one, and remove it")},

	// Sizes.
	{"aggregation_maximum_record_size aggregation_max_size batch_request_max_size batch_max_bytes batch.max_bytes max_batch_bytes max_record_bytes", warns("set max_record_size, the size of an aggregated record")},
	{"skip_aggregation_record_size", warns("a record of any size is part of an aggregated record")},
	{"batch_request_max_count batch_max_count batch.max_events aggregation_max_count max_batch_count bulk_size", warns("a request is one aggregated record with any number of records")},
	{"total_file_size upload_chunk_size", refuses("chunks are sent as the engine closes them, at about 2 MB: remove it; max_record_size is the size of an aggregated record")},
	{"buffer_chunk_limit chunk_limit_size chunk_limit_records chunk_full_threshold", warns("the engine closes a chunk at about 2 MB; set max_record_size, and oversize_chunk for larger chunks")},

	// Threads, time and buffers.
	{"experimental_concurrency num_threads flush_thread_count detach_process concurrency request.concurrency threads max_concurrency", warns("set workers, with the number of threads that send")},
	{"flush flush_interval flush_mode flush_thread_interval flush_thread_burst_interval batch.timeout_secs batch_timeout linger_ms upload_timeout record_max_buffered_time timekey timekey_wait", warns("set flush in the section SERVICE")},
	{"grace flush_at_shutdown", warns("the engine flushes at shutdown for the time of grace in the section SERVICE: set it there")},
	{"buffer_type buffer.type storage.type", warns("set storage.type filesystem at the input to keep chunks on disk")},
	{"buffer_path storage.path store_dir", warns("set storage.path in the section SERVICE, and storage.type filesystem at the input")},
	{"buffer_queue_limit queue_limit_length total_limit_size queued_chunks_limit_size buffer.max_size store_dir_limit_size queue_full_retries", warns("set storage.total_limit_size")},
	{"overflow_action buffer_queue_full_action buffer.when_full", warns("the engine drops the oldest chunk when storage.total_limit_size is reached, and pauses an input when mem_buf_limit is")},
	{"mem_buf_limit", warns("set it at the input")},
	{"buffer_size", warns("responses of Kinesis always fit: remove it")},

	// Retries and the log.
	{"experimental_concurrency_retries retries_on_batch_request retry_max_times retry_timeout request.retry_attempts max_retries retries retry_attempts aws_max_attempts", warns("set retry_limit, with no_limits or a number")},
	{"retry_forever disable_retry_limit", warns("set retry_limit no_limits")},
	{"retry_mode aws_retry_mode retry_type retry_exponential_backoff_base retry_randomize", warns("the engine retries with waits that grow: set retry_limit, and scheduler.base and scheduler.cap in the section SERVICE")},
	{"retry_wait scheduler.base", warns("set scheduler.base in the section SERVICE")},
	{"max_retry_wait retry_max_interval scheduler.cap", warns("set scheduler.cap in the section SERVICE")},
	{"reset_backoff_if_success", warns("set scheduler.base and scheduler.cap in the section SERVICE")},
	{"drop_failed_records_after_batch_request_retries", warns("set retry_limit, and storage.keep.rejected in the section SERVICE to keep chunks that are given up")},
	{"monitor_num_of_batch_request_retries metrics_level", warns("the engine has metrics of retries")},
	{"log_truncate_max_size", warns("the log never contains records")},
	{"trace_output trace_error", warns("set debug true to log requests and responses")},
	{"extra_user_agent", warns("set AWS_SDK_UA_APP_ID in the environment")},
}
