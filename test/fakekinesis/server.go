package fakekinesis

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

const (
	// DefaultRecordLimitBytes is what a stream takes unless it was raised.
	DefaultRecordLimitBytes = 1 << 20
	// MaxRecordLimitBytes is as far as UpdateMaxRecordSize goes. Kinesis has
	// other words for records that no stream takes.
	MaxRecordLimitBytes = 10 << 20

	account = "123456789012"
	shardID = "shardId-000000000000"
)

// Options says how a Server behaves. The zero value accepts every record of
// up to 1 MiB.
type Options struct {
	// RecordLimitBytes is for data and partition key together; 0 is
	// DefaultRecordLimitBytes. Tests may go below what Kinesis can be set to.
	RecordLimitBytes int
	// Streams lists the streams that exist; empty: all do.
	Streams []string
	// DistributesRecords makes DescribeStreamSummary report the strategy AUTO.
	DistributesRecords bool
	// Fault is asked for each PutRecord; nil is always OK.
	Fault func(n int, r *Request) Fault
	// OnRecord gets each accepted record instead of Records.
	OnRecord func(Record)
	// Role is asked for each request to STS; nil grants an hour.
	Role func(n int, r RoleRequest) RoleResponse
	// TLS serves https.
	TLS bool
	// Handshake is asked once a TLS handshake, n from 1; nil is always true.
	Handshake func(n int) bool
	// Listener is where to serve; nil is a free port of 127.0.0.1. Close
	// closes it.
	Listener net.Listener
}

// Server is a running look-alike. Close it.
type Server struct {
	options Options
	http    *httptest.Server
	closing chan struct{}
	buffers sync.Pool // of *[]byte, for bodies and for data that OnRecord sees

	mu          sync.Mutex
	puts        int
	accepted    int
	records     []Record
	requests    []Request
	roles       []RoleRequest
	connections int
	open        map[net.Conn]bool
	allClosed   sync.Cond // of mu, when open becomes empty
}

// Start runs a server.
func Start(o Options) *Server {
	if o.RecordLimitBytes == 0 {
		o.RecordLimitBytes = DefaultRecordLimitBytes
	}
	s := &Server{options: o, closing: make(chan struct{}), open: make(map[net.Conn]bool)}
	s.buffers.New = func() any { return new([]byte) }
	s.allClosed.L = &s.mu
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if o.Listener != nil {
		_ = s.http.Listener.Close()
		s.http.Listener = o.Listener
	}
	s.http.Config.ConnState = s.connState
	// Resets and refused handshakes are what this server is for.
	s.http.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.http.EnableHTTP2 = o.TLS
	if o.TLS {
		s.http.TLS = o.tlsConfig()
		s.http.StartTLS()
	} else {
		s.http.Start()
	}
	return s
}

// Close ends requests on Hold, then the server.
func (s *Server) Close() {
	close(s.closing)
	s.http.CloseClientConnections()
	s.http.Close()
}

// URL returns the base URL, for endpoint and sts_endpoint alike.
func (s *Server) URL() string { return s.http.URL }

// CAPEM returns the certificate to trust, for a server with TLS.
func (s *Server) CAPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// CertPool returns a pool with that certificate.
func (s *Server) CertPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.http.Certificate())
	return pool
}

// Records returns the accepted records in order.
func (s *Server) Records() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.records)
}

// Requests returns every PutRecord in the order of their n.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// RoleRequests returns every request to STS in the order of their n.
func (s *Server) RoleRequests() []RoleRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.roles)
}

// Counts are totals since Start, but for OpenConnections.
type Counts struct {
	PutRecords, Accepted, RoleRequests, Connections, OpenConnections int
}

// Counts returns the counts of now.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Counts{s.puts, s.accepted, len(s.roles), s.connections, len(s.open)}
}

// AwaitDisconnect returns once no client is connected, or with ctx's error.
func (s *Server) AwaitDisconnect(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.allClosed.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.open) > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("fakekinesis: %d connections open: %w", len(s.open), err)
		}
		s.allClosed.Wait()
	}
	return nil
}

// connState counts connections. A hijacked one is about to be reset.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.connections++
		s.open[c] = true
	case http.StateClosed, http.StateHijacked:
		delete(s.open, c)
		if len(s.open) == 0 {
			s.allClosed.Broadcast()
		}
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		s.assumeRole(w, r)
		return
	}
	switch action, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "Kinesis_20131202."); action {
	case "PutRecord":
		s.putRecord(w, r)
	case "DescribeStreamSummary":
		s.describe(w, r)
	default:
		refuse(w, Error(http.StatusBadRequest, "UnknownOperationException", ""))
	}
}

func (s *Server) putRecord(w http.ResponseWriter, r *http.Request) {
	n, request := s.admit(r)
	fault := OK
	if s.options.Fault != nil {
		fault = s.options.Fault(n, &request)
	}
	if fault.kind == kindResetUnread {
		reset(w)
		return
	}

	body := s.buffers.Get().(*[]byte)
	defer s.buffers.Put(body)
	var err error
	if *body, err = readInto((*body)[:0], r.Body); err != nil {
		return // The client is gone.
	}
	switch fault.kind {
	case kindResetRead:
		reset(w)
		return
	case kindError, kindStatus:
		refuse(w, fault)
		return
	case kindBody:
		writeBody(w, fault)
		return
	case kindHold:
		if !s.hold(r, fault.until) {
			panic(http.ErrAbortHandler)
		}
	}

	number, refusal := s.accept(n, &request, *body)
	if refusal != nil {
		refuse(w, *refusal)
		return
	}
	response, _ := json.Marshal(map[string]string{"ShardId": shardID, "SequenceNumber": number, "EncryptionType": "NONE"})
	switch fault.kind {
	case kindResponseLost:
		reset(w)
	case kindResponseTruncated:
		w.Header().Set("Content-Length", fmt.Sprint(len(response)))
		_, _ = w.Write(response[:len(response)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case kindResponseHeld:
		s.hold(r, nil)
		panic(http.ErrAbortHandler)
	case kindNoNumber:
		writeJSON(w, http.StatusOK, []byte(`{"ShardId":"`+shardID+`"}`))
	default:
		writeJSON(w, http.StatusOK, response)
	}
}

// admit counts a request and notes it.
func (s *Server) admit(r *http.Request) (n int, request Request) {
	request = Request{Proto: r.Proto, Host: r.Host, Header: r.Header.Clone(), ContentLength: r.ContentLength}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.options.OnRecord == nil {
		s.requests = append(s.requests, request)
	}
	return s.puts, request
}

// accept checks a PutRecord as Kinesis does and stores its record, or says why not.
func (s *Server) accept(n int, request *Request, body []byte) (number string, refusal *Fault) {
	bad := func(code, message string, args ...any) (string, *Fault) {
		fault := Error(http.StatusBadRequest, code, fmt.Sprintf(message, args...))
		return "", &fault
	}
	if key, _, _ := request.Signer(); key == "" {
		return bad("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	if request.Header.Get("Content-Type") != "application/x-amz-json-1.1" {
		return bad("SerializationException", "only JSON 1.1 is spoken here")
	}
	var data []byte
	if s.options.OnRecord != nil {
		buffer := s.buffers.Get().(*[]byte)
		defer func() { *buffer = data; s.buffers.Put(buffer) }()
		data = (*buffer)[:0]
	}
	f, data, err := parse(body, data)
	if err != nil {
		return bad("SerializationException", "%v", err)
	}
	if n := utf8.RuneCountInString(f.PartitionKey); n < 1 || n > 256 {
		return bad("ValidationException", "1 validation error detected: Value at 'partitionKey' failed to satisfy constraint: "+
			"Member must have length less than or equal to 256, and greater than or equal to 1")
	}
	if len(data) > MaxRecordLimitBytes {
		return bad("ValidationException", "1 validation error detected: Value at 'data' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d", MaxRecordLimitBytes)
	}
	if refusal := s.find(f); refusal != nil {
		return "", refusal
	}
	if size := len(data) + len(f.PartitionKey); size > s.options.RecordLimitBytes {
		return bad("InvalidArgumentException", "Record data size %d exceeds the stream's max record size of %d bytes",
			size, s.options.RecordLimitBytes)
	}
	record := Record{
		Stream: f.name(), StreamARN: f.StreamARN, PartitionKey: f.PartitionKey,
		ExplicitHashKey: f.ExplicitHashKey, Request: n, Data: data, Received: time.Now(),
	}
	s.store(&record)
	if s.options.OnRecord != nil {
		s.options.OnRecord(record)
	}
	return record.SequenceNumber, nil
}

// store numbers a record and keeps it unless OnRecord takes it. The numbers
// look like Kinesis's and grow.
func (s *Server) store(r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.accepted++
	r.SequenceNumber = fmt.Sprintf("4965%052d", s.accepted)
	if s.options.OnRecord == nil {
		s.records = append(s.records, *r)
	}
}

// find says what Kinesis says of a stream that is not there, nil if it is.
func (s *Server) find(f fields) *Fault {
	name := f.name()
	if name == "" {
		fault := Error(http.StatusBadRequest, "InvalidArgumentException", "Either StreamName or StreamARN must be set")
		return &fault
	}
	if len(s.options.Streams) > 0 && !slices.Contains(s.options.Streams, name) {
		fault := Error(http.StatusBadRequest, "ResourceNotFoundException",
			fmt.Sprintf("Stream %s under account %s not found.", name, account))
		return &fault
	}
	return nil
}

func (s *Server) describe(w http.ResponseWriter, r *http.Request) {
	var f fields
	if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
		refuse(w, Error(http.StatusBadRequest, "SerializationException", err.Error()))
		return
	}
	if refusal := s.find(f); refusal != nil {
		refuse(w, *refusal)
		return
	}
	strategy := "USER_PARTITION_KEY"
	if s.options.DistributesRecords {
		strategy = "AUTO"
	}
	response, _ := json.Marshal(map[string]any{"StreamDescriptionSummary": map[string]any{
		"StreamName": f.name(), "StreamStatus": "ACTIVE", "OpenShardCount": 1,
		"MaxRecordSizeInKiB": s.options.RecordLimitBytes >> 10, "RecordDistributionStrategy": strategy,
	}})
	writeJSON(w, http.StatusOK, response)
}

// hold waits and tells whether the request may go on.
func (s *Server) hold(r *http.Request, until <-chan struct{}) bool {
	select {
	case <-until:
		return true
	case <-r.Context().Done():
	case <-s.closing:
	}
	return false
}

// refuse answers with an Error or a Status.
func refuse(w http.ResponseWriter, f Fault) {
	if f.kind == kindStatus {
		http.Error(w, "<html>"+http.StatusText(f.status)+"</html>", f.status)
		return
	}
	response, _ := json.Marshal(map[string]string{"__type": f.code, "message": f.message})
	writeJSON(w, f.status, response)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", "00000000-0000-0000-0000-000000000000")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// readInto appends all of r to b.
func readInto(b []byte, r io.Reader) ([]byte, error) {
	buffer := bytes.NewBuffer(b)
	_, err := buffer.ReadFrom(r)
	return buffer.Bytes(), err
}
