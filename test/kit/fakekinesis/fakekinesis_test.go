package fakekinesis

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/smithy-go/encoding/cbor"
)

const signed = "AWS4-HMAC-SHA256 Credential=AKID/20300101/eu-west-1/kinesis/aws4_request, SignedHeaders=host, Signature=00"

// client makes connections that end with the test.
func client(t testing.TB, s *Server) *http.Client {
	transport := &http.Transport{}
	if s.http.TLS != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: s.CertPool()}
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func run(t testing.TB, o Options) *Server {
	s := Start(o)
	t.Cleanup(s.Close)
	return s
}

// post sends a body as a signed PutRecord, changed by edit.
func post(t testing.TB, s *Server, body string, edit func(http.Header)) (status int, response string, err error) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, s.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecord")
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("Authorization", signed)
	if edit != nil {
		edit(r.Header)
	}
	resp, err := client(t, s).Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func putBody(key string, data []byte) string {
	b, _ := json.Marshal(map[string]any{"StreamName": "logs", "PartitionKey": key, "Data": data})
	return string(b)
}

func TestPutRecord_Fields(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		want Record
	}{
		"data first":      {`{"Data":"ZGF0YQ==","PartitionKey":"k","StreamName":"logs"}`, Record{Stream: "logs", PartitionKey: "k"}},
		"data last":       {`{"StreamName":"logs","PartitionKey":"k","Data":"ZGF0YQ=="}`, Record{Stream: "logs", PartitionKey: "k"}},
		"spaces":          {"{ \"Data\" : \"ZGF0YQ==\" ,\n\"PartitionKey\" : \"k\", \"StreamName\":\"logs\" }", Record{Stream: "logs", PartitionKey: "k"}},
		"key named Data":  {`{"PartitionKey":"Data","Data":"ZGF0YQ==","StreamName":"logs"}`, Record{Stream: "logs", PartitionKey: "Data"}},
		"escapes in key":  {`{"PartitionKey":"\"\u00e9\ud83d\ude00\\","Data":"ZGF0YQ==","StreamName":"logs"}`, Record{Stream: "logs", PartitionKey: `"é😀\`}},
		"ARN":             {`{"StreamARN":"arn:aws:kinesis:r:1:stream/logs","PartitionKey":"k","Data":"ZGF0YQ=="}`, Record{Stream: "logs", StreamARN: "arn:aws:kinesis:r:1:stream/logs", PartitionKey: "k"}},
		"hash key":        {`{"StreamName":"logs","ExplicitHashKey":"7","PartitionKey":"k","Data":"ZGF0YQ=="}`, Record{Stream: "logs", ExplicitHashKey: "7", PartitionKey: "k"}},
		"key of 256 runs": {`{"StreamName":"logs","PartitionKey":"` + strings.Repeat("é", 256) + `","Data":"ZGF0YQ=="}`, Record{Stream: "logs", PartitionKey: strings.Repeat("é", 256)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := run(t, Options{})
			if status, response, err := post(t, s, test.body, nil); status != 200 {
				t.Fatal(status, response, err)
			}
			got := s.Records()[0]
			if string(got.Data) != "data" || got.SequenceNumber == "" || got.Received.IsZero() {
				t.Errorf("got %+v", got)
			}
			got.Data, got.SequenceNumber, got.Received, got.Request = nil, "", time.Time{}, 0
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestParse_EscapedSlash(t *testing.T) {
	data := []byte{0xff, 0xff, 0xff}
	p, _, err := parsePut(mediaJSON, false, []byte(`{"Data":"`+strings.ReplaceAll(base64.StdEncoding.EncodeToString(data), "/", `\/`)+`","PartitionKey":"k"}`), nil)
	if err != nil || !bytes.Equal(p.Records[0].Data, data) || p.Records[0].PartitionKey != "k" {
		t.Errorf("got %+v, %v", p, err)
	}
}

func TestPut_Formats(t *testing.T) {
	entries := []entry{{"a", "", []byte("first")}, {"b", "7", nil}, {"Data", "", []byte(`"Data":"x"`)}}
	members := func(e entry) map[string]any {
		m := map[string]any{"PartitionKey": e.PartitionKey, "Data": append([]byte{}, e.Data...)}
		if e.ExplicitHashKey != "" {
			m["ExplicitHashKey"] = e.ExplicitHashKey
		}
		return m
	}
	cborOf := func(m map[string]any) cbor.Map {
		out := cbor.Map{}
		for name, v := range m {
			if b, ok := v.([]byte); ok {
				out[name] = cbor.Slice(b)
			} else {
				out[name] = cbor.String(v.(string))
			}
		}
		return out
	}
	for _, media := range []string{mediaJSON, mediaCBOR} {
		for _, many := range []bool{false, true} {
			for _, onRecord := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s, PutRecords %v, OnRecord %v", media, many, onRecord), func(t *testing.T) {
					var got []Record
					o := Options{}
					if onRecord {
						o.OnRecord = func(r Record) {
							r.Data = bytes.Clone(r.Data)
							got = append(got, r)
						}
					}
					s := run(t, o)
					want := entries[:1]
					request, list, action := members(entries[0]), cbor.List{}, "PutRecord"
					body := cborOf(request)
					if many {
						want, action = entries, "PutRecords"
						var all []map[string]any
						for _, e := range entries {
							all = append(all, members(e))
							list = append(list, cborOf(members(e)))
						}
						request, body = map[string]any{"Records": all}, cbor.Map{"Records": list}
					}
					request["StreamName"], body["StreamName"] = "logs", cbor.String("logs")
					text, _ := json.Marshal(request)
					if media == mediaCBOR {
						text = cbor.Encode(body)
					}
					edit := func(h http.Header) {
						h.Set("Content-Type", media)
						h.Set("X-Amz-Target", "Kinesis_20131202."+action)
					}
					status, response, err := post(t, s, string(text), edit)
					if status != 200 || err != nil || strings.Count(response, "4965") != len(want) {
						t.Fatalf("%d %q %v", status, response, err)
					}
					if _, err := cbor.Decode([]byte(response)); (err == nil) != (media == mediaCBOR) {
						t.Errorf("the response is %q", response)
					}
					if !onRecord {
						got = s.Records()
					}
					if len(got) != len(want) {
						t.Fatalf("%d records, want %d", len(got), len(want))
					}
					size := 0
					for i, r := range got {
						size += len(r.Data)
						if w := want[i]; r.PartitionKey != w.PartitionKey || r.ExplicitHashKey != w.ExplicitHashKey || !bytes.Equal(r.Data, w.Data) || r.Stream != "logs" {
							t.Errorf("record %d: %+v, want %+v", i, r, w)
						}
					}
					if c := s.Counts(); c.PutRecords != 1 || c.Accepted != len(want) || c.DataBytes != int64(size) || c.WireBytes <= int64(len(text)) {
						t.Errorf("%+v", c)
					}
				})
			}
		}
	}
}

func putRecords(h http.Header) { h.Set("X-Amz-Target", "Kinesis_20131202.PutRecords") }

func TestPutRecord_BadRequests(t *testing.T) {
	for name, test := range map[string]struct {
		body string
		edit func(http.Header)
		code string
	}{
		"unsigned":          {putBody("k", nil), func(h http.Header) { h.Del("Authorization") }, "MissingAuthenticationTokenException"},
		"not CBOR":          {putBody("k", nil), func(h http.Header) { h.Set("Content-Type", mediaCBOR) }, "SerializationException"},
		"unknown format":    {putBody("k", nil), func(h http.Header) { h.Set("Content-Type", "text/plain") }, "SerializationException"},
		"no records":        {`{"StreamName":"logs","Records":[]}`, putRecords, "ValidationException"},
		"501 records":       {`{"StreamName":"logs","Records":[` + strings.Repeat(`{"Data":"","PartitionKey":"k"},`, 500) + `{"Data":"","PartitionKey":"k"}]}`, putRecords, "ValidationException"},
		"a record of many":  {`{"StreamName":"logs","Records":[{"Data":"","PartitionKey":"k"},{"PartitionKey":"k"}]}`, putRecords, "SerializationException"},
		"another action":    {putBody("k", nil), func(h http.Header) { h.Set("X-Amz-Target", "Kinesis_20131202.DeleteStream") }, "UnknownOperationException"},
		"not JSON":          {`{"Data":"ZGF0YQ=="`, nil, "SerializationException"},
		"no data":           {`{"StreamName":"logs","PartitionKey":"k"}`, nil, "SerializationException"},
		"data without end":  {`{"StreamName":"logs","PartitionKey":"k","Data":"ZGF0`, nil, "SerializationException"},
		"data not base64":   {`{"StreamName":"logs","PartitionKey":"k","Data":"%"}`, nil, "SerializationException"},
		"no key":            {putBody("", []byte("x")), nil, "ValidationException"},
		"key too long":      {putBody(strings.Repeat("k", 257), []byte("x")), nil, "ValidationException"},
		"no stream":         {`{"PartitionKey":"k","Data":"ZGF0YQ=="}`, nil, "InvalidArgumentException"},
		"no such stream":    {`{"StreamName":"others","PartitionKey":"k","Data":"ZGF0YQ=="}`, nil, "ResourceNotFoundException"},
		"one byte too much": {putBody("key", make([]byte, 100-3+1)), nil, "InvalidArgumentException"},
		"more than any":     {putBody("k", make([]byte, MaxRecordLimitBytes+1)), nil, "ValidationException"},
	} {
		t.Run(name, func(t *testing.T) {
			s := run(t, Options{Streams: []string{"logs"}, RecordLimitBytes: 100})
			status, response, err := post(t, s, test.body, test.edit)
			if status != 400 || !strings.Contains(response, test.code) {
				t.Errorf("%d %s %v", status, response, err)
			}
			if n := s.Counts().Accepted; n != 0 {
				t.Errorf("%d accepted", n)
			}
		})
	}
}

func TestRecordLimit_CountsKeyAndData(t *testing.T) {
	s := run(t, Options{})
	body := putBody("key", make([]byte, DefaultRecordLimitBytes-3))
	if status, response, err := post(t, s, body, nil); status != 200 {
		t.Error(status, response, err)
	}
}

func TestFaults(t *testing.T) {
	for name, test := range map[string]struct {
		fault    Fault
		status   int // 0: no response
		body     string
		accepted int
	}{
		"OK":                {OK, 200, `"SequenceNumber":"4965`, 1},
		"Error":             {Error(418, "TeapotException", "short and stout"), 418, `{"__type":"TeapotException","message":"short and stout"}`, 0},
		"Status":            {Status(503), 503, "<html>", 0},
		"ResetUnread":       {ResetUnread, 0, "", 0},
		"ResetRead":         {ResetRead, 0, "", 0},
		"ResponseLost":      {ResponseLost, 0, "", 1},
		"ResponseTruncated": {ResponseTruncated, 200, `{"`, 1},
		"NoNumber":          {NoNumber, 200, `{"ShardId":"shardId-000000000000"}`, 1},
		"Hold, closed":      {Hold(closed()), 200, `"SequenceNumber":"4965`, 1},
	} {
		for _, tls := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, TLS %v", name, tls), func(t *testing.T) {
				s := run(t, Options{TLS: tls, Fault: func(n int, r *Request) Fault {
					if key, region, service := r.Signer(); n != 1 || key != "AKID" || region != "eu-west-1" || service != "kinesis" {
						t.Errorf("n %d, signed by %s for %s in %s", n, key, service, region)
					}
					return test.fault
				}})
				status, response, err := post(t, s, putBody("k", []byte("data")), nil)
				if status != test.status || !strings.Contains(response, test.body) {
					t.Errorf("%d %s %v", status, response, err)
				}
				if broken := status == 0 || name == "ResponseTruncated"; (err != nil) != broken {
					t.Errorf("error %v", err)
				}
				if c := s.Counts(); c.PutRecords != 1 || c.Accepted != test.accepted || len(s.Records()) != test.accepted || len(s.Requests()) != 1 {
					t.Errorf("%+v", c)
				}
			})
		}
	}
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func TestHold_ClientGone(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := run(t, Options{Fault: func(int, *Request) Fault { cancel(); return Hold(nil) }})
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.URL(), strings.NewReader(putBody("k", []byte("x"))))
	r.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecord")
	if _, err := client(t, s).Do(r); err == nil {
		t.Error("got a response")
	}
	gone, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := s.AwaitDisconnect(gone); err != nil {
		t.Error(err)
	}
	if s.Counts().Accepted != 0 {
		t.Error("accepted")
	}
}

func TestAwaitDisconnect_Canceled(t *testing.T) {
	s := run(t, Options{})
	if status, _, err := post(t, s, putBody("k", []byte("x")), nil); status != 200 {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.AwaitDisconnect(ctx); err == nil {
		t.Error("no error with a connection in the client's pool")
	}
}

func TestOnRecord_KeepsNothing(t *testing.T) {
	var mu sync.Mutex
	var got []string
	s := run(t, Options{OnRecord: func(r Record) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.SequenceNumber+string(r.Data))
	}})
	for _, data := range []string{"one", "2"} {
		if status, response, err := post(t, s, putBody("k", []byte(data)), nil); status != 200 {
			t.Fatal(response, err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) != 2 || !strings.HasSuffix(got[0], "1one") || !strings.HasSuffix(got[1], "22") || !slices.IsSorted(got) {
		t.Errorf("got %q", got)
	}
	if c := s.Counts(); c.Accepted != 2 || len(s.Records()) != 0 || len(s.Requests()) != 0 {
		t.Errorf("%+v", c)
	}
}

func TestConcurrentUse(t *testing.T) {
	s := run(t, Options{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 20 {
				if status, response, err := post(t, s, putBody("k", []byte("data")), nil); status != 200 {
					t.Error(response, err)
				}
			}
		})
	}
	all.Wait()
	records := s.Records()
	if len(records) != 160 || !slices.IsSortedFunc(records, func(a, b Record) int { return strings.Compare(a.SequenceNumber, b.SequenceNumber) }) {
		t.Errorf("%d records, or out of order", len(records))
	}
}

func TestRole(t *testing.T) {
	end := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s := run(t, Options{Role: func(n int, r RoleRequest) RoleResponse {
		switch n {
		case 1:
			return RoleResponse{Expires: end}
		case 2:
			return RoleResponse{Fault: Error(403, "AccessDenied", "not <you>")}
		case 3:
			return RoleResponse{Fault: ResetRead}
		}
		return RoleResponse{}
	}})
	ask := func(action string) string {
		resp, err := client(t, s).PostForm(s.URL(), url.Values{
			"Action": {action}, "RoleArn": {"arn:aws:iam::1:role/r"}, "ExternalId": {"x"}, "RoleSessionName": {"me"}, "DurationSeconds": {"900"},
		})
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, " ", string(b))
	}
	for i, want := range []string{
		"200 <AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>ASIAROLE00000001</AccessKeyId>" +
			"<SecretAccessKey>role-secret-key-1</SecretAccessKey><SessionToken>role-session-token-1</SessionToken>" +
			"<Expiration>2030-01-02T03:04:05Z</Expiration></Credentials>" +
			"<AssumedRoleUser><Arn>arn:aws:iam::1:role/r/me</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>",
		"403 <ErrorResponse><Error><Code>AccessDenied</Code><Message>not &lt;you&gt;</Message></Error></ErrorResponse>",
		"Post",
		"200 ",
	} {
		if got := ask("AssumeRole"); !strings.HasPrefix(got, want) {
			t.Errorf("response %d: %s", i+1, got)
		}
	}
	if got := ask("GetCallerIdentity"); !strings.Contains(got, "InvalidAction") {
		t.Error(got)
	}
	asked := s.RoleRequests()
	if len(asked) != 5 || s.Counts().RoleRequests != 5 {
		t.Fatalf("%d requests", len(asked))
	}
	if r := asked[0]; r.RoleARN != "arn:aws:iam::1:role/r" || r.ExternalID != "x" || r.SessionName != "me" || r.DurationSeconds != "900" {
		t.Errorf("%+v", r)
	}
}

func TestDescribeStreamSummary(t *testing.T) {
	s := run(t, Options{Streams: []string{"logs"}, RecordLimitBytes: 3 << 20})
	describe := func(h http.Header) { h.Set("X-Amz-Target", "Kinesis_20131202.DescribeStreamSummary") }
	_, response, err := post(t, s, `{"StreamName":"logs"}`, describe)
	if !strings.Contains(response, `"MaxRecordSizeInKiB":3072,"OpenShardCount":1,"RecordDistributionStrategy":"USER_PARTITION_KEY"`) {
		t.Error(response, err)
	}
	if _, response, _ := post(t, s, `{"StreamName":"others"}`, describe); !strings.Contains(response, "ResourceNotFoundException") {
		t.Error(response)
	}
}

func TestTLS_UntrustedByDefault(t *testing.T) {
	s := run(t, Options{TLS: true})
	if _, err := http.Get(s.URL()); err == nil {
		t.Error("trusted")
	}
	if !bytes.HasPrefix(s.CAPEM(), []byte("-----BEGIN CERTIFICATE-----")) {
		t.Errorf("%s", s.CAPEM())
	}
}

func BenchmarkPutRecord(b *testing.B) {
	data := make([]byte, MaxRecordLimitBytes-1)
	benchmark(b, "PutRecord", putBody("k", data), len(data))
}

// BenchmarkPutRecords sends what the engine's kinesis_streams sends.
func BenchmarkPutRecords(b *testing.B) {
	const dataBytes = 330
	entries := make([]entry, maxPutRecords)
	for i := range entries {
		entries[i] = entry{PartitionKey: fmt.Sprint(i), Data: make([]byte, dataBytes)}
	}
	body, _ := json.Marshal(put{StreamName: "logs", Records: entries})
	benchmark(b, "PutRecords", strings.NewReplacer(`,"StreamARN":""`, "", `,"ExplicitHashKey":""`, "").Replace(string(body)), len(entries)*dataBytes)
}

func benchmark(b *testing.B, action, body string, dataBytes int) {
	s := run(b, Options{RecordLimitBytes: MaxRecordLimitBytes, OnRecord: func(Record) {}})
	c := client(b, s)
	b.SetBytes(int64(dataBytes))
	b.ReportAllocs()
	for b.Loop() {
		r, _ := http.NewRequest(http.MethodPost, s.URL(), strings.NewReader(body))
		r.Header.Set("X-Amz-Target", "Kinesis_20131202."+action)
		r.Header.Set("Content-Type", mediaJSON)
		r.Header.Set("Authorization", signed)
		resp, err := c.Do(r)
		if err != nil || resp.StatusCode != 200 {
			b.Fatal(resp, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}
