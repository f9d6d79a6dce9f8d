package kinesis

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
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

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/encoding/cbor"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// WireFormat is how a PutRecord goes over the wire.
type WireFormat string

// The formats that Kinesis takes.
const (
	// JSON is AWS JSON 1.1, with the data in base64.
	JSON WireFormat = "json"
	// CBOR is what the SDK for Java sends: a quarter fewer bytes, and no base64.
	CBOR WireFormat = "cbor"
)

const (
	target    = "Kinesis_20131202.PutRecord"
	mediaJSON = "application/x-amz-json-1.1"
	mediaCBOR = "application/x-amz-cbor-1.1"
)

// request is the body of one PutRecord. The SDK's serializer would make several
// copies of the data on the way to it; this one writes it once, into a buffer
// that is used again.
type request struct {
	format WireFormat
	bytes  []byte
}

// requests is a pool of them.
var requests = sync.Pool{New: func() any { return new(request) }}

// encode writes the body for a record. data is the caller's again on return.
func (r *request) encode(format WireFormat, stream, partitionKey string, data []byte) {
	streamMember := "StreamName"
	if isARN(stream) {
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
	key, _ := json.Marshal(partitionKey) // no string fails
	b = append(append(b, key...), `,"Data":"`...)
	b = base64.StdEncoding.AppendEncode(b, data)
	r.bytes = append(b, `"}`...)
}

// The major types of CBOR that are needed. Source: RFC 8949, section 3.1.
const (
	cborBytes = 2 << 5
	cborText  = 3 << 5
)

// appendCBOR appends a string with its length in front.
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

// body is what the HTTP client reads of a request. The client may go on reading
// after it has returned, when it gave up or the answer came early; release makes
// sure that the buffer is not read by then.
type body struct {
	mu       sync.Mutex
	r        bytes.Reader
	released bool
}

func (b *body) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.released {
		return 0, errors.New("the request is over")
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

// send is the SDK's PutRecord with our body.
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

// wire is the protocol of one PutRecord whose body is ready.
type wire struct {
	smithyhttp.ClientProtocol // for all other formats of an answer
	body                      *body
	format                    WireFormat
}

// SerializeRequest does what the protocol would do, with our body.
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

// DeserializeResponse reads the answer in the format of the request.
func (w wire) DeserializeResponse(ctx context.Context, schema *smithy.OperationSchema, types *smithy.TypeRegistry, resp *smithyhttp.Response, out smithy.Deserializable) error {
	// Proxies and load balancers answer in a format of their own.
	if resp.Header.Get("Content-Type") != mediaCBOR {
		return w.ClientProtocol.DeserializeResponse(ctx, schema, types, resp, out)
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return &smithy.DeserializationError{Err: err}
	}
	if len(answer) > maxCBORBytes {
		return &smithy.DeserializationError{Err: errResponseTooLarge}
	}
	v, err := cbor.Decode(answer)
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

// maxCBORBytes bounds the responses to a PutRecord in CBOR. Decoding a list of
// empty maps allocates 130 times its size, and no response of Kinesis has more
// than a few hundred bytes.
const maxCBORBytes = 64 << 10

// cborString returns the member under the first of the names that is a string.
func cborString(members cbor.Map, names ...string) string {
	for _, name := range names {
		if s, ok := members[name].(cbor.String); ok {
			return string(s)
		}
	}
	return ""
}

// sanitized is the name of an error without the namespace before it and the
// address behind it. Source: "Operation error serialization" of the Smithy
// specification, AWS JSON 1.1 protocol.
func sanitized(code string) string {
	code, _, _ = strings.Cut(code, ":")
	return code[strings.LastIndexByte(code, '#')+1:]
}
