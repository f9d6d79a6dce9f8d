package kinesis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Classify returns the cause of an error of this package or of the AWS SDK, which must
// not be nil. No cause is a reason to drop a record: only its size can make a record
// undeliverable.
func Classify(err error) *Cause {
	var known *Error
	if errors.As(err, &known) {
		return known.Cause
	}
	// The caller canceled the request.
	if errors.Is(err, context.Canceled) {
		return CauseCanceled
	}
	// AWS does not send a response of this size, whatever its status.
	if errors.Is(err, errResponseTooLarge) {
		return CauseBadResponse
	}
	// There are no credentials, so no request was sent.
	var credentials *credentialsError
	if errors.As(err, &credentials) {
		return classifyCredentials(credentials.err)
	}
	// AWS returned an error code.
	var api smithy.APIError
	if errors.As(err, &api) {
		if c := classifyCode(api.ErrorCode(), api.ErrorMessage()); c != nil {
			return c
		}
	}
	return classifyHTTP(err)
}

// classifyHTTP classifies an error without an error code that is known.
func classifyHTTP(err error) *Cause {
	// Before the status, because a timeout can also occur while a response is read.
	if c := classifyNetwork(err); c != nil {
		return c
	}
	// There was a response, but its error code is unknown.
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) {
		if c := classifyStatus(response.HTTPStatusCode()); c != nil {
			return c
		}
	}
	// A successful response without a sequence number does not prove that the record
	// is stored.
	if errors.Is(err, errNoSequenceNumber) {
		return CauseBadResponse
	}
	// The connection failed before a response: reset, closed, truncated.
	var unsent *smithyhttp.RequestSendError
	if errors.As(err, &unsent) {
		return CauseConnection
	}
	return CauseUnknown
}

// classifyCode returns the cause of an error code of Kinesis or STS, nil if it is
// unknown. Sources: the errors of PutRecord and the common errors in the API references.
// Codes are listed with and without the suffix "Exception", which JSON services have and
// query services do not.
func classifyCode(code, message string) *Cause {
	switch code {
	// A limit of a shard, the account or KMS is exceeded.
	case "ProvisionedThroughputExceededException", "LimitExceededException", "KMSThrottlingException",
		"ThrottlingException", "Throttling", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException":
		return CauseThrottled

	// A failure within AWS.
	case "InternalFailureException", "InternalFailure", "InternalServerError", "InternalServiceError",
		"ServiceUnavailableException", "ServiceUnavailable":
		return CauseInternal

	// The stream is being created or deleted.
	case "ResourceInUseException":
		return CauseStreamNotReady

	// Temporary credentials expired before they were renewed. PutRecord drops them,
	// and the next PutRecord fetches new ones.
	case "ExpiredTokenException", "ExpiredToken":
		return CauseExpiredToken

	case "ResourceNotFoundException":
		return CauseStreamNotFound

	case "AccessDeniedException", "AccessDenied":
		// For a stream that is encrypted with a customer managed key, Kinesis returns
		// the error of KMS.
		if strings.Contains(message, "kms:") {
			return CauseKMS
		}
		return CauseAccessDenied

	case "KMSAccessDeniedException", "KMSDisabledException", "KMSInvalidStateException", "KMSNotFoundException", "KMSOptInRequired":
		return CauseKMS

	// The access key ID is unknown to AWS.
	case "UnrecognizedClientException", "InvalidClientTokenId", "MissingAuthenticationTokenException",
		"MissingAuthenticationToken", "OptInRequired", "SubscriptionRequiredException":
		return CauseBadKey

	case "RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture":
		return CauseClockSkew

	// A wrong secret key and a wrong clock have the same code. The messages differ.
	case "InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignatureException", "IncompleteSignature":
		if strings.Contains(message, "Signature expired") || strings.Contains(message, "Signature not yet current") {
			return CauseClockSkew
		}
		return CauseBadSignature

	case "InvalidArgumentException", "ValidationException":
		if tooLarge(message) {
			return CauseTooLarge
		}
		return CauseRefused

	case "SerializationException", "UnknownOperationException":
		return CauseRefused
	}
	return nil
}

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

// classifyCredentials classifies the error of a source of credentials. The operation
// that failed says which source it is.
func classifyCredentials(err error) *Cause {
	var (
		process *processcreds.ProviderError
		token   *tokenFileError
	)
	switch operation := lastOperation(err); {
	case errors.As(err, &process):
		return CauseCredentialProcess
	case errors.As(err, &token):
		return CauseWebIdentity
	case operation.ServiceID == sts.ServiceID:
		return classifySTS(err, operation.OperationName == "AssumeRoleWithWebIdentity")
	// The SDK's package endpointcreds exports no type of error.
	case strings.Contains(err.Error(), "failed to load credentials, "):
		return CauseContainerCredentials
	case operation.ServiceID == "ec2imds" && !strings.Contains(err.Error(), "access disabled to EC2 IMDS"):
		return CauseInstanceMetadata
	}
	if c := classifyNetwork(err); c == CauseProxy {
		return c
	}
	// The time limit ended while a source had not responded yet. The cache waits for it
	// beyond the limit, so which source it is shows with a later request.
	var canceled *aws.RequestCanceledError
	if errors.As(err, &canceled) && errors.Is(err, context.DeadlineExceeded) {
		return CauseTimeout
	}
	return CauseNoCredentials
}

// lastOperation returns the innermost operation of err, which is the one that failed.
// An operation fails if it needs credentials that another one cannot fetch.
func lastOperation(err error) smithy.OperationError {
	var last smithy.OperationError
	for next := (*smithy.OperationError)(nil); errors.As(err, &next); err = next.Err {
		last = *next
	}
	return last
}

// classifySTS classifies an error of AssumeRole or AssumeRoleWithWebIdentity.
func classifySTS(err error, webIdentity bool) *Cause {
	role := CauseAssumeRole
	if webIdentity {
		role = CauseWebIdentity
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return classifyHTTP(err)
	}
	switch c := classifyCode(api.ErrorCode(), api.ErrorMessage()); c {
	case CauseThrottled, CauseInternal, CauseBadKey, CauseBadSignature, CauseClockSkew:
		return c
	case CauseExpiredToken:
		if !webIdentity {
			return c
		}
	}
	// Kinesis has some of these codes too, but from STS they are about the role.
	return role
}

// classifyNetwork classifies failures below HTTP.
func classifyNetwork(err error) *Cause {
	// Before the other causes, which are then those of the proxy.
	var (
		op      *net.OpError
		refused *proxyError
	)
	dial := errors.As(err, &op)
	if errors.As(err, &refused) || dial && op.Op == "proxyconnect" {
		return CauseProxy
	}
	// Before timeouts, because an unresponsive resolver is both.
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return CauseDNS
	}
	if isTLS(err) {
		return CauseTLS
	}
	// Before timeouts, because "unreachable" is more specific for a connect that
	// times out.
	if dial && (op.Op == "dial" || op.Op == "socks connect") {
		return CauseUnreachable
	}
	var netErr net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &netErr) && netErr.Timeout() {
		return CauseTimeout
	}
	return nil
}

func isTLS(err error) bool {
	var (
		untrusted *tls.CertificateVerificationError
		header    tls.RecordHeaderError
		op        *net.OpError
	)
	return errors.As(err, &untrusted) || errors.As(err, &header) || errors.Is(err, http.ErrSchemeMismatch) ||
		// crypto/tls returns alerts in this form, because their type is not exported.
		errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error")
}

// classifyStatus classifies a response by its HTTP status. The SDK uses the status 0
// if there is no response.
func classifyStatus(status int) *Cause {
	switch {
	case status == http.StatusTooManyRequests:
		return CauseThrottled
	case status == http.StatusRequestEntityTooLarge:
		return CauseRequestTooLarge
	case status == http.StatusProxyAuthRequired:
		return CauseProxy
	case status == http.StatusRequestTimeout:
		return CauseTimeout
	case status >= 500:
		return CauseInternal
	// A response of a proxy, or with an error code that is unknown here.
	case status >= 300:
		return CauseRefused
	// The body of a successful response is truncated or invalid. The record is
	// probably stored, but the sequence number is missing.
	case status >= 200:
		return CauseBadResponse
	}
	return nil
}
