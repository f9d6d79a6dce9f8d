package main

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/aws/smithy-go/encoding/cbor"

	"out_kinesis_agg/kpl"
)

// server answers PutRecord and PutRecords as fast as it can. It speaks TLS on
// port, and plain HTTP on the next port.
type server struct {
	port   int
	caFile string

	tls, plain *httptest.Server
	requests   atomic.Int64
	bytes      atomic.Int64
	records    atomic.Int64
	bodies     sync.Pool
}

// quiet keeps the server from filling the screen: an output that cannot connect
// shows in the counts.
var quiet = log.New(io.Discard, "", 0)

type counts struct{ requests, bytes, userRecords int64 }

func startServer(dir string) (*server, error) {
	s := &server{caFile: filepath.Join(dir, "ca.pem")}
	s.bodies.New = func() any { return new([]byte) }
	tls, plain, err := twoPorts()
	if err != nil {
		return nil, err
	}
	s.port = tls.Addr().(*net.TCPAddr).Port
	s.tls = &httptest.Server{Listener: tls, Config: &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: quiet}}
	s.tls.StartTLS()
	s.plain = &httptest.Server{Listener: plain, Config: &http.Server{Handler: http.HandlerFunc(s.serve), ErrorLog: quiet}}
	s.plain.Start()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.tls.Certificate().Raw})
	return s, os.WriteFile(s.caFile, ca, 0o644)
}

// twoPorts listens on two ports, one behind the other.
func twoPorts() (net.Listener, net.Listener, error) {
	var last error
	for range 100 {
		one, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, err
		}
		two, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", one.Addr().(*net.TCPAddr).Port+1))
		if err == nil {
			return one, two, nil
		}
		_ = one.Close()
		last = err
	}
	return nil, nil, last
}

func (s *server) Close() {
	s.tls.Close()
	s.plain.Close()
}

func (s *server) reset() {
	s.requests.Store(0)
	s.bytes.Store(0)
	s.records.Store(0)
}

func (s *server) counts() counts {
	return counts{s.requests.Load(), s.bytes.Load(), s.records.Load()}
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	s.bytes.Add(r.ContentLength)
	media := r.Header.Get("Content-Type")
	w.Header().Set("Content-Type", media)
	if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".PutRecord") {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"FailedRecordCount":0,"Records":[]}`)
		return
	}
	body := s.bodies.Get().(*[]byte)
	defer s.bodies.Put(body)
	if cap(*body) < int(r.ContentLength) {
		*body = make([]byte, r.ContentLength)
	}
	*body = (*body)[:r.ContentLength]
	if _, err := io.ReadFull(r.Body, *body); err != nil {
		return
	}
	s.records.Add(userRecords(media, *body))
	if strings.Contains(media, "cbor") {
		_, _ = w.Write(cbor.Encode(cbor.Map{"ShardId": cbor.String("shardId-000000000000"), "SequenceNumber": cbor.String("1")}))
		return
	}
	_, _ = io.WriteString(w, `{"ShardId":"shardId-000000000000","SequenceNumber":"1"}`)
}

// userRecords counts the user records of a PutRecord.
func userRecords(media string, body []byte) int64 {
	var data []byte
	if strings.Contains(media, "cbor") {
		v, err := cbor.Decode(body)
		if err != nil {
			return 0
		}
		members, _ := v.(cbor.Map)
		data, _ = members["Data"].(cbor.Slice)
	} else {
		data = dataOf(body)
	}
	a, err := kpl.Open(data)
	if err != nil {
		return 0
	}
	return int64(a.Len())
}

// dataOf reads the member Data of a JSON body in place: encoding/json would be
// the slowest part of the run.
func dataOf(body []byte) []byte {
	const member = `"Data":"`
	_, data, _ := bytes.Cut(body, []byte(member))
	data, _, _ = bytes.Cut(data, []byte(`"`))
	n, err := base64.StdEncoding.Decode(data, data)
	if err != nil {
		return nil
	}
	return data[:n]
}
