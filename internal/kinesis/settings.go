package kinesis

import (
	"net/netip"
	"strings"
	"time"

	"out_kinesis_agg/internal/arn"
)

// Settings are the settings of a Sender. Zero values mean "not set". The caller has
// checked that each value is valid on its own, and that either both or none of KeyID
// and SecretKey are set.
type Settings struct {
	// Region is the region of the streams. If it is empty, AWS_REGION or the profile
	// provides it.
	Region string

	RoleARN, ExternalID, RoleSessionName string
	KeyID, SecretKey, SessionToken       string
	Profile, CredentialsPath             string

	// Endpoint and STSEndpoint are base URLs with the scheme http or https. If empty,
	// the endpoints of AWS are used.
	Endpoint, STSEndpoint string
	// HTTPProxy is the URL of a proxy for calls to AWS. If it is empty, HTTPS_PROXY
	// and NO_PROXY in the environment apply. Requests to metadata services and to
	// this host do not use HTTPProxy.
	HTTPProxy string

	// RequestTimeout limits one PutRecord, including fetching credentials and the
	// repetition by AutoRetry. 0 means DefaultRequestTimeout.
	RequestTimeout time.Duration
	// ConnectTimeout limits a TCP connect, and separately a TLS handshake. 0 means
	// DefaultConnectTimeout.
	ConnectTimeout time.Duration
	// MaxResponseBytes limits the body of a response. 0 means 1 MiB, which is above
	// every response to the requests of a Sender.
	MaxResponseBytes int
	// AutoRetry repeats a request once and without delay if its connection fails.
	AutoRetry bool

	// WireFormat is the encoding of requests. Empty means JSON.
	WireFormat WireFormat
	// CBORRefused, if not nil, is called once if requests are in JSON from now on,
	// because a host refuses CBOR. It is called within PutRecord.
	CBORRefused func(error)

	// Shell starts a credential_process. nil is a shell that inherits the signal mask
	// of the calling thread.
	Shell Shell

	// Version is the version in the user agent, after out_kinesis_agg/.
	Version string
	// Debug, if not nil, is called with a line for each request to Kinesis and STS
	// and a line for each response, without bodies and without credentials. It must
	// be safe for concurrent use.
	Debug func(format string, args ...any)
}

// The defaults of Settings.
const (
	DefaultRequestTimeout = 30 * time.Second
	DefaultConnectTimeout = 5 * time.Second
)

// streamID returns the stream, either as a name or as an ARN.
func streamID(stream string) (name, streamARN *string) {
	if arn.Is(stream) {
		return nil, &stream
	}
	return &stream, nil
}

// SettingError is an error in one field of Settings.
type SettingError struct {
	Field string // name of the field
	Err   error
}

func (e *SettingError) Error() string { return "kinesis: " + e.Field + ": " + e.Err.Error() }
func (e *SettingError) Unwrap() error { return e.Err }

// thisHost reports whether traffic to host stays on this machine. host is a name or
// an address, without a port.
func thisHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.IsLoopback()
}
