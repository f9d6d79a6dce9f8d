package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/kpl"
)

// hostile runs the command on an endpoint that responds with these bodies, by
// operation.
func hostile(t *testing.T, bodies map[string]http.HandlerFunc, args ...string) (code int, out, log string) {
	t.Helper()
	return hostileUntil(t.Context(), t, bodies, args...)
}

// hostileUntil is hostile until ctx ends.
func hostileUntil(ctx context.Context, t *testing.T, bodies map[string]http.HandlerFunc, args ...string) (code int, out, log string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, operation, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		bodies[operation](w, r)
	}))
	defer server.Close()
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "AKIA", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "", "AWS_EC2_METADATA_DISABLED": "true"} {
		t.Setenv(name, value)
	}
	var stdout, stderr bytes.Buffer
	code = run(ctx, append([]string{"logs", "--region", "eu-central-1", "--endpoint", server.URL}, args...), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

const (
	// nasty is a shard ID that would forge a line and set the title of a terminal.
	nasty    = `a\r\nkplcat: forged\u001b]0;x\u0007`
	oneShard = `{"Shards":[{"ShardId":"` + nasty + `","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"9"},"SequenceNumberRange":{"StartingSequenceNumber":"1"}}]}`
)

func TestHostile_TextIsEscaped(t *testing.T) {
	plain := map[string]http.HandlerFunc{
		"ListShards":       body(oneShard),
		"GetShardIterator": body(`{"ShardIterator":"i"}`),
		"GetRecords": body(`{"MillisBehindLatest":0,"NextShardIterator":"n","Records":[{"SequenceNumber":"\u001b[2J","PartitionKey":"k","Data":"84mawgA="},
			{"SequenceNumber":"2","PartitionKey":"k","Data":"aGVsbG8="}]}`),
	}
	code, out, log := hostile(t, plain, "--stats")
	if code != exitOK && code != exitFailed || !strings.Contains(out+log, `\x1b]0;x`) {
		t.Errorf("exit %d\n%q\n%q", code, out, log)
	}
	plain["GetRecords"] = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"no\r\nkplcat: forged \u001b[31m"}`)
	}
	code, out2, log2 := hostile(t, plain)
	if code != exitFailed || !strings.Contains(log2, `no\r\nkplcat: forged \x1b[31m`) {
		t.Errorf("exit %d\n%q", code, log2)
	}
	for _, text := range []string{out, log, out2, log2} {
		if strings.ContainsAny(text, "\x1b\r\a") || strings.Contains(text, "\nkplcat: forged") {
			t.Errorf("not escaped: %q", text)
		}
	}
}

func TestHostile_ResponsesAreBounded(t *testing.T) {
	huge := func(w io.Writer) {
		_, _ = io.WriteString(w, `{"Records":[{"Data":"`)
		block := strings.Repeat("A", 1<<20)
		for range 64 {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
		}
		_, _ = io.WriteString(w, `"}]}`)
	}
	// The command retries such a response for half a minute. The warning of the first
	// retry is enough here.
	for want, records := range map[string]http.HandlerFunc{
		"too large": func(w http.ResponseWriter, _ *http.Request) { huge(w) },
		"is compressed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			huge(z)
			_ = z.Close()
		},
	} {
		requests := 0
		ctx, cancel := context.WithCancel(t.Context())
		code, _, log := hostileUntil(ctx, t, map[string]http.HandlerFunc{
			"ListShards": body(oneShard), "GetShardIterator": body(`{"ShardIterator":"i"}`),
			"GetRecords": func(w http.ResponseWriter, r *http.Request) {
				if requests++; requests > 1 {
					cancel()
				}
				records(w, r)
			},
		})
		cancel()
		if code != exitInterrupted || !strings.Contains(log, want) {
			t.Errorf("exit %d, %q is not in %.500s", code, want, log)
		}
	}
}

// TestPrinter_EscapesForTerminals: records cannot control a terminal, and JSON stays
// JSON.
func TestPrinter_EscapesForTerminals(t *testing.T) {
	data := []byte("{\"a\":\"\u009b2J\u202eé\",\"b\":\"\U000e0001\"}")
	text := []byte("a\x1b[2J\tb\x07")
	for _, test := range []struct {
		json, escape bool
		data         []byte
		want         string
	}{
		{false, false, text, "a\x1b[2J\tb\x07\n"},
		{false, true, text, "a\\x1b[2J\tb\\a\n"},
		{true, true, data, `{"shard":"s","sequence":"1","key":"k","data":{"a":"\u009b2J\u202eé","b":"\udb40\udc01"}}` + "\n"},
	} {
		var out bytes.Buffer
		p := &printer{w: bufio.NewWriter(&out), options: options{json: test.json}, escape: test.escape}
		r := &consumer.Record{}
		r.SequenceNumber = "1"
		for range 2 {
			if err := p.printOne(&consumer.Shard{ID: "s"}, r, position{-1, -1}, kpl.UserRecord{PartitionKey: "k", Data: test.data}); err != nil {
				t.Fatal(err)
			}
		}
		if err := p.w.Flush(); err != nil {
			t.Fatal(err)
		}
		if out.String() != strings.Repeat(test.want, 2) {
			t.Errorf("json %v, escape %v: %q, want %q", test.json, test.escape, out.String(), test.want)
		}
	}
}
