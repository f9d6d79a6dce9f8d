package fakekinesis

import (
	"net/http"
	"strings"
	"time"
)

// Record is an accepted record.
type Record struct {
	// Stream is the name, also if the request has an ARN.
	Stream, StreamARN, PartitionKey string
	// ExplicitHashKey is empty if the request has none.
	ExplicitHashKey string
	// Misplaced: the strategy is AUTO, and the shard that stores the record does not
	// have the hash key of PartitionKey.
	Misplaced bool
	// Request is the n of the request that contained it.
	Request int
	// Data belongs to the caller of Records. In OnRecord it is valid only during
	// the call.
	Data           []byte
	SequenceNumber string
	Received       time.Time
}

// Request is one request, without its body.
type Request struct {
	// Proto is HTTP/1.1 or HTTP/2.0.
	Proto         string
	Host          string
	Header        http.Header
	ContentLength int64
}

// Signer returns the key id, region and service that the request is signed for,
// or empty strings if it is not signed.
func (r *Request) Signer() (keyID, region, service string) {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	parts := strings.Split(scope, "/") // KEY/DATE/REGION/SERVICE/aws4_request
	if len(parts) != 5 {
		return "", "", ""
	}
	return parts[0], parts[2], parts[3]
}

// streamName returns the stream's name from either of the two ways to give it.
func streamName(name, arn string) string {
	if arn != "" {
		return arn[strings.LastIndexByte(arn, '/')+1:]
	}
	return name
}
