package kinesis

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/smithy-go/encoding/cbor"
)

const streamARNOfTest = "arn:aws:kinesis:eu-west-1:123456789012:stream/logs"

// lengths are near those at which the length prefix of a CBOR string grows.
var lengths = []int{0, 1, 23, 24, 255, 256, 65535, 65536, 1 << 20}

func TestEncode_DecodesToSameValues(t *testing.T) {
	for _, stream := range []string{"logs", streamARNOfTest} {
		for _, key := range []string{"k", "Zürich-東京-🚲", "\x00\"\\<&>\u2028", strings.Repeat("é", 256)} {
			for _, n := range lengths {
				data := bytes.Repeat([]byte{0xf3, 0, 'x'}, n/3+1)[:n]
				member := "StreamName"
				if stream == streamARNOfTest {
					member = "StreamARN"
				}
				want := map[string]string{member: stream, "PartitionKey": key, "Data": string(data)}

				var r request
				r.encode(JSON, stream, key, data)
				got := map[string]string{}
				if err := json.Unmarshal(r.bytes, &got); err != nil {
					t.Fatal(err)
				}
				decoded, err := base64.StdEncoding.DecodeString(got["Data"])
				if got["Data"] = string(decoded); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("JSON of %d bytes under %.20q: %v", n, key, err)
				}

				r.encode(CBOR, stream, key, data)
				v, err := cbor.Decode(r.bytes)
				if err != nil {
					t.Fatal(err)
				}
				got = map[string]string{}
				for name, value := range v.(cbor.Map) {
					switch value := value.(type) {
					case cbor.String:
						got[name] = string(value)
					case cbor.Slice:
						got[name] = string(value)
					}
				}
				if fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("CBOR of %d bytes under %.20q differs", n, key)
				}
			}
		}
	}
}

// cborServer accepts any request and sends response in CBOR.
func cborServer(t *testing.T, status int, header http.Header, response cbor.Value) (*httptest.Server, *http.Request, *[]byte) {
	t.Helper()
	var got http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = *r
		body, _ = io.ReadAll(r.Body)
		for name, values := range header {
			w.Header()[name] = values
		}
		w.Header().Set("Content-Type", mediaCBOR)
		w.WriteHeader(status)
		_, _ = w.Write(cbor.Encode(response))
	}))
	t.Cleanup(s.Close)
	return s, &got, &body
}

func cborSender(t *testing.T, url string) *Sender {
	t.Helper()
	isolate(t)
	return open(t, Settings{Connection: Connection{Region: "eu-west-1", KeyID: "A", SecretKey: "B", Endpoint: url}, WireFormat: CBOR, Version: "1"})
}

func TestCBOR_RequestAndResponse(t *testing.T) {
	server, request, body := cborServer(t, http.StatusOK, nil, cbor.Map{
		"SequenceNumber": cbor.String("42"), "ShardId": cbor.String("shardId-7"), "EncryptionType": cbor.String("KMS")})
	got, err := cborSender(t, server.URL).PutRecord(context.Background(), "logs", "key", []byte{1, 2})
	if err != nil || got != "shardId-7" {
		t.Errorf("%+v, %v", got, err)
	}
	want := append([]byte{0xa3, 0x6a}, "StreamNamedlogslPartitionKeyckeydData"...)
	if want = append(want, 0x42, 1, 2); !bytes.Equal(*body, want) {
		t.Errorf("body % x, want % x", *body, want)
	}
	for name, want := range map[string]string{"Content-Type": mediaCBOR, "X-Amz-Target": target, "Content-Length": fmt.Sprint(len(want))} {
		if got := request.Header.Get(name); got != want && name != "Content-Length" || name == "Content-Length" && fmt.Sprint(request.ContentLength) != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestCBOR_Errors(t *testing.T) {
	for name, test := range map[string]struct {
		header   http.Header
		response cbor.Value
		status   int
		want     *Cause
	}{
		"in the body":          {nil, cbor.Map{"__type": cbor.String("ProvisionedThroughputExceededException"), "message": cbor.String("slow down")}, 400, CauseThrottled},
		"with a namespace":     {nil, cbor.Map{"__type": cbor.String("com.amazonaws.kinesis#ResourceNotFoundException")}, 400, CauseStreamNotFound},
		"in the header":        {http.Header{"X-Amzn-Errortype": {"KMSThrottlingException:http://internal/"}}, cbor.Map{}, 400, CauseThrottled},
		"of the service":       {nil, cbor.Map{"__type": cbor.String("InternalFailure")}, 500, CauseInternal},
		"not a map":            {nil, cbor.String("?"), 503, CauseInternal},
		"without its sequence": {nil, cbor.Map{"ShardId": cbor.String("shardId-7")}, 200, CauseBadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			server, _, _ := cborServer(t, test.status, test.header, test.response)
			_, err := cborSender(t, server.URL).PutRecord(context.Background(), "logs", "key", []byte{1})
			if got := Classify(err); err == nil || got != test.want {
				t.Errorf("%s: %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestCBOR_ResponseInJSON(t *testing.T) {
	isolate(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"no"}`)
	}))
	defer server.Close()
	_, err := cborSender(t, server.URL).PutRecord(context.Background(), "logs", "key", []byte{1})
	if got := Classify(err); got != CauseAccessDenied {
		t.Errorf("%s: %v", got, err)
	}
}

func TestBody_NotReadAfterRelease(t *testing.T) {
	var b body
	b.r.Reset([]byte("text"))
	if n, err := b.Read(make([]byte, 2)); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	b.release()
	if n, err := b.Read(make([]byte, 2)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

func BenchmarkEncode(b *testing.B) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for _, format := range []WireFormat{JSON, CBOR} {
		b.Run(string(format), func(b *testing.B) {
			var r request
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				r.encode(format, "logs", "key", data)
			}
		})
	}
}
