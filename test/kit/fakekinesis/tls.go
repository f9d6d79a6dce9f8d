package fakekinesis

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync/atomic"
	"time"
)

// tlsConfig makes Options.Handshake choose between the server's certificate and
// another one.
func (o Options) tlsConfig() *tls.Config {
	config := &tls.Config{}
	if len(o.Hosts) > 0 {
		config.Certificates = []tls.Certificate{selfSigned(o.Hosts)}
	}
	if o.Handshake == nil {
		return config
	}
	other := &tls.Config{Certificates: []tls.Certificate{selfSigned(nil)}}
	var n atomic.Int64
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if o.Handshake(int(n.Add(1))) {
			return nil, nil
		}
		return other, nil
	}
	return config
}

// selfSigned returns a new certificate for 127.0.0.1 and the hosts.
func selfSigned(hosts []string) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("fakekinesis: " + err.Error())
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     hosts,
		IsCA:         true,

		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic("fakekinesis: " + err.Error())
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
