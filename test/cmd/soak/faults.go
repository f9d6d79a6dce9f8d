package main

import (
	"math/rand/v2"
	"sync"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// Faults that take as long as request_timeout are rarer than the others.
const (
	weight        = 20
	timeoutWeight = 1
)

// script decides at random which requests fail, and how.
type script struct {
	fail    float64 // share of the requests
	faults  []fakekinesis.NamedFault
	weights int // sum over faults

	mu         sync.Mutex
	random     *rand.Rand
	requests   []int8 // by n - 1: index into faults, or noFault
	counts     []int  // by index into faults
	handshakes int    // that failed
	roles      int    // requests to STS that failed
}

const noFault = -1

func newScript(fail float64, seed uint64, faults []fakekinesis.NamedFault) *script {
	s := &script{fail: fail, random: rand.New(rand.NewPCG(seed, 0x736f616b)), faults: faults, counts: make([]int, len(faults))}
	for _, f := range faults {
		s.weights += weightOf(f)
	}
	return s
}

func weightOf(f fakekinesis.NamedFault) int {
	if f.UntilTimeout {
		return timeoutWeight
	}
	return weight
}

// putRecord is the server's Options.Fault.
func (s *script) putRecord(n int, _ *fakekinesis.Request) fakekinesis.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.requests) < n {
		s.requests = append(s.requests, noFault)
	}
	if s.random.Float64() >= s.fail {
		return fakekinesis.OK
	}
	i := 0
	for at := s.random.IntN(s.weights); at >= weightOf(s.faults[i]); i++ {
		at -= weightOf(s.faults[i])
	}
	s.requests[n-1] = int8(i)
	s.counts[i]++
	return s.faults[i].Fault
}

// acknowledged reports whether the client received the response to request n,
// whose record was accepted.
func (s *script) acknowledged(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.requests[n-1]
	return i == noFault || !s.faults[i].Accepted
}

// handshake is the server's Options.Handshake.
func (s *script) handshake(int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	good := s.random.Float64() >= s.fail
	if !good {
		s.handshakes++
	}
	return good
}

// roleLife is short, so that credentials expire many times in a run.
const roleLife = 10 * time.Second

// role is the server's Options.Role.
func (s *script) role(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.random.Float64() >= s.fail {
		return fakekinesis.RoleResponse{Expires: time.Now().Add(roleLife)}
	}
	s.roles++
	faults := []fakekinesis.Fault{
		fakekinesis.Status(503), fakekinesis.ResetRead, fakekinesis.Error(403, "AccessDenied", "not authorized to perform: sts:AssumeRole"),
		fakekinesis.Error(400, "ExpiredToken", "The security token included in the request is expired"),
	}
	return fakekinesis.RoleResponse{Fault: faults[s.random.IntN(len(faults))]}
}
