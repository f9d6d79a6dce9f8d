// Package connection is what a user sets about connections to AWS. The options fill
// it in and package kinesis uses it, without knowing each other.
package connection

import "time"

// Settings are the settings of a connection. Zero values mean "not set". Whoever sets
// them has checked that each value is valid on its own, and that either both or none
// of KeyID and SecretKey are set.
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
	// repetition by AutoRetry. 0 means 30 s.
	RequestTimeout time.Duration
	// ConnectTimeout limits a TCP connect, and separately a TLS handshake. 0 means 5 s.
	ConnectTimeout time.Duration
	// AutoRetry repeats a request once and without delay if its connection fails.
	AutoRetry bool
}
