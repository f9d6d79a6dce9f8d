package kinesis

import (
	"net/netip"
	"strings"
	"time"

	"out_kinesis_agg/internal/arn"
	"out_kinesis_agg/internal/connection"
)

// Connection is what a user sets.
type Connection = connection.Settings

// Settings are the settings of a Sender.
type Settings struct {
	Connection

	// MaxResponseBytes limits the body of a response. 0 means 1 MiB, which is above
	// every response to the requests of a Sender.
	MaxResponseBytes int

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

// The defaults of Connection.
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

// SettingError is an error in one field of Connection.
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
