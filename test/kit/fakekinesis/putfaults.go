package fakekinesis

import "slices"

// NamedFault is a fault of a single PutRecord.
type NamedFault struct {
	Name  string
	Fault Fault
	// Accepted: the server stores the record, and the client does not learn of it.
	Accepted bool
	// UntilTimeout: the server sends nothing until the client hangs up.
	UntilTimeout bool
}

const (
	notAccepted, accepted = false, true
	atOnce, untilTimeout  = false, true
	exampleStreamARN      = "arn:aws:kinesis:us-east-1:123456789012:stream/faults"
	exampleKeyARN         = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	throughputExceeded    = "Rate exceeded for shard shardId-000000000000 in stream faults under account 123456789012."
	signatureExpired      = "Signature expired: 20260301T115000Z is now earlier than 20260301T115500Z (20260301T120000Z - 5 min.)"
	badStreamName         = "1 validation error detected: Value at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
	noPermission          = "User: arn:aws:iam::123456789012:user/agent is not authorized to perform: kinesis:PutRecord on resource: " + exampleStreamARN + " because no identity-based policy allows the kinesis:PutRecord action"
	skewed                = "The difference between the request time and the current time is too large"
	expiredToken          = "The security token included in the request is expired"
	invalidToken          = "The security token included in the request is invalid."
	streamNotFound        = "Stream faults under account 123456789012 not found."
	wrongArgument         = "Something about the request is wrong"
)

// PutRecordFaults lists the ways in which a single PutRecord can fail. The
// messages are those of Kinesis where they are known. Do not change it.
var PutRecordFaults = []NamedFault{
	{"throttled", Error(400, "ProvisionedThroughputExceededException", throughputExceeded), notAccepted, atOnce},
	{"KMS throttled", Error(400, "KMSThrottlingException", "Rate exceeded"), notAccepted, atOnce},
	{"limit exceeded", Error(400, "LimitExceededException", "Rate exceeded"), notAccepted, atOnce},
	{"internal failure", Error(500, "InternalFailure", "We are sorry"), notAccepted, atOnce},
	{"service unavailable", Error(503, "ServiceUnavailable", "Please come back"), notAccepted, atOnce},
	{"bare 500", Status(500), notAccepted, atOnce},
	{"bare 502", Status(502), notAccepted, atOnce},
	{"bare 503", Status(503), notAccepted, atOnce},
	{"bare 504", Status(504), notAccepted, atOnce},
	{"bare 429", Status(429), notAccepted, atOnce},
	{"reset before the request was read", ResetUnread, notAccepted, atOnce},
	{"reset after the request was read", ResetRead, notAccepted, atOnce},
	{"response lost", ResponseLost, accepted, atOnce},
	{"response truncated", ResponseTruncated, accepted, atOnce},
	{"response without sequence number", NoNumber, accepted, atOnce},
	{"hang", Hold(nil), notAccepted, untilTimeout},
	{"hang after acceptance", ResponseHeld, accepted, untilTimeout},
	{"expired token", Error(400, "ExpiredTokenException", expiredToken), notAccepted, atOnce},
	{"signature expired", Error(403, "InvalidSignatureException", signatureExpired), notAccepted, atOnce},
	{"clock skew", Error(403, "RequestTimeTooSkewed", skewed), notAccepted, atOnce},
	{"unrecognised client", Error(400, "UnrecognizedClientException", invalidToken), notAccepted, atOnce},
	{"access denied", Error(400, "AccessDeniedException", noPermission), notAccepted, atOnce},
	{"stream not found", Error(400, "ResourceNotFoundException", streamNotFound), notAccepted, atOnce},
	{"KMS denied", Error(400, "KMSAccessDeniedException", "User is not authorized to use "+exampleKeyARN), notAccepted, atOnce},
	{"KMS key disabled", Error(400, "KMSDisabledException", exampleKeyARN+" is disabled."), notAccepted, atOnce},
	{"validation error", Error(400, "ValidationException", badStreamName), notAccepted, atOnce},
	{"invalid argument", Error(400, "InvalidArgumentException", wrongArgument), notAccepted, atOnce},
}

// FaultByName returns the fault of PutRecordFaults with that name.
func FaultByName(name string) (fault NamedFault, found bool) {
	i := slices.IndexFunc(PutRecordFaults, func(f NamedFault) bool { return f.Name == name })
	if i < 0 {
		return NamedFault{}, false
	}
	return PutRecordFaults[i], true
}
