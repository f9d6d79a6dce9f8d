package kinesis

import (
	"bytes"
	"context"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// throughProxy opens a sender for a TLS endpoint that it can reach only through the
// proxy.
func throughProxy(t *testing.T, limit time.Duration, tunnel func(n int) fakekinesis.Tunnel, change ...func(*Settings)) (*Sender, *fakekinesis.Server, *fakekinesis.Proxy) {
	t.Helper()
	server := start(t, fakekinesis.Options{TLS: true, RecordLimitBytes: fakekinesis.MaxRecordLimitBytes})
	proxy := fakekinesis.StartProxy(strings.TrimPrefix(server.URL(), "https://"), tunnel)
	t.Cleanup(proxy.Close)
	t.Setenv("AWS_CA_BUNDLE", write(t, "ca.pem", string(server.CAPEM())))
	s := settings(server)
	s.Endpoint, s.STSEndpoint = "https://example.com", "https://example.com"
	s.HTTPProxy = "http://" + proxy.Addr()
	s.RequestTimeout = limit
	for _, f := range change {
		f(&s)
	}
	return open(t, s), server, proxy
}

// first returns a script in which only the first tunnel has a fault.
func first(t fakekinesis.Tunnel) func(int) fakekinesis.Tunnel {
	return func(n int) fakekinesis.Tunnel {
		if n == 1 {
			return t
		}
		return fakekinesis.Tunnel{}
	}
}

func TestProxy_Faults(t *testing.T) {
	isolate(t)
	const limit = 5 * time.Second // for 4 MiB over TLS, also under load
	for name, test := range map[string]struct {
		tunnel   fakekinesis.Tunnel
		causes   []*Cause
		accepted int // the maximum, of the record that fails
	}{
		"closes at CONNECT":       {fakekinesis.Tunnel{CloseAtConnect: true}, []*Cause{CauseConnection, CauseUnreachable}, 0},
		"refuses CONNECT":         {fakekinesis.Tunnel{Refuse: "503 Service Unavailable"}, []*Cause{CauseProxy}, 0},
		"closes in the handshake": {fakekinesis.Tunnel{UpBytes: 100}, []*Cause{CauseConnection, CauseTLS}, 0},
		"closes in the body":      {fakekinesis.Tunnel{UpBytes: 1 << 20}, []*Cause{CauseConnection}, 0},
		"closes in the response":  {fakekinesis.Tunnel{DownBytes: 2000}, []*Cause{CauseConnection, CauseBadResponse}, 1},
		"slow from the start":     {fakekinesis.Tunnel{DownPause: 20 * time.Millisecond}, []*Cause{CauseTimeout, CauseTLS, CauseConnection, CauseUnreachable}, 0},
		"slow in the response":    {fakekinesis.Tunnel{DownPause: 100 * time.Millisecond, DownFastBytes: 1900}, []*Cause{CauseTimeout}, 1},
		"endless headers of CONNECT": {fakekinesis.Tunnel{ConnectHeader: func(w io.Writer) {
			for err := error(nil); err == nil; {
				_, err = io.WriteString(w, "X-Filler: "+strings.Repeat("x", 8<<10)+"\r\n")
			}
		}}, []*Cause{CauseConnection, CauseUnreachable, CauseTimeout, CauseBadResponse}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			sender, server, _ := throughProxy(t, limit, first(test.tunnel))
			data := make([]byte, 4<<20)
			var err error
			began := time.Now()
			n := allocated(func() { _, err = sender.PutRecord(context.Background(), "logs", "key", data) })
			if err == nil {
				t.Fatal("no error")
			}
			if took := time.Since(began); took > limit+patience {
				t.Errorf("took %s", took)
			}
			if n > allowedBytes {
				t.Errorf("%d bytes allocated", n)
			}
			c := Classify(err)
			if !slices.Contains(test.causes, c) {
				t.Errorf("%v: got %v", err, c)
			}
			if n := server.Counts().Accepted; n > test.accepted {
				t.Errorf("%d accepted", n)
			}
			// The next request gets a new tunnel.
			if _, err := sender.PutRecord(context.Background(), "logs", "key", data); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProxy_AutoRetryRepeatsOnce(t *testing.T) {
	isolate(t)
	sender, server, proxy := throughProxy(t, patience, first(fakekinesis.Tunnel{UpBytes: 1 << 20}))
	sender.autoRetry = true
	if _, err := sender.PutRecord(context.Background(), "logs", "key", bytes.Repeat([]byte("x"), 4<<20)); err != nil {
		t.Fatal(err)
	}
	if n := len(proxy.Hosts()); n != 2 {
		t.Errorf("%d tunnels", n)
	}
	if n := server.Counts().Accepted; n != 1 {
		t.Errorf("%d accepted", n)
	}
}

// address makes s connect to the stored address, whatever its endpoint is. The test
// can change the address.
func address(s *Sender, server *fakekinesis.Server) *atomic.Value {
	var current atomic.Value
	point := func(to *fakekinesis.Server) { current.Store(strings.TrimPrefix(to.URL(), "http://")) }
	point(server)
	var d net.Dialer
	s.pool.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.DialContext(ctx, network, current.Load().(string))
	}
	return &current
}

func TestAddress_OldOneHangs(t *testing.T) {
	isolate(t)
	const workers = 8
	var hang atomic.Bool
	await := gate(workers)
	old := start(t, fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		await(n)
		if hang.Load() {
			return fakekinesis.Hold(nil)
		}
		return fakekinesis.OK
	}})
	next := start(t, fakekinesis.Options{})
	s := settings(old)
	s.Endpoint = "http://kinesis.test"
	s.RequestTimeout = 300 * time.Millisecond
	sender := open(t, s)
	current := address(sender, old)
	var done sync.WaitGroup
	for range workers {
		done.Go(func() { _, _ = sender.PutRecord(context.Background(), "logs", "key", []byte("data")) })
	}
	done.Wait()
	hang.Store(true)
	current.Store(strings.TrimPrefix(next.URL(), "http://"))
	// Only the first request times out. The other idle connections lead to the dead
	// address too, and each of them must not cost another timeout.
	if c, err := putFails(t, sender); c != CauseTimeout {
		t.Errorf("%v: got %v", err, c)
	}
	for range workers {
		put(t, sender)
	}
	if n := next.Counts().Accepted; n != workers {
		t.Errorf("%d accepted at the new address", n)
	}
}

func TestAddress_OldOneRefuses(t *testing.T) {
	isolate(t)
	old := fakekinesis.Start(fakekinesis.Options{})
	next := start(t, fakekinesis.Options{})
	s := settings(next)
	s.Endpoint, s.AutoRetry = "http://kinesis.test", true
	sender := open(t, s)
	current := address(sender, old)
	put(t, sender)
	old.Close()
	if c, err := putFails(t, sender); c != CauseUnreachable {
		t.Errorf("%v: got %v", err, c)
	}
	current.Store(strings.TrimPrefix(next.URL(), "http://"))
	put(t, sender)
}

// The endpoints that the SDK's variables select.
func TestAddress_FIPSAndDualStack(t *testing.T) {
	isolate(t)
	for _, test := range []struct{ region, fips, dualStack, want string }{
		{"us-east-1", "true", "", "kinesis-fips.us-east-1.amazonaws.com:443"},
		{"us-east-1", "", "true", "kinesis.us-east-1.api.aws:443"},
		{"us-east-1", "true", "true", "kinesis-fips.us-east-1.api.aws:443"},
		{"us-gov-west-1", "true", "", "kinesis.us-gov-west-1.amazonaws.com:443"},
	} {
		t.Run(test.want, func(t *testing.T) {
			t.Setenv("AWS_USE_FIPS_ENDPOINT", test.fips)
			t.Setenv("AWS_USE_DUALSTACK_ENDPOINT", test.dualStack)
			proxy := fakekinesis.StartProxy("", func(int) fakekinesis.Tunnel { return fakekinesis.Tunnel{CloseAtConnect: true} })
			t.Cleanup(proxy.Close)
			s := settings(start(t, fakekinesis.Options{}))
			s.Region, s.Endpoint, s.HTTPProxy = test.region, "", "http://"+proxy.Addr()
			_, _ = open(t, s).PutRecord(context.Background(), "logs", "key", []byte("data"))
			if got := strings.Join(proxy.Hosts(), " "); got != test.want {
				t.Errorf("connected to %s, want %s", got, test.want)
			}
		})
	}
}

// The host of a request must not depend on the source of its credentials. Otherwise
// an allow-list that works with keys would not work with a role.
func TestAddress_SameHostForKeysAndRoles(t *testing.T) {
	isolate(t)
	for name, test := range map[string]struct {
		stream, mode, want string
		role               bool
	}{
		"keys":                          {stream: "logs", want: "kinesis.eu-west-1.amazonaws.com:443"},
		"role":                          {stream: "logs", role: true, want: "kinesis.eu-west-1.amazonaws.com:443"},
		"role, account endpoint wanted": {stream: "logs", role: true, mode: "preferred", want: "123456789012.data-kinesis.eu-west-1.amazonaws.com:443"},
		"ARN":                           {stream: streamARN, want: "123456789012.data-kinesis.eu-west-1.amazonaws.com:443"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", test.mode)
			server := start(t, fakekinesis.Options{})
			proxy := fakekinesis.StartProxy("", func(int) fakekinesis.Tunnel { return fakekinesis.Tunnel{CloseAtConnect: true} })
			t.Cleanup(proxy.Close)
			s := settings(server)
			s.Region, s.Endpoint, s.HTTPProxy = "eu-west-1", "", "http://"+proxy.Addr()
			if test.role {
				s.RoleARN = "arn:aws:iam::123456789012:role/writer"
			}
			_, _ = open(t, s).PutRecord(context.Background(), test.stream, "key", []byte("data"))
			if got := strings.Join(proxy.Hosts(), " "); got != test.want {
				t.Errorf("connected to %s, want %s", got, test.want)
			}
		})
	}
}
