package option

import (
	"errors"
	"fmt"
	"strings"
)

// foreignOption is an option of one of the plugins that people come from and that
// this plugin has no use for: AWS's Go plugin, the engine's kinesis_streams, and
// fluent-plugin-kinesis-aggregation with what Fluentd adds to it.
type foreignOption struct {
	name string
	// answer says what to do instead: a warning where the option can be left
	// out, an error where without it something else would be delivered, and
	// neither where its value asks for what happens anyway.
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

	// fluent-plugin-kinesis-aggregation and Fluentd.
	{"num_threads", warned("write workers, with the number of threads that send")},
	{"flush_thread_count", warned("write workers, with the number of threads that send")},
	{"detach_process", warned("write workers, with the number of threads that send")},
	{"buffer_chunk_limit", warned("the engine ends a chunk at about 2 MB; write max_record_size, and oversize_chunk for what is larger")},
	{"chunk_limit_size", warned("the engine ends a chunk at about 2 MB; write max_record_size, and oversize_chunk for what is larger")},
	{"buffer_type", warned("write storage.type filesystem at the input for chunks on disk")},
	{"buffer_path", warned("write storage.path in the section SERVICE, and storage.type filesystem at the input")},
	{"buffer_queue_limit", warned("write storage.total_limit_size")},
	{"flush_interval", warned("write flush in the section SERVICE")},
	{"retry_wait", warned("write scheduler.base in the section SERVICE")},
	{"max_retry_wait", warned("write scheduler.cap in the section SERVICE")},
	{"disable_retry_limit", warned("write retry_limit no_limits")},
	{"utc", expect(true, "times are in UTC: remove it")},
	{"localtime", expect(false, "times are in UTC: remove it")},
	{"timezone", only("UTC Z +00:00 +0000", refused("times are in UTC: remove it"))},
	{"time_type", only("string", refused("times are texts: write time_key_format, in which %s is the Unix time"))},
	{"hostname_key", refused("the host is not added here: write a filter record_modifier with Record and the key and ${HOSTNAME}")},
}
