package kinesis

import (
	"context"
	"encoding/base64"
	"errors"
	"html"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// keptSecrets is the number of most recently used credentials to remember. A
	// response to an old request can repeat a credential that was replaced. 64 are
	// enough for more than a day of hourly renewals.
	keptSecrets = 64

	// minSecretBytes is the length of the shortest credential to look for. A shorter
	// proxy password would occur in many messages by chance.
	minSecretBytes = 4

	// secretBlockBytes is the length of the part of a credential that must not be
	// shown. in finds the first secretBlockBytes bytes of a credential, and any
	// 2*secretBlockBytes-1 consecutive bytes of it.
	secretBlockBytes = 12

	// maxDecodings is how many levels of nested escapes are decoded.
	maxDecodings = 3
)

const withheld = "the error text contains a credential and is not shown"

// secrets holds the credentials that must not be logged. It is safe for concurrent
// use.
type secrets struct {
	mu     sync.Mutex
	recent []string // the most recently used first
	fixed  []string // of proxies
}

func newSecrets(s Settings) *secrets {
	k := &secrets{fixed: proxySecrets(s)}
	k.note(s.SecretKey, s.SessionToken)
	return k
}

// note adds credentials.
func (k *secrets) note(values ...string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range values {
		if len(v) < minSecretBytes {
			continue
		}
		if i := slices.Index(k.recent, v); i >= 0 {
			copy(k.recent[1:i+1], k.recent[:i])
		} else {
			k.recent = slices.Insert(k.recent, 0, v)
			k.recent = k.recent[:min(len(k.recent), keptSecrets)]
		}
		k.recent[0] = v
	}
}

// noteConfig adds the credentials in a configuration that the SDK has loaded.
func (k *secrets) noteConfig(cfg aws.Config) {
	for _, source := range cfg.ConfigSources {
		switch c := source.(type) {
		case config.EnvConfig:
			k.note(c.Credentials.SecretAccessKey, c.Credentials.SessionToken, c.ContainerAuthorizationToken)
		case config.SharedConfig:
			for profile := &c; profile != nil; profile = profile.Source {
				k.note(profile.Credentials.SecretAccessKey, profile.Credentials.SessionToken)
			}
		}
	}
}

// authHeaders are headers that contain a token. Authorization is not among them,
// because it contains either a token or a signature.
var authHeaders = []string{"X-Amz-Security-Token", "X-Aws-Ec2-Metadata-Token", "X-Amz-Sso_bearer_token"}

// noteRequests adds the tokens of every request. Set in aws.Config.APIOptions, it also
// applies to the SDK's credential sources, for example to the tokens of a chain of
// roles.
func (k *secrets) noteRequests(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("NoteSecrets",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			if r, ok := in.Request.(*smithyhttp.Request); ok {
				k.noteHeaders(r.Header)
			}
			return next.HandleDeserialize(ctx, in)
		}), middleware.After)
}

func (k *secrets) noteHeaders(h http.Header) {
	for _, name := range authHeaders {
		k.note(h.Get(name))
	}
	if authorization := h.Get("Authorization"); !strings.HasPrefix(authorization, "AWS4-") {
		_, token, found := strings.Cut(authorization, " ")
		if !found {
			token = authorization
		}
		k.note(token)
	}
}

// signature matches the parts of an Authorization header to hide: in the header
// itself, in messages of AWS about it, and in JSON.
var signature = regexp.MustCompile(`(?i)AWS4-HMAC-SHA256\s+Credential\s*=|Signature\W{1,4}[0-9a-f]{16}`)

// in reports whether message contains a credential: unchanged, in part, escaped, or
// interrupted by spaces. It does not find a credential that is compressed, encrypted
// or in base64, except for the base64 form of proxy credentials.
func (k *secrets) in(message string) bool {
	decoded := decodings(message)
	if slices.ContainsFunc(decoded, signature.MatchString) {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, secret := range slices.Concat(k.fixed, k.recent) {
		if slices.ContainsFunc(decoded, func(s string) bool { return shows(s, secret) }) {
			return true
		}
	}
	return false
}

// shows reports whether message contains a block of the secret. Comparing blocks also
// finds a secret that is truncated.
func shows(message, secret string) bool {
	if len(secret) < secretBlockBytes {
		return strings.Contains(message, secret)
	}
	for i := 0; i+secretBlockBytes <= len(secret); i += secretBlockBytes {
		if strings.Contains(message, secret[i:i+secretBlockBytes]) {
			return true
		}
	}
	return false
}

// decodings returns message unchanged, unescaped, and unescaped without spaces.
func decodings(message string) []string {
	found := []string{message}
	for range maxDecodings {
		plain := unescape(message)
		if plain == message {
			break
		}
		message = plain
		found = append(found, message)
	}
	return append(found, strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return -1
		}
		return r
	}, message))
}

// escapes matches percent-encoding and the escapes of JSON, Go, C and XML.
var escapes = regexp.MustCompile(`%[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[/"'\\]|&#?\w{1,8};`)

func unescape(s string) string {
	return escapes.ReplaceAllStringFunc(s, func(e string) string {
		switch {
		case e[0] == '&':
			return html.UnescapeString(e)
		case e[0] == '%':
			return fromHex(e[1:])
		case e[1] == 'u' || e[1] == 'x':
			return fromHex(e[2:])
		}
		return e[1:]
	})
}

func fromHex(digits string) string {
	n, _ := strconv.ParseUint(digits, 16, 32) // escapes matches only hexadecimal digits
	return string(rune(n))
}

// proxyLogin matches user and password in the address of a proxy, which need not be a
// valid URL.
var proxyLogin = regexp.MustCompile(`^(?:[a-zA-Z0-9+.-]+://)?([^:/@]*):(.*)@`)

// proxySecrets returns the passwords of the configured proxies: as configured,
// percent-decoded, and with the user in base64, as they are sent.
func proxySecrets(s Settings) []string {
	var found []string
	for _, address := range []string{
		s.HTTPProxy, os.Getenv("HTTPS_PROXY"), os.Getenv("https_proxy"), os.Getenv("HTTP_PROXY"), os.Getenv("http_proxy"),
	} {
		m := proxyLogin.FindStringSubmatch(address)
		if m == nil {
			continue
		}
		user, password := unquoted(m[1]), unquoted(m[2])
		for _, secret := range []string{m[2], password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))} {
			if len(secret) >= minSecretBytes {
				found = append(found, secret)
			}
		}
	}
	return found
}

func unquoted(s string) string {
	if plain, err := url.PathUnescape(s); err == nil {
		return plain
	}
	return s
}

// errorCode matches error codes of AWS. withoutText does not show other codes.
var errorCode = regexp.MustCompile(`^[A-Za-z][A-Za-z.]{0,63}$`)

// withoutText describes an error with its code and status only. It replaces an error
// text that contains a credential.
func (k *secrets) withoutText(err error) string {
	text := withheld
	var api smithy.APIError
	if errors.As(err, &api) && errorCode.MatchString(api.ErrorCode()) && !k.in(api.ErrorCode()) {
		text += ", error code " + api.ErrorCode()
	}
	var resp *smithyhttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() > 0 {
		text += ", HTTP status " + strconv.Itoa(resp.HTTPStatusCode())
	}
	return text
}
