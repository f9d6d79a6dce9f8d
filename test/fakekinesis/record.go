package fakekinesis

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// Record is a record that was accepted.
type Record struct {
	// Stream is the name, also where the request gave an ARN.
	Stream, StreamARN, PartitionKey string
	// ExplicitHashKey is empty where the request had none.
	ExplicitHashKey string
	// Request is the n of the PutRecord it came with.
	Request int
	// Data belongs to the caller of Records; in OnRecord it is valid only
	// during the call.
	Data           []byte
	SequenceNumber string
	Received       time.Time
}

// Request is one request as it came in, without its body.
type Request struct {
	// Proto is HTTP/1.1 or HTTP/2.0.
	Proto         string
	Host          string
	Header        http.Header
	ContentLength int64
}

// Signer returns the key id, region and service that the request is signed for.
func (r *Request) Signer() (keyID, region, service string) {
	_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
	scope, _, _ = strings.Cut(scope, ",")
	parts := strings.Split(scope, "/") // KEY/DATE/REGION/SERVICE/aws4_request
	if len(parts) != 5 {
		return "", "", ""
	}
	return parts[0], parts[2], parts[3]
}

// fields are the members of a request for a stream, but for Data.
type fields struct {
	StreamName, StreamARN, PartitionKey, ExplicitHashKey string
}

// dataMember finds Data in a PutRecord: unescaped quotes around the name
// cannot be inside of a string.
var dataMember = regexp.MustCompile(`"Data"\s*:\s*"`)

// parse takes a PutRecord apart and appends the decoded data to dst. The
// megabytes of base64 are cut out before encoding/json sees the rest, which
// makes the difference between this server and the client being the slow one.
func parse(body, dst []byte) (fields, []byte, error) {
	var f fields
	head := dataMember.FindIndex(body)
	if head == nil {
		return f, dst, errors.New("no Data")
	}
	length := bytes.IndexByte(body[head[1]:], '"')
	if length < 0 {
		return f, dst, errors.New("no end of Data")
	}
	end := head[1] + length
	text := body[head[1]:end]
	if bytes.IndexByte(text, '\\') >= 0 { // "\/" is as good as "/" in JSON
		text = bytes.ReplaceAll(text, []byte(`\/`), []byte("/"))
	}
	data, err := base64.StdEncoding.AppendDecode(dst, text)
	if err != nil {
		return f, dst, fmt.Errorf("in Data: %w", err)
	}
	rest := append(bytes.Clone(body[:head[1]]), body[end:]...)
	if err := json.Unmarshal(rest, &f); err != nil {
		return f, dst, err
	}
	return f, data, nil
}

// name returns the stream's name from either of the two ways to give it.
func (f fields) name() string {
	if f.StreamARN != "" {
		return f.StreamARN[strings.LastIndexByte(f.StreamARN, '/')+1:]
	}
	return f.StreamName
}
