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

// Action is what to do with a record after PutRecord has returned an error.
type Action int

const (
	// Retry: the failure ends by itself.
	Retry Action = iota
	// RetryAfterFix: the failure lasts until an operator fixes its cause.
	RetryAfterFix
	// RetryRefused: Kinesis, or a proxy before it, refuses the request for a reason
	// that is not one of the known causes. The error quotes the reason.
	RetryRefused
	// Split: the record is larger than the stream's limit. Only smaller records can
	// be accepted.
	Split
)

// Classification is the result of Classify.
type Classification struct {
	Action Action
	// Cause is one of Causes. Its values do not change between releases, so they can
	// be values of a metric label. A different Cause means a different failure.
	Cause string
}

// The values of Classification.Cause.
const (
	CauseThrottled      = "throttled"
	CauseInternal       = "internal"
	CauseTimeout        = "timeout"
	CauseCanceled       = "canceled"
	CauseConnection     = "connection"
	CauseUnreachable    = "unreachable"
	CauseDNS            = "dns"
	CauseTLS            = "tls"
	CauseBadResponse    = "bad_response"
	CauseNoCredentials  = "no_credentials"
	CauseExpiredToken   = "expired_token"
	CauseAssumeRole     = "assume_role"
	CauseAccessDenied   = "access_denied"
	CauseBadKey         = "bad_key"
	CauseBadSignature   = "bad_signature"
	CauseClockSkew      = "clock_skew"
	CauseKMS            = "kms"
	CauseStreamNotFound = "stream_not_found"
	CauseStreamNotReady = "stream_not_ready"
	CauseTooLarge       = "too_large"
	CauseRefused        = "refused"
	CauseUnknown        = "unknown"
)

// Causes returns every value of Classification.Cause.
func Causes() []string {
	return []string{
		CauseThrottled, CauseInternal, CauseTimeout, CauseCanceled, CauseConnection, CauseUnreachable,
		CauseDNS, CauseTLS, CauseBadResponse, CauseNoCredentials, CauseExpiredToken, CauseAssumeRole,
		CauseAccessDenied, CauseBadKey, CauseBadSignature, CauseClockSkew, CauseKMS, CauseStreamNotFound,
		CauseStreamNotReady, CauseTooLarge, CauseRefused, CauseUnknown,
	}
}

// Classify classifies an error of PutRecord or Describe. An unknown error is a
// Retry: only its size can make a record undeliverable, so no error is a reason to
// drop a record. err must not be nil.
func Classify(err error) Classification {
	// The caller canceled the request.
	if errors.Is(err, context.Canceled) {
		return Classification{Retry, CauseCanceled}
	}
	// AWS does not send a response of this size, whatever its status.
	if errors.Is(err, errResponseTooLarge) {
		return Classification{Retry, CauseBadResponse}
	}
	// There are no credentials, so no request was sent.
	var credentials *credentialsError
	if errors.As(err, &credentials) {
		return classifyCredentials(credentials.err)
	}
	// AWS returned an error code.
	var api smithy.APIError
	if errors.As(err, &api) {
		if c, known := classifyCode(api.ErrorCode(), api.ErrorMessage()); known {
			return c
		}
	}
	// Before the status, because a timeout can also occur while a response is read.
	if c, known := classifyNetwork(err); known {
		return c
	}
	// There was a response, but its error code is unknown.
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		if c, known := classifyStatus(response.HTTPStatusCode()); known {
			return c
		}
	}
	// A successful response without a sequence number does not prove that the record
	// is stored.
	if errors.Is(err, errNoSequenceNumber) {
		return Classification{Retry, CauseBadResponse}
	}
	// The connection failed before a response: reset, closed, truncated.
	var unsent *smithyhttp.RequestSendError
	if errors.As(err, &unsent) {
		return Classification{Retry, CauseConnection}
	}
	return Classification{Retry, CauseUnknown}
}

// classifyCode classifies the error codes of Kinesis and STS. Sources: the errors of
// PutRecord and the common errors in the API references. Codes are listed with and
// without the suffix "Exception", which JSON services have and query services do not.
func classifyCode(code, message string) (c Classification, known bool) {
	switch code {
	// A limit of a shard, the account or KMS is exceeded.
	case "ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException",
		"ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException":
		return Classification{Retry, CauseThrottled}, true

	// A failure within AWS.
	case "InternalFailureException", "InternalFailure", "InternalServerError", "InternalServiceError",
		"ServiceUnavailableException", "ServiceUnavailable":
		return Classification{Retry, CauseInternal}, true

	// The stream is being created or deleted.
	case "ResourceInUseException":
		return Classification{Retry, CauseStreamNotReady}, true

	// Temporary credentials expired before they were renewed. PutRecord drops them,
	// and the next PutRecord fetches new ones.
	case "ExpiredTokenException", "ExpiredToken":
		return Classification{Retry, CauseExpiredToken}, true

	case "ResourceNotFoundException":
		return Classification{RetryAfterFix, CauseStreamNotFound}, true

	case "AccessDeniedException", "AccessDenied":
		// For a stream that is encrypted with a customer managed key, Kinesis returns
		// the error of KMS.
		if strings.Contains(message, "kms:") {
			return kmsFailure, true
		}
		return Classification{RetryAfterFix, CauseAccessDenied}, true

	case "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired":
		return kmsFailure, true

	// The access key ID is unknown to AWS.
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException",
		"MissingAuthenticationToken", "OptInRequired", "SubscriptionRequiredException":
		return Classification{RetryAfterFix, CauseBadKey}, true

	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		return clockSkew, true

	// A wrong secret key and a wrong clock have the same code. The messages differ.
	case "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException", "IncompleteSignature":
		if strings.Contains(message, "Signature expired") || strings.Contains(message, "Signature not yet current") {
			return clockSkew, true
		}
		return Classification{RetryAfterFix, CauseBadSignature}, true

	case "InvalidArgumentException", "ValidationException":
		if tooLarge(message) {
			return Classification{Split, CauseTooLarge}, true
		}
		return refused, true

	case "SerializationException", "UnknownOperationException":
		return refused, true
	}
	return Classification{}, false
}

var (
	kmsFailure = Classification{RetryAfterFix, CauseKMS}
	clockSkew  = Classification{RetryAfterFix, CauseClockSkew}
	refused    = Classification{RetryRefused, CauseRefused}
)

// tooLargeMessages match the two forms of messages about a record's size: a violated
// constraint on the member data (PutRecord), and a sentence about the size of a record
// or its data (PutRecords, and local servers). They must not match messages about a
// partition key or a stream name that is too long, because the plugin would then split
// the record until it drops its user records.
var tooLargeMessages = []*regexp.Regexp{
	regexp.MustCompile(`(?i)at '([\w.]+\.)?data' failed to satisfy constraint: member must have length less than`),
	regexp.MustCompile(`(?i)\b(records?|data)( [^\s.,;]+){0,4} (is|are|exceeds?|exceeded|too) .*\b(size|large|larger|limit|maximum)\b`),
}

func tooLarge(message string) bool {
	for _, pattern := range tooLargeMessages {
		if pattern.MatchString(message) {
			return true
		}
	}
	return false
}

// classifyCredentials classifies the error of STS or another source of credentials.
func classifyCredentials(err error) Classification {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		// Kinesis has some of these codes too, but from STS they are about the role.
		case "AccessDenied", "AccessDeniedException", "ValidationError", "MalformedPolicyDocument",
			"InvalidIdentityToken", "IDPRejectedClaim", "RegionDisabledException":
			return Classification{RetryAfterFix, CauseAssumeRole}
		}
		if c, known := classifyCode(api.ErrorCode(), api.ErrorMessage()); known {
			return c
		}
	}
	// A source of credentials does not exist yet or cannot be reached. The error
	// names the step that failed.
	return Classification{Retry, CauseNoCredentials}
}

// classifyNetwork classifies failures below HTTP.
func classifyNetwork(err error) (c Classification, known bool) {
	// Before timeouts, because an unresponsive resolver is both.
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return Classification{Retry, CauseDNS}, true
	}
	if isTLS(err) {
		return Classification{Retry, CauseTLS}, true
	}
	// Before timeouts, because "unreachable" is more specific for a connect that
	// times out.
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect" || op.Op == "socks connect") {
		return Classification{Retry, CauseUnreachable}, true
	}
	var netErr net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout() {
		return Classification{Retry, CauseTimeout}, true
	}
	return Classification{}, false
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
		// crypto/tls returns alerts in this form, because their type is not exported.
		errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// classifyStatus classifies a response by its HTTP status. The SDK uses the status 0
// if there is no response.
func classifyStatus(status int) (c Classification, known bool) {
	switch {
	case status == http.StatusTooManyRequests:
		return Classification{Retry, CauseThrottled}, true
	case status == http.StatusRequestTimeout:
		return Classification{Retry, CauseTimeout}, true
	case status >= 500:
		return Classification{Retry, CauseInternal}, true
	// A response of a proxy, or with an error code that is unknown here.
	case status >= 300:
		return refused, true
	// The body of a successful response is truncated or invalid. The record is
	// probably stored, but the sequence number is missing.
	case status >= 200:
		return Classification{Retry, CauseBadResponse}, true
	}
	return Classification{}, false
}
