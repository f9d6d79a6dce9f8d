package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
)

// result is what a run left.
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

// kplcat runs the command against a fake, with a clock that stands unless
// everybody waits. meanwhile runs beside it, and ends it when it returns.
func kplcat(t *testing.T, f *fake, meanwhile func(*fake), args ...string) result {
	t.Helper()
	o, err := parse(append([]string{"stream"}, args...), time.Now(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
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

func TestUserRecordsArePrintedAsLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{page: 1}
		s := f.add("shardId-000000000000")
		f.put(s, aggregate("k", `{"n":1}`, `{"n":2}`+"\n", ""), "plain", aggregate("k", `{"n":3}`))
		kplcat(t, f, nil).lines(t, `{"n":1}`, `{"n":2}`, "", "plain", `{"n":3}`)
	})
}

func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		s := f.add("shardId-000000000007")
		f.put(s, aggregate("kéy", "{\"n\": 1.0,\n\"h\":\"<é>\"}", "text <1>", "\xff\x00", `{"bro`, ""), "[1]")
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

func TestRawLeavesAggregatesWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		whole := aggregate("k", "one")
		f.put(f.add("shardId-000000000000"), whole, "plain")
		if r := kplcat(t, f, nil, "--raw"); r.err != nil || r.out != whole+"\nplain\n" {
			t.Errorf("%q, %v", r.out, r.err)
		}
	})
}

func TestDamagedAggregatesArePassedOverAndFailTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		damaged := []byte(aggregate("k", "two"))
		damaged[12] ^= 1
		for _, args := range [][]string{nil, {"--stats"}} {
			f := &fake{}
			f.put(f.add("shardId-000000000000"), aggregate("k", "one"), string(damaged), "three")
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

func TestDecompress(t *testing.T) {
	const gzipped = "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff\xcaH\xcd\xc9\xc9\x07\x04\x00\x00\xff\xff\x86\xa6\x106\x05\x00\x00\x00"
	const snappy = "\x05\x10hello"
	for name, test := range map[string]struct {
		args []string
		data string
		want string
	}{
		"gzip is known":         {nil, gzipped, "hello"},
		"none":                  {[]string{"--decompress", "none"}, gzipped, gzipped},
		"raw":                   {[]string{"--raw"}, gzipped, gzipped},
		"snappy":                {[]string{"--decompress", "snappy"}, snappy, "hello"},
		"snappy is not known":   {nil, snappy, snappy},
		"text that looks so":    {nil, "x^2 + y^2", "x^2 + y^2"},
		"not what was promised": {[]string{"--decompress", "zstd"}, "hello", "hello"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fake{}
				f.put(f.add("shardId-000000000000"), test.data)
				kplcat(t, f, nil, test.args...).lines(t, test.want)
			})
		})
	}
}

func TestFromNowAndFromTime(t *testing.T) {
	for from, want := range map[string][]string{"now": {"new"}, "15m": {"late", "new"}, "start": {"early", "late", "new"}} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{}
			old := f.add("shardId-000000000000")
			f.put(old, "early")
			f.close(old)
			s := f.add("shardId-000000000001", "shardId-000000000000")
			time.Sleep(time.Hour)
			f.put(s, "late")
			time.Sleep(time.Minute)
			kplcat(t, f, func(f *fake) {
				time.Sleep(3 * time.Second)
				f.put(s, "new")
				time.Sleep(3 * time.Second)
			}, "--from", from, "--follow").lines(t, want...)
		})
	}
}

func TestOneShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a, b := f.add("shardId-000000000000"), f.add("shardId-000000000001")
		c := f.add("shardId-000000000002", "shardId-000000000001")
		f.put(a, "a")
		f.put(b, "b")
		f.put(c, "c")
		f.close(b)
		kplcat(t, f, nil, "--shard", "1", "--follow").lines(t, "b")
		if r := kplcat(t, f, nil, "--shard", "9"); r.err == nil || !strings.Contains(r.err.Error(), "there is no shard shardId-000000000009; there are shardId-000000000000") {
			t.Error(r.err)
		}
	})
}

// TestParentsComeBeforeChildren: split, then merge, all there when it begins.
func TestParentsComeBeforeChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hide := range []bool{false, true} {
			f := &fake{page: 1, hideChildren: hide}
			root := f.add("shardId-000000000009") // ids in no order
			left := f.add("shardId-000000000001", "shardId-000000000009")
			right := f.add("shardId-000000000005", "shardId-000000000009")
			last := f.add("shardId-000000000000", "shardId-000000000001", "shardId-000000000005")
			f.put(root, "1", "2", "3")
			f.put(left, "4")
			f.put(right, "4", "4", "4", "4")
			f.put(last, "5", "6")
			f.close(root)
			f.close(left)
			f.close(right)
			kplcat(t, f, nil).lines(t, "1", "2", "3", "4", "4", "4", "4", "4", "5", "6")
		}
	})
}

// TestReshardWhileFollowing: children that were not there at the start are read
// from their start, once each.
func TestReshardWhileFollowing(t *testing.T) {
	for _, hide := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := &fake{hideChildren: hide}
			a, b := f.add("shardId-000000000000"), f.add("shardId-000000000001")
			kplcat(t, f, func(f *fake) {
				time.Sleep(2 * time.Second)
				f.put(a, "1")
				f.put(b, "1")
				time.Sleep(2 * time.Second)
				f.close(a)
				time.Sleep(2 * time.Second) // the list is late
				c := f.add("shardId-000000000002", "shardId-000000000000", "shardId-000000000001")
				f.put(c, "3")
				f.put(b, "2")
				time.Sleep(2 * time.Second)
				f.close(b)
				time.Sleep(2 * time.Second)
				f.put(c, "4")
				time.Sleep(2 * time.Second)
			}, "--from", "now").lines(t, "1", "1", "2", "3", "4")
		})
	}
}

func TestEachShardIsReadFiveTimesASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{page: 1}
		for n := range 20 {
			f.put(f.add(fmt.Sprintf("shardId-%012d", n)), make([]string, 30)...)
		}
		r := kplcat(t, f, nil)
		if got := strings.Count(r.out, "\n"); r.err != nil || got != 600 {
			t.Errorf("%d lines, %v", got, r.err)
		}
		for id, times := range f.reads {
			for i := 5; i < len(times); i++ {
				if d := times[i].Sub(times[i-5]); d < time.Second {
					t.Fatalf("%s: 6 reads within %s", id, d)
				}
			}
		}
	})
}

func TestThrottlingIsBorneWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{page: 1, before: func(call string, n int, _ string) error {
			switch {
			case call == "GetRecords" && n%10 != 0:
				return &types.ProvisionedThroughputExceededException{}
			case call != "GetRecords" && n <= 20:
				return &types.LimitExceededException{}
			}
			return nil
		}}
		f.put(f.add("shardId-000000000000"), "1", "2", "3")
		began := time.Now()
		r := kplcat(t, f, nil)
		r.lines(t, "1", "2", "3")
		if r.log != "" {
			t.Errorf("it says %q", r.log)
		}
		// 40 waits and three times 9, each of 2.5 to 5 s but for the first ones.
		if took := time.Since(began); took < 2*time.Minute || took > 6*time.Minute {
			t.Errorf("it took %s", took)
		}
	})
}

func TestErrorsThatPassAreBorneWith(t *testing.T) {
	for name, err := range map[string]error{
		"internal failure": &types.InternalFailureException{},
		"throttled by KMS": &types.KMSThrottlingException{},
		"connection":       &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED},
		"timeout":          fmt.Errorf("read: %w", context.DeadlineExceeded),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fail := func(_ string, n int, _ string) error {
					if n <= 3 {
						return err
					}
					return nil
				}
				f := &fake{before: fail}
				f.put(f.add("shardId-000000000000"), "1")
				kplcat(t, f, nil).lines(t, "1")
			})
		})
	}
}

func TestErrorsThatLastEndIt(t *testing.T) {
	for name, test := range map[string]struct {
		err   error
		calls int
	}{
		"no such stream": {&types.ResourceNotFoundException{Message: aws.String("no stream")}, 1},
		"not allowed":    {&smithy.GenericAPIError{Code: "AccessDeniedException"}, 1},
		"no connection":  {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, maxFailures + 1},
	} {
		t.Run(name, func(t *testing.T) {
			for _, call := range []string{"ListShards", "GetShardIterator", "GetRecords"} {
				synctest.Test(t, func(t *testing.T) {
					f := &fake{before: func(c string, _ int, _ string) error {
						if c == call {
							return test.err
						}
						return nil
					}}
					f.add("shardId-000000000000")
					r := kplcat(t, f, nil, "--follow")
					if !errors.Is(r.err, test.err) || f.calls[call] != test.calls {
						t.Errorf("%s: %v after %d calls", call, r.err, f.calls[call])
					}
				})
			}
		})
	}
}

func TestAnExpiredIteratorIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expire := map[int]bool{1: true, 3: true, 4: true}
		f := &fake{page: 1, before: func(call string, n int, _ string) error {
			if call == "GetRecords" && expire[n] {
				return &types.ExpiredIteratorException{}
			}
			return nil
		}}
		f.put(f.add("shardId-000000000000"), "1", "2", "3")
		kplcat(t, f, nil).lines(t, "1", "2", "3")
		if got, want := fmt.Sprint(f.types), "[TRIM_HORIZON TRIM_HORIZON AFTER_SEQUENCE_NUMBER AFTER_SEQUENCE_NUMBER]"; got != want {
			t.Errorf("iterators %s, want %s", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := &fake{before: func(call string, n int, _ string) error {
			if call == "GetRecords" {
				return &types.ExpiredIteratorException{}
			}
			return nil
		}}
		f.add("shardId-000000000000")
		if r := kplcat(t, f, nil); r.err == nil {
			t.Error("iterators that always expire: no error")
		}
	})
}

// TestNothingIsLostWhereLatestExpires: what came before the first read.
func TestNothingIsLostWhereLatestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *fakeShard
		f := &fake{}
		f.before = func(call string, n int, _ string) error {
			if call == "GetRecords" && n == 1 {
				f.put(s, "meanwhile")
				return &types.ExpiredIteratorException{}
			}
			return nil
		}
		s = f.add("shardId-000000000000")
		f.put(s, "before")
		time.Sleep(time.Second)
		kplcat(t, f, func(*fake) { time.Sleep(5 * time.Second) }, "--from", "now").lines(t, "meanwhile")
	})
}

func TestStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		a, b := f.add("shardId-000000000000"), f.add("shardId-000000000001")
		b.HashKeyRange.EndingHashKey = aws.String("1") // where no key belongs
		f.put(a, aggregate("k", "one", "two"), aggregate("k", "three"), "plain")
		time.Sleep(90 * time.Second)
		f.put(b, aggregate("k", strings.Repeat("x", 1<<19)))
		time.Sleep(2500 * time.Millisecond)
		r := kplcat(t, f, nil, "--stats")
		want := `
                 shard  aggregated  plain  damaged  user records   bytes  per aggregate  fill of 1 MiB  oldest  newest
  shardId-000000000000           2      1        0             4      80            1.5           0.0%  1m33s   1m33s
  shardId-000000000001           1      0        0             1  524321            1.0          50.0%  2.5s    2.5s
                   all           3      1        0             5  524401            1.3          16.7%  1m33s   2.5s
`
		fields := func(s string) string { return strings.Join(strings.Fields(s), " ") }
		if r.err != nil || fields(r.out) != fields(want) {
			t.Errorf("%v\ngot %s\nwant %s", r.err, r.out, want)
		}
		if !strings.Contains(r.log, "1 aggregated records hold a user record of another shard") {
			t.Errorf("log %q", r.log)
		}
	})
}

// TestInterruptPrintsTheStats: Ctrl-C is how a --follow ends.
func TestInterruptPrintsTheStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{}
		f.put(f.add("shardId-000000000000"), "1", "2")
		r := kplcat(t, f, func(*fake) { time.Sleep(time.Second) }, "--stats", "--follow")
		if r.err != nil || !strings.Contains(r.out, "shardId-000000000000") {
			t.Errorf("%v %q", r.err, r.out)
		}
	})
}

// brokenPipe is a standard output whose reader has gone.
type brokenPipe struct{ room int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
	}
	return len(p), nil
}

func TestABrokenPipeEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{page: 1}
		f.put(f.add("shardId-000000000000"), make([]string, 1000)...)
		o, _ := parse([]string{"stream", "--follow"}, time.Now(), io.Discard)
		if err := cat(t.Context(), o, f, &brokenPipe{room: 10}, io.Discard); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%v", err)
		}
		if n := f.calls["GetRecords"]; n > 12 {
			t.Errorf("it went on for %d reads", n)
		}
	})
}

func TestProgressIsOneLineThatMakesRoomForWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := &progress{w: &b}
		stop := p.show()
		p.shards(1, 2)
		p.behind("s", 90*time.Second)
		p.took(make([]record, 3), 30)
		time.Sleep(showEvery + time.Millisecond)
		p.warn("careful")
		p.throttled()
		time.Sleep(showEvery)
		stop()
		const text = "3 records, 30 user records, 0.0 MB, 1 of 2 shards, 1m30s behind"
		want := text + "\r\x1b[Kkplcat: careful\n" + text + ", throttled 1 times\r\x1b[K"
		if b.String() != want {
			t.Errorf("got %q\nwant %q", b.String(), want)
		}
	})
}

func TestParse(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.FixedZone("", 3600))
	arn := "arn:aws:kinesis:eu-central-1:123456789012:stream/s"
	for _, test := range []struct {
		args string
		want func(o options) bool
		err  string
	}{
		{"s", func(o options) bool {
			return o.stream == "s" && o.from.kind == fromStart && !o.follow && o.decompress == auto
		}, ""},
		{"--follow s --json", func(o options) bool { return o.follow && o.json }, ""},
		{"s --from now", func(o options) bool { return o.from.kind == fromNow && o.follow }, ""},
		{"s --from 15m", func(o options) bool { return o.from.kind == fromTime && o.from.at.Equal(now.Add(-15*time.Minute)) }, ""},
		{"s --from 2026-01-31T10:00:00Z", func(o options) bool { return o.from.at.Equal(now.Add(-time.Hour)) }, ""},
		{"s --from 2026-01-31T10:00", func(o options) bool { return o.from.at.Equal(now.Add(-2 * time.Hour)) }, ""},
		{"s --from 2026-01-31", func(o options) bool { return o.from.at.Equal(now.Add(-12 * time.Hour)) }, ""},
		{"s --shard 12", func(o options) bool { return o.shard == "shardId-000000000012" }, ""},
		{"s --shard shardId-000000000012", func(o options) bool { return o.shard == "shardId-000000000012" }, ""},
		{"s -region us-east-1 -profile p -role-arn r -endpoint e", func(o options) bool {
			return o.region == "us-east-1" && o.profile == "p" && o.roleARN == "r" && o.endpoint == "e"
		}, ""},
		{arn, func(o options) bool { return o.region == "eu-central-1" }, ""},
		{arn + " --region us-east-1", nil, "the stream's ARN is of eu-central-1"},
		{"", nil, "want one stream, not 0"},
		{"a b", nil, "want one stream, not 2"},
		{"s --stats --json", nil, "--stats prints no records"},
		{"s --decompress brotli", nil, "--decompress"},
		{"s --from 2026-02-01", nil, "future"},
		{"s --from yesterday", nil, "want start, now"},
		{"s --from -5m", nil, "want start, now"},
		{"s --nonsense", nil, "nonsense"},
	} {
		o, err := parse(strings.Fields(test.args), now, io.Discard)
		if test.err == "" && (err != nil || !test.want(o)) || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
			t.Errorf("%s: %+v, %v", test.args, o, err)
		}
	}
}

// TestHelpNamesEveryFlag and no other.
func TestHelpNamesEveryFlag(t *testing.T) {
	var help bytes.Buffer
	if _, err := parse([]string{"--help"}, time.Now(), &help); !errors.Is(err, flag.ErrHelp) || help.String() != usage {
		t.Fatalf("%v %q", err, help.String())
	}
	for _, name := range []string{"from", "shard", "follow", "json", "raw", "stats", "decompress", "region", "profile", "role-arn", "endpoint"} {
		if !strings.Contains(usage, "\n  --"+name+" ") {
			t.Errorf("--%s is missing", name)
		}
	}
	if code := run(t.Context(), []string{"a", "b"}, io.Discard, io.Discard); code != exitUsage {
		t.Errorf("exit code %d", code)
	}
}
