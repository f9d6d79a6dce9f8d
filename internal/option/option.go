// Package option is the one place that knows the plugin's options: their names,
// kinds, defaults and ranges. It knows neither where values come from nor what
// is done with them.
package option

import (
	"errors"
	"fmt"
	"strings"
	"time"

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
	MaxRecordBytes    int
	OversizeChunk     string
	Debug             bool
}

// The values of OversizeChunk.
const (
	Split = "split"
	Drop  = "drop"
)

// Option describes one option to a person.
type Option struct {
	Name    string
	Aliases []string // other names of the same option
	Default string   // as one would write it; empty: none
	Help    string
	Secret  bool // the value is not to be shown

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
			Help: "Name or ARN of the data stream."},
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
		{Name: "fixed_partition_key", value: text(&c.FixedPartitionKey),
			Help: "Partition key of every record, 1 to 256 characters; `$TAG` and `$TAG[n]` stand for the tag and its n-th part. Default: a random UUID for each PutRecord."},
		{Name: "max_record_size", Default: fmt.Sprint(kpl.DefaultMaxRecordBytes),
			value: size(&c.MaxRecordBytes, 1000, kpl.LargestMaxRecordBytes),
			Help:  "Largest record, partition key included; not above the stream's own limit."},
		{Name: "oversize_chunk", Default: Split, value: word(&c.OversizeChunk, Split, Drop),
			Help: "A chunk too large for one record is sent as several (`split`) or not at all (`drop`)."},
		{Name: "debug", Default: "false", value: boolean(&c.Debug),
			Help: "Log the SDK's requests and answers, without bodies and credentials."},
	}
}

// Parse reads a configuration. get returns the value of a name, or an empty
// text where it is not set. The error joins one for each bad option; none of
// them shows a secret.
func Parse(get func(name string) string) (Config, error) {
	var c Config
	var errs []error
	for _, o := range c.options() {
		if err := o.read(get); err != nil {
			errs = append(errs, err)
		}
	}
	if c.ExternalID != "" && c.RoleARN == "" {
		errs = append(errs, errors.New("option external_id: it is set and role_arn is not: write the role that asks for it, or remove external_id"))
	}
	return c, errors.Join(errs...)
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
