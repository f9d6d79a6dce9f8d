package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"out_kinesis_agg/test/chunk"
	"out_kinesis_agg/test/endpoint"
	"out_kinesis_agg/test/local"
)

// What must not be in a log, whatever happens.
const (
	contents     = "CONTENTS-OF-A-RECORD"
	sessionToken = "SESSION-TOKEN-OF-A-SESSION"
)

// What every log may be searched for.
var unspeakable = []string{contents, sessionToken, local.SecretAccessKey, "role-secret-key", "role-session-token"}

// faultTag is the tag of the chunks of these tests.
const faultTag = "app.fault"

// fault is something that goes wrong, and what the plugin makes of it. The
// host flushes one chunk, again and again while the plugin says RETRY.
type fault struct {
	name string

	// What is wrong. The first PutRecords meet the script's faults, all later
	// ones none.
	script  []endpoint.Fault
	server  endpoint.Options
	options []string // of the instance, in place of those of the same name
	without []string // options that are left out
	env     []string
	chunk   *chunk.Corpus // faultChunk unless set
	broken  []byte        // behind the chunk
	// prepare, unless nil, does what cannot be said above.
	prepare func(t *testing.T, f *fault)
	late    bool // nothing listens at the endpoint until the first flush has failed
	lasts   bool // it is not mended, and the host gives up after lastingRetries

	// What comes of it.
	first    string // the first flush's answer
	requests int    // PutRecords that reached the endpoint
	accepted int    // records that it took
	times    int    // that each user record arrived, 1 unless set
	lines    int    // above info in the log: 1 unless set, 0 without a level
	level    string // of the one that says what happened
	says     []string
}

// lastingRetries is how often a chunk is flushed again that nothing can help.
const lastingRetries = 2

var (
	faultChunk = texted(50, contents)
	// largeChunk is more than a record of 1 MiB and less than two.
	largeChunk = texted(1200, contents+strings.Repeat("x", 1000))
)

// texted is n records with ids and a text.
func texted(n int, text string) chunk.Corpus {
	var bodies []chunk.Map
	for id := range n {
		bodies = append(bodies, chunk.M("id", id, "text", text))
	}
	return chunk.NewCorpus(bodies...)
}

func awsError(code, message string) []endpoint.Fault {
	return []endpoint.Fault{endpoint.Error(http.StatusBadRequest, code, message)}
}

const (
	streamARN = "arn:aws:kinesis:us-east-1:123456789012:stream/faults"
	keyARN    = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	roleARN   = "arn:aws:iam::123456789012:role/writer"
)

// faults is what the plugin promises about what can go wrong on the way to
// Kinesis and there.
var faults = []fault{
	{name: "none", first: "OK", requests: 1, accepted: 1},

	// Kinesis has too much to do, or is ill.
	{name: "throttled", script: awsError("ProvisionedThroughputExceededException", "Rate exceeded for shard shardId-000000000000 in stream faults under account 123456789012."),
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"ProvisionedThroughputExceededException", "Rate exceeded"}},
	{name: "KMS throttled", script: awsError("KMSThrottlingException", "Rate exceeded"),
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"KMSThrottlingException"}},
	{name: "limit exceeded", script: awsError("LimitExceededException", "Rate exceeded"),
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"LimitExceededException"}},
	{name: "internal failure", script: []endpoint.Fault{endpoint.Error(500, "InternalFailure", "We are sorry")},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"InternalFailure"}},
	{name: "service unavailable", script: []endpoint.Fault{endpoint.Error(503, "ServiceUnavailable", "Please come back")},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"ServiceUnavailable"}},
	{name: "bare 500", script: []endpoint.Fault{endpoint.Status(500)},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"500"}},
	{name: "bare 502", script: []endpoint.Fault{endpoint.Status(502)},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"502"}},
	{name: "bare 503", script: []endpoint.Fault{endpoint.Status(503)},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"503"}},
	{name: "bare 504", script: []endpoint.Fault{endpoint.Status(504)},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"504"}},
	{name: "bare 429", script: []endpoint.Fault{endpoint.Status(429)},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"429"}},

	// The connection breaks. auto_retry_requests repeats once, at once.
	{name: "reset before the request was read", script: []endpoint.Fault{endpoint.ResetUnread},
		first: "OK", requests: 2, accepted: 1},
	{name: "reset before the request was read, twice", script: []endpoint.Fault{endpoint.ResetUnread, endpoint.ResetUnread},
		first: "RETRY", requests: 3, accepted: 1, level: "warn"},
	{name: "reset after the request was read", script: []endpoint.Fault{endpoint.ResetRead},
		first: "OK", requests: 2, accepted: 1},
	{name: "reset after the request was read, twice", script: []endpoint.Fault{endpoint.ResetRead, endpoint.ResetRead},
		first: "RETRY", requests: 3, accepted: 1, level: "warn"},
	{name: "reset without auto_retry_requests", script: []endpoint.Fault{endpoint.ResetRead}, options: []string{"auto_retry_requests=false"},
		first: "RETRY", requests: 2, accepted: 1, level: "warn"},

	// Kinesis has the record and does not get to say so: it comes once more for
	// each answer that was lost, and no more.
	{name: "answer lost", script: []endpoint.Fault{endpoint.AnswerLost},
		first: "OK", requests: 2, accepted: 2, times: 2},
	{name: "answer lost without auto_retry_requests", script: []endpoint.Fault{endpoint.AnswerLost}, options: []string{"auto_retry_requests=false"},
		first: "RETRY", requests: 2, accepted: 2, times: 2, level: "warn"},
	{name: "answer cut", script: []endpoint.Fault{endpoint.AnswerCut},
		first: "RETRY", requests: 2, accepted: 2, times: 2, level: "warn"},
	{name: "answer without sequence number", script: []endpoint.Fault{endpoint.NoNumber},
		first: "RETRY", requests: 2, accepted: 2, times: 2, level: "warn", says: []string{"sequence number"}},
	{name: "hang after acceptance", script: []endpoint.Fault{endpoint.AnswerHeld}, options: []string{"request_timeout=2s"},
		first: "RETRY", requests: 2, accepted: 2, times: 2, level: "warn", says: []string{"exceeded"}},
	{name: "hang", script: []endpoint.Fault{endpoint.Hold(nil)}, options: []string{"request_timeout=2s"},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"exceeded"}},

	// There is no way to Kinesis.
	{name: "untrusted certificate", prepare: withTLS(func(n int) bool { return n > 1 }),
		first: "RETRY", requests: 1, accepted: 1, level: "warn", says: []string{"certificate", "AWS_CA_BUNDLE"}},
	{name: "no TLS", prepare: func(t *testing.T, f *fault) {
		plain := endpoint.Start(endpoint.Options{})
		t.Cleanup(plain.Close)
		f.options = []string{"endpoint=" + strings.Replace(plain.URL(), "http://", "https://", 1)}
	}, lasts: true, first: "RETRY", level: "warn", says: []string{"TLS"}},
	{name: "no DNS", options: []string{"endpoint=https://kinesis.invalid", "request_timeout=2s"}, lasts: true,
		first: "RETRY", level: "warn", says: []string{"kinesis.invalid", "cannot be resolved"}},
	{name: "connection refused", late: true,
		first: "RETRY", requests: 1, accepted: 1, level: "warn", says: []string{"refused", "cannot be reached"}},

	// Credentials are not there yet, or no longer good.
	{name: "no credentials", without: []string{"aws_key_id", "aws_sec_key", "aws_session_token"}, lasts: true,
		first: "RETRY", level: "warn", says: []string{"no AWS credentials"}},
	{name: "no credentials yet", without: []string{"aws_key_id", "aws_sec_key", "aws_session_token"}, prepare: containerCredentials,
		first: "RETRY", requests: 1, accepted: 1, level: "warn", says: []string{"no AWS credentials"}},
	{name: "expired token", script: awsError("ExpiredTokenException", "The security token included in the request is expired"),
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"ExpiredTokenException", "expired"}},
	{name: "expired token of a role", options: []string{"role_arn=" + roleARN}, server: endpoint.Options{
		Fault: func(_ int, r *endpoint.Request) endpoint.Fault {
			if key, _, _ := r.Signer(); key == endpoint.RoleKeyID(1) {
				return awsError("ExpiredTokenException", "The security token included in the request is expired")[0]
			}
			return endpoint.OK
		}},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"ExpiredTokenException"}},
	{name: "short session of a role", options: []string{"role_arn=" + roleARN}, server: endpoint.Options{
		Role: func(n int, _ endpoint.RoleRequest) endpoint.RoleAnswer {
			if n == 1 {
				return endpoint.RoleAnswer{Expires: time.Now().Add(-time.Minute)}
			}
			return endpoint.RoleAnswer{}
		},
		Fault: func(_ int, r *endpoint.Request) endpoint.Fault {
			if key, _, _ := r.Signer(); key == endpoint.RoleKeyID(1) {
				return awsError("ExpiredTokenException", "The security token included in the request is expired")[0]
			}
			return endpoint.OK
		}},
		first: "RETRY", requests: 2, accepted: 1, level: "warn", says: []string{"expired"}},
	{name: "role denied", options: []string{"role_arn=" + roleARN}, server: endpoint.Options{Role: firstRole(
		endpoint.Error(403, "AccessDenied", "User: arn:aws:iam::123456789012:user/agent is not authorized to perform: sts:AssumeRole on resource: "+roleARN))},
		first: "RETRY", requests: 1, accepted: 1, level: "error", says: []string{"AccessDenied", "role_arn", "sts:AssumeRole"}},
	{name: "STS unavailable", options: []string{"role_arn=" + roleARN}, server: endpoint.Options{Role: firstRole(endpoint.Status(503))},
		first: "RETRY", requests: 1, accepted: 1, level: "warn", says: []string{"503"}},

	// What somebody has to mend while the engine keeps the chunk.
	{name: "signature expired", script: []endpoint.Fault{endpoint.Error(403, "InvalidSignatureException",
		"Signature expired: 20260301T115000Z is now earlier than 20260301T115500Z (20260301T120000Z - 5 min.)")},
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"InvalidSignatureException", "clock"}},
	{name: "clock skew", script: []endpoint.Fault{endpoint.Error(403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large")},
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"RequestTimeTooSkewed", "clock"}},
	{name: "wrong signature", script: []endpoint.Fault{endpoint.Error(403, "InvalidSignatureException",
		"The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:"+sessionToken+"\n'")},
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"InvalidSignatureException", "aws_sec_key"}},
	{name: "unrecognised client", script: awsError("UnrecognizedClientException", "The security token included in the request is invalid."),
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"UnrecognizedClientException", "aws_key_id"}},
	{name: "access denied", script: awsError("AccessDeniedException", "User: arn:aws:iam::123456789012:user/agent is not authorized to perform: kinesis:PutRecord on resource: "+
		streamARN+" because no identity-based policy allows the kinesis:PutRecord action"),
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"AccessDeniedException", "kinesis:PutRecord"}},
	{name: "stream not found", script: awsError("ResourceNotFoundException", "Stream faults under account 123456789012 not found."),
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"ResourceNotFoundException", "faults", "region"}},
	{name: "KMS denied", script: awsError("KMSAccessDeniedException", "User is not authorized to use "+keyARN),
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"KMSAccessDeniedException", "kms:GenerateDataKey"}},
	{name: "KMS key disabled", script: awsError("KMSDisabledException", keyARN+" is disabled."),
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"KMSDisabledException", "enabled"}},

	// The request is refused.
	{name: "validation error", script: awsError("ValidationException", "1 validation error detected: Value at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"),
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"ValidationException", "'streamName' failed to satisfy"}},
	{name: "invalid argument", script: awsError("InvalidArgumentException", "Something about the request is wrong"),
		first: "RETRY", requests: 2, accepted: 1, level: "error", says: []string{"InvalidArgumentException", "Something about the request is wrong"}},

	// The stream takes less than max_record_size: the chunk goes in two records.
	{name: "record too large for the stream", chunk: &largeChunk, options: []string{"max_record_size=10MiB"},
		first: "OK", requests: 3, accepted: 2, level: "error", says: []string{"max_record_size", "UpdateMaxRecordSize"}},

	// What no retry can help is for the engine's dead letters.
	{name: "oversize chunk to drop", options: []string{"max_record_size=1000", "oversize_chunk=drop"},
		first: "ERROR", level: "error", says: []string{"bytes"}},
	{name: "nothing readable", chunk: &chunk.Corpus{}, broken: []byte{0xc1, 0xc1},
		first: "ERROR", lines: 2, level: "error", says: []string{"contains no readable record"}},
	{name: "end not readable", broken: []byte{0xc1, 0xc1},
		first: "OK", requests: 1, accepted: 1, level: "error", says: []string{"lost", "byte offset"}},
}

func firstRole(f endpoint.Fault) func(int, endpoint.RoleRequest) endpoint.RoleAnswer {
	return func(n int, _ endpoint.RoleRequest) endpoint.RoleAnswer {
		if n == 1 {
			return endpoint.RoleAnswer{Fault: f}
		}
		return endpoint.RoleAnswer{}
	}
}

// withTLS lets the endpoint speak TLS, with a certificate that the plugin is
// told to trust where handshake says so.
func withTLS(handshake func(int) bool) func(*testing.T, *fault) {
	return func(t *testing.T, f *fault) {
		f.server.TLS, f.server.Handshake = true, handshake
		f.env = append(f.env, "AWS_CA_BUNDLE="+caBundle(t))
	}
}

// caBundle writes the certificate of endpoints with TLS to a file.
func caBundle(t *testing.T) string {
	s := endpoint.Start(endpoint.Options{TLS: true})
	defer s.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, s.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// containerCredentials is a container's source of credentials that has none
// the first time.
func containerCredentials(t *testing.T, f *fault) {
	var asked atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !asked.Swap(true) {
			http.Error(w, "not yet", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,"Expiration":%q}`,
			local.AccessKeyID, local.SecretAccessKey, sessionToken, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	f.env = append(f.env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+s.URL)
}

// run flushes the fault's chunk and counts what comes at the endpoint.
func (f fault) run(t *testing.T) {
	if f.chunk == nil {
		f.chunk = &faultChunk
	}
	if f.prepare != nil {
		f.prepare(t, &f)
	}
	if f.server.Fault == nil {
		f.server.Fault = func(n int, _ *endpoint.Request) endpoint.Fault {
			if n <= len(f.script) {
				return f.script[n-1]
			}
			return endpoint.OK
		}
	}
	server, url := f.start(t)
	defer func() { server().Close() }()

	retries := 100
	if f.lasts {
		retries = lastingRetries
	}
	args := slices.Concat(
		[]string{rig.plugin, "--retry", strconv.Itoa(retries), "--retry-wait", "20"},
		f.instance(url),
		chunkFile(t, faultTag, append(slices.Clone(f.chunk.Bytes), f.broken...)),
	)
	run, err := local.Host{Path: rig.host, Args: args, Env: f.env, OnEvent: func(e local.Event) bool {
		if e.Word == "flush" && e.Fields["ret"] == "RETRY" {
			server() // starts it if it is late
		}
		return true
	}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	checkLog(t, run)
	flushes := run.All("flush")
	if got := flushes[0].Fields["ret"]; got != f.first {
		t.Errorf("the first flush returns %s, want %s", got, f.first)
	}
	want := map[string]string{"OK": "OK", "ERROR": "ERROR", "RETRY": "OK"}[f.first]
	if f.lasts {
		want = "RETRY"
	}
	if got := flushes[len(flushes)-1].Fields["ret"]; got != want {
		t.Errorf("the last flush returns %s, want %s", got, want)
	}
	if counts := server().Counts(); counts.PutRecords != f.requests || counts.Accepted != f.accepted {
		t.Errorf("%d PutRecords, %d accepted, want %d and %d", counts.PutRecords, counts.Accepted, f.requests, f.accepted)
	}
	if f.accepted > 0 {
		wantTimes(t, server().Records(), f.chunk.JSON, max(f.times, 1))
	}
	f.checkLine(t, run)
	if t.Failed() {
		t.Logf("log:\n%s", run.Stderr)
	}
}

// start starts the endpoint, or where it is late, finds it an address. The
// function that it returns starts it then.
func (f fault) start(t *testing.T) (server func() *endpoint.Server, url string) {
	if !f.late {
		s := endpoint.Start(f.server)
		return func() *endpoint.Server { return s }, s.URL()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	return sync.OnceValue(func() *endpoint.Server {
		if f.server.Listener, err = net.Listen("tcp", address); err != nil {
			t.Error(err)
			f.server.Listener = nil
		}
		return endpoint.Start(f.server)
	}), "http://" + address
}

// instance is the words of the --instance.
func (f fault) instance(url string) []string {
	words := []string{"--instance"}
	for _, option := range append([]string{
		"stream=faults",
		"region=" + local.Region,
		"endpoint=" + url,
		"sts_endpoint=" + url,
		"aws_key_id=" + local.AccessKeyID,
		"aws_sec_key=" + local.SecretAccessKey,
		"aws_session_token=" + sessionToken,
		"fixed_partition_key=customer-4711",
	}, f.options...) {
		name, _, _ := strings.Cut(option, "=")
		replaced := func(o string) bool { return strings.HasPrefix(o, name+"=") }
		words = slices.DeleteFunc(words, replaced)
		if !slices.Contains(f.without, name) {
			words = append(words, option)
		}
	}
	return words
}

// checkLine looks for what the log says of the fault above info.
func (f fault) checkLine(t *testing.T, run local.HostRun) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(run.Stderr) {
		if strings.Contains(line, "[error]") || strings.Contains(line, "[ warn]") {
			lines = append(lines, line)
		}
	}
	if f.level == "" {
		if len(lines) != 0 {
			t.Errorf("nobody needs to know of this: %q", lines)
		}
		return
	}
	if want := max(f.lines, 1); len(lines) != want {
		t.Errorf("%d lines above info, want %d: %q", len(lines), want, lines)
	}
	says := append([]string{fmt.Sprintf("[%5s]", f.level)}, f.says...)
	if !slices.ContainsFunc(lines, func(line string) bool {
		return !slices.ContainsFunc(says, func(word string) bool { return !strings.Contains(line, word) })
	}) {
		t.Errorf("no line has all of %q: %q", says, lines)
	}
}

// checkLog looks for what must not be in a log.
func checkLog(t *testing.T, run local.HostRun) {
	t.Helper()
	for line := range strings.Lines(run.Stderr) {
		if !engineLine.MatchString(line) {
			t.Errorf("a line of the log is not in the engine's form: %s", line)
		}
		for _, word := range unspeakable {
			if strings.Contains(line, word) {
				t.Errorf("%s is in the log: %s", word, line)
			}
		}
	}
	if n := run.End().Int("plugin_stdout_bytes"); n != 0 {
		t.Errorf("the plugin wrote %d bytes to stdout", n)
	}
}

// texts are the log records of what the endpoint took.
func texts(t *testing.T, records []endpoint.Record) []string {
	t.Helper()
	var all []string
	for i, r := range records {
		if r.ExplicitHashKey != "" {
			t.Errorf("record %d has an explicit hash key", i)
		}
		got, err := open(local.Record{PartitionKey: r.PartitionKey, Data: r.Data})
		if err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		all = append(all, logRecords(t, got)...)
	}
	return all
}

// wantTimes checks that each text arrived so many times and nothing else did.
func wantTimes(t *testing.T, records []endpoint.Record, want []string, times int) {
	t.Helper()
	got := texts(t, records)
	wanted := slices.Repeat(want, times)
	slices.Sort(got)
	slices.Sort(wanted)
	wantSame(t, "user records, sorted", got, wanted)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.run(t)
		})
	}
}

// TestDebugLog: requests to STS are made on threads that are not the engine's,
// and their lines have the engine's form and the instance's name all the same,
// heed its log_level, and show no more than others.
func TestDebugLog(t *testing.T) {
	t.Parallel()
	server := endpoint.Start(endpoint.Options{Role: firstRole(endpoint.Status(503))})
	defer server.Close()
	options := []string{"debug=true", "role_arn=" + roleARN}
	run := runHost(t, rig.host, []string{"--retry", "100"},
		faultAt(server.URL(), append(options, "alias=loud")...),
		faultAt(server.URL(), append(options, "alias=quiet", "log_level=error")...),
		chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, 2, 0, 0)
	checkLog(t, run)
	logLine(t, run, "[ info]", "loud", "PutRecord", "body of")
	logLine(t, run, "[ info]", "loud", "POST "+server.URL(), "www-form-urlencoded")
	if strings.Contains(run.Stderr, "quiet") {
		t.Errorf("log_level error, and yet:\n%s", run.Stderr)
	}
}

// TestManyCausesAtOnce: each cause has its own line, however they alternate.
func TestManyCausesAtOnce(t *testing.T) {
	t.Parallel()
	const rounds = 10
	causes := []endpoint.Fault{
		endpoint.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded"),
		endpoint.Error(500, "InternalFailure", ""),
		endpoint.Error(400, "AccessDeniedException", "not authorized"),
		endpoint.NoNumber,
	}
	server := endpoint.Start(endpoint.Options{Fault: func(n int, _ *endpoint.Request) endpoint.Fault {
		if n > rounds*len(causes) {
			return endpoint.OK
		}
		return causes[n%len(causes)]
	}})
	defer server.Close()
	run := runHost(t, rig.host, []string{"--retry", "100"}, faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	checkLog(t, run)
	if n := strings.Count(run.Stderr, "will be retried"); n != len(causes) {
		t.Errorf("%d lines about %d causes:\n%s", n, len(causes), run.Stderr)
	}
}
