package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/klauspost/compress/snappy"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/internal/version"
	"out_kinesis_agg/test/kit/consumertest"
)

// result is the outcome of a run.
type result struct {
	out, log string
	err      error
}

// lines checks standard output.
func (r result) lines(t *testing.T, want ...string) {
	t.Helper()
	if r.err != nil {
		t.Errorf("error: %v", r.err)
	}
	if got := strings.Split(strings.TrimSuffix(r.out, "\n"), "\n"); strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// kplcat runs the command on a stream in memory. The caller is in a synctest
// bubble, where time passes only while all goroutines wait. meanwhile runs concurrently
// with the command and ends it on return.
func kplcat(t *testing.T, f *consumertest.Stream, meanwhile func(*consumertest.Stream), args ...string) result {
	t.Helper()
	o, err := parse(append([]string{"stream"}, args...), time.Now(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	// A run that does not end fails a test instead of blocking it.
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	if meanwhile != nil {
		go func() {
			meanwhile(f)
			cancel()
		}()
	}
	var out, log bytes.Buffer
	err = cat(ctx, o, f, &out, &log)
	if meanwhile != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return result{out.String(), log.String(), err}
}

func TestCat_PrintsLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Page: 1}
		s := f.Add("shardId-000000000000")
		f.Put(s, consumertest.Aggregate("k", `{"n":1}`, `{"n":2}`+"\n", ""), "plain", consumertest.Aggregate("k", `{"n":3}`))
		kplcat(t, f, nil).lines(t, `{"n":1}`, `{"n":2}`, "", "plain", `{"n":3}`)
	})
}

func TestCat_JSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		s := f.Add("shardId-000000000007")
		f.Put(s, consumertest.Aggregate("kéy", "{\"n\": 1.0,\n\"h\":\"<é>\"}", "text <1>", "\xff\x00", `{"bro`, ""), "[1]")
		arrival := time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
		head := `{"shard":"shardId-000000000007","sequence":"100","sub_sequence":%d,"arrival":"` + arrival + `","key":"kéy",`
		kplcat(t, f, nil, "--json").lines(t,
			fmt.Sprintf(head, 0)+`"data":{"n":1.0,"h":"<é>"}}`,
			fmt.Sprintf(head, 1)+`"data":"text <1>"}`,
			fmt.Sprintf(head, 2)+`"base64":"/wA="}`,
			fmt.Sprintf(head, 3)+`"data":"{\"bro"}`,
			fmt.Sprintf(head, 4)+`"data":""}`,
			`{"shard":"shardId-000000000007","sequence":"101","arrival":"`+arrival+`","key":"key","data":[1]}`)
	})
}

func TestCat_Raw(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		whole := consumertest.Aggregate("k", "one")
		f.Put(f.Add("shardId-000000000000"), whole, "plain")
		if r := kplcat(t, f, nil, "--raw"); r.err != nil || r.out != whole+"\nplain\n" {
			t.Errorf("%q, %v", r.out, r.err)
		}
	})
}

func TestCat_SkipsDamagedAggregates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		damaged := []byte(consumertest.Aggregate("k", "two"))
		damaged[12] ^= 1
		for _, args := range [][]string{nil, {"--stats"}} {
			f := &consumertest.Stream{}
			f.Put(f.Add("shardId-000000000000"), consumertest.Aggregate("k", "one"), string(damaged), "three")
			r := kplcat(t, f, nil, args...)
			if r.err == nil || !strings.Contains(r.err.Error(), "1 damaged") || !strings.Contains(r.log, "shardId-000000000000 101: ") || !strings.Contains(r.log, "MD5") {
				t.Errorf("%v\n%s", r.err, r.log)
			}
			if args == nil && r.out != "one\nthree\n" {
				t.Errorf("printed %q", r.out)
			}
		}
	})
}

func TestCat_Decompress(t *testing.T) {
	const gzipped = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xcaH\xcd\xc9\xc9\x07\x04\x00\x00\xff\xff\x86\xa6\x106\x05\x00\x00\x00"
	const snappy = "\x05\x10hello"
	for name, test := range map[string]struct {
		args []string
		data string
		want string
	}{
		"gzip is detected":         {nil, gzipped, "hello"},
		"none":                     {[]string{"--decompress", "none"}, gzipped, gzipped},
		"raw":                      {[]string{"--raw"}, gzipped, gzipped},
		"snappy":                   {[]string{"--decompress", "snappy"}, snappy, "hello"},
		"snappy is not detected":   {nil, snappy, snappy},
		"text that resembles zlib": {nil, "x^2 + y^2", "x^2 + y^2"},
		"not in the given format":  {[]string{"--decompress", "zstd"}, "hello", "hello"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &consumertest.Stream{}
				f.Put(f.Add("shardId-000000000000"), test.data)
				kplcat(t, f, nil, test.args...).lines(t, test.want)
			})
		})
	}
}

// Snappy cannot be detected: a run that meets binary data names the flag, once.
func TestCat_BinaryNamesSnappy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		batch := string(snappy.Encode(nil, []byte(strings.Repeat(`{"log":"a line"}`+"\n", 100))))
		for _, test := range []struct {
			args []string
			hint bool
		}{{nil, true}, {[]string{"--stats"}, true}, {[]string{"--decompress", "snappy"}, false}, {[]string{"--decompress", "none"}, false}, {[]string{"--raw"}, false}} {
			f := &consumertest.Stream{}
			f.Put(f.Add("shardId-000000000000"), batch, "text", batch)
			r := kplcat(t, f, nil, test.args...)
			if r.err != nil || (r.log == "kplcat: 2 user records are binary: use --decompress snappy if that is their compression\n") != test.hint {
				t.Errorf("%q: %v, log %q", test.args, r.err, r.log)
			}
		}
	})
}

func TestStats_Table(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		a, b := f.Add("shardId-000000000000"), f.Add("shardId-000000000001")
		b.HashKeyRange.EndingHashKey = aws.String("1") // no key of the test belongs to this shard
		f.Put(a, consumertest.Aggregate("k", "one", "two"), consumertest.Aggregate("k", "three"), "plain")
		time.Sleep(90 * time.Second)
		f.Put(b, consumertest.Aggregate("k", strings.Repeat("x", 1<<19)))
		time.Sleep(2500 * time.Millisecond)
		r := kplcat(t, f, nil, "--stats")
		want := `
                     dam-   user    log           un-   per    of
shard  aggr.  plain   aged  recs.  recs.  bytes packed  rec. 1 MiB oldest newest
    0      2      1      0      4      4     80     16   1.5  0.0%  1m33s  1m33s
    1      1      0      0      1      1 524321 524288   1.0 50.0%   2.5s   2.5s
  all      3      1      0      5      5 524401 524304   1.3 16.7%  1m33s   2.5s
`
		fields := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if r.err != nil || fields(r.out) != fields(want) {
			t.Errorf("%v\ngot %s\nwant %s", r.err, r.out, want)
		}
		if !strings.Contains(r.log, "1 aggregated record with a user record of another shard") {
			t.Errorf("log %q", r.log)
		}
	})
}

func TestStats_PrintedOnInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		f.Put(f.Add("shardId-000000000000"), "1", "2")
		r := kplcat(t, f, func(*consumertest.Stream) { time.Sleep(time.Second) }, "--stats", "--follow")
		if r.err != nil || !strings.Contains(r.out, "\n    0      0      2 ") {
			t.Errorf("%v %q", r.err, r.out)
		}
	})
}

// brokenPipe is a standard output whose reader has ended.
type brokenPipe struct{ room int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
	}
	return len(p), nil
}

func TestCat_EndsOnBrokenPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Page: 1}
		f.Put(f.Add("shardId-000000000000"), make([]string, 1000)...)
		o, _ := parse([]string{"stream", "--follow"}, time.Now(), io.Discard)
		if err := cat(t.Context(), o, f, &brokenPipe{room: 10}, io.Discard); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%v", err)
		}
		if n := f.Calls("GetRecords"); n > 12 {
			t.Errorf("%d reads after the error", n)
		}
	})
}

func TestStats_Fits80Columns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for _, n := range []int{0, 999_999, 1_000_000, 123_456_789, 999_960_000, 1 << 50} {
			for _, age := range []time.Duration{0, 59960 * time.Millisecond, time.Hour - 1, 24*time.Hour - 1, 99*24*time.Hour + 23*time.Hour, 365 * 24 * time.Hour} {
				var out bytes.Buffer
				c := shardCount{aggregated: n, plain: n, damaged: n, users: n, logs: n, bytes: n, logBytes: n, joined: n, joinedLogs: 7 * n, joinedBytes: min(n, 1<<30) * 10 << 20, oldest: now.Add(-age), newest: now.Add(-age)}
				s := statistics{w: bufio.NewWriter(&out), warn: func(string, ...any) {},
					shards: map[string]*shardCount{"shardId-000000012345": &c, "shardId-000000000002": &c}}
				_ = s.end()
				for line := range strings.Lines(out.String()) {
					if len(line) != 81 {
						t.Errorf("%d columns: %s", len(line)-1, line)
					}
				}
			}
		}
	})
}

func TestCat_Limit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Page: 1}
		s := f.Add("shardId-000000000000")
		f.Put(s, consumertest.Aggregate("k", "1", "2", "3"), "4", "5")
		for limit, want := range [][]string{1: {"1"}, {"1", "2"}, {"1", "2", "3"}, {"1", "2", "3", "4"}, {"1", "2", "3", "4", "5"}} {
			if limit > 0 {
				kplcat(t, f, nil, "--follow", "--limit", fmt.Sprint(limit)).lines(t, want...)
			}
		}
		kplcat(t, f, nil, "--limit", "100").lines(t, "1", "2", "3", "4", "5")
		if r := kplcat(t, f, nil, "--raw", "--limit", "2", "--follow"); r.err != nil || !strings.HasSuffix(r.out, "\n4\n") {
			t.Errorf("%q, %v", r.out, r.err)
		}
	})
}

// A run that finds nothing says so, on standard error only.
func TestCat_EmptyStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		f.Add("shardId-000000000000")
		f.Put(f.Add("shardId-000000000001"), "1")
		for _, test := range []struct {
			args []string
			want string
		}{
			{[]string{"--shard", "0"}, "kplcat: no records in stream (only shardId-000000000000)\n"},
			{[]string{"--shard", "0", "--stats"}, "kplcat: no records in stream (only shardId-000000000000)\n"},
			{[]string{"--to", "1h"}, "kplcat: no records in stream to "},
			{nil, ""},
		} {
			r := kplcat(t, f, nil, test.args...)
			if r.err != nil || !strings.HasPrefix(r.log, test.want) || test.want == "" && r.log != "" {
				t.Errorf("%q: %v %q", test.args, r.err, r.log)
			}
		}
	})
}

func TestProgress_OneLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := &progress{w: &b}
		stop := p.show()
		p.Shards(1, 2)
		p.Lag("s", 90*time.Second)
		p.read(make([]consumer.Record, 3), 30)
		time.Sleep(showInterval + time.Millisecond)
		p.Warn("careful")
		p.Throttled()
		time.Sleep(showInterval)
		stop()
		const text = "3 records, 30 log records, 0.0 MB, 1 of 2 shards, 1m30s behind"
		want := text + "\r\x1b[Kkplcat: careful\n" + text + ", throttled 1 time\r\x1b[K"
		if b.String() != want {
			t.Errorf("got %q\nwant %q", b.String(), want)
		}
	})
}

func TestParse_Flags(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.FixedZone("", 3600))
	arn := "arn:aws:kinesis:eu-central-1:123456789012:stream/s"
	for _, test := range []struct {
		args string
		want func(o options) bool
		err  string
	}{
		{"s", func(o options) bool {
			return o.stream == "s" && o.from == (consumer.Position{}) && !o.follow && o.decompress == auto
		}, ""},
		{"--follow s --json", func(o options) bool { return o.follow && o.json }, ""},
		{"s --from now", func(o options) bool { return o.from.Latest && o.follow }, ""},
		{"s --from 15m", func(o options) bool { return o.from.At.Equal(now.Add(-15 * time.Minute)) }, ""},
		{"s --from 2026-01-31T10:00:00Z", func(o options) bool { return o.from.At.Equal(now.Add(-time.Hour)) }, ""},
		{"s --from 2026-01-31T10:00", func(o options) bool { return o.from.At.Equal(now.Add(-2 * time.Hour)) }, ""},
		{"s --from 2026-01-31", func(o options) bool { return o.from.At.Equal(now.Add(-12 * time.Hour)) }, ""},
		{"s --shard 12", func(o options) bool { return slices.Equal(o.shards, []string{"shardId-000000000012"}) }, ""},
		{"s --shard shardId-000000000012", func(o options) bool { return slices.Equal(o.shards, []string{"shardId-000000000012"}) }, ""},
		{"s -region us-east-1 -profile p -role-arn r -endpoint https://e", func(o options) bool {
			return o.region == "us-east-1" && o.profile == "p" && o.roleARN == "r" && o.endpoint == "https://e"
		}, ""},
		{arn, func(o options) bool { return o.region == "eu-central-1" }, ""},
		{arn + " --region us-east-1", nil, "the stream's ARN has the region eu-central-1"},
		{"", nil, "want one stream, not 0"},
		{"a b", nil, "want one stream, not 2"},
		{"s --stats --json", nil, "--stats prints no records"},
		{"s --decompress brotli", nil, "--decompress"},
		{"s --from 2026-02-01", nil, "future"},
		{"s --from yesterday", nil, "want start, now"},
		{"s --from -5m", nil, "want start, now"},
		{"s --nonsense", nil, "nonsense"},
		{"s --shard 1,shardId-000000000002 --shard 3,1", func(o options) bool {
			return strings.Join(o.shards, " ") == "shardId-000000000001 shardId-000000000002 shardId-000000000003"
		}, ""},
		{"s --shard 1,", nil, "shard ID"},
		{"s --to now", func(o options) bool { return o.to.Equal(now) && !o.follow }, ""},
		{"s --from 2h --to 1h", func(o options) bool { return o.to.Equal(now.Add(-time.Hour)) }, ""},
		{"s --from now --to 2026-02-01", func(o options) bool { return o.to.After(now) && o.follow }, ""},
		{"s --from 1h --to 2h", nil, "--to 2h is not after --from 1h"},
		{"s --from now --to now", nil, "--to now is not after --from now"},
		{"s --to start", nil, "want now, a time"},
		{"s --limit 10", func(o options) bool { return o.limit == 10 }, ""},
		{"s -n 10 -f", func(o options) bool { return o.limit == 10 && o.follow }, ""},
		{"arn:aws:firehose:eu-central-1:123456789012:deliverystream/logs", nil, "is a delivery stream of Firehose, which cannot be read"},
		{"arn:aws:s3:::logs", nil, "is not the ARN of a data stream"},
		{"s --limit 0", nil, "--limit 0: want a number"},
		{"s --limit -1", nil, "--limit -1: want a number"},
		{"s --limit ten", nil, "--limit ten: want a number"},
		{"s --stats --limit 1", nil, "leave out"},
		{"s --endpoint localhost:4567", nil, "write http://localhost:4567 or https://localhost:4567"},
		{"s --endpoint 127.0.0.1:4567", nil, "write http://127.0.0.1:4567"},
		{"s --endpoint ftp://localhost", nil, "want a URL such as http://"},
		{"s --endpoint http://", nil, "want a URL such as http://"},
	} {
		o, err := parse(strings.Fields(test.args), now, io.Discard)
		if test.err == "" && (err != nil || !test.want(o)) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: %+v, %v", test.args, o, err)
		}
	}
}

func TestVersion_IsPrinted(t *testing.T) {
	for word, want := range map[string]string{"--version": "kplcat " + version.String() + "\n", "version": "kplcat " + version.String() + "\n", "help": usage} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), []string{word}, &out, &errs); code != exitOK || out.String() != want {
			t.Errorf("%s: exit code %d, output %q %q", word, code, out.String(), errs.String())
		}
	}
}

func TestUsage_NamesEveryFlag(t *testing.T) {
	var help bytes.Buffer
	if _, err := parse([]string{"--help"}, time.Now(), &help); !errors.Is(err, flag.ErrHelp) || help.String() != usage {
		t.Fatalf("%v %q", err, help.String())
	}
	for _, name := range []string{"from", "to", "limit", "shard", "follow", "json", "raw", "stats", "decompress", "no-split", "region", "profile", "role-arn", "endpoint", "version"} {
		if !strings.Contains(usage, "\n  --"+name) {
			t.Errorf("--%s is missing", name)
		}
	}
	for line := range strings.Lines(usage) {
		if len(line) > 81 {
			t.Errorf("longer than 80 columns: %s", line)
		}
	}
	if code := run(t.Context(), []string{"a", "b"}, io.Discard, io.Discard); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}
