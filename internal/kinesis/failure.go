package kinesis

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Cause is a kind of failure. Each is one of Causes, so causes can be compared
// with ==.
type Cause struct {
	// Name does not change between releases, so it can be the value of a metric label.
	Name string
	// Operator reports that the failure lasts until an operator fixes its cause.
	Operator bool
	// Transient reports that the failure says nothing about the configuration.
	Transient bool
	// notStored reports that the record of the failed request is not stored. Without
	// it, the outcome is unknown.
	notStored bool
	// Advice says what to check. Causes that end by themselves have none.
	Advice string
}

func (c *Cause) String() string { return c.Name }

// The causes. docs/troubleshooting.md has a row for each, and the alert
// KinesisAggMisconfigured lists those with Operator.
var (
	CauseThrottled = add(Cause{Name: "throttled", Transient: true, notStored: true})
	CauseInternal  = add(Cause{Name: "internal", Transient: true})
	CauseTimeout   = add(Cause{Name: "timeout", Transient: true})
	CauseCanceled  = add(Cause{Name: "canceled", Transient: true})
	// CauseConnection: the connection broke before a response arrived.
	CauseConnection  = add(Cause{Name: "connection", Transient: true})
	CauseUnreachable = add(Cause{Name: "unreachable", notStored: true,
		Advice: "the endpoint cannot be reached: check network, firewall, VPC endpoint and http_proxy"})
	CauseProxy = add(Cause{Name: "proxy", Operator: true, notStored: true,
		Advice: "the proxy cannot be reached or does not permit the request: check http_proxy (or HTTPS_PROXY and NO_PROXY in the environment), its user and password, and that it permits CONNECT to AWS"})
	CauseDNS = add(Cause{Name: "dns", notStored: true,
		Advice: "the endpoint's name cannot be resolved: check region, endpoint and DNS"})
	// The outcome is unknown, because a TLS alert can arrive instead of a response.
	CauseTLS = add(Cause{Name: "tls",
		Advice: "there is no trusted TLS connection: check the host's CA certificates (AWS_CA_BUNDLE), its clock, endpoint, and proxies that intercept TLS"})
	CauseBadResponse   = add(Cause{Name: "bad_response"})
	CauseNoCredentials = add(Cause{Name: "no_credentials", Operator: true, notStored: true,
		Advice: "there are no AWS credentials: set aws_key_id and aws_sec_key or profile, or give the host, container or service account a role"})
	CauseExpiredToken = add(Cause{Name: "expired_token", Operator: true, notStored: true,
		Advice: "the session token has expired; the plugin cannot renew static credentials with aws_session_token"})
	CauseInstanceMetadata = add(Cause{Name: "instance_metadata", Operator: true, notStored: true,
		Advice: "no source has AWS credentials, and the last one, the EC2 metadata service, failed: on EC2 give the instance a role, and in a container on EC2 allow two hops (HttpPutResponseHopLimit 2); elsewhere set aws_key_id and aws_sec_key or profile"})
	CauseContainerCredentials = add(Cause{Name: "container_credentials", Operator: true, notStored: true,
		Advice: "the container's credential service failed: check the task role (ECS) or the Pod Identity association and its agent (EKS), and AWS_CONTAINER_CREDENTIALS_FULL_URI and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE in the environment"})
	CauseCredentialProcess = add(Cause{Name: "credential_process", Operator: true, notStored: true,
		Advice: "credential_process failed: run its command as the user of Fluent Bit; it has to end within request_timeout and print JSON with Version 1, AccessKeyId and SecretAccessKey"})
	CauseWebIdentity = add(Cause{Name: "web_identity", Operator: true, notStored: true,
		Advice: "the role of the web identity cannot be assumed: check the token file (AWS_WEB_IDENTITY_TOKEN_FILE exists, is readable and has not expired), the account's OIDC provider, and that the role's trust policy permits this provider and subject"})
	CauseAssumeRole = add(Cause{Name: "assume_role", Operator: true, notStored: true,
		Advice: "the role cannot be assumed: check role_arn and external_id, the permission sts:AssumeRole, and the role's trust policy"})
	CauseAccessDenied = add(Cause{Name: "access_denied", Operator: true, notStored: true,
		Advice: "the credentials lack a permission on the stream (to write: the permission kinesis:PutRecord), or a policy denies it"})
	CauseBadKey = add(Cause{Name: "bad_key", Operator: true, notStored: true,
		Advice: "AWS does not know these credentials: check aws_key_id and aws_session_token or their source, and that they belong to the partition of the region"})
	CauseBadSignature = add(Cause{Name: "bad_signature", Operator: true, notStored: true,
		Advice: "the signature is wrong: check aws_sec_key or its source, region, and that no proxy changes requests"})
	CauseClockSkew = add(Cause{Name: "clock_skew", Operator: true, notStored: true,
		Advice: "this host's clock is wrong by more than five minutes: check its time synchronization"})
	CauseKMS = add(Cause{Name: "kms", Operator: true, notStored: true,
		Advice: "the stream's KMS key cannot be used: the credentials need kms:GenerateDataKey on it, the key has to be enabled, and its policy has to permit them"})
	CauseStreamNotFound = add(Cause{Name: "stream_not_found", Operator: true, notStored: true,
		Advice: "the stream does not exist: check stream and region, and set the stream's ARN if it belongs to another account"})
	// CauseStreamNotReady: the stream is being created or deleted.
	CauseStreamNotReady = add(Cause{Name: "stream_not_ready", Transient: true, notStored: true})
	// CauseTooLarge: only smaller records can be accepted.
	CauseTooLarge = add(Cause{Name: "too_large", Operator: true, notStored: true,
		Advice: "the record exceeds the stream's limit: set max_record_size to that limit, or raise it with UpdateMaxRecordSize"})
	// CauseRequestTooLarge: the same, but the limit is that of HTTP 413, and unknown.
	CauseRequestTooLarge = add(Cause{Name: "request_too_large", Operator: true, notStored: true,
		Advice: "a proxy or gateway limits the size of requests: raise its limit, or set max_record_size below three quarters of it"})
	// CauseRefused: Kinesis, or a proxy before it, refuses the request for a reason
	// that is not one of the other causes. The error quotes the reason.
	CauseRefused = add(Cause{Name: "refused", Operator: true, notStored: true,
		Advice: "the request is refused for the quoted reason: check stream, fixed_partition_key, endpoint, sts_endpoint and http_proxy"})
	CauseUnknown = add(Cause{Name: "unknown"})
)

var causes []*Cause

func add(c Cause) *Cause {
	causes = append(causes, &c)
	return &c
}

// Causes returns every cause.
func Causes() []*Cause { return causes }

// CauseNames returns the name of every cause.
func CauseNames() []string {
	var names []string
	for _, c := range causes {
		names = append(names, c.Name)
	}
	return names
}

// Error is the error of a request.
type Error struct {
	Cause *Cause
	// Op is the operation, its stream and its region.
	Op string
	// Err is an error of the SDK, or of this package.
	Err error

	// maybeStored reports that an earlier try of the request has an unknown outcome.
	maybeStored bool
	// files is the error of loading changed shared files, nil if there is none.
	files error
	// clockOffset is the time by which the SDK corrects the clock after this error.
	clockOffset time.Duration
	secrets     *secrets // nil: nothing is hidden
}

// NotStored reports whether err, which is an error of PutRecord, proves that the record
// is not stored. Otherwise it may be: the response can be lost.
func NotStored(err error) bool {
	var (
		e      *Error
		unsent *credentialsError
	)
	if errors.As(err, &e) && e.maybeStored {
		return false
	}
	return Classify(err).notStored || errors.As(err, &unsent)
}

// maxErrorBytes limits an error text. The longest useful messages of AWS, about
// permissions, have about 500 bytes.
const maxErrorBytes = 1 << 10

// Error returns the first line of the SDK's text, and advice. If a signature is
// invalid, the next lines of AWS's message contain the request's headers, including the
// session token.
func (e *Error) Error() string {
	text, _, _ := strings.Cut(e.Err.Error(), "\n")
	text, _, _ = strings.Cut(text, "The Canonical String")
	if e.hides(text) {
		text = e.secrets.withoutText(e.Err)
	}
	if len(text) > maxErrorBytes {
		cut := maxErrorBytes
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "..."
	}
	if e.files != nil {
		text += "; the shared AWS files have changed but cannot be used, so the previous credentials stay in use: " + e.files.Error()
	}
	if e.clockOffset != 0 {
		text += fmt.Sprintf("; from now on, requests are signed with the time of this response, %s from this host's", e.clockOffset.Round(time.Second))
	}
	text = "kinesis: " + e.Op + ": " + text
	if e.Cause.Advice != "" {
		text += ": " + e.Cause.Advice
	}
	return text
}

// hides reports whether text must not be shown. It checks more of a long text than
// Error shows, so that no part of a credential is shown.
func (e *Error) hides(text string) bool {
	return e.secrets != nil && e.secrets.in(text[:min(len(text), 8*maxErrorBytes)])
}

func (e *Error) Unwrap() error { return e.Err }
