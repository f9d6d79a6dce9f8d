package fakekinesis

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
)

// Fault is how the server treats one request. The zero value is OK.
type Fault struct {
	kind          kind
	status        int
	code, message string
	until         <-chan struct{}
	header        map[string]string
	body          func(io.Writer)
}

type kind int

const (
	kindOK kind = iota
	kindError
	kindStatus
	kindResetUnread
	kindResetRead
	kindResponseLost
	kindResponseTruncated
	kindNoNumber
	kindResponseHeld
	kindHold
	kindBody
)

// The faults without parameters; see the package's documentation.
var (
	OK                = Fault{}
	ResetUnread       = Fault{kind: kindResetUnread}
	ResetRead         = Fault{kind: kindResetRead}
	ResponseLost      = Fault{kind: kindResponseLost}
	ResponseTruncated = Fault{kind: kindResponseTruncated}
	NoNumber          = Fault{kind: kindNoNumber}
	ResponseHeld      = Fault{kind: kindResponseHeld}
)

// Error responds with an AWS error, such as 400 and ResourceNotFoundException.
func Error(status int, code, message string) Fault {
	return Fault{kind: kindError, status: status, code: code, message: message}
}

// Status responds as a load balancer or a proxy does: an HTTP status and a page.
func Status(status int) Fault { return Fault{kind: kindStatus, status: status} }

// Hold delays a request until the channel closes. If until is nil, it waits until
// the client hangs up or the server closes.
func Hold(until <-chan struct{}) Fault { return Fault{kind: kindHold, until: until} }

// Body responds with a status, headers and a body that the test writes. Each write
// is sent at once, and fails once the client has hung up.
func Body(status int, header map[string]string, write func(io.Writer)) Fault {
	return Fault{kind: kindBody, status: status, header: header, body: write}
}

// writeBody sends what Body describes.
func writeBody(w http.ResponseWriter, f Fault) {
	for name, value := range f.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(f.status)
	f.body(flushed{w, http.NewResponseController(w)})
}

// flushed sends each write at once.
type flushed struct {
	io.Writer
	control *http.ResponseController
}

func (f flushed) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// reset ends the request's connection with a TCP RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	raw := conn
	if t, ok := raw.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if c, ok := raw.(countedConn); ok {
		raw = c.Conn
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = raw.Close()
}
