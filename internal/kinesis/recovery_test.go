package kinesis

import (
	"context"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// A name that cannot be resolved is resolved again for the next request, of Kinesis
// and of STS.
func TestRecovery_DNSReturns(t *testing.T) {
	isolate(t)
	var fails atomic.Bool
	server := start(t, fakekinesis.Options{})
	s := settings(server)
	s.Endpoint, s.STSEndpoint, s.RoleARN = "http://kinesis.test", "http://sts.test", "arn:aws:iam::123456789012:role/writer"
	sender := open(t, s)
	var d net.Dialer
	sender.pool.DialContext = func(ctx context.Context, network, host string) (net.Conn, error) {
		if fails.Load() {
			return nil, &net.OpError{Op: "dial", Net: network, Err: &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}}
		}
		return d.DialContext(ctx, network, strings.TrimPrefix(server.URL(), "http://"))
	}
	for _, name := range []string{"sts.test", "kinesis.test"} {
		fails.Store(true)
		sender.pool.CloseIdleConnections()
		if c, err := putFails(t, sender); c != CauseDNS && name == "kinesis.test" || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v: %v", name, c, err)
		}
		fails.Store(false)
		put(t, sender)
	}
}

// A proxy that wants another password is asked again for the next request. The
// password is not in the error.
func TestRecovery_ProxyRefusesLogin(t *testing.T) {
	isolate(t)
	sender, server, proxy := throughProxy(t, patience, first(fakekinesis.Tunnel{Refuse: "407 Proxy Authentication Required"}),
		func(s *Settings) { s.HTTPProxy = strings.Replace(s.HTTPProxy, "://", "://user:pa55w0rd@", 1) })
	if _, err := putFails(t, sender); !strings.Contains(err.Error(), "Proxy Authentication Required") || strings.Contains(err.Error(), "pa55w0rd") {
		t.Errorf("got %v", err)
	}
	put(t, sender)
	if len(proxy.Hosts()) != 2 || server.Counts().PutRecords != 1 {
		t.Errorf("tunnels to %v, %d requests", proxy.Hosts(), server.Counts().PutRecords)
	}
}

// Changed files and rejected credentials are found after the clock was set back or
// forward.
func TestRecovery_ClockJumps(t *testing.T) {
	isolate(t)
	for name, jump := range map[string]time.Duration{"back": -365 * 24 * time.Hour, "forward": 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			path, valid, sender, now := openOnFile(t)
			now.Add(int64(jump))
			overwrite(t, path, keysFile(newKey))
			valid.key.Store(newKey)
			put(t, sender)

			// The file changes without a sign of it, so that the key is rejected first.
			for _, key := range []string{oldKey, newKey} {
				was, err := os.Stat(path)
				must(t, err)
				must(t, os.WriteFile(path, []byte(keysFile(key)), 0o600))
				must(t, os.Chtimes(path, was.ModTime(), was.ModTime()))
				valid.key.Store(key)
				putFails(t, sender)
				put(t, sender)
				now.Add(int64(jump))
			}
		})
	}
}
