package e2e

import (
	"bytes"
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

	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// Contents and secrets, which no log line may contain.
const (
	contents     = "CONTENTS-OF-A-RECORD"
	sessionToken = "SESSION-TOKEN-OF-A-SESSION"
)

var forbiddenInLog = []string{contents, sessionToken, harness.SecretAccessKey, "role-secret-key", "role-session-token"}

// faultTag is the tag of the chunks of these tests.
const faultTag = "app.fault"

// fault is a row of the table faults: a failure, and what has to follow. The
// host flushes one chunk, and flushes it again while the plugin returns RETRY.
type fault struct {
	name string

	// The first PutRecords fail as script says, in order, and the later ones
	// succeed. Without a script, the first PutRecord fails with the fault of that
	// name in fakekinesis.PutRecordFaults, if there is one.
	script   []fakekinesis.Fault
	server   fakekinesis.Options
	options  []string // of the instance; each replaces the default of the same name
	without  []string // options that are left out
	env      []string
	chunk    *chunktest.Corpus // faultChunk unless set
	trailing []byte            // follows the chunk's events
	// prepare, unless nil, sets up what the fields above cannot express.
	prepare   func(t *testing.T, f *fault)
	late      bool // nothing listens at the endpoint until the first flush has failed
	permanent bool // the failure does not end, and the host gives up after permanentRetries

	// What has to follow.
	result   string   // of the first flush
	requests int      // PutRecords that reached the endpoint
	accepted int      // records that the endpoint accepted
	copies   int      // of each user record at the endpoint; 1 unless set
	lines    int      // of level warn and error; 1 unless set, 0 without a level
	level    string   // of the line that reports the failure
	inLog    []string // words of that line
}

// permanentRetries is how often a chunk is flushed again when that cannot help.
const permanentRetries = 2

var (
	faultChunk = numbered(50, contents)
	// largeChunk is larger than one record of 1 MiB and smaller than two.
	largeChunk = numbered(1200, contents+strings.Repeat("x", 1000))
)

// numbered returns a corpus of n records, each with its number as id and with text.
func numbered(n int, text string) chunktest.Corpus {
	var bodies []chunktest.Map
	for id := range n {
		bodies = append(bodies, chunktest.M("id", id, "text", text))
	}
	return chunktest.NewCorpus(bodies...)
}

// named returns the fault of fakekinesis.PutRecordFaults with that name.
func named(name string) fakekinesis.Fault {
	f, found := fakekinesis.FaultByName(name)
	if !found {
		panic("e2e: no fault is named " + name)
	}
	return f.Fault
}

const roleARN = "arn:aws:iam::123456789012:role/writer"

// faults is what the plugin guarantees for each failure of Kinesis and of the
// connection to it.
var faults = []fault{
	{name: "none", result: "OK", requests: 1, accepted: 1},

	// Kinesis is overloaded, or has a failure of its own.
	{name: "throttled", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"ProvisionedThroughputExceededException", "Rate exceeded"}},
	{name: "KMS throttled", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"KMSThrottlingException"}},
	{name: "limit exceeded", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"LimitExceededException"}},
	{name: "internal failure", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"InternalFailure"}},
	{name: "service unavailable", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"ServiceUnavailable"}},
	{name: "bare 500", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"500"}},
	{name: "bare 502", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"502"}},
	{name: "bare 503", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"503"}},
	{name: "bare 504", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"504"}},
	{name: "bare 429", result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"429"}},

	// The connection breaks. auto_retry_requests repeats once, at once.
	{name: "reset before the request was read", result: "OK", requests: 2, accepted: 1},
	{name: "reset before the request was read, twice", script: slices.Repeat([]fakekinesis.Fault{fakekinesis.ResetUnread}, 2),
		result: "RETRY", requests: 3, accepted: 1, level: "warn"},
	{name: "reset after the request was read", result: "OK", requests: 2, accepted: 1},
	{name: "reset after the request was read, twice", script: slices.Repeat([]fakekinesis.Fault{fakekinesis.ResetRead}, 2),
		result: "RETRY", requests: 3, accepted: 1, level: "warn"},
	{name: "reset without auto_retry_requests", script: []fakekinesis.Fault{fakekinesis.ResetRead}, options: []string{"auto_retry_requests=false"},
		result: "RETRY", requests: 2, accepted: 1, level: "warn"},

	// Kinesis accepts the record and the plugin does not receive the response: the
	// record is sent once more for each response that is lost, and no more.
	{name: "response lost", result: "OK", requests: 2, accepted: 2, copies: 2, without: randomKey},
	{name: "response lost without auto_retry_requests", script: []fakekinesis.Fault{fakekinesis.ResponseLost}, options: []string{"auto_retry_requests=false"},
		result: "RETRY", requests: 2, accepted: 2, copies: 2, without: randomKey, level: "warn"},
	{name: "response truncated", result: "RETRY", requests: 2, accepted: 2, copies: 2, without: randomKey, level: "warn"},
	{name: "response without sequence number", result: "RETRY", requests: 2, accepted: 2, copies: 2, without: randomKey, level: "warn", inLog: []string{"sequence number"}},
	{name: "hang after acceptance", options: []string{"request_timeout=2s"},
		result: "RETRY", requests: 2, accepted: 2, copies: 2, without: randomKey, level: "warn", inLog: []string{"exceeded"}},
	{name: "hang", options: []string{"request_timeout=2s"},
		result: "RETRY", requests: 2, accepted: 1, level: "warn", inLog: []string{"exceeded"}},

	// Kinesis cannot be reached.
	{name: "untrusted certificate", prepare: withTLS(func(n int) bool { return n > 1 }),
		result: "RETRY", requests: 1, accepted: 1, level: "warn", inLog: []string{"certificate", "AWS_CA_BUNDLE"}},
	{name: "no TLS", prepare: func(t *testing.T, f *fault) {
		plain := fakekinesis.Start(fakekinesis.Options{})
		t.Cleanup(plain.Close)
		f.options = []string{"endpoint=" + strings.Replace(plain.URL(), "http://", "https://", 1)}
	}, permanent: true, result: "RETRY", level: "warn", inLog: []string{"TLS"}},
	{name: "no DNS", options: []string{"endpoint=https://kinesis.invalid", "request_timeout=2s"}, permanent: true,
		result: "RETRY", level: "warn", inLog: []string{"kinesis.invalid", "cannot be resolved"}},
	{name: "connection refused", late: true,
		result: "RETRY", requests: 1, accepted: 1, level: "warn", inLog: []string{"refused", "cannot be reached"}},

	// Credentials do not exist yet, or have expired.
	{name: "no credentials", without: []string{"aws_key_id", "aws_sec_key", "aws_session_token"}, permanent: true,
		result: "RETRY", level: "error", inLog: []string{"no AWS credentials"}},
	{name: "no credentials yet", without: []string{"aws_key_id", "aws_sec_key", "aws_session_token"}, prepare: containerCredentials,
		result: "RETRY", requests: 1, accepted: 1, level: "error", inLog: []string{"not yet", "the container's credential service failed"}},
	{name: "expired token", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"ExpiredTokenException", "expired"}},
	{name: "expired token of a role", options: []string{"role_arn=" + roleARN}, server: fakekinesis.Options{
		Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
			if key, _, _ := r.Signer(); key == fakekinesis.RoleKeyID(1) {
				return named("expired token")
			}
			return fakekinesis.OK
		}},
		result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"ExpiredTokenException"}},
	{name: "short session of a role", options: []string{"role_arn=" + roleARN}, server: fakekinesis.Options{
		Role: func(n int, _ fakekinesis.RoleRequest) fakekinesis.RoleResponse {
			if n == 1 {
				return fakekinesis.RoleResponse{Expires: time.Now().Add(-time.Minute)}
			}
			return fakekinesis.RoleResponse{}
		},
		Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
			if key, _, _ := r.Signer(); key == fakekinesis.RoleKeyID(1) {
				return named("expired token")
			}
			return fakekinesis.OK
		}},
		result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"expired"}},
	{name: "role denied", options: []string{"role_arn=" + roleARN}, server: fakekinesis.Options{Role: firstRole(
		fakekinesis.Error(403, "AccessDenied", "User: arn:aws:iam::123456789012:user/agent is not authorized to perform: sts:AssumeRole on resource: "+roleARN))},
		result: "RETRY", requests: 1, accepted: 1, level: "error", inLog: []string{"AccessDenied", "role_arn", "sts:AssumeRole"}},
	{name: "STS unavailable", options: []string{"role_arn=" + roleARN}, server: fakekinesis.Options{Role: firstRole(fakekinesis.Status(503))},
		result: "RETRY", requests: 1, accepted: 1, level: "warn", inLog: []string{"503"}},

	// An operator has to fix the cause, and the engine keeps the chunk until then.
	{name: "signature expired", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"InvalidSignatureException", "clock"}},
	{name: "clock skew", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"RequestTimeTooSkewed", "clock"}},
	{name: "wrong signature", script: []fakekinesis.Fault{fakekinesis.Error(403, "InvalidSignatureException",
		"The request signature we calculated does not match the signature you provided.\n\nThe Canonical String for this request should have been\n'POST\n/\n\nx-amz-security-token:"+sessionToken+"\n'")},
		result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"InvalidSignatureException", "aws_sec_key"}},
	{name: "unrecognised client", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"UnrecognizedClientException", "aws_key_id"}},
	{name: "access denied", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"AccessDeniedException", "kinesis:PutRecord"}},
	{name: "stream not found", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"ResourceNotFoundException", "faults", "region"}},
	{name: "KMS denied", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"KMSAccessDeniedException", "kms:GenerateDataKey"}},
	{name: "KMS key disabled", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"KMSDisabledException", "enabled"}},

	// The request is refused.
	{name: "validation error", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"ValidationException", "'streamName' failed to satisfy"}},
	{name: "invalid argument", result: "RETRY", requests: 2, accepted: 1, level: "error", inLog: []string{"InvalidArgumentException", "Something about the request is wrong"}},

	// The stream accepts less than max_record_size: the chunk is sent as two records.
	{name: "record too large for the stream", chunk: &largeChunk, options: []string{"max_record_size=10MiB"},
		result: "OK", requests: 3, accepted: 2, level: "error", inLog: []string{"max_record_size", "UpdateMaxRecordSize"}},

	// A gateway accepts less than the chunk: smaller parts are sent.
	{name: "request too large for a gateway", chunk: &largeChunk, server: fakekinesis.Options{
		Fault: func(_ int, r *fakekinesis.Request) fakekinesis.Fault {
			if r.ContentLength > 700<<10 {
				return fakekinesis.Status(413)
			}
			return fakekinesis.OK
		}}, result: "OK", requests: 4, accepted: 3, level: "error", inLog: []string{"413", "max_record_size"}},

	// No retry can help: the engine drops the chunk or keeps it as a dead letter.
	{name: "oversize chunk to drop", options: []string{"max_record_size=1000", "oversize_chunk=drop"},
		result: "ERROR", level: "error", inLog: []string{"bytes"}},
	{name: "nothing readable", chunk: &chunktest.Corpus{}, trailing: []byte{0xc1, 0xc1},
		result: "ERROR", lines: 2, level: "error", inLog: []string{"contains no readable record"}},
	{name: "end not readable", trailing: []byte{0xc1, 0xc1},
		result: "OK", requests: 1, accepted: 1, level: "error", inLog: []string{"lost", "byte offset"}},
}

func firstRole(f fakekinesis.Fault) func(int, fakekinesis.RoleRequest) fakekinesis.RoleResponse {
	return func(n int, _ fakekinesis.RoleRequest) fakekinesis.RoleResponse {
		if n == 1 {
			return fakekinesis.RoleResponse{Fault: f}
		}
		return fakekinesis.RoleResponse{}
	}
}

// withTLS makes the endpoint use TLS, with a certificate that the plugin trusts
// in the handshakes for which handshake returns true.
func withTLS(handshake func(int) bool) func(*testing.T, *fault) {
	return func(t *testing.T, f *fault) {
		f.server.TLS, f.server.Handshake = true, handshake
		f.env = append(f.env, "AWS_CA_BUNDLE="+caBundle(t))
	}
}

// caBundle writes the certificate of endpoints with TLS to a file.
func caBundle(t *testing.T) string {
	s := fakekinesis.Start(fakekinesis.Options{TLS: true})
	defer s.Close()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, s.CAPEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// containerCredentials starts a source of container credentials that has none at
// the first request.
func containerCredentials(t *testing.T, f *fault) {
	var requested atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !requested.Swap(true) {
			http.Error(w, "not yet", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"AccessKeyId":%q,"SecretAccessKey":%q,"Token":%q,"Expiration":%q}`,
			harness.AccessKeyID, harness.SecretAccessKey, sessionToken, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
	}))
	t.Cleanup(s.Close)
	f.env = append(f.env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+s.URL)
}

// run flushes the fault's chunk and counts what the endpoint receives.
func (f fault) run(t *testing.T) {
	if f.chunk == nil {
		f.chunk = &faultChunk
	}
	if f.prepare != nil {
		f.prepare(t, &f)
	}
	if shared, found := fakekinesis.FaultByName(f.name); found && f.script == nil {
		f.script = []fakekinesis.Fault{shared.Fault}
	}
	if f.server.Fault == nil {
		f.server.Fault = func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
			if n <= len(f.script) {
				return f.script[n-1]
			}
			return fakekinesis.OK
		}
	}
	server, url := f.start(t)
	defer func() { server().Close() }()

	retries := 100
	if f.permanent {
		retries = permanentRetries
	}
	args := slices.Concat(
		[]string{fixture.plugin, "--retry", strconv.Itoa(retries), "--retry-wait", "20"},
		f.instance(url),
		chunkFile(t, faultTag, append(slices.Clone(f.chunk.Bytes), f.trailing...)),
	)
	run, err := harness.Host{Path: fixture.host, Args: args, Env: f.env, OnEvent: func(e harness.Event) bool {
		if e.Word == "flush" && e.Fields["ret"] == "RETRY" {
			server() // starts it if the row is late
		}
		return true
	}}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	checkLog(t, run)
	flushes := run.All("flush")
	if got := flushes[0].Fields["ret"]; got != f.result {
		t.Errorf("the first flush returns %s, want %s", got, f.result)
	}
	want := map[string]string{"OK": "OK", "ERROR": "ERROR", "RETRY": "OK"}[f.result]
	if f.permanent {
		want = "RETRY"
	}
	if got := flushes[len(flushes)-1].Fields["ret"]; got != want {
		t.Errorf("the last flush returns %s, want %s", got, want)
	}
	if counts := server().Counts(); counts.PutRecords != f.requests || counts.Accepted != f.accepted {
		t.Errorf("%d PutRecords, %d accepted, want %d and %d", counts.PutRecords, counts.Accepted, f.requests, f.accepted)
	}
	if f.accepted > 0 {
		wantTimes(t, server().Records(), f.chunk.JSON, max(f.copies, 1))
		if r := server().Records(); f.copies == 2 && (r[0].PartitionKey != r[1].PartitionKey || !bytes.Equal(r[0].Data, r[1].Data)) {
			t.Error("the repetition is another record, so a consumer cannot recognize it")
		}
	}
	f.checkLine(t, run)
	if t.Failed() {
		t.Logf("log:\n%s", run.Stderr)
	}
}

// start starts the endpoint. If the row is late, it only reserves an address, and
// the first call of the returned function starts the endpoint.
func (f fault) start(t *testing.T) (server func() *fakekinesis.Server, url string) {
	if !f.late {
		s := fakekinesis.Start(f.server)
		return func() *fakekinesis.Server { return s }, s.URL()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	return sync.OnceValue(func() *fakekinesis.Server {
		if f.server.Listener, err = net.Listen("tcp", address); err != nil {
			t.Error(err)
			f.server.Listener = nil
		}
		return fakekinesis.Start(f.server)
	}), "http://" + address
}

// randomKey is a value of fault.without.
var randomKey = []string{"fixed_partition_key"}

// instance returns the arguments of the --instance.
func (f fault) instance(url string) []string {
	words := []string{"--instance"}
	for _, option := range append([]string{
		"stream=faults",
		"region=" + harness.Region,
		"endpoint=" + url,
		"sts_endpoint=" + url,
		"aws_key_id=" + harness.AccessKeyID,
		"aws_sec_key=" + harness.SecretAccessKey,
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

// checkLine checks the log lines of level warn and error.
func (f fault) checkLine(t *testing.T, run harness.HostRun) {
	t.Helper()
	var lines []string
	for line := range strings.Lines(run.Stderr) {
		if strings.Contains(line, "[error]") || strings.Contains(line, "[ warn]") {
			lines = append(lines, line)
		}
	}
	if f.level == "" {
		if len(lines) != 0 {
			t.Errorf("%d lines of level warn or error, want none: %q", len(lines), lines)
		}
		return
	}
	if want := max(f.lines, 1); len(lines) != want {
		t.Errorf("%d lines of level warn or error, want %d: %q", len(lines), want, lines)
	}
	words := append([]string{fmt.Sprintf("[%5s]", f.level)}, f.inLog...)
	if !slices.ContainsFunc(lines, func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	}) {
		t.Errorf("no line has all of %q: %q", words, lines)
	}
}

// checkLog checks the form of each log line, and that none contains a secret or
// record contents.
func checkLog(t *testing.T, run harness.HostRun) {
	t.Helper()
	for line := range strings.Lines(run.Stderr) {
		if !engineLine.MatchString(line) {
			t.Errorf("a log line does not have the engine's form: %s", line)
		}
		for _, word := range forbiddenInLog {
			if strings.Contains(line, word) {
				t.Errorf("%s is in the log: %s", word, line)
			}
		}
	}
	if n := run.End().Int("plugin_stdout_bytes"); n != 0 {
		t.Errorf("the plugin wrote %d bytes to stdout", n)
	}
}

// texts returns the log records of records.
func texts(t *testing.T, records []fakekinesis.Record) []string {
	t.Helper()
	var all []string
	for i, r := range records {
		if r.ExplicitHashKey != "" {
			t.Errorf("record %d has an explicit hash key", i)
		}
		lines, err := logRecords(r)
		if err != nil {
			t.Fatalf("request %d: %v", r.Request, err)
		}
		all = append(all, lines...)
	}
	return all
}

// wantTimes checks that the records hold each text so many times, and no other
// text.
func wantTimes(t *testing.T, records []fakekinesis.Record, want []string, times int) {
	t.Helper()
	got := texts(t, records)
	wanted := slices.Repeat(want, times)
	slices.Sort(got)
	slices.Sort(wanted)
	wantSame(t, "user records, sorted", got, wanted)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, shared := range fakekinesis.PutRecordFaults {
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.name == shared.Name }) {
			t.Errorf("the fault %q has no row", shared.Name)
		}
	}
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			f.run(t)
		})
	}
}

// TestDebugLog: requests to STS run on threads that the engine does not own.
// Their log lines still have the engine's form and the instance's name, follow
// its log_level, and contain no secret.
func TestDebugLog(t *testing.T) {
	t.Parallel()
	server := fakekinesis.Start(fakekinesis.Options{Role: firstRole(fakekinesis.Status(503))})
	defer server.Close()
	options := []string{"debug=true", "role_arn=" + roleARN}
	run := runHost(t, fixture.host, []string{"--retry", "100"},
		faultAt(server.URL(), append(options, "alias=loud")...),
		faultAt(server.URL(), append(options, "alias=quiet", "log_level=error")...),
		chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, 2, 0, 0)
	checkLog(t, run)
	logLine(t, run, "[ info]", "loud", "PutRecord", "body of")
	logLine(t, run, "[ info]", "loud", "POST "+server.URL(), "www-form-urlencoded")
	if strings.Contains(run.Stderr, "quiet") {
		t.Errorf("an instance with log_level error logged:\n%s", run.Stderr)
	}
}

// TestLog_ManyCauses: each cause is logged once, in whatever order they occur.
func TestLog_ManyCauses(t *testing.T) {
	t.Parallel()
	const rounds = 10
	causes := []fakekinesis.Fault{
		fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded"),
		fakekinesis.Error(500, "InternalFailure", ""),
		fakekinesis.Error(400, "AccessDeniedException", "not authorized"),
		fakekinesis.NoNumber,
	}
	server := fakekinesis.Start(fakekinesis.Options{Fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
		if n > rounds*len(causes) {
			return fakekinesis.OK
		}
		return causes[n%len(causes)]
	}})
	defer server.Close()
	run := runHost(t, fixture.host, []string{"--retry", "100"}, faultAt(server.URL()), chunkFile(t, faultTag, faultChunk.Bytes))
	wantOutcomes(t, run, 1, 0, 0)
	checkLog(t, run)
	if n := strings.Count(run.Stderr, "will be retried"); n != len(causes) {
		t.Errorf("%d lines about %d causes:\n%s", n, len(causes), run.Stderr)
	}
}
