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
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// keptSecrets is how many credentials are remembered, the latest used
	// first. Replaced ones matter as long as a response to an older request may
	// quote them; this is more than a day of hourly renewals.
	keptSecrets = 64

	// minSecretBytes is the shortest credential to look for. A proxy's password
	// of fewer bytes would be found in every text.
	minSecretBytes = 4

	// secretBlockBytes is how much of a credential gives it away. A credential
	// that is cut off after this much is found, and any 2*secretBlockBytes-1
	// bytes out of its middle.
	secretBlockBytes = 12

	// maxDecodings is how often a text is unescaped in turn, for escapes inside
	// of escapes.
	maxDecodings = 3
)

const withheld = "the error text contains a credential and is not shown"

// secrets are the credentials that no log may show. It is safe for concurrent use.
type secrets struct {
	mu     sync.Mutex
	recent []string // the latest used first
	fixed  []string // those of proxies
}

func newSecrets(s Settings) *secrets {
	k := &secrets{fixed: proxySecrets(s)}
	k.note(s.SecretKey, s.SessionToken)
	return k
}

// note remembers credentials that are in use from now on.
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

// noteConfig remembers the credentials in a configuration that the SDK has loaded.
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

// authHeaders authenticate a request by themselves. Authorization does so only
// where it is not a signature.
var authHeaders = []string{"X-Amz-Security-Token", "X-Aws-Ec2-Metadata-Token", "X-Amz-Sso_bearer_token"}

// noteRequests remembers the tokens of every request. It is for
// aws.Config.APIOptions, so that it sees what passes between the SDK's
// credential sources, such as the tokens of a chain of roles.
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

// notedToken is a web identity token's source that remembers the token.
type notedToken struct {
	stscreds.IdentityTokenRetriever
	secrets *secrets
}

func (n notedToken) GetIdentityToken() ([]byte, error) {
	token, err := n.IdentityTokenRetriever.GetIdentityToken()
	n.secrets.note(strings.TrimSpace(string(token)))
	return token, err
}

// signature is what of an Authorization header of AWS is worth hiding, as it is
// in the header, in AWS's messages about it, and in JSON.
var signature = regexp.MustCompile(`(?i)AWS4-HMAC-SHA256\s+Credential\s*=|Signature\W{1,4}[0-9a-f]{16}`)

// in tells whether a text shows a credential: as it is, in part, escaped or
// broken up by spaces. It does not see through compression, encryption or base64
// of the credential, except for the base64 that a proxy gets.
func (k *secrets) in(text string) bool {
	readings := readings(text)
	if slices.ContainsFunc(readings, signature.MatchString) {
		return true
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, secret := range slices.Concat(k.fixed, k.recent) {
		if slices.ContainsFunc(readings, func(r string) bool { return shows(r, secret) }) {
			return true
		}
	}
	return false
}

// shows looks for blocks of the secret, the first of which a text that was cut
// off has too.
func shows(text, secret string) bool {
	if len(secret) < secretBlockBytes {
		return strings.Contains(text, secret)
	}
	for i := 0; i+secretBlockBytes <= len(secret); i += secretBlockBytes {
		if strings.Contains(text, secret[i:i+secretBlockBytes]) {
			return true
		}
	}
	return false
}

// readings returns the text as it is, unescaped, and without spaces.
func readings(text string) []string {
	found := []string{text}
	for range maxDecodings {
		plain := unescape(text)
		if plain == text {
			break
		}
		text = plain
		found = append(found, text)
	}
	return append(found, strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return -1
		}
		return r
	}, text))
}

// escapes are percent-encoding and what JSON, Go, C and XML have.
var escapes = regexp.MustCompile(`%[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\x[0-9a-fA-F]{2}|\\[/"'\\]|&#?\w{1,8};`)

func unescape(text string) string {
	return escapes.ReplaceAllStringFunc(text, func(e string) string {
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
	n, _ := strconv.ParseUint(digits, 16, 32) // the pattern has checked them
	return string(rune(n))
}

// proxyLogin finds user and password in a proxy's address, also in one that is
// not a URL.
var proxyLogin = regexp.MustCompile(`^(?:[a-zA-Z0-9+.-]+://)?([^:/@]*):(.*)@`)

// proxySecrets returns the passwords of the proxies in use, as they are written
// and as they are sent.
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

func unquoted(text string) string {
	if plain, err := url.PathUnescape(text); err == nil {
		return plain
	}
	return text
}

// errorCode is what an error code of AWS looks like. Others are not shown in
// place of a text that is withheld.
var errorCode = regexp.MustCompile(`^[A-Za-z][A-Za-z.]{0,63}$`)

// withoutText describes an error whose text must not be shown.
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

// quotesProcess tells errors that quote the output of a credential_process,
// which has credentials that nobody has noted.
func quotesProcess(err error) bool {
	var process *processcreds.ProviderError
	return errors.As(err, &process) && strings.Contains(process.Error(), "process output")
}
