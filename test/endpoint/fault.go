package endpoint

import (
	"crypto/tls"
	"net"
	"net/http"
)

// Fault is how one request is answered. The zero value is OK.
type Fault struct {
	kind          kind
	status        int
	code, message string
	until         <-chan struct{}
}

type kind int

const (
	kindOK kind = iota
	kindError
	kindStatus
	kindResetUnread
	kindResetRead
	kindAnswerLost
	kindAnswerCut
	kindNoNumber
	kindAnswerHeld
	kindHold
)

// The faults without parameters; see the package's documentation.
var (
	OK          = Fault{}
	ResetUnread = Fault{kind: kindResetUnread}
	ResetRead   = Fault{kind: kindResetRead}
	AnswerLost  = Fault{kind: kindAnswerLost}
	AnswerCut   = Fault{kind: kindAnswerCut}
	NoNumber    = Fault{kind: kindNoNumber}
	AnswerHeld  = Fault{kind: kindAnswerHeld}
)

// Error answers with an AWS error, such as 400 and ResourceNotFoundException.
func Error(status int, code, message string) Fault {
	return Fault{kind: kindError, status: status, code: code, message: message}
}

// Status answers as a load balancer or a proxy would: an HTTP status and a page.
func Status(status int) Fault { return Fault{kind: kindStatus, status: status} }

// Hold lets a request wait until the channel closes and then answers it. nil
// waits for the client to give up, or for Close.
func Hold(until <-chan struct{}) Fault { return Fault{kind: kindHold, until: until} }

// reset ends the request's connection with a TCP RST.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	raw := conn
	if t, ok := conn.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	if t, ok := raw.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = raw.Close()
}
