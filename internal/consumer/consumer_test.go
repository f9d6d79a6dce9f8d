package consumer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"

	"out_kinesis_agg/test/kit/consumertest"
)

// result is what a read returned.
type result struct {
	data []string // of the user records
	log  string   // warnings
	err  error
}

// lines checks the user records.
func (r result) lines(t *testing.T, want ...string) {
	t.Helper()
	if r.err != nil {
		t.Errorf("error: %v", r.err)
	}
	if !slices.Equal(r.data, want) {
		t.Errorf("got  %q\nwant %q", r.data, want)
	}
}

// warnings is a Monitor that keeps warnings.
type warnings struct {
	mu  sync.Mutex
	log bytes.Buffer
}

func (w *warnings) Shards(int, int)           {}
func (w *warnings) Lag(string, time.Duration) {}
func (w *warnings) Throttled()                {}
func (w *warnings) Warn(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(&w.log, format+"\n", args...)
}

// read runs a Reader with the settings of r. The caller is in a synctest bubble,
// where time passes only while all goroutines wait. meanwhile runs concurrently
// with the Reader and ends it on return.
func read(t *testing.T, f *consumertest.Stream, meanwhile func(*consumertest.Stream), r *Reader) result {
	t.Helper()
	// A Reader that does not end fails a test instead of blocking it.
	ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
	defer cancel()
	if meanwhile != nil {
		go func() {
			meanwhile(f)
			cancel()
		}()
	}
	var got result
	var w warnings
	r.API, r.Stream, r.Monitor = f, "stream", &w
	if r.Handle == nil {
		r.Handle = func(_ *Shard, records []Record) error {
			for _, record := range records {
				for _, user := range record.UserRecords() {
					got.data = append(got.data, string(user.Data))
				}
			}
			return nil
		}
	}
	got.err = r.Read(ctx)
	got.log = w.log.String()
	if meanwhile != nil && errors.Is(got.err, context.Canceled) {
		got.err = nil
	}
	return got
}

func TestRead_StartsAtPosition(t *testing.T) {
	for _, test := range []struct {
		from func() Position
		want []string
	}{
		{func() Position { return Position{Latest: true} }, []string{"new"}},
		{func() Position { return Position{At: time.Now().Add(-15 * time.Minute)} }, []string{"late", "new"}},
		{func() Position { return Position{} }, []string{"early", "late", "new"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &consumertest.Stream{}
			old := f.Add("shardId-000000000000")
			f.Put(old, "early")
			f.Close(old)
			s := f.Add("shardId-000000000001", "shardId-000000000000")
			time.Sleep(time.Hour)
			f.Put(s, "late")
			time.Sleep(time.Minute)
			read(t, f, func(f *consumertest.Stream) {
				time.Sleep(3 * time.Second)
				f.Put(s, "new")
				time.Sleep(3 * time.Second)
			}, &Reader{From: test.from(), Follow: true}).lines(t, test.want...)
		})
	}
}

func TestRead_OneShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		a, b := f.Add("shardId-000000000000"), f.Add("shardId-000000000001")
		c := f.Add("shardId-000000000002", "shardId-000000000001")
		f.Put(a, "a")
		f.Put(b, "b")
		f.Put(c, "c")
		f.Close(b)
		read(t, f, nil, &Reader{Shards: []string{"shardId-000000000001"}, Follow: true}).lines(t, "b")
		if r := read(t, f, nil, &Reader{Shards: []string{"shardId-000000000009"}}); r.err == nil || !strings.Contains(r.err.Error(), "no shard shardId-000000000009; the stream has shardId-000000000000") {
			t.Error(r.err)
		}
	})
}

// The shards have been split and merged before the read starts.
func TestRead_ParentsBeforeChildren(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, hide := range []bool{false, true} {
			f := &consumertest.Stream{Page: 1, HideChildren: hide}
			root := f.Add("shardId-000000000009") // the order of the IDs differs
			left := f.Add("shardId-000000000001", "shardId-000000000009")
			right := f.Add("shardId-000000000005", "shardId-000000000009")
			last := f.Add("shardId-000000000000", "shardId-000000000001", "shardId-000000000005")
			f.Put(root, "1", "2", "3")
			f.Put(left, "4")
			f.Put(right, "4", "4", "4", "4")
			f.Put(last, "5", "6")
			f.Close(root)
			f.Close(left)
			f.Close(right)
			read(t, f, nil, &Reader{}).lines(t, "1", "2", "3", "4", "4", "4", "4", "4", "5", "6")
		}
	})
}

// Child shards that are created during the read are read once, from their start.
func TestRead_ReshardWhileFollowing(t *testing.T) {
	for _, hide := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := &consumertest.Stream{HideChildren: hide}
			a, b := f.Add("shardId-000000000000"), f.Add("shardId-000000000001")
			read(t, f, func(f *consumertest.Stream) {
				time.Sleep(2 * time.Second)
				f.Put(a, "1")
				f.Put(b, "1")
				time.Sleep(2 * time.Second)
				f.Close(a)
				time.Sleep(2 * time.Second) // the children appear late
				c := f.Add("shardId-000000000002", "shardId-000000000000", "shardId-000000000001")
				f.Put(c, "3")
				f.Put(b, "2")
				time.Sleep(2 * time.Second)
				f.Close(b)
				time.Sleep(2 * time.Second)
				f.Put(c, "4")
				time.Sleep(2 * time.Second)
			}, &Reader{From: Position{Latest: true}, Follow: true}).lines(t, "1", "1", "2", "3", "4")
		})
	}
}

func TestRead_FiveReadsPerSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Page: 1}
		for n := range 20 {
			f.Put(f.Add(fmt.Sprintf("shardId-%012d", n)), make([]string, 30)...)
		}
		r := read(t, f, nil, &Reader{})
		if got := len(r.data); r.err != nil || got != 600 {
			t.Errorf("%d records, %v", got, r.err)
		}
		for id, times := range f.Reads() {
			for i := 5; i < len(times); i++ {
				if d := times[i].Sub(times[i-5]); d < time.Second {
					t.Fatalf("%s: 6 reads within %s", id, d)
				}
			}
		}
	})
}

func TestRead_RetriesThrottling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Page: 1, Before: func(call string, n int, _ string) error {
			switch {
			case call == "GetRecords" && n%10 != 0:
				return &types.ProvisionedThroughputExceededException{}
			case call != "GetRecords" && n <= 20:
				return &types.LimitExceededException{}
			}
			return nil
		}}
		f.Put(f.Add("shardId-000000000000"), "1", "2", "3")
		began := time.Now()
		r := read(t, f, nil, &Reader{})
		r.lines(t, "1", "2", "3")
		if r.log != "" {
			t.Errorf("warnings: %q", r.log)
		}
		// 40 waits and three times 9 waits. Except for the first ones, a wait is 2.5 to 5 s.
		if took := time.Since(began); took < 2*time.Minute || took > 6*time.Minute {
			t.Errorf("the read took %s", took)
		}
	})
}

func TestRead_RetriesTransientErrors(t *testing.T) {
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
				f := &consumertest.Stream{Before: fail}
				f.Put(f.Add("shardId-000000000000"), "1")
				read(t, f, nil, &Reader{}).lines(t, "1")
			})
		})
	}
}

func TestRead_ReturnsPermanentErrors(t *testing.T) {
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
					f := &consumertest.Stream{Before: func(c string, _ int, _ string) error {
						if c == call {
							return test.err
						}
						return nil
					}}
					f.Add("shardId-000000000000")
					r := read(t, f, nil, &Reader{Follow: true})
					if !errors.Is(r.err, test.err) || f.Calls(call) != test.calls {
						t.Errorf("%s: %v after %d calls", call, r.err, f.Calls(call))
					}
				})
			}
		})
	}
}

func TestRead_ReplacesExpiredIterator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		expire := map[int]bool{1: true, 3: true, 4: true}
		f := &consumertest.Stream{Page: 1, Before: func(call string, n int, _ string) error {
			if call == "GetRecords" && expire[n] {
				return &types.ExpiredIteratorException{}
			}
			return nil
		}}
		f.Put(f.Add("shardId-000000000000"), "1", "2", "3")
		read(t, f, nil, &Reader{}).lines(t, "1", "2", "3")
		if got, want := fmt.Sprint(f.IteratorTypes()), "[TRIM_HORIZON TRIM_HORIZON AFTER_SEQUENCE_NUMBER AFTER_SEQUENCE_NUMBER]"; got != want {
			t.Errorf("iterators %s, want %s", got, want)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Before: func(call string, n int, _ string) error {
			if call == "GetRecords" {
				return &types.ExpiredIteratorException{}
			}
			return nil
		}}
		f.Add("shardId-000000000000")
		if r := read(t, f, nil, &Reader{}); r.err == nil {
			t.Error("iterators that always expire: no error")
		}
	})
}

// A record that arrives before the first read is not lost when the iterator expires.
func TestRead_ExpiredLatestIterator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *consumertest.Shard
		f := &consumertest.Stream{}
		f.Before = func(call string, n int, _ string) error {
			if call == "GetRecords" && n == 1 {
				f.Put(s, "meanwhile")
				return &types.ExpiredIteratorException{}
			}
			return nil
		}
		s = f.Add("shardId-000000000000")
		f.Put(s, "before")
		time.Sleep(time.Second)
		read(t, f, func(*consumertest.Stream) { time.Sleep(5 * time.Second) }, &Reader{From: Position{Latest: true}, Follow: true}).lines(t, "meanwhile")
	})
}

// The chosen shards keep their order: a parent is read before its child.
func TestRead_SeveralShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{Page: 1}
		a, b := f.Add("shardId-000000000000"), f.Add("shardId-000000000001")
		c := f.Add("shardId-000000000002", "shardId-000000000001")
		d := f.Add("shardId-000000000003", "shardId-000000000001")
		f.Put(a, "a")
		f.Put(b, "1", "2")
		f.Put(c, "3")
		f.Put(d, "d")
		f.Close(b)
		read(t, f, nil, &Reader{Shards: []string{*c.ShardId, *b.ShardId}}).lines(t, "1", "2", "3")
		if r := read(t, f, nil, &Reader{Shards: []string{*b.ShardId, "x"}}); r.err == nil || !strings.Contains(r.err.Error(), "no shard x") || len(r.data) > 0 {
			t.Errorf("%v, %q", r.err, r.data)
		}
	})
}

// Records at To and later are not read, also in shards that are created later.
func TestRead_To(t *testing.T) {
	for _, follow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := &consumertest.Stream{Page: 2}
			s, idle := f.Add("shardId-000000000000"), f.Add("shardId-000000000001")
			f.Put(s, "1")
			f.Put(idle, "1")
			time.Sleep(time.Minute)
			f.Put(s, "2")
			time.Sleep(time.Millisecond)
			to := time.Now()
			f.Put(s, "3", "4")
			f.Close(s)
			f.Put(f.Add("shardId-000000000002", "shardId-000000000000"), "5")
			time.Sleep(time.Hour)
			began := time.Now()
			r := read(t, f, nil, &Reader{To: to, Follow: follow})
			slices.Sort(r.data) // the shards are read in any order
			r.lines(t, "1", "1", "2")
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("the read took %s", took)
			}
		})
	}
}

// With Follow and a time in the future, a Reader waits for records before it.
func TestRead_ToInTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		s := f.Add("shardId-000000000000")
		f.Add("shardId-000000000001")
		began := time.Now()
		go func() {
			time.Sleep(30 * time.Second)
			f.Put(s, "before")
			time.Sleep(40 * time.Second)
			f.Put(s, "after")
		}()
		read(t, f, nil, &Reader{To: began.Add(time.Minute), Follow: true}).lines(t, "before")
		if took := time.Since(began); took < time.Minute || took > time.Minute+settleTime+idleInterval {
			t.Errorf("the read took %s", took)
		}
		time.Sleep(time.Minute)
	})
}

// Without Follow, a time in the future does not delay the end.
func TestRead_ToWithoutFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &consumertest.Stream{}
		f.Put(f.Add("shardId-000000000000"), "1")
		began := time.Now()
		read(t, f, nil, &Reader{To: began.Add(time.Hour)}).lines(t, "1")
		if took := time.Since(began); took > time.Second {
			t.Errorf("the read took %s", took)
		}
	})
}

// After an error of Handle no other shard is handled, and Read returns that error.
func TestRead_StopsOnHandlerError(t *testing.T) {
	failed := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED} // retried as an error of Kinesis
	for _, want := range []error{ErrStop, failed} {
		synctest.Test(t, func(t *testing.T) {
			f := &consumertest.Stream{Page: 1}
			for n := range 20 {
				f.Put(f.Add(fmt.Sprintf("shardId-%012d", n)), "1", "2")
			}
			calls := 0
			r := read(t, f, nil, &Reader{Follow: true, Handle: func(*Shard, []Record) error {
				calls++
				// Other shards have records for Handle by now.
				for f.Calls("GetRecords") < maxReads {
					runtime.Gosched()
				}
				return want
			}})
			if calls != 1 {
				t.Errorf("%d calls after an error", calls)
			}
			if want == ErrStop && r.err != nil || want != ErrStop && !errors.Is(r.err, want) {
				t.Errorf("error %v", r.err)
			}
			if r.log != "" {
				t.Errorf("warnings: %q", r.log)
			}
		})
	}
}

func TestRecord_Deaggregates(t *testing.T) {
	damaged := []byte(consumertest.Aggregate("k", "two"))
	damaged[12] ^= 1
	records := deaggregate([]types.Record{
		{Data: []byte(consumertest.Aggregate("inner", "a", "b")), PartitionKey: aws.String("outer")},
		{Data: []byte("plain"), PartitionKey: aws.String("outer")},
		{Data: damaged},
	})
	var got []string
	for _, r := range records {
		got = append(got, fmt.Sprint(r.Len(), r.Damage != nil))
		for n, user := range r.UserRecords() {
			got = append(got, fmt.Sprint(n, " ", user.PartitionKey, " ", string(user.Data)))
		}
	}
	want := []string{"2 false", "0 inner a", "1 inner b", "1 false", "-1 outer plain", "0 true"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// endless is a stream whose list of shards does not end.
type endless struct {
	*consumertest.Stream
	expires bool
}

func (e endless) ListShards(context.Context, *kinesis.ListShardsInput, ...func(*kinesis.Options)) (*kinesis.ListShardsOutput, error) {
	if e.expires {
		return nil, &types.ExpiredNextTokenException{}
	}
	return &kinesis.ListShardsOutput{NextToken: aws.String("more")}, nil
}

func TestList_IsBounded(t *testing.T) {
	for expires, want := range map[bool]string{false: "does not end", true: "ExpiredNextToken"} {
		r := &Reader{API: endless{expires: expires}, Stream: "stream", Monitor: &warnings{}}
		if err := r.Read(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
