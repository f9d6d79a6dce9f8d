package kinesis

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"
)

// Settings is what one [OUTPUT] section says about AWS. Zero values mean "not
// set". The field names are the option names that errors quote.
type Settings struct {
	// Stream is a name or an ARN, where one stream takes every record. Empty
	// where each PutRecord names its own. An ARN also decides the region.
	Stream string
	// Region may be empty: an ARN in Stream, AWS_REGION or the profile has it.
	Region string

	RoleARN, ExternalID, RoleSessionName string
	KeyID, SecretKey, SessionToken       string
	Profile, CredentialsPath             string

	// Endpoint and STSEndpoint are base URLs, http or https; empty is AWS's own.
	// They and HTTPProxy have been checked to be URLs with a host.
	Endpoint, STSEndpoint string
	// HTTPProxy is the URL of a proxy for calls to AWS; empty leaves it to
	// HTTPS_PROXY and NO_PROXY in the environment. Metadata services and this
	// host are never reached through HTTPProxy.
	HTTPProxy string

	// RequestTimeout covers one PutRecord with all it needs, credentials and
	// an automatic repeat included. 0 is DefaultRequestTimeout.
	RequestTimeout time.Duration
	// ConnectTimeout covers a TCP connect, and after it a TLS handshake. 0 is
	// DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// AutoRetry repeats a request once, at once, after its connection broke.
	AutoRetry bool

	// WireFormat is how records are sent; empty is JSON.
	WireFormat WireFormat

	// Version stands in the user agent behind out_kinesis_agg/.
	Version string
	// Debug, unless nil, gets a line for each request to Kinesis and STS and
	// one for each answer, without bodies and without anything that
	// authenticates. It is called from every goroutine that sends.
	Debug func(format string, args ...any)
}

// The limits of Settings where it sets none.
const (
	DefaultRequestTimeout = 30 * time.Second
	DefaultConnectTimeout = 5 * time.Second
)

// What a stream may be called: CreateStream and PutRecord in the Kinesis API
// reference. An ARN with more behind the name is a consumer's, not a stream's.
var (
	streamName = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
	streamARN  = regexp.MustCompile(`^arn:aws[a-z-]*:kinesis:([a-z0-9-]+):\d{12}:stream/[a-zA-Z0-9_.-]{1,128}$`)
	regionName = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
)

func isARN(stream string) bool { return strings.HasPrefix(stream, "arn:") }

// streamID is the stream, either as a name or as an ARN.
func streamID(stream string) (name, arn *string) {
	if isARN(stream) {
		return nil, &stream
	}
	return &stream, nil
}

// Check refuses what no request could carry. The error joins one for each bad
// setting, with its option's name; Open makes the same check.
func (s Settings) Check() error {
	errs := []error{s.checkStream()}
	if s.Region != "" && !regionName.MatchString(s.Region) {
		errs = append(errs, fmt.Errorf("region: %q is not the name of a region, such as eu-central-1", s.Region))
	}
	if (s.KeyID == "") != (s.SecretKey == "") {
		errs = append(errs, errors.New("aws_key_id and aws_sec_key: set both or neither"))
	}
	if s.SessionToken != "" && s.KeyID == "" {
		errs = append(errs, errors.New("aws_session_token: belongs to an aws_key_id and an aws_sec_key, which are not set"))
	}
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("kinesis: option %w", err)
		}
	}
	return errors.Join(errs...)
}

func (s Settings) checkStream() error {
	if s.Stream == "" || streamName.MatchString(s.Stream) {
		return nil
	}
	if !isARN(s.Stream) {
		return fmt.Errorf("stream: %q is not a stream name: 1 to 128 letters, digits, '_', '-' and '.'", s.Stream)
	}
	if !streamARN.MatchString(s.Stream) {
		return fmt.Errorf("stream: %q is not the ARN of a stream: arn:aws:kinesis:REGION:ACCOUNT:stream/NAME", s.Stream)
	}
	if in := s.arnRegion(); s.Region != "" && s.Region != in {
		return fmt.Errorf("region: %q, but the ARN in stream is of %q", s.Region, in)
	}
	return nil
}

// arnRegion returns the region in the stream's ARN, "" where there is no ARN.
func (s Settings) arnRegion() string {
	if m := streamARN.FindStringSubmatch(s.Stream); m != nil {
		return m[1]
	}
	return ""
}

// thisHost tells whether traffic to host, a name or an address without port,
// stays on this machine.
func thisHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}
