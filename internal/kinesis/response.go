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
	// maxResponseBytes bounds the body of every response. The largest that AWS
	// sends here, STS's credentials, has a few thousand bytes, but whatever
	// answers in its place can send any number.
	maxResponseBytes = 1 << 20

	// maxResponseHeaderBytes bounds a response's headers, those of a proxy's
	// response to CONNECT included. AWS sends about 300 bytes.
	maxResponseHeaderBytes = 64 << 10
)

var errResponseTooLarge = errors.New("the response is too large: check that endpoint, sts_endpoint and http_proxy lead to AWS")

// boundResponses limits the body of each response to an API call. It is for
// aws.Config.APIOptions, so that it covers the clients of the SDK's credential
// sources too, which have HTTP clients of their own.
func boundResponses(stack *middleware.Stack) error {
	// After all others, so that each of them reads the limited body.
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("BoundResponse",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp != nil && resp.Body != nil {
				resp.Body = bounded(resp.Response)
			}
			return out, metadata, err
		}), middleware.After)
}

// bounded returns the response's body, limited to maxResponseBytes. No request
// asks for compression, and a compressed body grows a thousandfold, so one is
// not read at all.
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

// Read asks for one byte more than the limit, which tells a body of exactly
// the limit from a longer one.
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

// unreadable is a body that is closed unread.
type unreadable struct {
	io.Closer
	err error
}

func (u unreadable) Read([]byte) (int, error) { return 0, u.err }
