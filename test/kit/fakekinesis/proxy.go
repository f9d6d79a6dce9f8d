package fakekinesis

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Tunnel is how a Proxy treats one CONNECT. The zero value forwards everything.
type Tunnel struct {
	// Refuse is the status line to send instead of opening a tunnel, such as
	// "407 Proxy Authentication Required"; empty opens the tunnel.
	Refuse string
	// CloseAtConnect closes the connection instead of responding.
	CloseAtConnect bool
	// ConnectHeader is written after the status line, for headers of any size.
	ConnectHeader func(io.Writer)
	// UpBytes and DownBytes close both connections after that many bytes from
	// the client or to it, TLS included; 0 is without a limit.
	UpBytes, DownBytes int64
	// DownPause is the pause before each byte to the client once DownFastBytes
	// have passed; 0 is none.
	DownPause     time.Duration
	DownFastBytes int64
}

// Proxy is an HTTP proxy for CONNECT only. Every tunnel leads to one address,
// whatever the client requests. Close it.
type Proxy struct {
	listener net.Listener
	to       string
	script   func(n int) Tunnel

	mu     sync.Mutex
	hosts  []string
	heads  []http.Header
	open   map[net.Conn]bool
	closed bool
	wg     sync.WaitGroup
}

// StartProxy runs a proxy in front of the address to. script is called for each
// CONNECT, n from 1; nil forwards everything. It is called concurrently.
func StartProxy(to string, script func(n int) Tunnel) *Proxy {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic("fakekinesis: " + err.Error())
	}
	p := &Proxy{listener: listener, to: to, script: script, open: make(map[net.Conn]bool)}
	p.wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.serve(conn) })
		}
	})
	return p
}

// Addr returns host and port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Hosts returns the host of each CONNECT, in order.
func (p *Proxy) Hosts() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.hosts...)
}

// Headers returns the headers of each CONNECT, in order.
func (p *Proxy) Headers() []http.Header {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]http.Header(nil), p.heads...)
}

// Close ends all connections.
func (p *Proxy) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.open {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *Proxy) keep(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.open[c] = true
	}
	return !p.closed
}

func (p *Proxy) drop(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *Proxy) serve(client net.Conn) {
	defer p.drop(client)
	if !p.keep(client) {
		return
	}
	r := bufio.NewReader(client)
	request, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	p.mu.Lock()
	p.hosts = append(p.hosts, request.Host)
	p.heads = append(p.heads, request.Header)
	n := len(p.hosts)
	p.mu.Unlock()
	var t Tunnel
	if p.script != nil {
		t = p.script(n)
	}
	if t.CloseAtConnect {
		return
	}
	status := "200 OK"
	if t.Refuse != "" {
		status = t.Refuse
	}
	_, _ = fmt.Fprintf(client, "HTTP/1.1 %s\r\n", status)
	if t.ConnectHeader != nil {
		t.ConnectHeader(client)
	}
	if _, err = io.WriteString(client, "\r\n"); err != nil || t.Refuse != "" {
		return
	}
	p.tunnel(client, r, t)
}

func (p *Proxy) tunnel(client net.Conn, r io.Reader, t Tunnel) {
	server, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer p.drop(server)
	if !p.keep(server) {
		return
	}
	done := make(chan struct{}, 2)
	pass := func(dst io.Writer, src io.Reader, limit int64) {
		if limit > 0 {
			src = io.LimitReader(src, limit)
		}
		_, _ = io.Copy(struct{ io.Writer }{dst}, struct{ io.Reader }{src})
		done <- struct{}{}
	}
	p.wg.Go(func() { pass(server, r, t.UpBytes) })
	p.wg.Go(func() { pass(&slowWriter{client, t.DownPause, t.DownFastBytes}, server, t.DownBytes) })
	<-done
}

// slowWriter forwards some bytes at once, and then one byte at a time.
type slowWriter struct {
	io.Writer
	pause time.Duration
	fast  int64
}

func (s *slowWriter) Write(p []byte) (int, error) {
	if s.pause == 0 || int64(len(p)) <= s.fast {
		s.fast -= int64(len(p))
		return s.Writer.Write(p)
	}
	for i := range p {
		time.Sleep(s.pause)
		if _, err := s.Writer.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}
