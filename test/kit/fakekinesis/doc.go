// Package fakekinesis is an HTTP server for tests that accepts records as Kinesis
// does: PutRecord and PutRecords (AWS JSON 1.1 and CBOR 1.1), DescribeStreamSummary
// (JSON), and AssumeRole and AssumeRoleWithWebIdentity of STS (AWS query). It runs
// in the process of the test, keeps what it accepts, and fails on demand.
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
// # Checks
//
// A request has to be signed (the signature itself is not verified) and to have a
// stream. Each record needs data and a partition key of 1 to 256 characters, which
// together may have up to Options.RecordLimitBytes. A PutRecords has 1 to 500
// records and up to 10 MiB, and is accepted or refused as a whole. Errors are those
// of Kinesis, with its messages where they are known. Tests can check the
// ExplicitHashKey of a Record. Every stream exists unless Options.Streams is set,
// and each has one shard.
//
// # Records and requests
//
// Records returns the accepted records in the order of their sequence numbers, and
// Requests every PutRecord and PutRecords with its headers, including those that
// were refused or met by a Fault. With Options.OnRecord the server keeps neither,
// so that memory does not grow: the callback gets each record once, and its data is
// valid during the call. Counts work in both cases.
//
// # Faults
//
// Options.Fault is called for each PutRecord and PutRecords, before the body is
// read. n counts from 1. What each Fault does:
//
//	OK                 accepted, with a response
//	Error              not accepted, an AWS error
//	Status             not accepted, a bare HTTP status with a body in HTML
//	ResetUnread        not accepted, connection reset before the body is read
//	ResetRead          not accepted, connection reset after the body was read
//	ResponseLost       accepted, connection reset instead of a response
//	ResponseTruncated  accepted, the response ends in the middle
//	NoNumber           accepted, the response has no sequence number
//	ResponseHeld       accepted, and no response until the client hangs up
//	Hold               delayed until a channel closes, then OK; not accepted if
//	                   the client hangs up first
//	Body               not accepted, a response that the test writes
//
// PutRecordFaults lists faults that tests share. Options.Role does the same for
// STS, and sets when the credentials expire. Of the faults, it supports Error,
// Status, Hold, Body and OK; all others reset the connection.
//
// # Proxy
//
// StartProxy runs an HTTP proxy for CONNECT that closes connections on demand.
//
// # TLS
//
// With Options.TLS the server has a certificate that clients do not trust by
// default, for 127.0.0.1 and example.com, and also offers HTTP/2, with which faults
// that reset a connection do not work. CAPEM is the file content for AWS_CA_BUNDLE.
// If Options.Handshake returns false, the client gets another certificate, which
// CAPEM does not cover.
//
// A Server and all that it returns are safe for concurrent use. The functions in
// Options are called concurrently.
package fakekinesis
