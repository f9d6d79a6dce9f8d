package kinesis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// fromAWS wraps the error of a response as the SDK does.
func fromAWS(status int, inner error) error {
	return &smithy.OperationError{ServiceID: "Kinesis", OperationName: "PutRecord", Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}}, Err: inner,
	}}
}

func code(code string) error { return coded(code, "any message") }

func coded(code, message string) error {
	return fromAWS(400, &smithy.GenericAPIError{Code: code, Message: message})
}

// noResponse wraps the error of a request without a response as the SDK does.
func noResponse(inner error) error { return fromAWS(0, &smithyhttp.RequestSendError{Err: inner}) }

func noCredentials(inner error) error {
	return &smithy.OperationError{ServiceID: "Kinesis", OperationName: "PutRecord",
		Err: fmt.Errorf("get identity: get credentials: %w", &credentialsError{inner})}
}

// fromSTS is an error of STS, whose credentials a PutRecord needs.
func fromSTS(operation, code, message string) error {
	return noCredentials(&smithy.OperationError{ServiceID: "STS", OperationName: operation, Err: &smithyhttp.ResponseError{
		Response: &smithyhttp.Response{Response: &http.Response{StatusCode: 400}},
		Err:      &smithy.GenericAPIError{Code: code, Message: message},
	}})
}

func TestClassify_Causes(t *testing.T) {
	broken := &smithy.DeserializationError{Err: io.ErrUnexpectedEOF}
	refusedByTCP := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	message := "no"
	for name, test := range map[string]struct {
		err   error
		cause *Cause
	}{
		"throughput":          {code("ProvisionedThroughputExceededException"), CauseThrottled},
		"throughput, modeled": {fromAWS(400, &types.ProvisionedThroughputExceededException{Message: &message}), CauseThrottled},
		"KMS throttling":      {fromAWS(400, &types.KMSThrottlingException{Message: &message}), CauseThrottled},
		"limit exceeded":      {code("LimitExceededException"), CauseThrottled},
		"throttling":          {code("ThrottlingException"), CauseThrottled},
		"429 without a code":  {fromAWS(429, broken), CauseThrottled},

		"internal failure":          {fromAWS(500, &types.InternalFailureException{Message: &message}), CauseInternal},
		"internal failure, generic": {code("InternalFailure"), CauseInternal},
		"unavailable":               {code("ServiceUnavailable"), CauseInternal},
		"503 without a code":        {fromAWS(503, broken), CauseInternal},
		"500 with an unknown code":  {fromAWS(500, &smithy.GenericAPIError{Code: "Novelty"}), CauseInternal},
		"stream being created":      {code("ResourceInUseException"), CauseStreamNotReady},

		"a deadline that url.Error does not see": {noResponse(&url.Error{Op: "Post", Err: fmt.Errorf("send: %w", context.DeadlineExceeded)}), CauseTimeout},
		"a time-out of another kind":             {noResponse(&net.OpError{Op: "read", Err: syscall.ETIMEDOUT}), CauseTimeout},

		"expired token":             {code("ExpiredTokenException"), CauseExpiredToken},
		"expired token of STS":      {fromSTS("AssumeRole", "ExpiredToken", ""), CauseExpiredToken},
		"time ends without keys":    {noCredentials(&aws.RequestCanceledError{Err: context.DeadlineExceeded}), CauseTimeout},
		"no credentials":            {noCredentials(errors.New("no EC2 IMDS role found")), CauseNoCredentials},
		"metadata service silent":   {noCredentials(noResponse(context.DeadlineExceeded)), CauseNoCredentials},
		"web identity has expired":  {fromSTS("AssumeRoleWithWebIdentity", "ExpiredTokenException", "Token expired"), CauseWebIdentity},
		"web identity of a chain":   {noCredentials(&smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: fromSTS("AssumeRoleWithWebIdentity", "AccessDenied", "")}), CauseWebIdentity},
		"STS cannot be reached":     {noCredentials(&smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: &smithyhttp.RequestSendError{Err: refusedByTCP}}), CauseUnreachable},
		"proxy before STS":          {noCredentials(&smithy.OperationError{ServiceID: "STS", OperationName: "AssumeRole", Err: &smithyhttp.RequestSendError{Err: &proxyError{&url.URL{}, "403 Forbidden"}}}), CauseProxy},
		"metadata service not ours": {noCredentials(fromAWS(404, errors.New("not found"))), CauseNoCredentials},
		"STS busy":                  {fromSTS("AssumeRole", "Throttling", ""), CauseThrottled},
		"role denied":               {fromSTS("AssumeRole", "AccessDenied", ""), CauseAssumeRole},
		"web identity not accepted": {fromSTS("AssumeRoleWithWebIdentity", "InvalidIdentityToken", "No OpenIDConnect provider found in your account"), CauseWebIdentity},
		"STS does not know the key": {fromSTS("AssumeRole", "InvalidClientTokenId", ""), CauseBadKey},

		"no stream":               {fromAWS(400, &types.ResourceNotFoundException{Message: &message}), CauseStreamNotFound},
		"no stream, generic":      {code("ResourceNotFoundException"), CauseStreamNotFound},
		"access denied":           {fromAWS(400, &types.AccessDeniedException{Message: &message}), CauseAccessDenied},
		"access denied to KMS":    {coded("AccessDeniedException", "User: x is not authorized to perform: kms:GenerateDataKey on resource: y"), CauseKMS},
		"KMS denied":              {fromAWS(400, &types.KMSAccessDeniedException{Message: &message}), CauseKMS},
		"KMS disabled":            {code("KMSDisabledException"), CauseKMS},
		"KMS state":               {code("KMSInvalidStateException"), CauseKMS},
		"KMS not found":           {code("KMSNotFoundException"), CauseKMS},
		"KMS opt-in":              {code("KMSOptInRequired"), CauseKMS},
		"unrecognised client":     {code("UnrecognizedClientException"), CauseBadKey},
		"no token":                {code("MissingAuthenticationTokenException"), CauseBadKey},
		"incomplete signature":    {code("IncompleteSignatureException"), CauseBadSignature},
		"invalid signature":       {coded("InvalidSignatureException", "The request signature we calculated does not match"), CauseBadSignature},
		"signature mismatch":      {code("SignatureDoesNotMatch"), CauseBadSignature},
		"signature expired":       {coded("InvalidSignatureException", "Signature expired: 20200101T000000Z is now earlier than 20210101T000000Z"), CauseClockSkew},
		"signature of the future": {coded("SignatureDoesNotMatch", "Signature not yet current: 20210101T000000Z is still later than"), CauseClockSkew},
		"time skewed":             {code("RequestTimeTooSkewed"), CauseClockSkew},
		"request expired":         {code("RequestExpired"), CauseClockSkew},

		"validation":             {code("ValidationException"), CauseRefused},
		"argument":               {fromAWS(400, &types.InvalidArgumentException{Message: &message}), CauseRefused},
		"serialization":          {code("SerializationException"), CauseRefused},
		"403 of a proxy":         {fromAWS(403, broken), CauseRefused},
		"413 of a proxy":         {fromAWS(413, broken), CauseRequestTooLarge},
		"407 of a proxy":         {fromAWS(407, broken), CauseProxy},
		"400 with unknown code":  {fromAWS(400, &smithy.GenericAPIError{Code: "Novelty"}), CauseRefused},
		"redirect":               {fromAWS(307, broken), CauseRefused},
		"408 of a load balancer": {fromAWS(408, broken), CauseTimeout},

		"reset":                     {noResponse(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), CauseConnection},
		"closed before a response":  {noResponse(io.EOF), CauseConnection},
		"refused by TCP":            {noResponse(refusedByTCP), CauseUnreachable},
		"proxy refused":             {noResponse(&net.OpError{Op: "proxyconnect", Err: refusedByTCP}), CauseProxy},
		"proxy not resolved":        {noResponse(&net.OpError{Op: "proxyconnect", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}), CauseProxy},
		"connect timed out":         {noResponse(&net.OpError{Op: "dial", Err: context.DeadlineExceeded}), CauseUnreachable},
		"no such host":              {noResponse(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", IsNotFound: true}}), CauseDNS},
		"name server timed out":     {noResponse(&net.DNSError{Err: "i/o timeout", IsTimeout: true}), CauseDNS},
		"unknown authority":         {noResponse(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), CauseTLS},
		"wrong host":                {noResponse(&tls.CertificateVerificationError{Err: x509.HostnameError{Certificate: &x509.Certificate{}, Host: "x"}}), CauseTLS},
		"handshake failure":         {noResponse(&net.OpError{Op: "remote error", Err: errors.New("tls: handshake failure")}), CauseTLS},
		"local handshake failure":   {noResponse(&net.OpError{Op: "local error", Err: errors.New("tls: no renegotiation")}), CauseTLS},
		"not TLS":                   {noResponse(tls.RecordHeaderError{Msg: "first record does not look like a TLS handshake"}), CauseTLS},
		"http where TLS was wanted": {noResponse(http.ErrSchemeMismatch), CauseTLS},
		"deadline":                  {fromAWS(0, &smithy.CanceledError{Err: context.DeadlineExceeded}), CauseTimeout},
		"deadline in the response":  {fromAWS(200, &smithy.DeserializationError{Err: context.DeadlineExceeded}), CauseTimeout},
		"canceled by the caller":    {fromAWS(0, &smithy.CanceledError{Err: context.Canceled}), CauseCanceled},

		"truncated response": {fromAWS(200, broken), CauseBadResponse},
		"no sequence number": {errNoSequenceNumber, CauseBadResponse},
		"unknown error":      {errors.New("unknown"), CauseUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Classify(test.err); got != test.cause {
				t.Errorf("got %s, want %s", got.Name, test.cause.Name)
			}
		})
	}
}

// Messages of Kinesis, where noted, and of local servers.
func TestClassify_TooLarge(t *testing.T) {
	for _, test := range []struct {
		code, message string
		tooLarge      bool
	}{
		// Kinesis: PutRecord, PutRecord through the Java SDK, PutRecords.
		{"ValidationException", "1 validation error detected: Value at 'data' failed to satisfy constraint: Member must have length less than or equal to 1048576", true},
		{"ValidationException", "1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=1048954 cap=1048954]' at 'data' failed to satisfy constraint: Member must have length less than or equal to 1048576", true},
		{"ValidationException", "1 validation error detected: Value at 'records.1.member.data' failed to satisfy constraint: Member must have length less than or equal to 10485760", true},
		{"ValidationException", "2 validation errors detected: Value at 'partitionKey' failed to satisfy constraint: Member must have length less than or equal to 256; Value at 'data' failed to satisfy constraint: Member must have length less than or equal to 1048576", true},
		{"InvalidArgumentException", "Records size exceeds 5 MB limit", true},
		// kinesis-local, current and older versions.
		{"InvalidArgumentException", "Record data size 1048577 exceeds the stream's max record size of 1048576 bytes", true},
		{"InvalidArgumentException", "Data object is too large", true},
		{"InvalidArgumentException", "The record is larger than the stream's maximum record size", true},

		{"ValidationException", "1 validation error detected: Value at 'partitionKey' failed to satisfy constraint: Member must have length less than or equal to 256", false},
		{"ValidationException", "1 validation error detected: Value at 'streamName' failed to satisfy constraint: Member must have length less than or equal to 128", false},
		{"ValidationException", "1 validation error detected: Value at 'data' failed to satisfy constraint: Member must not be null", false},
		{"InvalidArgumentException", "Partition key must be between 1 and 256 in length", false},
		{"InvalidArgumentException", "Stream Name 'records data' contains invalid characters", false},
		{"InvalidArgumentException", "ExplicitHashKey is not valid", false},
		{"ResourceNotFoundException", "Record data size 2 exceeds the stream's max record size of 1 bytes", false},
	} {
		got := Classify(coded(test.code, test.message))
		if (got == CauseTooLarge) != test.tooLarge {
			t.Errorf("%s: %s: got %s", test.code, test.message, got.Name)
		}
	}
}
