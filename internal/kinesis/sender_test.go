package kinesis

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"out_kinesis_agg/test/kit/fakekinesis"
)

const (
	streamARN = "arn:aws:kinesis:eu-west-1:123456789012:stream/logs"
	secretKey = "static-secret-key"
	patience  = 10 * time.Second // timeout for steps that should take milliseconds
)

// isolate hides the AWS configuration of this machine from the test.
func isolate(t testing.TB) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "AWS_") {
			t.Setenv(name, "")
		}
	}
	nowhere := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", nowhere)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", nowhere)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
}

func start(t testing.TB, o fakekinesis.Options) *fakekinesis.Server {
	server := fakekinesis.Start(o)
	t.Cleanup(server.Close)
	return server
}

// settings returns the settings for a sender to server.
func settings(server *fakekinesis.Server) Settings {
	return Settings{Version: "1.2.3", Connection: Connection{
		Region: "eu-central-1", KeyID: "AKIDSTATIC", SecretKey: secretKey,
		Endpoint: server.URL(), STSEndpoint: server.URL(), RequestTimeout: patience,
	}}
}

func open(t testing.TB, s Settings) *Sender {
	t.Helper()
	sender, err := Open(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sender.Close)
	return sender
}

func put(t testing.TB, s *Sender) {
	t.Helper()
	if _, err := s.PutRecord(context.Background(), "logs", "key", []byte("data")); err != nil {
		t.Fatal(err)
	}
}

// putFails returns the classification and the error of a PutRecord that must fail.
func putFails(t testing.TB, s *Sender) (*Cause, error) {
	t.Helper()
	_, err := s.PutRecord(context.Background(), "logs", "key", []byte("data"))
	if err == nil {
		t.Fatal("no error")
	}
	return Classify(err), err
}

// script responds to request n with fault n, and with OK after the last fault.
func script(faults ...fakekinesis.Fault) func(int, *fakekinesis.Request) fakekinesis.Fault {
	return func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n <= len(faults) {
			return faults[n-1]
		}
		return fakekinesis.OK
	}
}

// gate returns a function that blocks requests 1 to n until all of them have arrived,
// so that each of n workers has a connection of its own.
func gate(n int) func(request int) {
	var missing sync.WaitGroup
	missing.Add(n)
	return func(request int) {
		if request <= n {
			missing.Done()
			missing.Wait()
		}
	}
}

func TestPutRecord_SendsKeyAndData(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	sender := open(t, settings(server))
	everyByte := make([]byte, 256)
	for i := range everyByte {
		everyByte[i] = byte(i)
	}
	for i, test := range []struct {
		stream, key string
		data        []byte
	}{
		{"logs", "key", []byte("data")},
		{streamARN, "key", []byte("data")},
		{"logs", `quote " backslash \ slash / <&>`, everyByte},
		{"logs", "schlüssel-鍵-🔑-\u2028", []byte{0}},
		{"logs", strings.Repeat("é", 256), bytes.Repeat([]byte("x"), 100_000)},
	} {
		shardID, err := sender.PutRecord(context.Background(), test.stream, test.key, test.data)
		if err != nil {
			t.Fatal(err)
		}
		got := server.Records()[i]
		if got.Stream != "logs" || got.PartitionKey != test.key || !bytes.Equal(got.Data, test.data) {
			t.Errorf("received stream %s, key %q, %d bytes", got.Stream, got.PartitionKey, len(got.Data))
		}
		if (got.StreamARN != "") != (test.stream == streamARN) {
			t.Errorf("%s was sent with ARN %q", test.stream, got.StreamARN)
		}
		if got.ExplicitHashKey != "" {
			t.Error("an ExplicitHashKey was sent")
		}
		if shardID != "shardId-000000000000" {
			t.Errorf("shard %q", shardID)
		}
	}
	request := server.Requests()[0]
	if agent := request.Header.Get("User-Agent"); !strings.Contains(agent, "out_kinesis_agg/1.2.3") {
		t.Errorf("user agent %s", agent)
	}
	if key, region, service := request.Signer(); key != "AKIDSTATIC" || region != "eu-central-1" || service != "kinesis" {
		t.Errorf("signed by %s for %s in %s", key, service, region)
	}
	if n := server.Counts().Connections; n != 1 {
		t.Errorf("%d connections for consecutive requests", n)
	}
}

func TestPutRecord_Faults(t *testing.T) {
	isolate(t)
	for name, test := range map[string]struct {
		fault    fakekinesis.Fault
		cause    *Cause
		accepted int
	}{
		"throttled":     {fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded for shard"), CauseThrottled, 0},
		"not found":     {fakekinesis.Error(400, "ResourceNotFoundException", "Stream logs not found"), CauseStreamNotFound, 0},
		"denied":        {fakekinesis.Error(400, "AccessDeniedException", "not authorized to perform: kinesis:PutRecord"), CauseAccessDenied, 0},
		"KMS":           {fakekinesis.Error(400, "KMSAccessDeniedException", "no"), CauseKMS, 0},
		"signature":     {fakekinesis.Error(400, "InvalidSignatureException", "Signature expired: 20200101T000000Z is now earlier than 20210101T000000Z"), CauseClockSkew, 0},
		"refused":       {fakekinesis.Error(400, "ValidationException", "invalid"), CauseRefused, 0},
		"500":           {fakekinesis.Error(500, "InternalFailure", ""), CauseInternal, 0},
		"bare 503":      {fakekinesis.Status(503), CauseInternal, 0},
		"bare 429":      {fakekinesis.Status(429), CauseThrottled, 0},
		"bare 403":      {fakekinesis.Status(403), CauseRefused, 0},
		"reset unread":  {fakekinesis.ResetUnread, CauseConnection, 0},
		"reset read":    {fakekinesis.ResetRead, CauseConnection, 0},
		"response lost": {fakekinesis.ResponseLost, CauseConnection, 1},
		"truncated":     {fakekinesis.ResponseTruncated, CauseBadResponse, 1},
		"no number":     {fakekinesis.NoNumber, CauseBadResponse, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_MAX_ATTEMPTS", "5") // must not enable the SDK's retries
			server := start(t, fakekinesis.Options{Fault: script(test.fault)})
			sender := open(t, settings(server))
			c, err := putFails(t, sender)
			if c != test.cause {
				t.Errorf("%v: got %v", err, c)
			}
			if c := server.Counts(); c.PutRecords != 1 || c.Accepted != test.accepted {
				t.Errorf("%d requests, %d accepted", c.PutRecords, c.Accepted)
			}
			if text := err.Error(); !strings.HasPrefix(text, "kinesis: put record to logs in eu-central-1: ") {
				t.Errorf("error text %q", text)
			}
			put(t, sender) // the next request succeeds
		})
	}
}

func TestPutRecord_TimesOut(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Hold(nil))})
	s := settings(server)
	s.AutoRetry = true
	s.RequestTimeout = time.Second // time to connect, also under load
	if c, err := putFails(t, open(t, s)); c != CauseTimeout {
		t.Errorf("%v: got %v", err, c)
	}
	if c := server.Counts(); c.PutRecords != 1 || c.Accepted != 0 {
		t.Errorf("%v: a request that timed out must not be repeated", c)
	}
}

func TestPutRecord_TimesOutInSTS(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
		return fakekinesis.RoleResponse{Fault: fakekinesis.Hold(nil)}
	}})
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	s.RequestTimeout = time.Second // time to connect, also under load
	if c, err := putFails(t, open(t, s)); c != CauseTimeout || !NotStored(err) {
		t.Errorf("%v: got %v", err, c)
	}
	// The abandoned request to STS has the same limit.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := server.AwaitDisconnect(ctx); err != nil {
		t.Error(err)
	}
}

func TestPutRecord_Canceled(t *testing.T) {
	isolate(t)
	ctx, cancel := context.WithCancel(context.Background())
	server := start(t, fakekinesis.Options{Fault: func(int, *fakekinesis.Request) fakekinesis.Fault {
		cancel()
		return fakekinesis.Hold(nil)
	}})
	_, err := open(t, settings(server)).PutRecord(ctx, "logs", "key", []byte("data"))
	if err == nil || Classify(err) != CauseCanceled {
		t.Errorf("got %v", err)
	}
}

func TestAutoRetry_Repeats(t *testing.T) {
	isolate(t)
	for name, test := range map[string]struct {
		faults   []fakekinesis.Fault
		requests int
		cause    *Cause // nil: PutRecord succeeds
		definite bool   // the error proves that the record is not stored
	}{
		"reset unread":   {[]fakekinesis.Fault{fakekinesis.ResetUnread}, 2, nil, false},
		"reset read":     {[]fakekinesis.Fault{fakekinesis.ResetRead}, 2, nil, false},
		"response lost":  {[]fakekinesis.Fault{fakekinesis.ResponseLost}, 2, nil, false},
		"reset twice":    {[]fakekinesis.Fault{fakekinesis.ResetRead, fakekinesis.ResetRead}, 2, CauseConnection, false},
		"then throttled": {[]fakekinesis.Fault{fakekinesis.ResetRead, fakekinesis.Error(400, "ThrottlingException", "")}, 2, CauseThrottled, false},
		"truncated":      {[]fakekinesis.Fault{fakekinesis.ResponseTruncated}, 1, CauseBadResponse, false},
		"no number":      {[]fakekinesis.Fault{fakekinesis.NoNumber}, 1, CauseBadResponse, false},
		"throttled":      {[]fakekinesis.Fault{fakekinesis.Error(400, "ThrottlingException", "")}, 1, CauseThrottled, true},
		"bare 503":       {[]fakekinesis.Fault{fakekinesis.Status(503)}, 1, CauseInternal, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := start(t, fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
				// Request 1 opens the connection that the next request reuses.
				if n-1 >= 1 && n-1 <= len(test.faults) {
					return test.faults[n-2]
				}
				return fakekinesis.OK
			}})
			s := settings(server)
			s.AutoRetry = true
			sender := open(t, s)
			put(t, sender)
			if test.cause == nil {
				put(t, sender)
			} else if c, err := putFails(t, sender); c != test.cause || NotStored(err) != test.definite {
				t.Errorf("%v: got %+v, not stored: %t", err, c, NotStored(err))
			}
			if n := server.Counts().PutRecords - 1; n != test.requests {
				t.Errorf("%d requests, want %d", n, test.requests)
			}
		})
	}
}

func TestAutoRetry_NotForDeadEndpoint(t *testing.T) {
	isolate(t)
	gone := fakekinesis.Start(fakekinesis.Options{})
	gone.Close()
	untrusted := start(t, fakekinesis.Options{TLS: true})
	for name, test := range map[string]struct {
		server *fakekinesis.Server
		cause  *Cause
	}{
		"refused":   {gone, CauseUnreachable},
		"untrusted": {untrusted, CauseTLS},
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			s := settings(test.server)
			s.AutoRetry = true
			s.Debug = log.add
			if c, err := putFails(t, open(t, s)); c != test.cause {
				t.Errorf("%v: got %v", err, c)
			}
			if n := strings.Count(log.text(), "no response from"); n != 1 {
				t.Errorf("%d attempts", n)
			}
		})
	}
}

func TestPutRecord_RecordLimit(t *testing.T) {
	isolate(t)
	const limit = 2 << 20
	server := start(t, fakekinesis.Options{RecordLimitBytes: limit})
	sender := open(t, settings(server))
	data := make([]byte, fakekinesis.MaxRecordLimitBytes+1)
	for _, test := range []struct {
		size     int
		tooLarge bool
	}{{limit - len("key"), false}, {limit - len("key") + 1, true}, {len(data), true}} {
		_, err := sender.PutRecord(context.Background(), "logs", "key", data[:test.size])
		if tooLarge := err != nil && Classify(err) == CauseTooLarge; tooLarge != test.tooLarge || (err != nil) != test.tooLarge {
			t.Errorf("%d bytes: %v", test.size, err)
		}
	}
}

func TestPutRecord_NothingOnStderr(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Fault: script(fakekinesis.ResponseTruncated)})
	stderr := os.Stderr
	defer func() { os.Stderr = stderr }()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	os.Stderr = write
	putFails(t, open(t, settings(server)))
	os.Stderr = stderr
	write.Close()
	if got, _ := io.ReadAll(read); len(got) > 0 {
		t.Errorf("%s", got)
	}
}

func TestDescribe_Summary(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Streams: []string{"logs"}, RecordLimitBytes: 5 << 20, Auto: func() bool { return true }})
	sender := open(t, settings(server))
	for _, stream := range []string{"logs", streamARN} {
		got, err := sender.Describe(context.Background(), stream)
		if want := (Stream{DistributesRecords: true, MaxRecordBytes: 5 << 20}); err != nil || got != want {
			t.Errorf("got %+v, %v", got, err)
		}
	}
	if _, err := sender.Describe(context.Background(), "others"); err == nil || Classify(err) != CauseStreamNotFound {
		t.Errorf("got %v", err)
	}
}

func TestRole_AssumedOnce(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	s.ExternalID = "outside"
	s.RoleSessionName = "fluent-bit"
	sender := open(t, s)
	if n := server.Counts().Connections; n != 0 {
		t.Errorf("Open made %d connections", n)
	}
	put(t, sender)
	put(t, sender)
	requests := server.RoleRequests()
	if len(requests) != 1 {
		t.Fatalf("%d requests to STS for two records", len(requests))
	}
	got := requests[0]
	if got.Action != "AssumeRole" || got.RoleARN != s.RoleARN || got.ExternalID != "outside" || got.SessionName != "fluent-bit" || got.DurationSeconds != "3600" {
		t.Errorf("the request to STS is %+v", got)
	}
	if key, _, service := got.Request.Signer(); key != "AKIDSTATIC" || service != "sts" {
		t.Errorf("the request to STS is signed with %s for %s", key, service)
	}
	request := server.Requests()[0]
	if key, _, _ := request.Signer(); key != fakekinesis.RoleKeyID(1) {
		t.Errorf("sent as %s", key)
	}
	if token := request.Header.Get("X-Amz-Security-Token"); token != fakekinesis.RoleSessionToken(1) {
		t.Errorf("sent with token %s", token)
	}
}

func TestRole_RenewedBeforeItExpires(t *testing.T) {
	isolate(t)
	for name, test := range map[string]struct {
		left     time.Duration
		requests int // to STS, for three records
	}{
		"an hour":                    {time.Hour, 1},
		"shorter than the window":    {renewBefore - time.Minute, 1},
		"expired when it arrives":    {-time.Second, 1},
		"an hour, then revoked once": {time.Hour, 2},
	} {
		t.Run(name, func(t *testing.T) {
			o := fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
				return fakekinesis.RoleResponse{Expires: time.Now().Add(test.left)}
			}}
			revoked := strings.Contains(name, "revoked")
			if revoked {
				o.Fault = script(fakekinesis.Error(400, "ExpiredTokenException", "The security token included in the request is expired"))
			}
			server := start(t, o)
			s := settings(server)
			s.RoleARN = "arn:aws:iam::123456789012:role/writer"
			sender := open(t, s)
			if revoked {
				if c, err := putFails(t, sender); c != CauseExpiredToken {
					t.Errorf("%v: got %v", err, c)
				}
			}
			for range 3 {
				put(t, sender)
			}
			if n := len(server.RoleRequests()); n != test.requests {
				t.Errorf("%d requests to STS, want %d", n, test.requests)
			}
		})
	}
}

func TestRenewalTime(t *testing.T) {
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct{ left, renew time.Duration }{
		{time.Hour, 55 * time.Minute},
		{10*time.Minute + 2*time.Second, 5*time.Minute + 2*time.Second},
		{10 * time.Minute, 5 * time.Minute},
		{8 * time.Minute, 4 * time.Minute},
		{0, renewInterval},
		{-time.Minute, renewInterval},
	} {
		if got := renewalTime(now, now.Add(test.left), 5*time.Minute).Sub(now); got != test.renew {
			t.Errorf("%s left: renewed after %s, want %s", test.left, got, test.renew)
		}
	}
	end := time.Now().Add(time.Hour)
	got, err := renewed{}.AdjustExpiresBy(aws.Credentials{CanExpire: true, Expires: end}, -renewBefore)
	if want := end.Add(-renewBefore); err != nil || !got.Expires.Equal(want) {
		t.Errorf("%v: renewed at %s, want %s", err, got.Expires, want)
	}
}

func TestRole_DeniedIsAssumeRole(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{Role: func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
		return fakekinesis.RoleResponse{Fault: fakekinesis.Error(403, "AccessDenied", "User: u is not authorized to perform: sts:AssumeRole")}
	}})
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	c, err := putFails(t, open(t, s))
	if c != CauseAssumeRole {
		t.Errorf("%v: got %v", err, c)
	}
	if c := server.Counts(); c.RoleRequests != 1 || c.PutRecords != 0 {
		t.Errorf("%v", c)
	}
}

func TestRole_WebIdentityUsesSTSEndpoint(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	t.Setenv("AWS_WEB_IDENTITY_TOKEN_FILE", write(t, "token", "web-token"))
	t.Setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
	s := settings(server)
	s.KeyID, s.SecretKey = "", ""
	put(t, open(t, s))
	requests := server.RoleRequests()
	if len(requests) != 1 || requests[0].Action != "AssumeRoleWithWebIdentity" || requests[0].WebIdentityToken != "web-token" {
		t.Fatalf("the requests to STS are %+v", requests)
	}
}

func TestCredentials_Priority(t *testing.T) {
	isolate(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "env-secret")
	file := write(t, "credentials", `
[default]
aws_access_key_id = AKIDDEFAULT
aws_secret_access_key = default-secret
[other]
aws_access_key_id = AKIDOTHER
aws_secret_access_key = other-secret
region = ap-south-1
`)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	server := start(t, fakekinesis.Options{})
	for i, test := range []struct {
		settings    Settings
		key, region string
	}{
		{Settings{}, "AKIDENV", "us-east-1"},
		{Settings{Connection: Connection{Profile: "other"}}, "AKIDOTHER", "us-east-1"},
		{Settings{Connection: Connection{CredentialsPath: file}}, "AKIDDEFAULT", "us-east-1"},
		{Settings{Connection: Connection{CredentialsPath: file, Profile: "other"}}, "AKIDOTHER", "us-east-1"},
		{Settings{Connection: Connection{KeyID: "AKIDSTATIC", SecretKey: "s", Profile: "other"}}, "AKIDSTATIC", "us-east-1"},
	} {
		t.Setenv("AWS_REGION", "us-east-1")
		test.settings.Endpoint = server.URL()
		put(t, open(t, test.settings))
		if key, region, _ := server.Requests()[i].Signer(); key != test.key || region != test.region {
			t.Errorf("%+v: sent as %s in %s", test.settings, key, region)
		}
	}
}

// Missing credentials do not abort startup, because they may become available later.
func TestOpen_WithoutCredentials(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	s := settings(server)
	s.KeyID, s.SecretKey = "", ""
	c, err := putFails(t, open(t, s))
	if c != CauseNoCredentials {
		t.Errorf("%v: got %v", err, c)
	}
}

func TestOpen_NoMetadataRequest(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL())
	t.Setenv("AWS_DEFAULTS_MODE", "auto")
	sender := open(t, Settings{Connection: Connection{Region: "eu-central-1", Endpoint: server.URL()}})
	if n := server.Counts().Connections; n != 0 {
		t.Errorf("Open made %d connections", n)
	}
	if c, err := putFails(t, sender); c != CauseInstanceMetadata {
		t.Errorf("%v: got %v", err, c)
	}
	if server.Counts().Connections == 0 {
		t.Error("PutRecord made no request to the metadata service")
	}
}

func TestOpen_Region(t *testing.T) {
	isolate(t)
	config := write(t, "config", "[default]\nregion = ap-south-1\n")
	for name, test := range map[string]struct {
		settings  Settings
		env, want string
	}{
		"option":      {settings: Settings{Connection: Connection{Region: "eu-west-1"}}, env: "us-east-1", want: "eu-west-1"},
		"environment": {env: "us-east-1", want: "us-east-1"},
		"profile":     {want: "ap-south-1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_CONFIG_FILE", config)
			t.Setenv("AWS_REGION", test.env)
			sender, err := Open(context.Background(), test.settings)
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			if got := sender.Region(); got != test.want {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestOpen_NamesTheSetting(t *testing.T) {
	isolate(t)
	for name, test := range map[string]struct {
		settings    Settings
		field, want string
	}{
		"no region":    {Settings{}, "Region", "not set"},
		"no profile":   {Settings{Connection: Connection{Region: "r", Profile: "missing"}}, "Profile", `"missing" is not in the files`},
		"no such file": {Settings{Connection: Connection{Region: "r", CredentialsPath: "/nowhere/credentials"}}, "CredentialsPath", "stat /nowhere/credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.settings.Profile != "" {
				t.Setenv("AWS_PROFILE", "another") // The setting has priority.
			}
			_, err := Open(context.Background(), test.settings)
			var setting *SettingError
			if !errors.As(err, &setting) || setting.Field != test.field || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestProxy_PlaintextEndpoint(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	s := settings(server)
	s.Endpoint, s.HTTPProxy = "http://kinesis.test", server.URL()
	sender := open(t, s)
	put(t, sender)
	if host := server.Requests()[0].Host; host != "kinesis.test" {
		t.Errorf("the proxy received a request for %s", host)
	}
	if got := sender.PlaintextRemote(); len(got) != 1 || got[0] != "http://kinesis.test" {
		t.Errorf("plaintext to %v", got)
	}
	if got := open(t, settings(server)).PlaintextRemote(); len(got) != 0 {
		t.Errorf("plaintext to %v, which is on this host", got)
	}
}

func TestProxy_NotForLocalAddresses(t *testing.T) {
	for host, direct := range map[string]bool{
		"localhost": true, "127.0.0.1": true, "::1": true, "169.254.169.254": true, "169.254.170.2": true,
		"fd00:ec2::254": true, "kinesis.eu-west-1.amazonaws.com": false, "10.0.0.1": false,
	} {
		if got := thisHost(host) || metadataService(host); got != direct {
			t.Errorf("%s: %v", host, got)
		}
	}
}

func TestTLS_CABundleAndHTTP1(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{TLS: true})
	t.Setenv("AWS_CA_BUNDLE", write(t, "ca.pem", string(server.CAPEM())))
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	sender := open(t, s)
	put(t, sender)
	if got := server.Requests()[0].Proto; got != "HTTP/1.1" {
		t.Errorf("%s to a server that offers HTTP/2", got)
	}
	if v := sender.pool.TLSClientConfig.MinVersion; v < tls.VersionTLS12 {
		t.Errorf("TLS %x is allowed", v)
	}
}

func TestPutRecord_ReusesConnections(t *testing.T) {
	isolate(t)
	const workers = 8
	await := gate(workers)
	server := start(t, fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		await(n)
		return fakekinesis.OK
	}})
	sender := open(t, settings(server))
	for range 3 {
		var done sync.WaitGroup
		for range workers {
			done.Go(func() {
				if _, err := sender.PutRecord(context.Background(), "logs", "key", []byte("data")); err != nil {
					t.Error(err)
				}
			})
		}
		done.Wait()
	}
	if c := server.Counts(); c.Connections != workers || c.Accepted != 3*workers {
		t.Errorf("%v", c)
	}
}

func TestClose_ReleasesEverything(t *testing.T) {
	isolate(t)
	server := start(t, fakekinesis.Options{})
	s := settings(server)
	s.RoleARN = "arn:aws:iam::123456789012:role/writer"
	sender, err := Open(context.Background(), s)
	if err != nil {
		t.Fatal(err)
	}
	put(t, sender)
	if server.Counts().OpenConnections == 0 {
		t.Fatal("there is no idle connection that Close could close")
	}
	sender.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := server.AwaitDisconnect(ctx); err != nil {
		t.Error(err)
	}
	for stacks := goroutines(); strings.Contains(stacks, "persistConn"); stacks = goroutines() {
		if ctx.Err() != nil {
			t.Fatalf("goroutines that still run:\n%s", stacks)
		}
		runtime.Gosched()
	}
}

func goroutines() string {
	var b strings.Builder
	_ = pprof.Lookup("goroutine").WriteTo(&b, 2)
	return b.String()
}

func TestDebug_NoSecrets(t *testing.T) {
	isolate(t)
	data := []byte("what the users wrote")
	server := start(t, fakekinesis.Options{Fault: script(fakekinesis.OK, fakekinesis.Error(400, "AccessDeniedException", "no"), fakekinesis.ResetRead)})
	var log lines
	s := settings(server)
	s.RoleARN, s.ExternalID, s.Debug = "arn:aws:iam::123456789012:role/writer", "outside", log.add
	sender := open(t, s)
	for range 3 {
		_, _ = sender.PutRecord(context.Background(), "logs", "key-of-the-record", data)
	}
	text := log.text()
	for _, want := range []string{"Kinesis_20131202.PutRecord", "200 OK", "400 Bad Request", "X-Amzn-Requestid: 0000", "no response from"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, secret := range []string{
		secretKey, "Credential", "Signature", fakekinesis.RoleKeyID(1), fakekinesis.RoleSecretKey(1), fakekinesis.RoleSessionToken(1),
		"outside", "key-of-the-record", string(data), base64.StdEncoding.EncodeToString(data),
	} {
		if strings.Contains(text, secret) {
			t.Errorf("%q in\n%s", secret, text)
		}
	}
}

func TestErrors_NoSecrets(t *testing.T) {
	isolate(t)
	const quoted = "The request signature we calculated does not match the signature you provided.\n\n" +
		"The Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:" + "the-token\n'"
	for _, message := range []string{quoted, strings.ReplaceAll(quoted, "\n", " "), strings.Repeat("ä", maxErrorBytes) + "the-token", "x" + strings.Repeat("ä", maxErrorBytes)} {
		server := start(t, fakekinesis.Options{Fault: script(fakekinesis.Error(400, "InvalidSignatureException", message))})
		_, err := putFails(t, open(t, settings(server)))
		text := err.Error()
		if strings.Contains(text, "the-token") || strings.Contains(text, "\n") || strings.ContainsRune(text, '\uFFFD') {
			t.Errorf("got %q", text)
		}
		if !strings.Contains(text, "InvalidSignatureException") {
			t.Errorf("%q does not contain the error code", text)
		}
	}
}

func TestErrors_LongText(t *testing.T) {
	longest := strings.Repeat("x", maxErrorBytes)
	for text, want := range map[string]string{
		longest:             longest,
		longest + "x":       longest + "...",
		longest[1:] + "ä":   longest[1:] + "...", // No letter is cut.
		longest[2:] + "äää": longest[2:] + "ä...",
	} {
		e := &Error{Cause: CauseInternal, Op: "PutRecord", Err: errors.New(text)}
		if got := e.Error(); got != "kinesis: PutRecord: "+want {
			t.Errorf("%d bytes: got %d bytes that end with %q", len(text), len(got), got[len(got)-8:])
		}
	}
}

// lines collects a debug log.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) add(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(&l.b, format+"\n", args...)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func BenchmarkPutRecord(b *testing.B) {
	isolate(b)
	for _, mib := range []int{1, 10} {
		b.Run(fmt.Sprintf("%dMiB", mib), func(b *testing.B) {
			server := start(b, fakekinesis.Options{RecordLimitBytes: fakekinesis.MaxRecordLimitBytes, OnRecord: func(fakekinesis.Record) {}})
			sender := open(b, settings(server))
			data := make([]byte, mib<<20-len("key"))
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := sender.PutRecord(context.Background(), "logs", "key", data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
