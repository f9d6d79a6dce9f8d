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

// writeBytes is how much of a request is encrypted before it is written to the
// socket. crypto/tls makes a system call for each TLS record of 16 KB: about 90 for
// a Kinesis record of 1 MiB, which take as long as encrypting it. Larger blocks are
// not measurably faster.
const writeBytes = 128 << 10

// writeInBlocks makes a transport send over TLS in blocks of writeBytes. It does not
// change requests through a proxy.
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

// blocks is a pool of buffers for ReadFrom.
var blocks = sync.Pool{New: func() any { return new([writeBytes]byte) }}

// ReadFrom implements io.ReaderFrom, which net/http uses to send a body.
func (c *blockConn) ReadFrom(r io.Reader) (int64, error) {
	block := blocks.Get().(*[writeBytes]byte)
	defer blocks.Put(block)
	// The wrappers hide ReadFrom and WriteTo, which io.CopyBuffer would call instead
	// of using the block.
	return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, block[:])
}

// writeBuffer buffers writes between hold and flush. A Read of the TLS connection can
// write too, for example the response to a key update. The buffer keeps the order of
// all writes.
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
