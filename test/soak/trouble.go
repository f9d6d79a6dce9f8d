package main

import (
	"math/rand/v2"
	"sync"
	"time"

	"out_kinesis_agg/test/endpoint"
)

// trouble is a way for a request to fail.
type trouble struct {
	name     string
	fault    endpoint.Fault
	weight   int  // among the others
	accepted bool // the record is there, and the plugin does not get to know
}

const (
	often = 20
	// seldom is for what takes as long as request_timeout each time.
	seldom = 1
)

var troubles = []trouble{
	{"throttled", endpoint.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded"), often, false},
	{"KMS throttled", endpoint.Error(400, "KMSThrottlingException", "Rate exceeded"), often, false},
	{"limit exceeded", endpoint.Error(400, "LimitExceededException", "Rate exceeded"), often, false},
	{"internal failure", endpoint.Error(500, "InternalFailure", ""), often, false},
	{"service unavailable", endpoint.Error(503, "ServiceUnavailable", ""), often, false},
	{"bare 500", endpoint.Status(500), often, false},
	{"bare 502", endpoint.Status(502), often, false},
	{"bare 503", endpoint.Status(503), often, false},
	{"bare 504", endpoint.Status(504), often, false},
	{"bare 429", endpoint.Status(429), often, false},
	{"reset before the request was read", endpoint.ResetUnread, often, false},
	{"reset after the request was read", endpoint.ResetRead, often, false},
	{"answer lost", endpoint.AnswerLost, often, true},
	{"answer cut", endpoint.AnswerCut, often, true},
	{"answer without sequence number", endpoint.NoNumber, often, true},
	{"hang", endpoint.Hold(nil), seldom, false},
	{"hang after acceptance", endpoint.AnswerHeld, seldom, true},
	{"expired token", endpoint.Error(400, "ExpiredTokenException", "The security token included in the request is expired"), often, false},
	{"signature expired", endpoint.Error(403, "InvalidSignatureException", "Signature expired: 20260301T115000Z is now earlier than 20260301T115500Z"), often, false},
	{"unrecognised client", endpoint.Error(400, "UnrecognizedClientException", "The security token included in the request is invalid."), often, false},
	{"access denied", endpoint.Error(400, "AccessDeniedException", "not authorized to perform: kinesis:PutRecord"), often, false},
	{"stream not found", endpoint.Error(400, "ResourceNotFoundException", "Stream soak under account 123456789012 not found."), often, false},
	{"KMS denied", endpoint.Error(400, "KMSAccessDeniedException", "not authorized"), often, false},
	{"validation error", endpoint.Error(400, "ValidationException", "1 validation error detected"), often, false},
	{"invalid argument", endpoint.Error(400, "InvalidArgumentException", "Something is wrong"), often, false},
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
func (w *weather) putRecord(n int, _ *endpoint.Request) endpoint.Fault {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.requests) < n {
		w.requests = append(w.requests, fine)
	}
	if w.random.Float64() >= w.fail {
		return endpoint.OK
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
func (w *weather) role(int, endpoint.RoleRequest) endpoint.RoleAnswer {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.random.Float64() >= w.fail {
		return endpoint.RoleAnswer{Expires: time.Now().Add(roleLife)}
	}
	w.roles++
	faults := []endpoint.Fault{
		endpoint.Status(503), endpoint.ResetRead, endpoint.Error(403, "AccessDenied", "not authorized to perform: sts:AssumeRole"),
		endpoint.Error(400, "ExpiredToken", "The security token included in the request is expired"),
	}
	return endpoint.RoleAnswer{Fault: faults[w.random.IntN(len(faults))]}
}
