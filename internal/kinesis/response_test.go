package kinesis

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"out_kinesis_agg/test/kit/fakekinesis"
)

const (
	gib = 1 << 30
	// allowedBytes is the most that the sender and the fake endpoint may allocate for
	// a response.
	allowedBytes = 64 << 20
)

// zeros writes n zero bytes, or fewer if the client closes the connection.
func zeros(n int) func(io.Writer) {
	return func(w io.Writer) {
		block := make([]byte, 64<<10)
		for ; n > 0; n -= len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
}

// packedZeros is a gzip stream that unpacks to 16 MiB.
var packedZeros = sync.OnceValue(func() []byte {
	var member bytes.Buffer
	z := gzip.NewWriter(&member)
	zeros(16 << 20)(z)
	_ = z.Close()
	return member.Bytes()
})

// bomb writes a gzip stream that unpacks to n zero bytes.
func bomb(n int) func(io.Writer) {
	member := packedZeros()
	return func(w io.Writer) {
		for ; n > 0; n -= 16 << 20 {
			if _, err := w.Write(member); err != nil {
				return
			}
		}
	}
}

// allocated returns how many bytes f allocates in total, including freed memory.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestResponse_HugeIsNotRead(t *testing.T) {
	isolate(t)
	for _, format := range []WireFormat{JSON, CBOR} {
		media := map[WireFormat]string{JSON: mediaJSON, CBOR: mediaCBOR}[format]
		for _, status := range []int{200, 400, 429, 500, 503} {
			for _, packed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %d packed %v", format, status, packed), func(t *testing.T) {
					header, write := map[string]string{"Content-Type": media}, zeros(gib)
					if packed {
						header["Content-Encoding"], write = "gzip", bomb(gib)
					}
					checkHuge(t, format, fakekinesis.Body(status, header, write), status, packed)
				})
			}
		}
	}
}

func checkHuge(t *testing.T, format WireFormat, fault fakekinesis.Fault, status int, packed bool) {
	server := start(t, fakekinesis.Options{Fault: script(fakekinesis.OK, fault)})
	s := settings(server)
	s.AutoRetry, s.WireFormat = true, format
	sender := open(t, s)
	put(t, sender) // allocates what is allocated only once
	var c *Cause
	var err error
	if n := allocated(func() { c, err = putFails(t, sender) }); n > allowedBytes {
		t.Errorf("%d bytes allocated", n)
	}
	if packed {
		// The response is classified by its status.
		if !strings.Contains(err.Error(), `the response is compressed ("gzip"), which was not asked for`) {
			t.Errorf("got %v", err)
		}
		if want := classifyStatus(status); c != want {
			t.Errorf("got %+v, want %+v", c, want)
		}
	} else if c != CauseBadResponse || !strings.Contains(err.Error(), "the response is too large") {
		t.Errorf("%v: got %v", err, c)
	}
	if n := server.Counts().PutRecords; n != 2 {
		t.Errorf("%d requests, want 2: AutoRetry must not repeat after an unreadable response", n)
	}
}

func TestResponse_HugeFromSTS(t *testing.T) {
	isolate(t)
	token := write(t, "token", "web-token")
	for _, webIdentity := range []bool{false, true} {
		for _, status := range []int{200, 403, 500} {
			for _, packed := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d packed %v web identity %v", status, packed, webIdentity), func(t *testing.T) {
					header, write := map[string]string{"Content-Type": "text/xml"}, zeros(gib)
					if packed {
						header["Content-Encoding"], write = "gzip", bomb(gib)
					}
					server := start(t, fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
						return fakekinesis.RoleResponse{Fault: fakekinesis.Body(status, header, write)}
					}})
					s := settings(server)
					s.RoleARN = "arn:aws:iam::123456789012:role/writer"
					if webIdentity {
						t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", token)
						t.Setenv("AWS_ROLE_ARN", s.RoleARN)
						s.RoleARN, s.KeyID, s.SecretKey = "", "", ""
					}
					sender := open(t, s)
					var c *Cause
					var err error
					if n := allocated(func() { c, err = putFails(t, sender) }); n > allowedBytes {
						t.Errorf("%d bytes allocated", n)
					}
					if want := classifyStatus(status); packed && c != want {
						t.Errorf("%v: got %v", err, c)
					}
					if !packed && c != CauseBadResponse {
						t.Errorf("%v: got %v", err, c)
					}
				})
			}
		}
	}
}

// Containers and EC2 provide credentials over HTTP, through other HTTP clients.
func TestResponse_HugeFromCredentialSource(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	for _, packed := range []bool{false, true} {
		huge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if packed {
				w.Header().Set("Content-Encoding", "gzip")
				bomb(gib)(w)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `{"AccessKeyId":"`)
			zeros(gib)(w)
		}))
		defer huge.Close()
		for name, env := range map[string]map[string]string{
			"container": {"AWS_CONTAINER_CREDENTIALS_FULL_URI": huge.URL},
			"EC2":       {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": huge.URL},
		} {
			t.Run(fmt.Sprintf("%s packed %v", name, packed), func(t *testing.T) {
				for k, v := range env {
					t.Setenv(k, v)
				}
				s := settings(server)
				s.KeyID, s.SecretKey = "", ""
				sender := open(t, s)
				if n := allocated(func() { putFails(t, sender) }); n > allowedBytes {
					t.Errorf("%d bytes allocated", n)
				}
			})
		}
	}
}

func TestResponse_SlowTimesOut(t *testing.T) {
	isolate(t)
	// A byte at a time for as long as the client reads.
	trickle := func(w io.Writer) {
		for {
			if _, err := w.Write([]byte(" ")); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	for _, media := range []string{mediaJSON, mediaCBOR} {
		for _, status := range []int{200, 500} {
			t.Run(fmt.Sprintf("%s %d", media, status), func(t *testing.T) {
				server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Body(status, map[string]string{"Content-Type": media}, trickle))})
				s := settings(server)
				s.RequestTimeout = 100 * time.Millisecond
				if c, err := putFailsInTime(t, s); c != CauseTimeout {
					t.Errorf("%v: got %v", err, c)
				}
			})
		}
	}
	t.Run("STS", func(t *testing.T) {
		server := start(t, fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
			return fakekinesis.RoleResponse{Fault: fakekinesis.Body(200, nil, trickle)}
		}})
		s := settings(server)
		s.RoleARN = "arn:aws:iam::123456789012:role/writer"
		s.RequestTimeout = 100 * time.Millisecond
		putFailsInTime(t, s)
		// The request itself ends too, not only PutRecord.
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.AwaitDisconnect(ctx); err != nil {
			t.Error(err)
		}
	})
}

// putFailsInTime is putFails for a sender with these settings. It checks that
// PutRecord ends within RequestTimeout and a second.
func putFailsInTime(t *testing.T, s Settings) (*Cause, error) {
	t.Helper()
	sender := open(t, s)
	began := time.Now()
	c, err := putFails(t, sender)
	if took := time.Since(began); took > s.RequestTimeout+time.Second {
		t.Errorf("took %s", took)
	}
	return c, err
}

func TestResponse_LimitIsExact(t *testing.T) {
	isolate(t)
	for _, more := range []int{0, 1} {
		body := []byte(`{"SequenceNumber":"1"}`)
		body = append(body, bytes.Repeat([]byte(" "), maxResponseBytes-len(body)+more)...)
		server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Body(200, map[string]string{"Content-Type": mediaJSON},
			func(w io.Writer) { _, _ = w.Write(body) }))})
		_, err := open(t, settings(server)).PutRecord(context.Background(), "logs", "key", []byte("data"))
		if (err != nil) != (more > 0) {
			t.Errorf("%d bytes more than the limit: %v", more, err)
		}
	}
}

// Bodies within the limit that need as much memory as possible when decoded.
func TestResponse_HostileBodyIsCheap(t *testing.T) {
	isolate(t)
	repeat := func(head, unit string) []byte {
		return append([]byte(head), bytes.Repeat([]byte(unit), (maxResponseBytes-len(head))/len(unit))...)
	}
	for name, test := range map[string]struct {
		media string
		body  []byte
	}{
		"JSON nested lists":       {mediaJSON, repeat(`{"x":`, "[")},
		"JSON nested maps":        {mediaJSON, repeat("", `{"x":`)},
		"JSON empty lists":        {mediaJSON, repeat(`{"x":[`, "[],")},
		"CBOR nested lists":       {mediaCBOR, repeat("", "\x81")},
		"CBOR nested tags":        {mediaCBOR, repeat("", "\xc1")},
		"CBOR nested open lists":  {mediaCBOR, repeat("", "\x9f")},
		"CBOR list of empty maps": {mediaCBOR, repeat("\x9f", "\xa0")},
		"CBOR long text":          {mediaCBOR, []byte("\x7b\xff\xff\xff\xff\xff\xff\xff\xff")},
		"CBOR long list":          {mediaCBOR, []byte("\x9b\x7f\xff\xff\xff\xff\xff\xff\xff")},
		"CBOR chunks of text":     {mediaCBOR, repeat("\x7f", "\x61x")},
	} {
		for _, status := range []int{200, 400} {
			t.Run(fmt.Sprintf("%s %d", name, status), func(t *testing.T) {
				server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Body(status, map[string]string{"Content-Type": test.media},
					func(w io.Writer) { _, _ = w.Write(test.body) }))})
				sender := open(t, settings(server))
				if n := allocated(func() { putFails(t, sender) }); n > allowedBytes {
					t.Errorf("%d bytes allocated", n)
				}
			})
		}
	}
}

func TestResponse_HugeHeaders(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Body(200, map[string]string{"X-Filler": strings.Repeat("x", 2*maxResponseHeaderBytes)},
		func(io.Writer) {}))})
	c, err := putFails(t, open(t, settings(server)))
	if c.Operator || !strings.Contains(err.Error(), "response headers exceeded") {
		t.Errorf("%v: got %v", err, c)
	}
}
