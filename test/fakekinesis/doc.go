// Package fakekinesis is a Kinesis look-alike for tests: an HTTP server in this
// process that takes PutRecord and DescribeStreamSummary (AWS JSON 1.1) and
// AssumeRole and AssumeRoleWithWebIdentity (AWS query), keeps what it took,
// and misbehaves on demand.
//
//	server := fakekinesis.Start(fakekinesis.Options{
//		Fault: func(n int, r *fakekinesis.Request) fakekinesis.Fault {
//			if n == 1 {
//				return fakekinesis.ResponseLost
//			}
//			return fakekinesis.OK
//		},
//	})
//	defer server.Close()
//	// endpoint server.URL(), sts_endpoint server.URL()
//	...
//	records := server.Records()
//
// # What it checks
//
// A PutRecord has to be signed (the signature itself is not computed), JSON
// and no CBOR, with a stream, a partition key of 1 to 256 characters and data
// that is base64. Data and partition key together may have
// Options.RecordLimitBytes. Anything else gets the error that Kinesis gives,
// in its words where they are known. An ExplicitHashKey is recorded for the
// test to judge. Every stream exists unless Options.Streams lists those that
// do, and each has one shard.
//
// # What it keeps
//
// Records holds accepted records in the order of their sequence numbers,
// Requests every PutRecord with its headers, refused ones and those met by a
// Fault included. With Options.OnRecord neither is kept, so that a run of any
// length needs no memory: the callback sees each record once, while its bytes
// are valid. Counts work either way.
//
// # Faults
//
// Options.Fault is asked once a PutRecord, when its headers are in and its
// body is not. Its n counts from 1. What each Fault means for the record:
//
//	OK           accepted, answered
//	Error        not accepted, an AWS error
//	Status       not accepted, a bare HTTP status with a body that is not JSON
//	ResetUnread  not accepted, connection reset with the body unread
//	ResetRead    not accepted, connection reset after the body was read
//	ResponseLost   accepted, connection reset instead of an answer
//	ResponseTruncated    accepted, the answer ends in the middle
//	NoNumber     accepted, the answer has no sequence number
//	ResponseHeld   accepted, and no answer until the client hangs up
//	Hold         held until a channel closes, then OK; not accepted if the
//	             client hangs up first
//	Body         not accepted, a response that the test writes itself
//
// Options.Role is the script for STS in the same way, and sets when the
// credentials end. There, what is neither Error, Status, Hold, Body nor OK resets the
// connection. Body works there as well.
//
// # Proxy
//
// StartProxy runs an HTTP proxy for CONNECT that closes connections on demand.
//
// # TLS
//
// With Options.TLS the server has a certificate that nobody trusts, for
// 127.0.0.1 and example.com, and offers HTTP/2 as well, which faults that
// reset a connection cannot be used with. CAPEM is what AWS_CA_BUNDLE wants in
// a file. Options.Handshake is the script for TLS: where it says false, the
// client is shown another certificate, which CAPEM does not vouch for.
//
// A Server and all it hands out are safe for concurrent use; the functions in
// Options are called concurrently.
package fakekinesis
