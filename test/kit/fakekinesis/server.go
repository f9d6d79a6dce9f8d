package fakekinesis

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

const (
	// DefaultRecordLimitBytes is the limit of a new stream.
	DefaultRecordLimitBytes = 1 << 20
	// MaxRecordLimitBytes is the largest limit that UpdateMaxRecordSize accepts.
	// Kinesis has another error for records above it.
	MaxRecordLimitBytes = 10 << 20

	// The limits of a PutRecords.
	maxPutRecords      = 500
	maxPutRecordsBytes = 10 << 20

	account = "123456789012"
	shardID = "shardId-000000000000"
)

// Options configures a Server. The zero value accepts every record of up to
// 1 MiB.
type Options struct {
	// RecordLimitBytes limits data and partition key together; 0 is
	// DefaultRecordLimitBytes. It may be less than Kinesis allows.
	RecordLimitBytes int
	// Streams lists the streams that exist; if empty, all do.
	Streams []string
	// Shards is the number of shards, each with the same number of hash keys; 0 is 1.
	Shards int
	// Auto reports whether the strategy is AUTO at present: the stream ignores
	// partition keys, and DescribeStreamSummary says so. nil is never.
	Auto func() bool
	// DescribeFault, unless nil, is the response to each DescribeStreamSummary.
	DescribeFault *Fault
	// Fault is called for each PutRecord and PutRecords; nil is always OK.
	Fault func(n int, r *Request) Fault
	// OnRecord is called with each accepted record, which Records then omits.
	OnRecord func(Record)
	// Role is called for each request to STS; nil grants an hour.
	Role func(n int, r RoleRequest) RoleResponse
	// TLS makes the server use https.
	TLS bool
	// Hosts are further names in the server's certificate.
	Hosts []string
	// Handshake is called for each TLS handshake, n from 1; nil is always true.
	Handshake func(n int) bool
	// Listener is the listener to use; nil is a free port of 127.0.0.1. Close
	// closes it.
	Listener net.Listener
}

// Server is a running server. Close it.
type Server struct {
	options  Options
	http     *httptest.Server
	closing  chan struct{}
	buffers  sync.Pool // of *[]byte, for bodies and for the data that OnRecord gets
	received atomic.Int64

	mu        sync.Mutex
	counts    Counts // but for what Counts adds
	records   []Record
	requests  []Request
	roles     []RoleRequest
	open      map[net.Conn]bool // whether a request is under way
	connected sync.Cond         // of mu, when a connection is closed or idle
}

// Start runs a server.
func Start(o Options) *Server {
	if o.RecordLimitBytes == 0 {
		o.RecordLimitBytes = DefaultRecordLimitBytes
	}
	s := &Server{options: o, closing: make(chan struct{}), open: make(map[net.Conn]bool)}
	s.buffers.New = func() any { return new([]byte) }
	s.connected.L = &s.mu
	s.http = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	if o.Listener != nil {
		_ = s.http.Listener.Close()
		s.http.Listener = o.Listener
	}
	s.http.Listener = countingListener{s.http.Listener, &s.received}
	s.http.Config.ConnState = s.connState
	// Resets and refused handshakes are expected.
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

// Close ends the requests that Hold delays, then the server.
func (s *Server) Close() {
	close(s.closing)
	s.http.CloseClientConnections()
	s.http.Close()
}

// Disconnect waits until no request is under way and closes all connections, as a
// restart of a load balancer does.
func (s *Server) Disconnect() {
	s.mu.Lock()
	for slices.Contains(slices.Collect(maps.Values(s.open)), true) {
		s.connected.Wait()
	}
	s.mu.Unlock()
	s.http.CloseClientConnections()
}

// URL returns the base URL, for both endpoint and sts_endpoint.
func (s *Server) URL() string { return s.http.URL }

// CAPEM returns the certificate to trust, for a server with TLS.
func (s *Server) CAPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.http.Certificate().Raw})
}

// CertPool returns a pool with the certificate of CAPEM.
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

// Requests returns every PutRecord and PutRecords in the order of their n.
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

// Counts are totals since Start, except for OpenConnections.
type Counts struct {
	PutRecords      int // requests: PutRecord and PutRecords
	Accepted        int // records
	RoleRequests    int
	Connections     int
	OpenConnections int
	// DataBytes is the size of the accepted records without their keys, and
	// WireBytes the number of bytes that the server read from its sockets.
	DataBytes, WireBytes int64
}

// Counts returns the current counts.
func (s *Server) Counts() Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counts
	c.RoleRequests, c.OpenConnections, c.WireBytes = len(s.roles), len(s.open), s.received.Load()
	return c
}

// AwaitDisconnect returns when no client is connected, or with ctx's error.
func (s *Server) AwaitDisconnect(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.connected.Broadcast()
	})()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.open) > 0 {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("fakekinesis: %d connections open: %w", len(s.open), err)
		}
		s.connected.Wait()
	}
	return nil
}

// connState counts connections. A hijacked one is reset next.
func (s *Server) connState(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch state {
	case http.StateNew:
		s.counts.Connections++
		s.open[c] = false
	case http.StateActive:
		s.open[c] = true
	case http.StateIdle:
		s.open[c] = false
		s.connected.Broadcast()
	case http.StateClosed, http.StateHijacked:
		delete(s.open, c)
		s.connected.Broadcast()
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		s.assumeRole(w, r)
		return
	}
	switch action, _ := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "Kinesis_20131202."); action {
	case "PutRecord":
		s.put(w, r, false)
	case "PutRecords":
		s.put(w, r, true)
	case "DescribeStreamSummary":
		s.describe(w, r)
	default:
		refuse(w, r, Error(http.StatusBadRequest, "UnknownOperationException", ""))
	}
}

// put serves a PutRecord, or a PutRecords if many.
func (s *Server) put(w http.ResponseWriter, r *http.Request, many bool) {
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
		return // The client has hung up.
	}
	switch fault.kind {
	case kindResetRead:
		reset(w)
		return
	case kindError, kindStatus:
		refuse(w, r, fault)
		return
	case kindBody:
		writeBody(w, fault)
		return
	case kindHold:
		if !s.hold(r, fault.until) {
			panic(http.ErrAbortHandler)
		}
	}

	results, refusal := s.accept(n, &request, many, *body)
	if refusal != nil {
		refuse(w, r, *refusal)
		return
	}
	media := request.Header.Get("Content-Type")
	members := putResponse(many, results)
	switch fault.kind {
	case kindResponseLost:
		reset(w)
	case kindResponseTruncated:
		response := encode(media, members)
		w.Header().Set("Content-Length", fmt.Sprint(len(response)))
		_, _ = w.Write(response[:len(response)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case kindResponseHeld:
		s.hold(r, nil)
		panic(http.ErrAbortHandler)
	case kindNoNumber:
		respond(w, media, http.StatusOK, map[string]any{"ShardId": shardID})
	default:
		respond(w, media, http.StatusOK, members)
	}
}

// putResponse returns the members of the response to a PutRecord, or to a
// PutRecords if many.
func putResponse(many bool, results []putResult) map[string]any {
	if !many {
		return map[string]any{"ShardId": results[0].ShardID, "SequenceNumber": results[0].SequenceNumber, "EncryptionType": "NONE"}
	}
	return map[string]any{"FailedRecordCount": 0, "Records": results, "EncryptionType": "NONE"}
}

// shardOf returns the id of the shard that stores a record, and whether it is another
// than the one that has the record's hash key.
func (s *Server) shardOf(partitionKey string) (id string, misplaced bool) {
	shards := uint64(max(s.options.Shards, 1))
	hash := md5.Sum([]byte(partitionKey))
	owner := uint64(binary.BigEndian.Uint32(hash[:])) * shards >> 32
	shard := owner
	if s.auto() {
		shard = rand.Uint64N(shards)
	}
	return fmt.Sprintf("shardId-%012d", shard), shard != owner
}

func (s *Server) auto() bool { return s.options.Auto != nil && s.options.Auto() }

// admit counts a request and notes it.
func (s *Server) admit(r *http.Request) (n int, request Request) {
	request = Request{Proto: r.Proto, Host: r.Host, Header: r.Header.Clone(), ContentLength: r.ContentLength}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.PutRecords++
	if s.options.OnRecord == nil {
		s.requests = append(s.requests, request)
	}
	return s.counts.PutRecords, request
}

// accept checks a request as Kinesis does and stores its records, all or none, or
// returns the error.
func (s *Server) accept(n int, request *Request, many bool, body []byte) (results []putResult, refusal *Fault) {
	bad := func(code, message string, args ...any) ([]putResult, *Fault) {
		fault := Error(http.StatusBadRequest, code, fmt.Sprintf(message, args...))
		return nil, &fault
	}
	if key, _, _ := request.Signer(); key == "" {
		return bad("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	var data []byte
	if s.options.OnRecord != nil {
		buffer := s.buffers.Get().(*[]byte)
		defer func() { *buffer = data; s.buffers.Put(buffer) }()
		data = (*buffer)[:0]
	}
	p, data, err := parsePut(request.Header.Get("Content-Type"), many, body, data)
	if err != nil {
		return bad("SerializationException", "%v", err)
	}
	if len(p.Records) < 1 || len(p.Records) > maxPutRecords {
		return bad("ValidationException", "1 validation error detected: Value at 'records' failed to satisfy constraint: "+
			"Member must have length less than or equal to %d, and greater than or equal to 1", maxPutRecords)
	}
	if refusal := s.checkStream(p.StreamName, p.StreamARN); refusal != nil {
		return nil, refusal
	}
	total := 0
	for _, e := range p.Records {
		if n := utf8.RuneCountInString(e.PartitionKey); n < 1 || n > 256 {
			return bad("ValidationException", "1 validation error detected: Value at 'partitionKey' failed to satisfy constraint: "+
				"Member must have length less than or equal to 256, and greater than or equal to 1")
		}
		if len(e.Data) > MaxRecordLimitBytes {
			return bad("ValidationException", "1 validation error detected: Value at 'data' failed to satisfy constraint: "+
				"Member must have length less than or equal to %d", MaxRecordLimitBytes)
		}
		size := len(e.Data) + len(e.PartitionKey)
		if size > s.options.RecordLimitBytes {
			return bad("InvalidArgumentException", "Record data size %d exceeds the stream's max record size of %d bytes",
				size, s.options.RecordLimitBytes)
		}
		total += size
	}
	if many && total > maxPutRecordsBytes {
		return bad("InvalidArgumentException", "Records size exceeds %d bytes", maxPutRecordsBytes)
	}
	if p.DryRun {
		return bad("DryRunOperationException", "The request was rejected because the DryRun parameter was specified")
	}
	now := time.Now()
	for _, e := range p.Records {
		record := Record{
			Stream: streamName(p.StreamName, p.StreamARN), StreamARN: p.StreamARN, PartitionKey: e.PartitionKey,
			ExplicitHashKey: e.ExplicitHashKey, Request: n, Data: e.Data, Received: now,
		}
		shard, misplaced := s.shardOf(e.PartitionKey)
		record.Misplaced = misplaced
		s.store(&record)
		if s.options.OnRecord != nil {
			s.options.OnRecord(record)
		}
		results = append(results, putResult{record.SequenceNumber, shard})
	}
	return results, nil
}

// store numbers a record, and keeps it unless OnRecord is set. The numbers look
// like those of Kinesis and increase.
func (s *Server) store(r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Accepted++
	s.counts.DataBytes += int64(len(r.Data))
	r.SequenceNumber = fmt.Sprintf("4965%052d", s.counts.Accepted)
	if s.options.OnRecord == nil {
		s.records = append(s.records, *r)
	}
}

// checkStream returns the error of Kinesis if the stream is missing, else nil.
func (s *Server) checkStream(name, arn string) *Fault {
	name = streamName(name, arn)
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
	var stream struct{ StreamName, StreamARN string }
	if err := json.NewDecoder(r.Body).Decode(&stream); err != nil {
		refuse(w, r, Error(http.StatusBadRequest, "SerializationException", err.Error()))
		return
	}
	if refusal := s.checkStream(stream.StreamName, stream.StreamARN); refusal != nil {
		refuse(w, r, *refusal)
		return
	}
	if s.options.DescribeFault != nil {
		refuse(w, r, *s.options.DescribeFault)
		return
	}
	strategy := "USER_PARTITION_KEY"
	if s.auto() {
		strategy = "AUTO"
	}
	respond(w, mediaJSON, http.StatusOK, map[string]any{"StreamDescriptionSummary": map[string]any{
		"StreamName": streamName(stream.StreamName, stream.StreamARN), "StreamStatus": "ACTIVE", "OpenShardCount": 1,
		"MaxRecordSizeInKiB": s.options.RecordLimitBytes >> 10, "RecordDistributionStrategy": strategy,
	}})
}

// hold waits, and reports whether the request may continue.
func (s *Server) hold(r *http.Request, until <-chan struct{}) bool {
	select {
	case <-until:
		return true
	case <-r.Context().Done():
	case <-s.closing:
	}
	return false
}

// refuse responds with an Error or a Status.
func refuse(w http.ResponseWriter, r *http.Request, f Fault) {
	if f.kind == kindStatus {
		http.Error(w, "<html>"+http.StatusText(f.status)+"</html>", f.status)
		return
	}
	respond(w, r.Header.Get("Content-Type"), f.status, map[string]any{"__type": f.code, "message": f.message})
}

// readInto appends all of r to b.
func readInto(b []byte, r io.Reader) ([]byte, error) {
	buffer := bytes.NewBuffer(b)
	_, err := buffer.ReadFrom(r)
	return buffer.Bytes(), err
}

// countingListener counts the bytes that its connections receive.
type countingListener struct {
	net.Listener
	received *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countedConn{conn, l.received}, nil
}

type countedConn struct {
	net.Conn
	received *atomic.Int64
}

func (c countedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.received.Add(int64(n))
	return n, err
}
