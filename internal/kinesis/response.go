package kinesis

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// maxResponseBytes limits the body of every response to a Sender. The largest of
	// AWS, credentials from STS, have a few thousand bytes. A server that is
	// not AWS can send a body of any size.
	maxResponseBytes = 1 << 20

	// maxResponseHeaderBytes limits the headers of a response, also of a proxy's
	// response to CONNECT. AWS sends about 300 bytes.
	maxResponseHeaderBytes = 64 << 10
)

var errResponseTooLarge = errors.New("the response is too large: check that endpoint, sts_endpoint and http_proxy lead to AWS")

// checkResponses limits the body of each response to an API call to most bytes, and
// finds responses that are not AWS's. It is set in aws.Config.APIOptions, and therefore
// also applies to the SDK's credential sources, which have their own HTTP clients.
func checkResponses(most int) func(*middleware.Stack) error {
	check := middleware.DeserializeMiddlewareFunc("CheckResponse",
		func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
			out, metadata, err := next.HandleDeserialize(ctx, in)
			if resp, ok := out.RawResponse.(*smithyhttp.Response); ok {
				resp.Body = bounded(resp.Response, most)
				found := checkResponse(ctx, resp.Response)
				if err == nil {
					err = found
				}
			}
			return out, metadata, err
		})
	// Closest to the transport, so that all other middleware reads the limited body.
	return func(stack *middleware.Stack) error { return stack.Deserialize.Add(check, middleware.After) }
}

// maxPeekBytes is how much of an error body is read in advance.
const maxPeekBytes = 16 << 10

// checkResponse returns an error if the response is one of a proxy, gateway or captive
// portal. It removes the header Date, from which the SDK corrects the clock, unless AWS
// says that the clock is wrong: any server can send any date.
func checkResponse(ctx context.Context, resp *http.Response) error {
	date := resp.Header.Get("Date")
	resp.Header.Del("Date")
	portal := strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html")
	if resp.StatusCode < 300 && !portal {
		return nil
	}
	service := awsmiddleware.GetServiceID(ctx)
	if service != kinesis.ServiceID && service != sts.ServiceID {
		return nil
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxPeekBytes))
	rest := resp.Body
	if err != nil {
		rest = unreadable{resp.Body, err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(content), rest), rest}
	content = bytes.TrimSpace(content)
	// If the body cannot be read or is empty, the SDK returns an error.
	if err != nil || len(content) == 0 {
		return nil
	}
	code, message := xmlError(content)
	switch {
	case isAWS(resp, content) || service == sts.ServiceID && code != "":
		if resp.Header.Get("X-Amzn-Requestid") != "" && clockError.Match(content) {
			resp.Header.Set("Date", date)
			noteClock(ctx, date)
		}
		return nil
	case code != "":
		return &smithy.GenericAPIError{Code: code, Message: message}
	}
	// The rest has to be below the limit too.
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	return foreignError(content)
}

// clockError matches the errors of AWS about the time of a request.
var clockError = regexp.MustCompile(`RequestTimeTooSkewed|RequestExpired|RequestInTheFuture|Signature expired|Signature not yet current`)

// noteClock stores the offset by which the SDK corrects the clock.
func noteClock(ctx context.Context, date string) {
	server, err := http.ParseTime(date)
	if a, ok := ctx.Value(attemptKey{}).(*attempt); ok && err == nil {
		a.clockOffset.Store(int64(time.Until(server)))
	}
}

// isAWS reports whether the body of an error is in a format of Kinesis: CBOR, or JSON
// with an error code.
func isAWS(resp *http.Response, content []byte) bool {
	if resp.Header.Get("X-Amzn-Errortype") != "" || resp.Header.Get("Content-Type") == mediaCBOR {
		return true
	}
	if content[0] == '{' && len(content) == maxPeekBytes {
		return true
	}
	var body struct {
		Type string `json:"__type"`
		Code string
	}
	return json.Unmarshal(content, &body) == nil && body.Type+body.Code != ""
}

// xmlError returns the code and the message of an error in XML, which AWS sends if it
// does not recognize a request, and services in front of AWS send too: the content of
// the elements Code and Message, or a first element named like an exception.
func xmlError(content []byte) (code, message string) {
	d := xml.NewDecoder(bytes.NewReader(content))
	d.Strict = false
	element := ""
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch t := token.(type) {
		case xml.StartElement:
			if element = t.Name.Local; depth == 0 && strings.HasSuffix(element, "Exception") {
				code = element
			}
			depth++
		case xml.EndElement:
			element = ""
		case xml.CharData:
			switch element {
			case "Code":
				code = strings.TrimSpace(string(t))
			case "Message", "message":
				message = strings.TrimSpace(string(t))
			}
		}
	}
	if !errorCode.MatchString(code) {
		return "", ""
	}
	return code, message
}

// foreignError is the text of a response that is not AWS's.
type foreignError string

// maxForeignBytes limits the text of a foreignError. It contains the title of an HTML
// page.
const maxForeignBytes = 300

// markup matches what HTML does not show.
var markup = regexp.MustCompile(`(?is)<!--.*?-->|<style\b.*?</style>|<script\b.*?</script>|<[^>]*>`)

func (e foreignError) Error() string {
	text := strings.Join(strings.Fields(markup.ReplaceAllString(string(e), " ")), " ")
	if text == "" {
		text = string(e)
	}
	more := ""
	if len(text) > maxForeignBytes {
		text, more = text[:maxForeignBytes], "..."
	}
	return fmt.Sprintf("the response is not one of AWS: %q%s", text, more)
}

// proxyError is the refusal of a proxy to open a tunnel.
type proxyError struct {
	proxy  *url.URL
	status string
}

func (e *proxyError) Error() string {
	return fmt.Sprintf("the proxy %s://%s refuses CONNECT: %.100q", e.proxy.Scheme, e.proxy.Host, e.status)
}

// checkProxy checks a proxy's response to CONNECT. Without it, the error of net/http
// contains only the status text.
func checkProxy(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode != http.StatusOK {
		return &proxyError{proxy, resp.Status}
	}
	return nil
}

// bounded returns the response's body, limited to most bytes. A compressed body
// cannot be read: no request asks for compression, and decompression can make a body
// a thousand times larger.
func bounded(resp *http.Response, most int) io.ReadCloser {
	if encoding := resp.Header.Get("Content-Encoding"); encoding != "" && !strings.EqualFold(encoding, "identity") {
		return unreadable{resp.Body, fmt.Errorf("the response is compressed (%.20q), which was not asked for", encoding)}
	}
	return &boundedBody{ReadCloser: resp.Body, left: most}
}

type boundedBody struct {
	io.ReadCloser
	left int
}

// Read reads up to one byte more than the limit, to distinguish a body of exactly
// that size from a longer one.
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
