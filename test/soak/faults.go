package main

import (
	"math/rand/v2"
	"sync"
	"time"

	"out_kinesis_agg/test/fakekinesis"
)

// trouble is a way for a request to fail.
type trouble struct {
	name     string
	fault    fakekinesis.Fault
	weight   int  // among the others
	accepted bool // the record is there, and the plugin does not get to know
}

const (
	often = 20
	// seldom is for what takes as long as request_timeout each time.
	seldom = 1
)

var troubles = []trouble{
	{"throttled", fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded"), often, false},
	{"KMS throttled", fakekinesis.Error(400, "KMSThrottlingException", "Rate exceeded"), often, false},
	{"limit exceeded", fakekinesis.Error(400, "LimitExceededException", "Rate exceeded"), often, false},
	{"internal failure", fakekinesis.Error(500, "InternalFailure", ""), often, false},
	{"service unavailable", fakekinesis.Error(503, "ServiceUnavailable", ""), often, false},
	{"bare 500", fakekinesis.Status(500), often, false},
	{"bare 502", fakekinesis.Status(502), often, false},
	{"bare 503", fakekinesis.Status(503), often, false},
	{"bare 504", fakekinesis.Status(504), often, false},
	{"bare 429", fakekinesis.Status(429), often, false},
	{"reset before the request was read", fakekinesis.ResetUnread, often, false},
	{"reset after the request was read", fakekinesis.ResetRead, often, false},
	{"response lost", fakekinesis.ResponseLost, often, true},
	{"response cut", fakekinesis.ResponseTruncated, often, true},
	{"response without sequence number", fakekinesis.NoNumber, often, true},
	{"hang", fakekinesis.Hold(nil), seldom, false},
	{"hang after acceptance", fakekinesis.ResponseHeld, seldom, true},
	{"expired token", fakekinesis.Error(400, "ExpiredTokenException", "The security token included in the request is expired"), often, false},
	{"signature expired", fakekinesis.Error(403, "InvalidSignatureException", "Signature expired: 20260301T115000Z is now earlier than 20260301T115500Z"), often, false},
	{"unrecognised client", fakekinesis.Error(400, "UnrecognizedClientException", "The security token included in the request is invalid."), often, false},
	{"access denied", fakekinesis.Error(400, "AccessDeniedException", "not authorized to perform: kinesis:PutRecord"), often, false},
	{"stream not found", fakekinesis.Error(400, "ResourceNotFoundException", "Stream soak under account 123456789012 not found."), often, false},
	{"KMS denied", fakekinesis.Error(400, "KMSAccessDeniedException", "not authorized"), often, false},
	{"validation error", fakekinesis.Error(400, "ValidationException", "1 validation error detected"), often, false},
	{"invalid argument", fakekinesis.Error(400, "InvalidArgumentException", "Something is wrong"), often, false},
}

// weather decides which requests fail, and how.
type weather struct {
	fail float64 // share of the requests

	mu         sync.Mutex
	random     *rand.Rand
	requests   []int8 // by n - 1: the trouble it met, or fine
	counts     []int  // by trouble
	handshakes int    // that failed
	roles      int    // requests to STS that failed
}

const fine = -1

func newWeather(fail float64, seed uint64) *weather {
	return &weather{fail: fail, random: rand.New(rand.NewPCG(seed, 0x736f616b)), counts: make([]int, len(troubles))}
}

// putRecord is the endpoint's script for PutRecord.
func (w *weather) putRecord(n int, _ *fakekinesis.Request) fakekinesis.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.requests) < n {
		w.requests = append(w.requests, fine)
	}
	if w.random.Float64() >= w.fail {
		return fakekinesis.OK
	}
	sum := 0
	for _, t := range troubles {
		sum += t.weight
	}
	i := 0
	for at := w.random.IntN(sum); at >= troubles[i].weight; i++ {
		at -= troubles[i].weight
	}
	w.requests[n-1] = int8(i)
	w.counts[i]++
	return troubles[i].fault
}

// answered tells whether the client of request n, whose record was accepted,
// was told so.
func (w *weather) answered(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := w.requests[n-1]
	return i == fine || !troubles[i].accepted
}

// handshake is the endpoint's script for TLS.
func (w *weather) handshake(int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	good := w.random.Float64() >= w.fail
	if !good {
		w.handshakes++
	}
	return good
}

// roleLife is short, so that a run sees credentials end many times.
const roleLife = 10 * time.Second

// role is the endpoint's script for STS.
func (w *weather) role(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.random.Float64() >= w.fail {
		return fakekinesis.RoleResponse{Expires: time.Now().Add(roleLife)}
	}
	w.roles++
	faults := []fakekinesis.Fault{
		fakekinesis.Status(503), fakekinesis.ResetRead, fakekinesis.Error(403, "AccessDenied", "not authorized to perform: sts:AssumeRole"),
		fakekinesis.Error(400, "ExpiredToken", "The security token included in the request is expired"),
	}
	return fakekinesis.RoleResponse{Fault: faults[w.random.IntN(len(faults))]}
}
