package kinesis

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
)

const (
	// maxIdleConns is how many connections wait for the next request. A flush
	// has one request under way and the engine runs one flush a worker, so
	// this is above any number of workers in use; a connection that nobody
	// needs costs two goroutines until idleConnTimeout.
	maxIdleConns = 64

	// idleConnTimeout is below the 60 s that AWS's own SDK for Java allows an
	// idle connection (its connectionMaxIdleTime), so that we hang up first
	// and no request is written to a connection which the other end has left.
	idleConnTimeout = 50 * time.Second
)

// credentialsClient is the HTTP client of the SDK's credential chain:
// containers, EC2, SSO. It has to be of this type, because only on
// it does the SDK put the CA bundle of AWS_CA_BUNDLE and the short time limits
// of the metadata service. It keeps no connection: credentials are fetched
// minutes apart, and the chain's copies of this client are out of Close's reach.
func credentialsClient(s Settings) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithTimeout(s.RequestTimeout).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = s.ConnectTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.DisableKeepAlives = true
			t.DisableCompression = true
			t.MaxResponseHeaderBytes = maxResponseHeaderBytes
			t.Proxy = proxy(s.HTTPProxy)
			t.TLSHandshakeTimeout = s.ConnectTimeout
			t.TLSClientConfig.MinVersion = tls.VersionTLS12
			// HTTP/1.1 only. Over HTTP/2 all workers would share one TCP
			// connection, on which their bodies of up to 14 MB wait for one
			// flow-control window and for each other's lost packets.
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP1(true)
			// Left from when the SDK's builder cloned a transport for HTTP/2.
			t.TLSClientConfig.NextProtos = nil
			t.TLSNextProto = nil
		})
}

// pooled makes of a copy of the chain's transport the one that PutRecord uses.
func pooled(t *http.Transport) *http.Transport {
	t.DisableKeepAlives = false
	t.MaxIdleConns = maxIdleConns
	t.MaxIdleConnsPerHost = maxIdleConns
	t.IdleConnTimeout = idleConnTimeout
	writeInBlocks(t)
	return t
}

// sendingClient wraps the pool for Kinesis and STS.
func sendingClient(s Settings, pool *http.Transport, hidden *secrets) *http.Client {
	client := &http.Client{
		Transport: plainBodies{pool},
		// PutRecord's context ends its own request just as soon, but the SDK's
		// credentials cache takes the deadline off the context it hands on.
		Timeout: s.RequestTimeout,
		// Neither service redirects; a signed request goes nowhere else.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if s.Debug != nil {
		client.Transport = &debugLog{next: client.Transport, secrets: hidden, write: s.Debug}
	}
	return client
}

// proxy returns the proxy rule for the option; text is a URL or empty.
func proxy(text string) func(*http.Request) (*url.URL, error) {
	if text == "" {
		return http.ProxyFromEnvironment
	}
	through, err := url.Parse(text)
	return func(r *http.Request) (*url.URL, error) {
		if host := r.URL.Hostname(); thisHost(host) || metadataService(host) {
			return nil, nil
		}
		return through, err
	}
}

// ec2IPv6 is where EC2 and EKS answer for credentials over IPv6; over IPv4
// they do so on link-local addresses.
var ec2IPv6 = netip.MustParsePrefix("fd00:ec2::/32")

// metadataService tells the addresses that hand out credentials to this
// machine or container only, so that a proxy would be asked for its own.
func metadataService(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && (addr.IsLinkLocalUnicast() || ec2IPv6.Contains(addr))
}

// plainBodies hides from http.Transport that the SDK's request bodies are
// io.WriterTo. The SDK closes a body once the answer begins; when the transport
// then looks whether any bytes are left in it, WriteTo says io.EOF where Read
// would be understood. The transport takes that for a failed write and hangs
// up, perhaps with the rest of the answer on its way.
type plainBodies struct{ next http.RoundTripper }

func (p plainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		changed := *r // A RoundTripper leaves its request as it is.
		changed.Body = struct{ io.ReadCloser }{r.Body}
		r = &changed
	}
	return p.next.RoundTrip(r)
}

// debugLog logs requests and answers. The SDK's own log is not used: without
// bodies it still shows the session token.
type debugLog struct {
	next    http.RoundTripper
	secrets *secrets
	write   func(format string, args ...any)
}

// logf leaves out lines in which an endpoint or a proxy repeats a credential.
func (d *debugLog) logf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if d.secrets.in(line) {
		line = "a line of the debug log contains a credential and is not shown"
	}
	d.write("%s", line)
}

// loggedHeaders are shown, in this order. A list of what to show cannot leak
// the next header that authenticates; a list of what to hide can.
var loggedHeaders = []string{
	"X-Amz-Target", "Content-Type", "Content-Length", "Date", "Connection",
	"Amz-Sdk-Invocation-Id", "X-Amzn-Requestid", "X-Amz-Id-2", "X-Amzn-Errortype", "Retry-After",
}

func (d *debugLog) RoundTrip(r *http.Request) (*http.Response, error) {
	// No query and no user info: neither service needs them, either may hold a secret.
	where := r.URL.Scheme + "://" + r.URL.Host + r.URL.Path
	d.logf("%s %s, body of %d bytes%s", r.Method, where, r.ContentLength, show(r.Header))
	start := time.Now()
	resp, err := d.next.RoundTrip(r)
	took := time.Since(start).Round(time.Millisecond)
	if err != nil {
		d.logf("no answer from %s after %s: %v", where, took, err)
		return nil, err
	}
	d.logf("%s from %s after %s%s", resp.Status, where, took, show(resp.Header))
	return resp, nil
}

func show(h http.Header) string {
	var b strings.Builder
	for _, name := range loggedHeaders {
		if v := h.Get(name); v != "" {
			b.WriteString(", " + name + ": " + v)
		}
	}
	return b.String()
}
