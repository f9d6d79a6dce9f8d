package kinesis

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// longToken resembles a token of STS: long, with special characters of base64.
var longToken = "IQoJb3JpZ2luX2VjEHMaCXVzLWVhc3QtMSJHMEUCIQD" + strings.Repeat("aB3/+x9Zq==", 60)

func escapedJSON(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, `\u%04x`, r)
	}
	return b.String()
}

func escapedXML(s string) string {
	var b strings.Builder
	for _, r := range s {
		fmt.Fprintf(&b, "&#%d;", r)
	}
	return b.String()
}

func escapedC(s string) string {
	var b strings.Builder
	for i := range len(s) {
		fmt.Fprintf(&b, `\x%02x`, s[i])
	}
	return b.String()
}

// echoes are forms in which a response can repeat a credential.
var echoes = map[string]func(string) string{
	"unchanged":        func(s string) string { return s },
	"percent-encoded":  url.QueryEscape,
	"twice encoded":    func(s string) string { return url.QueryEscape(url.QueryEscape(s)) },
	"JSON escapes":     escapedJSON,
	"XML escapes":      escapedXML,
	"quoted by Go":     func(s string) string { return fmt.Sprintf("%+q", s) },
	"C escapes":        escapedC,
	"slashes":          func(s string) string { return strings.ReplaceAll(s, "/", `\/`) },
	"truncated":        func(s string) string { return s[:2*secretBlockBytes-1] },
	"only a middle":    func(s string) string { return s[5 : 5+2*secretBlockBytes-1] },
	"with spaces":      func(s string) string { return strings.Join(strings.Split(s, ""), " ") },
	"with controls":    func(s string) string { return strings.Join(strings.Split(s, ""), "\u0080") },
	"at maxErrorBytes": func(s string) string { return strings.Repeat("x", maxErrorBytes-200) + s },
}

// bodyOf returns an error of AWS in the format media.
func bodyOf(media, code, message string) []byte {
	switch media {
	case mediaCBOR:
		b := appendCBOR([]byte{5<<5 | 2}, cborText, "__type")
		b = appendCBOR(b, cborText, code)
		b = appendCBOR(b, cborText, "message")
		return appendCBOR(b, cborText, message)
	case mediaJSON:
		return fmt.Appendf(nil, `{"__type":%q,"message":%q}`, code, message)
	}
	return []byte("<html>" + message + "</html>")
}

func checkHidden(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		for _, decoded := range decodings(text) {
			if shows(decoded, secret) {
				t.Errorf("%.20s... is shown in %s", secret, text)
			}
		}
	}
}

func TestSecrets_EchoOfKinesis(t *testing.T) {
	isolate(t)
	for _, media := range []string{mediaJSON, mediaCBOR} {
		for name, echo := range echoes {
			for what, secret := range map[string]string{"token": longToken, "key": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"} {
				t.Run(media+", "+name+", "+what, func(t *testing.T) {
					server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Body(400, map[string]string{"Content-Type": media}, func(w io.Writer) {
						_, _ = w.Write(bodyOf(media, "AccessDeniedException", "not allowed: "+echo(secret)))
					}))})
					s := settings(server)
					s.SessionToken, s.SecretKey = longToken, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
					_, err := putFails(t, open(t, s))
					checkHidden(t, err.Error(), longToken, s.SecretKey)
					for _, want := range []string{withheld, "error code AccessDeniedException", "HTTP status 400"} {
						if !strings.Contains(err.Error(), want) {
							t.Errorf("no %q in %v", want, err)
						}
					}
				})
			}
		}
	}
}

func TestSecrets_EchoInErrorCode(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Error(400, longToken, "no"), fakekinesis.Error(400, "Code"+strings.Repeat("x", 30), "no"))})
	s := settings(server)
	s.SessionToken, s.SecretKey = longToken, "Code"+strings.Repeat("x", 30)
	sender := open(t, s)
	for range 2 {
		_, err := putFails(t, sender)
		checkHidden(t, err.Error(), longToken, s.SecretKey)
	}
}

func TestSecrets_EchoOfHeader(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
		return fakekinesis.Error(400, "IncompleteSignatureException", "bad header: "+r.Header.Get("Authorization"))
	}})
	_, err := putFails(t, open(t, settings(server)))
	if text := err.Error(); !strings.Contains(text, withheld) || strings.Contains(text, "Signature=") {
		t.Errorf("got %v", err)
	}
}

func TestSecrets_EchoOfSTS(t *testing.T) {
	isolate(t)
	for name, echo := range echoes {
		t.Run(name, func(t *testing.T) {
			token := "eyJhbGciOiJSUzI1NiIs" + strings.Repeat("webIdentity", 40)
			t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", write(t, "token", token+"\n"))
			t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
			server := start(t, fakekinesis.Options{Role: func(_ int, r fakekinesis.RoleRequest) fakekinesis.RoleResponse {
				return fakekinesis.RoleResponse{Fault: fakekinesis.Error(400, "InvalidIdentityToken", "bad token "+echo(strings.TrimSpace(r.WebIdentityToken)))}
			}})
			_, err := putFails(t, open(t, fileSettings(server)))
			checkHidden(t, err.Error(), token)
			if !strings.Contains(err.Error(), withheld) || !strings.Contains(err.Error(), "InvalidIdentityToken") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A response to an old request can repeat a credential that was replaced since.
func TestSecrets_ReplacedCredentials(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{
		Role: func(n int, _ fakekinesis.RoleRequest) fakekinesis.RoleResponse {
			return fakekinesis.RoleResponse{Expires: time.Now().Add(-time.Second)} // expired, so that each record needs a new one
		},
		Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
			if n <= 10 {
				return fakekinesis.OK
			}
			return fakekinesis.Error(400, "AccessDeniedException", "no: "+fakekinesis.RoleSessionToken(3))
		},
	})
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	sender := open(t, s)
	for range 10 {
		put(t, sender)
	}
	_, err := putFails(t, sender)
	checkHidden(t, err.Error(), fakekinesis.RoleSessionToken(3))
}

func TestSecrets_RotatedFile(t *testing.T) {
	isolate(t)
	path := write(t, "credentials", keysFile(oldKey))
	server := start(t, fakekinesis.Options{Fault: script(fakekinesis.OK, fakekinesis.OK,
		fakekinesis.Error(400, "AccessDeniedException", "no: secret-of-"+oldKey), fakekinesis.Error(400, "AccessDeniedException", "no: token-of-"+newKey))})
	s := fileSettings(server)
	s.CredentialsPath = path
	sender := open(t, s)
	now := frozen(sender)
	put(t, sender)
	overwrite(t, path, keysFile(newKey))
	pass(now)
	put(t, sender)
	for range 2 {
		_, err := putFails(t, sender)
		checkHidden(t, err.Error(), "secret-of-"+oldKey, "token-of-"+newKey)
	}
}

func TestSecrets_SourceProfile(t *testing.T) {
	isolate(t)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", write(t, "credentials", keysFile(oldKey)))
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[profile writer]\nrole_arn = arn:aws:iam::123456789012:role/writer\nsource_profile = other\n"))
	server := start(t, fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
		return fakekinesis.RoleResponse{Fault: fakekinesis.Error(403, "AccessDenied", "no: secret-of-"+oldKey)}
	}})
	t.Setenv("AWS_ENDPOINT_URL_STS", server.URL())
	s := fileSettings(server)
	s.Profile = "writer"
	_, err := putFails(t, open(t, s))
	checkHidden(t, err.Error(), "secret-of-"+oldKey)
}

func TestSecrets_ProcessOutput(t *testing.T) {
	isolate(t)
	t.Setenv("AWS_CONFIG_FILE", write(t, "config", "[default]\ncredential_process = echo SecretAccessKey wJalrXUtnFEMI\n"))
	_, err := putFails(t, open(t, fileSettings(start(t, fakekinesis.Options{}))))
	checkHidden(t, err.Error(), "wJalrXUtnFEMI")
}

func TestSecrets_ProxyPassword(t *testing.T) {
	isolate(t)
	const password = "p@ss word/1"
	login := base64.StdEncoding.EncodeToString([]byte("user:" + password))
	for _, echo := range []string{password, url.PathEscape(password), login} {
		proxy := fakekinesis.StartProxy("", func(int) fakekinesis.Tunnel { return fakekinesis.Tunnel{Refuse: "407 no login " + echo} })
		t.Cleanup(proxy.Close)
		var log lines
		s := Settings{Debug: log.add, Connection: Connection{
			Region: "eu-central-1", KeyID: "AKIDSTATIC", SecretKey: secretKey, RequestTimeout: patience,
			HTTPProxy: "http://user:" + url.PathEscape(password) + "@" + proxy.Addr(),
		}}
		_, err := putFails(t, open(t, s))
		checkHidden(t, err.Error(), password, url.PathEscape(password), login)
		checkHidden(t, log.text(), password, url.PathEscape(password), login)
		if got := proxy.Headers()[0].Get("Proxy-Authorization"); got != "Basic "+login {
			t.Errorf("the proxy got %q", got)
		}
	}
}

func TestSecrets_ProxyOfTheEnvironment(t *testing.T) {
	isolate(t)
	for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, "http://user:p%40ss@proxy.test")
			if k := newSecrets(Settings{}); !k.in("p@ss") || !k.in("p%40ss") {
				t.Error("the password is not hidden")
			}
		})
	}
}

func TestSecrets_DebugLog(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Fault: func(n int, r *fakekinesis.Request) fakekinesis.Fault {
		return fakekinesis.Body(400, map[string]string{"X-Amzn-Errortype": url.QueryEscape(r.Header.Get("X-Amz-Security-Token")), "Content-Type": mediaJSON},
			func(w io.Writer) { _, _ = io.WriteString(w, "{}") })
	}})
	var log lines
	s := settings(server)
	s.SessionToken, s.Debug = longToken, log.add
	_, err := putFails(t, open(t, s))
	checkHidden(t, err.Error(), longToken)
	checkHidden(t, log.text(), longToken)
	if !strings.Contains(log.text(), "contains a credential and is not shown") {
		t.Errorf("got %s", log.text())
	}
}

func TestSecrets_OtherErrorsAreShown(t *testing.T) {
	isolate(t)
	for _, message := range []string{"Rate exceeded for shard shardId-000000000000", "100% of x", `a \ b`, "User: arn:aws:sts::123456789012:assumed-role/w/fluent-bit is not authorized"} {
		server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Error(400, "AccessDeniedException", message))})
		s := settings(server)
		s.SessionToken = longToken
		if _, err := putFails(t, open(t, s)); !strings.Contains(err.Error(), message) {
			t.Errorf("got %v", err)
		}
	}
}

func TestSecrets_LatestAreKept(t *testing.T) {
	k := newSecrets(Settings{Connection: Connection{SecretKey: "base-secret-key"}})
	for n := range 10 * keptSecrets {
		k.note(fmt.Sprintf("renewed-%04d", n))
		k.note("base-secret-key")
	}
	if !k.in("base-secret-key") || !k.in(fmt.Sprintf("renewed-%04d", 10*keptSecrets-1)) || k.in("renewed-0000") {
		t.Error("the credentials that are kept are not the most recently used")
	}
	if len(k.recent) != keptSecrets {
		t.Errorf("%d kept", len(k.recent))
	}
	shortest := strings.Repeat("~", minSecretBytes)
	k.note("", shortest[1:], shortest)
	if !k.in(shortest) || k.in(shortest[1:]) {
		t.Errorf("hidden are credentials of at least %d bytes", minSecretBytes)
	}
}

func TestSecrets_RequestHeaders(t *testing.T) {
	k := newSecrets(Settings{})
	h := http.Header{}
	h.Set("Authorization", "Bearer bearer-token-1")
	h.Set("X-Amz-Security-Token", "security-token-1")
	k.noteHeaders(h)
	if !k.in("bearer-token-1") || !k.in("security-token-1") {
		t.Error("not noted")
	}
}
