package kinesis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"out_kinesis_agg/internal/arn"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	// 17 times as fast as the standard library, with AVX2 or NEON.
	"github.com/segmentio/asm/base64"
)

// WireFormat is the encoding of a PutRecord request and its response.
type WireFormat string

// The formats that Kinesis accepts.
const (
	// Auto is CBOR for AWS's own hosts, and JSON for other endpoints, such as local
	// servers, of which some do not know CBOR. After a refusal of CBOR, it is JSON.
	Auto WireFormat = "auto"
	// JSON is AWS JSON 1.1, with the data in base64.
	JSON WireFormat = "json"
	// CBOR is the format of the SDK for Java. Without base64, requests are a quarter
	// smaller.
	CBOR WireFormat = "cbor"
)

const (
	target    = "Kinesis_20131202.PutRecord"
	mediaJSON = "application/x-amz-json-1.1"
	mediaCBOR = "application/x-amz-cbor-1.1"
)

// request is the body of one PutRecord. The SDK's serializer makes several copies of
// the data; encode makes one, in a buffer that is reused.
type request struct {
	format WireFormat
	bytes  []byte
}

// requests is a pool of *request.
var requests = sync.Pool{New: func() any { return new(request) }}

// encode encodes the body for a record. It does not keep data.
func (r *request) encode(format WireFormat, stream, partitionKey string, data []byte) {
	streamMember := "StreamName"
	if arn.Is(stream) {
		streamMember = "StreamARN"
	}
	r.format = format
	if format == CBOR {
		b := slices.Grow(r.bytes[:0], len(stream)+len(partitionKey)+len(data)+100)
		b = append(b, 5<<5|3) // a map of three
		b = appendCBOR(b, cborText, streamMember)
		b = appendCBOR(b, cborText, stream)
		b = appendCBOR(b, cborText, "PartitionKey")
		b = appendCBOR(b, cborText, partitionKey)
		b = appendCBOR(b, cborText, "Data")
		r.bytes = appendCBOR(b, cborBytes, data)
		return
	}
	b := slices.Grow(r.bytes[:0], 6*len(partitionKey)+base64.StdEncoding.EncodedLen(len(data))+len(stream)+100)
	b = append(b, `{"`+streamMember+`":"`+stream+`","PartitionKey":`...)
	key, _ := json.Marshal(partitionKey) // Marshal returns no error for a string
	b = append(append(b, key...), `,"Data":"`...)
	at, encoded := len(b), base64.StdEncoding.EncodedLen(len(data))
	b = slices.Grow(b, encoded)[:at+encoded]
	base64.StdEncoding.Encode(b[at:], data)
	r.bytes = append(b, `"}`...)
}

// Major types of CBOR. Source: RFC 8949, section 3.1.
const (
	cborBytes = 2 << 5
	cborText  = 3 << 5
)

// appendCBOR appends a byte string or a text string: its length, then its bytes.
func appendCBOR[T string | []byte](dst []byte, major byte, s T) []byte {
	switch n := len(s); {
	case n < 24:
		dst = append(dst, major|byte(n))
	case n < 1<<8:
		dst = append(dst, major|24, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, major|25), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint32(append(dst, major|26), uint32(n))
	}
	return append(dst, s...)
}

// refusesCBOR reports whether a host or a proxy does not understand a request in CBOR.
// first reports that none has succeeded before: only then can an unreadable response be
// due to the format. A response that breaks off is not.
func refusesCBOR(err error, first bool) bool {
	var api smithy.APIError
	if errors.As(err, &api) {
		switch api.ErrorCode() {
		case "SerializationException", "UnknownOperationException":
			return true
		}
	}
	var response *smithyhttp.ResponseError
	if !errors.As(err, &response) {
		return false
	}
	switch status := response.HTTPStatusCode(); {
	case status == http.StatusUnsupportedMediaType:
		return true
	case status == http.StatusNotFound:
		return Classify(err) != CauseStreamNotFound
	// Other statuses have a reason of their own.
	case status >= 300 && status != http.StatusBadRequest || !first:
		return false
	case errors.Is(err, io.ErrUnexpectedEOF) || classifyNetwork(err) != nil:
		return false
	}
	var unreadable *smithy.DeserializationError
	return errors.As(err, &unreadable)
}

// body is the request body that the HTTP client reads. After a timeout or an early
// response, the client may continue to read after it has returned. release prevents
// reads of the buffer, which is reused.
type body struct {
	mu       sync.Mutex
	r        bytes.Reader
	released bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return 0, errors.New("the request has ended")
	}
	return b.r.Read(p)
}

func (b *body) Seek(offset int64, whence int) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.r.Seek(offset, whence)
}

func (b *body) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.released = true
	b.r.Reset(nil)
}

// send calls the SDK's PutRecord with the body r instead of the SDK's own.
func (s *Sender) send(ctx context.Context, in *kinesis.PutRecordInput, r *request) (*kinesis.PutRecordOutput, error) {
	var b body
	b.r.Reset(r.bytes)
	defer b.release()
	sum := sha256.Sum256(r.bytes)
	hash := middleware.FinalizeMiddlewareFunc("PutRecordBodyHash",
		func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
			return next.HandleFinalize(v4.SetPayloadHash(ctx, hex.EncodeToString(sum[:])), in)
		})
	return s.client.PutRecord(ctx, in, func(o *kinesis.Options) {
		o.Protocol = wire{ClientProtocol: o.Protocol, body: &b, format: r.format}
		o.APIOptions = append(slices.Clip(o.APIOptions), func(stack *middleware.Stack) error {
			return stack.Finalize.Insert(hash, (&v4.ComputePayloadSHA256{}).ID(), middleware.Before)
		})
	})
}

// wire is the protocol of one PutRecord with a body that is already encoded.
type wire struct {
	smithyhttp.ClientProtocol // for responses that are not CBOR
	body                      *body
	format                    WireFormat
}

// SerializeRequest does the same as the SDK's protocol, but with w.body.
func (w wire) SerializeRequest(_ context.Context, _ *smithy.OperationSchema, _ smithy.Serializable, req *smithyhttp.Request) error {
	req.Method = http.MethodPost
	if req.URL.Path == "" {
		req.URL.Path = "/"
	}
	req.Header.Set("X-Amz-Target", target)
	req.Header.Set("Content-Type", mediaJSON)
	if w.format == CBOR {
		req.Header.Set("Content-Type", mediaCBOR)
	}
	with, err := req.SetStream(w.body)
	if err != nil {
		return fmt.Errorf("set the body: %w", err)
	}
	*req = *with
	return nil
}

// DeserializeResponse decodes a response.
func (w wire) DeserializeResponse(ctx context.Context, schema *smithy.OperationSchema, types *smithy.TypeRegistry, resp *smithyhttp.Response, out smithy.Deserializable) error {
	// The response may be in JSON, or in a format of a proxy or load balancer.
	if resp.Header.Get("Content-Type") != mediaCBOR {
		return w.ClientProtocol.DeserializeResponse(ctx, schema, types, resp, out)
	}
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	if len(content) > maxCBORBytes {
		return &smithy.DeserializationError{Err: errResponseTooLarge}
	}
	v, err := cbor.Decode(content)
	if err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	members, _ := v.(cbor.Map)
	if resp.StatusCode < 200 || resp.StatusCode >= 300 {
		code := resp.Header.Get("X-Amzn-ErrorType")
		if code == "" {
			code = cborString(members, "__type")
		}
		return &smithy.GenericAPIError{Code: sanitized(code), Message: cborString(members, "message", "Message")}
	}
	if o, ok := out.(*kinesis.PutRecordOutput); ok {
		shard, number := cborString(members, "ShardId"), cborString(members, "SequenceNumber")
		o.ShardId, o.SequenceNumber = &shard, &number
	}
	return nil
}

// maxCBORBytes limits a response to PutRecord in CBOR. Decoding a list of empty maps
// allocates 130 times its size, and Kinesis sends at most a few hundred bytes.
const maxCBORBytes = 64 << 10

// cborString returns the value of the first of these members that is a string, or "".
func cborString(members cbor.Map, names ...string) string {
	for _, name := range names {
		if s, ok := members[name].(cbor.String); ok {
			return string(s)
		}
	}
	return ""
}

// sanitized removes the namespace before an error code and the URL after it. Source:
// "Operation error serialization" of the Smithy specification, AWS JSON 1.1 protocol.
func sanitized(code string) string {
	code, _, _ = strings.Cut(code, ":")
	return code[strings.LastIndexByte(code, '#')+1:]
}
