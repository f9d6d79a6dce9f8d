package kinesis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// maxResponseBytes limits the body of every response. The largest responses of
	// AWS here, credentials from STS, have a few thousand bytes. A server that is
	// not AWS can send a body of any size.
	maxResponseBytes = 1 << 20

	// maxResponseHeaderBytes limits the headers of a response, also of a proxy's
	// response to CONNECT. AWS sends about 300 bytes.
	maxResponseHeaderBytes = 64 << 10
)

var errResponseTooLarge = errors.New("the response is too large: check that endpoint, sts_endpoint and http_proxy lead to AWS")

// boundResponses limits the body of each response to an API call. Set in
// aws.Config.APIOptions, it also applies to the SDK's credential sources, which have
// their own HTTP clients.
func boundResponses(stack *middleware.Stack) error {
	// Closest to the transport, so that all other middleware reads the limited body.
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("BoundResponse",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp != nil && resp.Body != nil {
				resp.Body = bounded(resp.Response)
			}
			return out, metadata, err
		}), middleware.After)
}

// bounded returns the response's body, limited to maxResponseBytes. A compressed body
// cannot be read: no request asks for compression, and decompression can make a body
// a thousand times larger.
func bounded(resp *http.Response) io.ReadCloser {
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return unreadable{resp.Body, fmt.Errorf("the response is compressed (%.20q), which was not asked for", encoding)}
	}
	return &boundedBody{ReadCloser: resp.Body, left: maxResponseBytes}
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read reads up to one byte more than the limit, to distinguish a body of exactly
// maxResponseBytes from a longer one.
func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errResponseTooLarge
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left+1)])
	b.left -= n
	if b.left < 0 {
		return n - 1, errResponseTooLarge
	}
	return n, err
}

// unreadable is a body that is closed without being read.
type unreadable struct {
	io.Closer
	err error
}

func (u unreadable) Read([]byte) (int, error) { return 0, u.err }
