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
// another one. It returns nil if there is no Options.Handshake.
func (o Options) tlsConfig() *tls.Config {
	if o.Handshake == nil {
		return nil
	}
	other := &tls.Config{Certificates: []tls.Certificate{otherCertificate()}}
	var n atomic.Int64
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if o.Handshake(int(n.Add(1))) {
			return nil, nil
		}
		return other, nil
	}}
}

// otherCertificate returns a self-signed certificate that is not the one in CAPEM.
func otherCertificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("fakekinesis: " + err.Error())
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic("fakekinesis: " + err.Error())
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
