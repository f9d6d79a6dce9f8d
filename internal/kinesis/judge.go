package kinesis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Outcome says what is to become of a record that PutRecord returned an error for.
type Outcome int

const (
	// Retry: it passes by itself.
	Retry Outcome = iota
	// RetryMend: it lasts until somebody mends what Advice names.
	RetryMend
	// RetryRefused: Kinesis, or something before it, refuses the request for a
	// reason of its own; the error's text quotes it.
	RetryRefused
	// TooLarge: the record is larger than the stream takes. Only smaller
	// records help.
	TooLarge
)

// Verdict is Judge's answer.
type Verdict struct {
	Outcome Outcome
	// Cause is one of Causes: stable, and fit for a metric's label and for
	// telling a new trouble from a lasting one.
	Cause string
	// Advice says in a sentence what to look at; empty where there is nothing
	// to do but wait.
	Advice string
}

// The values of Verdict.Cause.
const (
	CauseThrottled      = "throttled"
	CauseInternal       = "internal"
	CauseTimeout        = "timeout"
	CauseCanceled       = "canceled"
	CauseConnection     = "connection"
	CauseUnreachable    = "unreachable"
	CauseDNS            = "dns"
	CauseTLS            = "tls"
	CauseBadAnswer      = "bad_answer"
	CauseNoCredentials  = "no_credentials"
	CauseExpiredToken   = "expired_token"
	CauseAssumeRole     = "assume_role"
	CauseAccessDenied   = "access_denied"
	CauseBadKey         = "bad_key"
	CauseClockSkew      = "clock_skew"
	CauseKMS            = "kms"
	CauseStreamNotFound = "stream_not_found"
	CauseStreamNotReady = "stream_not_ready"
	CauseTooLarge       = "too_large"
	CauseRefused        = "refused"
	CauseUnknown        = "unknown"
)

// Causes returns every value that Verdict.Cause can have.
func Causes() []string {
	return []string{
		CauseThrottled, CauseInternal, CauseTimeout, CauseCanceled, CauseConnection, CauseUnreachable,
		CauseDNS, CauseTLS, CauseBadAnswer, CauseNoCredentials, CauseExpiredToken, CauseAssumeRole,
		CauseAccessDenied, CauseBadKey, CauseClockSkew, CauseKMS, CauseStreamNotFound,
		CauseStreamNotReady, CauseTooLarge, CauseRefused, CauseUnknown,
	}
}

// Judge says what an error of PutRecord or Describe means. Whatever it does
// not know is a Retry: a chunk is never at fault but for its size, so giving
// one up is not for an error to decide. err is not nil.
func Judge(err error) Verdict {
	// The caller itself gave up.
	if errors.Is(err, context.Canceled) {
		return Verdict{Retry, CauseCanceled, ""}
	}
	// Whatever its status, it is not a response of AWS.
	if errors.Is(err, errResponseTooLarge) {
		return Verdict{Retry, CauseBadAnswer, ""}
	}
	// No request was made, because there was nothing to sign it with.
	var credentials *credentialsError
	if errors.As(err, &credentials) {
		return judgeCredentials(credentials.err)
	}
	// AWS says what is wrong.
	var api smithy.APIError
	if errors.As(err, &api) {
		if v, known := judgeCode(api.ErrorCode(), api.ErrorMessage()); known {
			return v
		}
	}
	// A timeout can strike on any way below, also while an answer is read.
	if v, known := judgeNetwork(err); known {
		return v
	}
	// There was an answer, but not one of Kinesis's known errors.
	var answer *smithyhttp.ResponseError
	if errors.As(err, &answer) {
		if v, known := judgeStatus(answer.HTTPStatusCode()); known {
			return v
		}
	}
	// Kinesis's "yes" without the number that proves it.
	if errors.Is(err, errNoSequenceNumber) {
		return Verdict{Retry, CauseBadAnswer, ""}
	}
	// The request was under way and no answer came: reset, closed, cut off.
	var unsent *smithyhttp.RequestSendError
	if errors.As(err, &unsent) {
		return Verdict{Retry, CauseConnection, ""}
	}
	return Verdict{Retry, CauseUnknown, ""}
}

// judgeCode judges the error codes of Kinesis and STS. Where they come from:
// the API references' lists of PutRecord and of common errors, with and
// without "Exception", as JSON and query services differ in that.
func judgeCode(code, message string) (v Verdict, known bool) {
	switch code {
	// A shard, the account or KMS has had enough for now.
	case "ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException",
		"ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException":
		return Verdict{Retry, CauseThrottled, ""}, true

	// AWS is at fault.
	case "InternalFailureException", "InternalFailure", "InternalServerError", "InternalServiceError",
		"ServiceUnavailableException", "ServiceUnavailable":
		return Verdict{Retry, CauseInternal, ""}, true

	// The stream is being created, or is going away.
	case "ResourceInUseException":
		return Verdict{Retry, CauseStreamNotReady, ""}, true

	// Temporary credentials ended before they were renewed: PutRecord drops
	// them, the next one fetches others.
	case "ExpiredTokenException", "ExpiredToken":
		return Verdict{Retry, CauseExpiredToken,
			"the session token has expired; static credentials with aws_session_token cannot be renewed by the plugin"}, true

	case "ResourceNotFoundException":
		return Verdict{RetryMend, CauseStreamNotFound,
			"there is no such stream: check stream and region, and give the stream's ARN if it belongs to another account"}, true

	case "AccessDeniedException", "AccessDenied":
		// A stream encrypted with a key of the customer's passes on KMS's refusal.
		if strings.Contains(message, "kms:") {
			return kmsVerdict, true
		}
		return Verdict{RetryMend, CauseAccessDenied,
			"the credentials lack the permission kinesis:PutRecord on the stream, or a policy denies it"}, true

	case "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired":
		return kmsVerdict, true

	// The key id means nothing to AWS.
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException",
		"MissingAuthenticationToken", "OptInRequired", "SubscriptionRequiredException":
		return Verdict{RetryMend, CauseBadKey,
			"AWS does not know these credentials: check aws_key_id and aws_session_token or their source, and that they are for this region's partition"}, true

	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		return clockVerdict, true

	// One code for a wrong secret and for a wrong time; the text tells.
	case "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException", "IncompleteSignature":
		if strings.Contains(message, "Signature expired") || strings.Contains(message, "Signature not yet current") {
			return clockVerdict, true
		}
		return Verdict{RetryMend, CauseBadKey,
			"the signature is wrong: check aws_sec_key or its source, region, and that no proxy changes requests"}, true

	case "InvalidArgumentException", "ValidationException":
		if tooLarge(message) {
			return Verdict{TooLarge, CauseTooLarge,
				"the record is larger than the stream takes: set max_record_size to the stream's limit, or raise that with UpdateMaxRecordSize"}, true
		}
		return refusedVerdict, true

	case "SerializationException", "UnknownOperationException":
		return refusedVerdict, true
	}
	return Verdict{}, false
}

var (
	kmsVerdict = Verdict{RetryMend, CauseKMS,
		"the stream's KMS key cannot be used: the credentials need kms:GenerateDataKey on it, the key has to be enabled, and its policy has to allow them"}
	clockVerdict = Verdict{RetryMend, CauseClockSkew,
		"this host's clock is more than five minutes off: check its time synchronisation"}
	refusedVerdict = Verdict{RetryRefused, CauseRefused,
		"the request is refused for the reason quoted: check stream, fixed_partition_key, endpoint and http_proxy"}
)

// oversize are the two ways in which a record is called too large: a
// constraint on the field data (Kinesis, from its model), and a sentence about
// the record or its data (Kinesis for PutRecords, and its look-alikes). A
// partition key or a stream name that is too long must not match: split for
// it, records would end up dropped.
var oversize = []*regexp.Regexp{
	regexp.MustCompile(`(?i)at '([\w.]+\.)?data' failed to satisfy constraint: member must have length less than`),
	regexp.MustCompile(`(?i)\b(records?|data)( [^\s.,;]+){0,4} (is|are|exceeds?|exceeded|too) .*\b(size|large|larger|limit|maximum)\b`),
}

func tooLarge(message string) bool {
	for _, pattern := range oversize {
		if pattern.MatchString(message) {
			return true
		}
	}
	return false
}

// judgeCredentials judges what STS or another source of credentials says.
func judgeCredentials(err error) Verdict {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		// The same codes as from Kinesis, but about the role.
		case "AccessDenied", "AccessDeniedException", "ValidationError", "MalformedPolicyDocument",
			"InvalidIdentityToken", "IDPRejectedClaim", "RegionDisabledException":
			return Verdict{RetryMend, CauseAssumeRole,
				"the role cannot be assumed: check role_arn and external_id, the permission sts:AssumeRole, and the role's trust policy"}
		}
		if v, known := judgeCode(api.ErrorCode(), api.ErrorMessage()); known {
			return v
		}
	}
	// A source that is not there yet, or cannot be reached. Which step failed
	// is in the error's text; to the operator it is one trouble.
	return Verdict{Retry, CauseNoCredentials,
		"no AWS credentials: set aws_key_id and aws_sec_key or profile, or give the host, container or service account a role"}
}

// judgeNetwork judges what happened below HTTP.
func judgeNetwork(err error) (v Verdict, known bool) {
	// Before timeouts: it is one as well where the resolver does not answer.
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return Verdict{Retry, CauseDNS, "the endpoint's name cannot be resolved: check region, endpoint and DNS"}, true
	}
	if isTLS(err) {
		return Verdict{Retry, CauseTLS,
			"no trusted TLS connection: check the host's CA certificates (AWS_CA_BUNDLE), its clock, endpoint, and proxies that intercept TLS"}, true
	}
	// Before timeouts: a connect that times out says more than a timeout.
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "socks connect") {
		return Verdict{Retry, CauseUnreachable,
			"the endpoint cannot be reached: check network, firewall, VPC endpoint and http_proxy"}, true
	}
	var timed net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timed) && timed.Timeout() {
		return Verdict{Retry, CauseTimeout, ""}, true
	}
	return Verdict{}, false
}

func isTLS(err error) bool {
	var (
		untrusted *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		invalid   x509.CertificateInvalidError
		header    tls.RecordHeaderError
		op        *net.OpError
	)
	return errors.As(err, &untrusted) || errors.As(err, &authority) || errors.As(err, &hostname) ||
		errors.As(err, &invalid) || errors.As(err, &header) || errors.Is(err, http.ErrSchemeMismatch) ||
		// How crypto/tls reports alerts, whose own type is not exported.
		errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// judgeStatus judges an HTTP answer by its status alone. 0 is the SDK's for no answer.
func judgeStatus(status int) (v Verdict, known bool) {
	switch {
	case status == http.StatusTooManyRequests:
		return Verdict{Retry, CauseThrottled, ""}, true
	case status == http.StatusRequestTimeout:
		return Verdict{Retry, CauseTimeout, ""}, true
	case status >= 500:
		return Verdict{Retry, CauseInternal, ""}, true
	// Something that is not Kinesis answers, or Kinesis with a code from after
	// this was written.
	case status >= 300:
		return refusedVerdict, true
	// A "yes" that broke off or cannot be read: the record is probably there,
	// but there is no sequence number to say so.
	case status >= 200:
		return Verdict{Retry, CauseBadAnswer, ""}, true
	}
	return Verdict{}, false
}
