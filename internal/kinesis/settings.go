package kinesis

import (
	"net/netip"
	"strings"
	"time"
)

// Settings are the settings of a Sender. Zero values mean "not set". The caller has
// checked that each value is valid on its own and that KeyID and SecretKey are set
// together.
type Settings struct {
	// Region is that of the streams. If it is empty, AWS_REGION or the profile
	// provides it.
	Region string

	RoleARN, ExternalID, RoleSessionName string
	KeyID, SecretKey, SessionToken       string
	Profile, CredentialsPath             string

	// Endpoint and STSEndpoint are base URLs, http or https; empty is AWS's own.
	Endpoint, STSEndpoint string
	// HTTPProxy is the URL of a proxy for calls to AWS. If it is empty, HTTPS_PROXY
	// and NO_PROXY in the environment apply. Metadata services and this
	// host are never reached through HTTPProxy.
	HTTPProxy string

	// RequestTimeout covers one PutRecord with all it needs, credentials and
	// an automatic repeat included. 0 is DefaultRequestTimeout.
	RequestTimeout time.Duration
	// ConnectTimeout covers a TCP connect, and after it a TLS handshake. 0 is
	// DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// AutoRetry repeats a request once, immediately, after its connection failed.
	AutoRetry bool

	// WireFormat is how records are sent; empty is JSON.
	WireFormat WireFormat

	// Version follows out_kinesis_agg/ in the user agent.
	Version string
	// Debug, unless nil, gets a line for each request to Kinesis and STS and
	// one for each response, without bodies and without credentials. It is called from every goroutine that sends.
	Debug func(format string, args ...any)
}

// The defaults of Settings.
const (
	DefaultRequestTimeout = 30 * time.Second
	DefaultConnectTimeout = 5 * time.Second
)

func isARN(stream string) bool { return strings.HasPrefix(stream, "arn:") }

// streamID returns the stream, either as a name or as an ARN.
func streamID(stream string) (name, arn *string) {
	if isARN(stream) {
		return nil, &stream
	}
	return &stream, nil
}

// SettingError is an error about one field of Settings.
type SettingError struct {
	Field string // its name
	Err   error
}

func (e *SettingError) Error() string { return "kinesis: " + e.Field + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// thisHost reports whether traffic to host, a name or an address without port,
// stays on this machine.
func thisHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}
