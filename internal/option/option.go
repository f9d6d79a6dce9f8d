// Package option is the one place that knows the plugin's options: their names,
// kinds, defaults and ranges. It knows neither where values come from nor what
// is done with them.
package option

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl"
)

// Config holds the values of one [OUTPUT] section. The zero value of a text
// means that the option is not set.
type Config struct {
	Stream            string
	Region            string
	RoleARN           string
	ExternalID        string
	RoleSessionName   string
	KeyID             string
	SecretKey         string
	SessionToken      string
	Profile           string
	CredentialsPath   string
	Endpoint          string
	STSEndpoint       string
	HTTPProxy         string
	RequestTimeout    time.Duration
	ConnectTimeout    time.Duration
	AutoRetryRequests bool
	FixedPartitionKey string
	TimeKey           string
	TimeKeyFormat     string
	IncludeTimeKey    bool
	TagKey            string
	IncludeTagKey     bool
	MetadataKey       string
	DataKeys          string // separated by commas
	LogKey            string
	ReplaceDots       string
	AppendNewline     bool
	Compression       string
	CompressionLevel  int // 0: the library's default
	CheckStream       bool
	MaxRecordBytes    int
	OversizeChunk     string
	WireFormat        string
	Debug             bool
}

// The values of OversizeChunk.
const (
	Split = "split"
	Drop  = "drop"
)

// Uncompressed is the value of Compression that stands for none; the others are
// the aggregator's.
const Uncompressed = "none"

// Option describes one option to a person.
type Option struct {
	Name    string
	Aliases []string // other names of the same option
	Default string   // as one would write it; empty: none
	Help    string
	Secret  bool // the value is not to be shown in a log

	required bool
	value    value
}

// Allowed says what the option's value can be.
func (o Option) Allowed() string { return o.value.allowed() }

// Required says that there is no default and no way to do without.
func (o Option) Required() bool { return o.required }

// Table lists all options in the order in which a person wants to read them.
func Table() []Option { return new(Config).options() }

// options is the table, with each value bound to its field of c.
func (c *Config) options() []Option {
	return []Option{
		{Name: "stream", Aliases: []string{"stream_name"}, required: true, value: text(&c.Stream),
			Help: "Name or ARN of the data stream. `$TAG` and `$TAG[n]` in a name stand for the tag and its n-th part, so that each tag has its stream; what a name cannot have becomes `_`."},
		{Name: "region", value: text(&c.Region),
			Help: "Region of the stream. Default: the ARN's, `AWS_REGION`, or the profile's."},
		{Name: "role_arn", value: text(&c.RoleARN),
			Help: "Role to assume for writing, with the credentials found otherwise; renewed before it ends."},
		{Name: "external_id", value: text(&c.ExternalID),
			Help: "External ID that the role's trust policy asks for."},
		{Name: "role_session_name", Default: "fluent-bit", value: text(&c.RoleSessionName),
			Help: "Name of the role's session, as CloudTrail shows it."},
		{Name: "aws_key_id", value: text(&c.KeyID),
			Help: "Static credentials: access key ID. Only together with `aws_sec_key`."},
		{Name: "aws_sec_key", Secret: true, value: text(&c.SecretKey),
			Help: "Static credentials: secret access key."},
		{Name: "aws_session_token", Secret: true, value: text(&c.SessionToken),
			Help: "Static credentials: session token, for temporary ones."},
		{Name: "profile", value: text(&c.Profile),
			Help: "Profile of the shared configuration and credentials files."},
		{Name: "credentials_path", value: text(&c.CredentialsPath),
			Help: "Path of the shared credentials file."},
		{Name: "endpoint", value: baseURL(&c.Endpoint, "https", "http"),
			Help: "Base URL of Kinesis, for VPC endpoints and local look-alikes. Default: AWS's."},
		{Name: "sts_endpoint", value: baseURL(&c.STSEndpoint, "https", "http"),
			Help: "Base URL of STS. Default: AWS's for the region."},
		{Name: "http_proxy", Secret: true, value: baseURL(&c.HTTPProxy, "http", "https", "socks5"),
			Help: "Proxy for calls to AWS. Default: `HTTPS_PROXY` and `NO_PROXY`. May hold a password, so it is never logged."},
		{Name: "request_timeout", Aliases: []string{"http_request_timeout"}, Default: "30s",
			value: duration(&c.RequestTimeout, time.Second, 10*time.Minute),
			Help:  "Time for a flush: credentials, connection, request and answer."},
		{Name: "connect_timeout", Default: "5s",
			value: duration(&c.ConnectTimeout, time.Second, 10*time.Minute),
			Help:  "Time for a new connection, TLS included."},
		{Name: "auto_retry_requests", Default: "true", value: boolean(&c.AutoRetryRequests),
			Help: "Repeat a request once, at once, when its connection broke before an answer came."},
		{Name: "fixed_partition_key", Secret: true, value: text(&c.FixedPartitionKey),
			Help: "Partition key of every record, 1 to 256 characters; `$TAG` and `$TAG[n]` stand for the tag and its n-th part. Default: a random UUID for each PutRecord."},
		{Name: "time_key", value: text(&c.TimeKey),
			Help: "Add the event's time, in UTC, under this key."},
		{Name: "time_key_format", Aliases: []string{"time_format"}, Default: "%Y-%m-%dT%H:%M:%S.%LZ",
			value: timeFormat(&c.TimeKeyFormat),
			Help:  "Format for `time_key`: strftime, and below the second `%L` (ms), `%f` (us) and `%N` (ns)."},
		{Name: "include_time_key", Default: "false", value: boolean(&c.IncludeTimeKey),
			Help: "Short for `time_key time`, unless that is set."},
		{Name: "tag_key", value: text(&c.TagKey),
			Help: "Add the tag under this key."},
		{Name: "include_tag_key", Default: "false", value: boolean(&c.IncludeTagKey),
			Help: "Short for `tag_key tag`, unless that is set."},
		{Name: "metadata_key", value: text(&c.MetadataKey),
			Help: "Add the event's metadata and its group's, in one map under this key."},
		{Name: "data_keys", value: names(&c.DataKeys),
			Help: "Send these top-level keys of a record only; what `time_key`, `tag_key` and `metadata_key` add has to be listed too."},
		{Name: "log_key", value: path(&c.LogKey),
			Help: "Send the value of this key instead of the record: a string as it is, anything else as JSON. A record without it is not sent."},
		{Name: "replace_dots", value: without(&c.ReplaceDots, "."),
			Help: "Put this text in the place of each dot in keys, in nested maps too."},
		{Name: "append_newline", Default: "false", value: boolean(&c.AppendNewline),
			Help: "End each user record with a newline."},
		{Name: "compression", Default: Uncompressed,
			value: word(&c.Compression, Uncompressed, string(aggregator.Gzip), string(aggregator.Zlib), string(aggregator.Zstd), string(aggregator.Snappy)),
			Help:  "Compress each user record on its own; `snappy` is the block format."},
		{Name: "compression_level", value: number(&c.CompressionLevel, 1, aggregator.Zstd.MaxLevel()),
			Help: fmt.Sprintf("1 is fastest; `gzip` and `zlib` go to %d, `zstd` to %d, `snappy` to %d. Default: the library's.",
				aggregator.Gzip.MaxLevel(), aggregator.Zstd.MaxLevel(), aggregator.Snappy.MaxLevel())},
		{Name: "max_record_size", Default: fmt.Sprint(kpl.DefaultMaxRecordBytes),
			value: size(&c.MaxRecordBytes, 1000, kpl.LargestMaxRecordBytes),
			Help:  "Largest record, partition key included; not above the stream's own limit."},
		{Name: "oversize_chunk", Default: Split, value: word(&c.OversizeChunk, Split, Drop),
			Help: "A chunk too large for one record is sent as several (`split`) or not at all (`drop`)."},
		{Name: "wire_format", Default: "json", value: word(&c.WireFormat, "json", "cbor"),
			Help: "How a record is sent: as AWS JSON 1.1, or as CBOR, which needs a quarter fewer bytes and less processor time."},
		{Name: "check_stream", Default: "false", value: boolean(&c.CheckStream),
			Help: "Look at the stream at start, which needs `kinesis:DescribeStreamSummary`: do not start where it distributes records itself or takes smaller records than `max_record_size`."},
		{Name: "debug", Default: "false", value: boolean(&c.Debug),
			Help: "Log the SDK's requests and answers, without bodies and credentials."},
	}
}

// Parse reads a configuration. get returns the value of a name, or an empty
// text where it is not set. The error joins one for each bad option; warnings
// are about options that have no effect. None of them shows a secret.
func Parse(get func(name string) string) (c Config, warnings []string, err error) {
	var errs []error
	for _, o := range c.options() {
		if err := o.read(get); err != nil {
			errs = append(errs, err)
		}
	}
	for _, o := range foreignOptions {
		v := strings.TrimSpace(get(o.name))
		if v == "" {
			continue
		}
		warning, err := o.answer(v)
		if err != nil {
			errs = append(errs, fmt.Errorf("option %s: %w", o.name, err))
		} else if warning != "" {
			warnings = append(warnings, fmt.Sprintf("option %s has no effect: %s", o.name, warning))
		}
	}
	if c.IncludeTimeKey && c.TimeKey == "" {
		c.TimeKey = "time"
	}
	if c.IncludeTagKey && c.TagKey == "" {
		c.TagKey = "tag"
	}
	more, contradictions := c.check()
	return c, append(warnings, more...), errors.Join(append(errs, contradictions...)...)
}

// check finds options that contradict each other.
func (c *Config) check() (warnings []string, errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("option "+format, args...)) }
	if c.ExternalID != "" && c.RoleARN == "" {
		bad("external_id: it is set and role_arn is not: write the role that asks for it, or remove external_id")
	}
	added := map[string]string{}
	for _, o := range []struct{ name, key string }{
		{"time_key", c.TimeKey}, {"tag_key", c.TagKey}, {"metadata_key", c.MetadataKey}, {"data_keys", c.DataKeys},
	} {
		if o.key == "" {
			continue
		}
		if c.LogKey != "" {
			bad("log_key: it sends one value and nothing else, and %s is set as well: remove one of them", o.name)
		}
		if o.name == "data_keys" {
			continue
		}
		key := o.key
		if c.ReplaceDots != "" {
			key = strings.ReplaceAll(key, ".", c.ReplaceDots)
		}
		if other := added[key]; other != "" {
			bad("%s: %q is what %s adds as well: write another key", o.name, o.key, other)
		}
		added[key] = o.name
		if c.DataKeys != "" && !slices.Contains(c.DataKeyList(), o.key) {
			warnings = append(warnings, fmt.Sprintf("option %s has no effect: data_keys does not list %q", o.name, o.key))
		}
	}
	switch most := aggregator.Compression(c.Compression).MaxLevel(); {
	case c.CompressionLevel == 0:
	case most == 0:
		bad("compression_level: it is set and compression is not: write gzip, zlib, zstd or snappy there, or remove compression_level")
	case c.CompressionLevel > most:
		bad("compression_level: %q is not allowed for %s (out of range): write a whole number from 1 to %d", fmt.Sprint(c.CompressionLevel), c.Compression, most)
	}
	return warnings, errs
}

// DataKeyList is DataKeys taken apart.
func (c *Config) DataKeyList() []string {
	if c.DataKeys == "" {
		return nil
	}
	return strings.Split(c.DataKeys, ",")
}

// Summary is the settings that differ from the defaults, and stream and region,
// in one line. Secrets are shown as "set".
func (c Config) Summary() string {
	var defaults Config
	usual := defaults.options()
	var shown []string
	for i, o := range c.options() {
		_ = usual[i].read(func(string) string { return "" }) // stream is missing
		v := o.value.String()
		switch {
		case v == usual[i].value.String() && o.Name != "stream" && o.Name != "region":
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
			return fmt.Errorf("option %s: it is set as %s too, to another value: keep one of them", o.Name, alias)
		}
	}
	if v == "" {
		if o.required {
			return fmt.Errorf("option %s: it is missing: write %s", o.Name, o.Allowed())
		}
		if v = o.Default; v == "" {
			return nil
		}
	}
	if err := o.value.set(v); err != nil {
		shown := fmt.Sprintf("%q", v)
		if o.Secret {
			shown = "its value"
		}
		return fmt.Errorf("option %s: %s is not allowed (%w): write %s", name, shown, err, o.Allowed())
	}
	return nil
}
