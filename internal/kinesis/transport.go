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
	// maxIdleConns is the maximum number of idle connections. Each worker of the
	// engine sends one request at a time, and 64 is above any usual number of
	// workers. An unused connection costs two goroutines until idleConnTimeout.
	maxIdleConns = 64

	// idleConnTimeout is below the 60 s for which the AWS SDK for Java keeps an idle
	// connection (connectionMaxIdleTime). The client closes an idle connection before
	// the server does, so no request is written to a connection that is closed.
	idleConnTimeout = 50 * time.Second
)

// credentialsTimeout limits a request for credentials. It ends before the request that
// needs them, so that the error says which source did not respond.
func credentialsTimeout(s Settings) time.Duration { return s.RequestTimeout * 9 / 10 }

// credentialsClient returns the HTTP client of the SDK's credential chain, for
// containers, EC2 and SSO. Only for a client of this type does the SDK apply
// AWS_CA_BUNDLE and the short time limits of the metadata service. The client keeps
// no connections: minutes pass between its requests, and Close cannot close the
// connections of the copies that the chain makes of it.
func credentialsClient(s Settings) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().
		WithTimeout(credentialsTimeout(s)).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = s.ConnectTimeout }).
		WithTransportOptions(func(t *http.Transport) {
			t.DisableKeepAlives = true
			t.DisableCompression = true
			t.MaxResponseHeaderBytes = maxResponseHeaderBytes
			t.Proxy = proxy(s.HTTPProxy)
			t.OnProxyConnectResponse = checkProxy
			t.TLSHandshakeTimeout = s.ConnectTimeout
			t.TLSClientConfig.MinVersion = tls.VersionTLS12
			// HTTP/1.1 only. With HTTP/2, all workers would share one TCP
			// connection. Their bodies of up to 14 MB would wait for a common
			// flow-control window and for each other's lost packets.
			t.Protocols = new(http.Protocols)
			t.Protocols.SetHTTP1(true)
			// The SDK's builder has set these for HTTP/2.
			t.TLSClientConfig.NextProtos = nil
			t.TLSNextProto = nil
		})
}

// pooled turns a copy of the chain's transport into the transport for PutRecord.
func pooled(t *http.Transport) *http.Transport {
	t.DisableKeepAlives = false
	t.MaxIdleConns = maxIdleConns
	t.MaxIdleConnsPerHost = maxIdleConns
	t.IdleConnTimeout = idleConnTimeout
	writeInBlocks(t)
	return t
}

// sendingClient returns the HTTP client for Kinesis and STS.
func sendingClient(s Settings, pool *http.Transport, hidden *secrets, timeout time.Duration) *http.Client {
	client := &http.Client{
		Transport: plainBodies{pool},
		// The context of PutRecord has the same limit, but the SDK's credentials
		// cache removes the deadline from the context of its requests to STS.
		Timeout: timeout,
		// Neither service redirects, and a signed request must not be sent elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	if s.Debug != nil {
		client.Transport = &debugLog{next: client.Transport, secrets: hidden, write: s.Debug}
	}
	return client
}

// proxy returns the function that chooses the proxy of a request. If address is
// empty, it uses the environment.
func proxy(address string) func(*http.Request) (*url.URL, error) {
	choose := http.ProxyFromEnvironment
	if address != "" {
		proxyURL, err := url.Parse(address)
		choose = func(*http.Request) (*url.URL, error) { return proxyURL, err }
	}
	return func(r *http.Request) (*url.URL, error) {
		if host := r.URL.Hostname(); thisHost(host) || metadataService(host) {
			return nil, nil
		}
		return choose(r)
	}
}

// ec2IPv6 contains the IPv6 addresses of the services that provide credentials on EC2
// and EKS. Their IPv4 addresses are link-local.
var ec2IPv6 = netip.MustParsePrefix("fd00:ec2::/32")

// metadataService reports whether host is the address of a service that provides
// credentials to this machine or container only. Through a proxy, a request would
// return the credentials of the proxy's machine.
func metadataService(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && (addr.IsLinkLocalUnicast() || ec2IPv6.Contains(addr))
}

// plainBodies hides the WriteTo method of the SDK's request bodies from
// http.Transport. The SDK closes a body when the response begins. If the transport
// then checks for remaining bytes, WriteTo returns io.EOF, which the transport treats
// as a failed write: it closes the connection, possibly before the response is
// complete. Read returns the io.EOF that the transport expects.
type plainBodies struct{ next http.RoundTripper }

func (p plainBodies) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil && r.Body != http.NoBody {
		changed := *r // A RoundTripper must not modify the request.
		changed.Body = struct{ io.ReadCloser }{r.Body}
		r = &changed
	}
	return p.next.RoundTrip(r)
}

// debugLog logs requests and responses. The SDK's own log cannot be used, because it
// contains the session token even without bodies.
type debugLog struct {
	next    http.RoundTripper
	secrets *secrets
	write   func(format string, args ...any)
}

// logf logs a line, or a note if the line contains a credential. An endpoint or a
// proxy can repeat a credential in a header.
func (d *debugLog) logf(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	if d.secrets.in(line) {
		line = "a line of the debug log contains a credential and is not shown"
	}
	d.write("%s", line)
}

// loggedHeaders are the headers to log, in this order. A list of headers to hide
// would not contain authentication headers that are added later.
var loggedHeaders = []string{
	"X-Amz-Target", "Content-Type", "Content-Length", "Date", "Connection",
	"Amz-Sdk-Invocation-Id", "X-Amzn-Requestid", "X-Amz-Id-2", "X-Amzn-Errortype", "Retry-After",
}

func (d *debugLog) RoundTrip(r *http.Request) (*http.Response, error) {
	// Without query and user info: neither service needs them, and both can contain
	// a secret.
	where := r.URL.Scheme + "://" + r.URL.Host + r.URL.Path
	d.logf("%s %s, body of %d bytes%s", r.Method, where, r.ContentLength, show(r.Header))
	start := time.Now()
	resp, err := d.next.RoundTrip(r)
	took := time.Since(start).Round(time.Millisecond)
	if err != nil {
		d.logf("no response from %s after %s: %v", where, took, err)
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
