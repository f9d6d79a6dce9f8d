// Package option is the one place that knows the plugin's options: their names,
// values, defaults and ranges. It does not know where values come from or what is
// done with them.
package option

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/connection"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
)

// Connection is what the options say about connections to AWS.
type Connection = connection.Settings

// Config is the values of one [OUTPUT] section, checked. An empty string means
// that the option is not set.
type Config struct {
	Stream            Stream
	FixedPartitionKey PartitionKey
	IncludeTimeKey    bool
	IncludeTagKey     bool
	MaxRecordBytes    int
	OversizeChunk     string
	WireFormat        string
	OnAutoStream      string
	CheckStream       bool
	Debug             bool

	// Connection has the options that say how AWS is reached. Region is the ARN's if the
	// option is not set.
	Connection
	// Transform has the options that say what a record contains.
	aggregator.Transform
}

// The values of OversizeChunk.
const (
	Split = "split"
	Drop  = "drop"
)

// The values of OnAutoStream.
const (
	Hold   = "hold"
	NDJSON = "ndjson"
	Warn   = "warn"
)

const defaultTimeFormat = "%Y-%m-%dT%H:%M:%S.%LZ"

// Option describes one option to a person.
type Option struct {
	Name    string
	Aliases []string // other names of the same option
	Default string   // as in a configuration; empty: none
	Help    string
	Secret  bool // the value is not shown in a log

	required bool
	value    value
}

// Allowed describes the option's values.
func (o Option) Allowed() string { return o.value.allowed() }

// Required reports whether the option has to be set.
func (o Option) Required() bool { return o.required }

// Table lists all options in the order of the documentation.
func Table() []Option { return new(Config).options() }

// options is the table, with each value bound to its field of c.
func (c *Config) options() []Option {
	return []Option{
		{Name: "stream", Aliases: []string{"stream_name"}, required: true, value: streamValue{&c.Stream},
			Help: "Name or ARN of the data stream. With `$TAG` or `$TAG[n]` in a name, each tag has its own stream; characters that a stream name cannot have become `_`."},
		{Name: "region", value: regionValue{stringValue{&c.Region}},
			Help: "Region of the stream. Default: the ARN's, `AWS_REGION`, or the profile's."},
		{Name: "role_arn", value: roleValue{stringValue{&c.RoleARN}},
			Help: "Role to assume, with the credentials that are found otherwise. It is renewed before it expires."},
		{Name: "external_id", value: stringValue{&c.ExternalID},
			Help: "External ID that the role's trust policy requires."},
		{Name: "role_session_name", Default: "fluent-bit", value: stringValue{&c.RoleSessionName},
			Help: "Name of the role's session in CloudTrail."},
		{Name: "aws_key_id", value: stringValue{&c.KeyID},
			Help: "Static credentials: access key ID. Requires `aws_sec_key`."},
		{Name: "aws_sec_key", Secret: true, value: stringValue{&c.SecretKey},
			Help: "Static credentials: secret access key."},
		{Name: "aws_session_token", Secret: true, value: stringValue{&c.SessionToken},
			Help: "Static credentials: session token, for temporary credentials."},
		{Name: "profile", value: stringValue{&c.Profile},
			Help: "Profile in the shared configuration and credentials files."},
		{Name: "credentials_path", value: stringValue{&c.CredentialsPath},
			Help: "Path of the shared credentials file."},
		{Name: "endpoint", value: urlValue{&c.Endpoint, false},
			Help: "Base URL of Kinesis, for VPC endpoints and local servers. Default: AWS's."},
		{Name: "sts_endpoint", value: urlValue{&c.STSEndpoint, false},
			Help: "Base URL of STS. Default: AWS's for the region."},
		{Name: "http_proxy", Secret: true, value: urlValue{&c.HTTPProxy, true},
			Help: "Proxy for calls to AWS. Default: `HTTPS_PROXY` and `NO_PROXY`. It may contain a password, so it is never logged."},
		{Name: "request_timeout", Aliases: []string{"http_request_timeout"}, Default: "30s",
			value: durationValue{&c.RequestTimeout, time.Second, 10 * time.Minute},
			Help:  "Time limit of a flush: credentials, connection, requests and responses."},
		{Name: "connect_timeout", Default: "5s",
			value: durationValue{&c.ConnectTimeout, time.Second, 10 * time.Minute},
			Help:  "Time limit of a new connection, TLS included."},
		{Name: "auto_retry_requests", Default: "true", value: boolValue{&c.AutoRetry},
			Help: "Repeat a request once, immediately, if its connection fails before a response."},
		{Name: "fixed_partition_key", value: partitionKeyValue{&c.FixedPartitionKey},
			Help: "Partition key of every record; `$TAG` is the tag and `$TAG[n]` its n-th part. Default: a random UUID for each PutRecord."},
		{Name: "time_key", value: stringValue{&c.TimeKey},
			Help: "Add the event's time, in UTC, under this key."},
		{Name: "time_key_format", Aliases: []string{"time_format"}, Default: defaultTimeFormat,
			value: timeFormatValue{stringValue{&c.TimeFormat}},
			Help:  "Format for `time_key`: strftime, with `%L` (ms), `%f` (us) and `%N` (ns) for fractions of a second."},
		{Name: "include_time_key", Default: "false", value: boolValue{&c.IncludeTimeKey},
			Help: "Same as `time_key time`, unless `time_key` is set."},
		{Name: "tag_key", value: stringValue{&c.TagKey},
			Help: "Add the tag under this key."},
		{Name: "include_tag_key", Default: "false", value: boolValue{&c.IncludeTagKey},
			Help: "Same as `tag_key tag`, unless `tag_key` is set."},
		{Name: "metadata_key", value: stringValue{&c.MetadataKey},
			Help: "Add the event's metadata and its group's, as one map, under this key."},
		{Name: "data_keys", value: keysValue{&c.DataKeys},
			Help: "Send only these top-level keys of a record. List the keys that `time_key`, `tag_key` and `metadata_key` add as well."},
		{Name: "log_key", value: pathValue{stringValue{&c.LogKey}},
			Help: "Send the value of this key instead of the record: a string as it is, other values as JSON. A record without the key is not sent."},
		{Name: "replace_dots", value: dotlessValue{stringValue{&c.ReplaceDots}},
			Help: "Replace each dot in keys with this string, also in nested maps."},
		{Name: "append_newline", Default: "false", value: boolValue{&c.AppendNewline},
			Help: "End each user record with a newline. Lines of batches end with one in any case."},
		{Name: "record_format", Default: string(aggregator.KPL),
			value: enum((*string)(&c.Format), words(aggregator.Formats())...),
			Help:  "Format of a Kinesis record: an aggregated record of the KPL (`kpl`), or one batch of newline-delimited JSON without that envelope (`ndjson`), for consumers that do not de-aggregate."},
		{Name: "batch_size", Default: "0", value: sizeValue{&c.BatchBytes, 1000, kpl.LargestMaxRecordBytes, true},
			Help: "Join log records as newline-delimited JSON into user records of up to this size before compression. 0: each log record is a user record; with `record_format ndjson`, a batch is as large as the record permits."},
		{Name: "compression", Default: string(compression.None),
			value: enum((*string)(&c.Compression), words(compression.Formats())...),
			Help:  "Compress each user record, or the batch that is a record; `snappy` is the block format."},
		{Name: "compression_level", value: intValue{&c.CompressionLevel, 1, highestCompressionLevel()},
			Help: compressionLevelHelp()},
		{Name: "max_record_size", Default: strconv.Itoa(kpl.DefaultMaxRecordBytes),
			value: sizeValue{&c.MaxRecordBytes, 1000, kpl.LargestMaxRecordBytes, false},
			Help:  "Largest record, partition key included. It must not exceed the stream's own limit."},
		{Name: "oversize_chunk", Default: Split, value: enum(&c.OversizeChunk, Split, Drop),
			Help: "A chunk that does not fit into one record is sent as several (`split`) or not at all (`drop`)."},
		{Name: "wire_format", Default: "auto", value: enum(&c.WireFormat, "auto", "json", "cbor"),
			Help: "Format of requests: AWS JSON 1.1, or CBOR, which is a quarter smaller and takes less processor time. `auto` is CBOR for AWS's own hosts and JSON with `endpoint`; if a host refuses CBOR, requests are in JSON until restart."},
		{Name: "on_auto_stream", Default: Hold, value: enum(&c.OnAutoStream, Hold, NDJSON, Warn),
			Help: "What to do if the stream is found to have the record distribution strategy AUTO, with which KCL drops aggregated records: hold the chunks until it has user partition keys again (`hold`), send records without the KPL format until then (`ndjson`), or only log an error (`warn`)."},
		{Name: "check_stream", Default: "false", value: boolValue{&c.CheckStream},
			Help: "Check the stream at start, with the permission `kinesis:DescribeStreamSummary`: do not start if it has the strategy AUTO, or if its record limit is below `max_record_size`."},
		{Name: "debug", Default: "false", value: boolValue{&c.Debug},
			Help: "Log the requests and responses, without bodies and credentials."},
	}
}

func words[T ~string](values []T) (words []string) {
	for _, v := range values {
		words = append(words, string(v))
	}
	return words
}

// highestCompressionLevel is the largest of all formats. conflicts checks the level
// against the format.
func highestCompressionLevel() (highest int) {
	for _, f := range compression.Formats() {
		_, most := f.Levels()
		highest = max(highest, most)
	}
	return highest
}

func compressionLevelHelp() string {
	var levels []string
	for _, f := range compression.Formats()[1:] {
		normal, highest := f.Levels()
		levels = append(levels, fmt.Sprintf("%d and %d for `%s`", highest, normal, f))
	}
	return "1 is the fastest. The highest level and the default are " + strings.Join(levels, ", ") + "."
}

// Parse parses a configuration. The error joins one for each invalid option; warnings
// are about options that have no effect. Neither shows a secret.
func Parse(from Source) (c Config, warnings []string, err error) {
	get := from.Get
	warnings, errs := from.checkNames()
	for _, o := range c.options() {
		if err := o.read(get); err != nil {
			errs = append(errs, err)
		}
	}
	for _, o := range foreignOptions {
		for name := range strings.SplitSeq(o.names, " ") {
			v := strings.TrimSpace(get(name))
			if v == "" {
				continue
			}
			warning, err := o.to(v)
			if err != nil {
				errs = append(errs, fmt.Errorf("option %s: %w", name, err))
			} else if warning != "" {
				warnings = append(warnings, fmt.Sprintf("option %s has no effect: %s", name, warning))
			}
		}
	}
	if c.IncludeTimeKey && c.TimeKey == "" {
		c.TimeKey = "time"
	}
	if c.IncludeTagKey && c.TagKey == "" {
		c.TagKey = "tag"
	}
	conflictWarnings, conflicts := c.conflicts()
	if c.Region == "" {
		// It takes precedence over AWS_REGION, which AWS sets to the region of the
		// process: an ARN is only valid in its own region.
		c.Region = c.Stream.Region()
	}
	return c, append(warnings, conflictWarnings...), errors.Join(append(errs, conflicts...)...)
}

// conflicts finds options that contradict each other.
func (c *Config) conflicts() (warnings []string, errs []error) {
	conflict := func(format string, args ...any) { errs = append(errs, fmt.Errorf("option "+format, args...)) }
	if in := c.Stream.Region(); in != "" && c.Region != "" && c.Region != in {
		conflict("region: %q is not the region of the ARN in stream, %q: remove region", c.Region, in)
	}
	if c.ExternalID != "" && c.RoleARN == "" {
		conflict("external_id requires role_arn: set role_arn, or remove external_id")
	}
	if (c.KeyID == "") != (c.SecretKey == "") {
		conflict("aws_key_id and aws_sec_key require each other: set both, or neither")
	}
	if c.SessionToken != "" && c.KeyID == "" {
		conflict("aws_session_token requires aws_key_id and aws_sec_key: set both, or remove aws_session_token")
	}
	if c.TimeFormat != defaultTimeFormat && c.TimeKey == "" && c.TimeFormat != "" {
		conflict("time_key_format requires time_key: set time_key to the key that gets the time, or remove time_key_format")
	}
	if c.CheckStream && c.Stream.UsesTag() {
		conflict("check_stream: the streams are not known at start, because stream contains $TAG: remove one of them")
	}
	if c.Format != aggregator.KPL && c.OnAutoStream != Hold {
		warnings = append(warnings, fmt.Sprintf("option on_auto_stream has no effect: with record_format %s, consumers lose no record of a stream with the strategy AUTO", c.Format))
	}
	if c.Format == aggregator.NDJSON {
		if c.BatchBytes > 0 && c.OversizeChunk == Drop {
			conflict("batch_size: it bounds each record with record_format ndjson, and oversize_chunk drop drops every chunk that needs several: remove batch_size, or set oversize_chunk split")
		}
		if c.LogKey != "" {
			warnings = append(warnings, "option record_format: log_key sends strings as they are, and a newline in a string separates it as if it were two records")
		}
	} else if c.LogKey != "" && c.BatchBytes > 0 {
		warnings = append(warnings, "option batch_size: log_key sends strings as they are, and a newline in a string separates it as if it were two records")
	}
	switch _, most := c.Compression.Levels(); {
	case c.CompressionLevel == 0:
	case most == 0:
		conflict("compression_level requires compression: set compression to %s, or remove compression_level", or(words(compression.Formats()[1:])))
	case c.CompressionLevel > most:
		conflict("compression_level: \"%d\" is out of range for %s: set a whole number from 1 to %d", c.CompressionLevel, c.Compression, most)
	}
	keyWarnings, keyErrs := c.keyConflicts()
	return append(warnings, keyWarnings...), append(errs, keyErrs...)
}

// keyConflicts finds contradictions between the options that add or select keys.
func (c *Config) keyConflicts() (warnings []string, errs []error) {
	added := map[string]string{}
	for _, o := range []struct{ name, key string }{
		{"time_key", c.TimeKey}, {"tag_key", c.TagKey}, {"metadata_key", c.MetadataKey},
	} {
		if o.key == "" {
			continue
		}
		if c.LogKey != "" {
			errs = append(errs, logKeyConflict(o.name))
		}
		key := o.key
		if c.ReplaceDots != "" {
			key = strings.ReplaceAll(key, ".", c.ReplaceDots)
		}
		if other := added[key]; other != "" {
			errs = append(errs, fmt.Errorf("option %s: %q is the key that %s adds as well: set another key", o.name, o.key, other))
		}
		added[key] = o.name
		if c.DataKeys != nil && !slices.Contains(c.DataKeys, o.key) {
			warnings = append(warnings, fmt.Sprintf("option %s has no effect: data_keys does not list %q", o.name, o.key))
		}
	}
	if c.DataKeys != nil && c.LogKey != "" {
		errs = append(errs, logKeyConflict("data_keys"))
	}
	return warnings, errs
}

func logKeyConflict(name string) error {
	return fmt.Errorf("option log_key: only one value is sent, and %s is set as well: remove one of them", name)
}

// Summary returns the stream, the region and the options that differ from the
// defaults, in one line. Secrets are shown as "set".
func (c Config) Summary() string {
	var defaults Config
	unset := defaults.options()
	var shown []string
	for i, o := range c.options() {
		_ = unset[i].read(func(string) string { return "" }) // The required ones fail.
		v := o.value.String()
		switch {
		case v == unset[i].value.String() && o.Name != "stream" && o.Name != "region":
			continue
		case o.Secret:
			v = "set"
		case strings.ContainsAny(v, ", \"") || v == "":
			v = strconv.Quote(v)
		}
		shown = append(shown, o.Name+" "+v)
	}
	return strings.Join(shown, ", ")
}

// read finds the option under one of its names and sets its field.
func (o Option) read(get func(string) string) error {
	name, v := o.Name, strings.TrimSpace(get(o.Name))
	for _, alias := range o.Aliases {
		other := strings.TrimSpace(get(alias))
		switch {
		case v == "":
			name, v = alias, other
		case other != "" && other != v:
			return fmt.Errorf("option %s: %s sets the same option to another value: remove one of them", o.Name, alias)
		}
	}
	if v == "" {
		if o.required {
			return fmt.Errorf("option %s is required: set %s", o.Name, o.Allowed())
		}
		if v = o.Default; v == "" {
			return nil
		}
	}
	if err := o.value.Set(v); err != nil {
		shown := strconv.Quote(v)
		if o.Secret {
			shown = "its value"
		}
		return fmt.Errorf("option %s: %s %w: set %s", name, shown, err, o.Allowed())
	}
	return nil
}
