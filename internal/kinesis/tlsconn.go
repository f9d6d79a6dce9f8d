package kinesis

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// writeBytes is how much of a request is encrypted before it goes to the kernel.
// TLS makes records of 16 KB, and crypto/tls a system call for each: some 90 for
// a record of 1 MiB, which cost as much as encrypting it. Larger blocks than
// this measure no better.
const writeBytes = 128 << 10

// writeInBlocks makes a transport send over TLS in blocks of writeBytes. Proxied
// requests go on as the transport sends them.
func writeInBlocks(t *http.Transport) {
	dial, handshakeTimeout := t.DialContext, t.TLSHandshakeTimeout
	t.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		c, err := handshake(ctx, raw, addr, t.TLSClientConfig, handshakeTimeout)
		if err != nil {
			_ = raw.Close()
			return nil, err
		}
		return c, nil
	}
}

func handshake(ctx context.Context, raw net.Conn, addr string, config *tls.Config, timeout time.Duration) (*blockConn, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", addr, err)
	}
	config = config.Clone()
	if config.ServerName == "" {
		config.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	buffer := &writeBuffer{Conn: raw}
	c := tls.Client(buffer, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return &blockConn{Conn: c, buffer: buffer}, nil
}

// blockConn is a TLS connection over a writeBuffer.
type blockConn struct {
	*tls.Conn
	buffer *writeBuffer
}

// Write encrypts p and then sends it.
func (c *blockConn) Write(p []byte) (int, error) {
	c.buffer.hold()
	n, err := c.Conn.Write(p)
	if flushed := c.buffer.flush(); err == nil {
		err = flushed
	}
	return n, err
}

// blocks are what ReadFrom reads into.
var blocks = sync.Pool{New: func() any { return new([writeBytes]byte) }}

// ReadFrom is what net/http sends a body with.
func (c *blockConn) ReadFrom(r io.Reader) (int64, error) {
	block := blocks.Get().(*[writeBytes]byte)
	defer blocks.Put(block)
	// Without the methods by which io.CopyBuffer would do without the block.
	return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, block[:])
}

// writeBuffer collects what is written between hold and flush. Reading may write
// too, such as the answer to a key update, at any time and in its place.
type writeBuffer struct {
	net.Conn
	mu    sync.Mutex
	held  bool
	bytes []byte
}

func (b *writeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.held {
		return b.Conn.Write(p)
	}
	b.bytes = append(b.bytes, p...)
	return len(p), nil
}

func (b *writeBuffer) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = true
}

func (b *writeBuffer) flush() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = false
	if len(b.bytes) == 0 {
		return nil
	}
	_, err := b.Conn.Write(b.bytes)
	b.bytes = b.bytes[:0]
	return err
}
