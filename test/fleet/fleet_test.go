package fleet

import (
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// small returns a fleet whose simulation takes milliseconds.
func small() Config {
	c := base()
	c.Hosts, c.Shards, c.ShardBytes, c.MaxRecordBytes = 40, 4, 200_000, 150_000
	c.LinesPerSecond, c.FlushSeconds, c.Seconds = 15, 7, 100
	c.MeasureFrom, c.MeasureUntil = 0, 0
	return c
}

func simulate(t *testing.T, c Config) Result {
	t.Helper()
	r, err := Simulate(c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestSimulate_AccountsForLines: nothing is lost and nothing is invented, whatever
// happens. Without restarts nothing is delivered twice.
func TestSimulate_AccountsForLines(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	repeated := 0
	for seed := range uint64(100) {
		c := small()
		c.Seed = seed
		c.FlushSeconds = 1 + 10*random.Float64()
		c.MaxRecordBytes = c.LineBytes + c.OverheadBytes + random.IntN(100_000)
		c.Workers = 1 + random.IntN(3)
		c.BackoffCap = []int{1, 5, 60, 2000}[random.IntN(4)]
		c.ShardRecords = []float64{1000, 100}[random.IntN(2)]
		if c.MaxRecordBytes < 5_000 {
			c.ShardRecords = 1000 // A stream of 400 records/s could not take one line per record.
		}
		if random.IntN(2) == 0 {
			c.OutageBegin, c.OutageSeconds = 100*random.Float64(), 100*random.Float64()
		}
		restarts := 0
		if random.IntN(2) == 0 {
			restarts = c.Hosts
			c.RestartBegin, c.RestartSeconds, c.DownSeconds = 150*random.Float64(), 1+50*random.Float64(), 20*random.Float64()
		}
		r := simulate(t, c)
		accepted := 0
		for _, lines := range r.AcceptedLines {
			accepted += lines
		}
		if r.Delivered != r.Written || r.Pending != 0 || accepted != r.Delivered+r.Repeated || r.Restarts != restarts {
			t.Errorf("%+v\n%+v", c, r)
		}
		if restarts == 0 && r.Repeated > 0 {
			t.Errorf("%d lines are delivered twice without a restart: %+v", r.Repeated, c)
		}
		repeated += r.Repeated
		// Each host writes from its first flush interval on, until a flush after Seconds.
		rate := float64(c.Hosts) * c.LinesPerSecond
		if low, high := rate*(c.Seconds-c.FlushSeconds)-float64(c.Hosts), rate*(c.Seconds+c.FlushSeconds+c.DownSeconds)+float64(c.Hosts); float64(r.Written) < low || float64(r.Written) > high {
			t.Errorf("%d lines, not between %v and %v: %+v", r.Written, low, high, c)
		}
	}
	if repeated == 0 {
		t.Error("no restart happened between two parts of a chunk")
	}
}

// TestSimulate_IsRepeatable: the seed decides.
func TestSimulate_IsRepeatable(t *testing.T) {
	c := small()
	c.OutageBegin, c.OutageSeconds, c.RestartBegin, c.RestartSeconds, c.DownSeconds = 20, 30, 30, 40, 5
	first := simulate(t, c)
	if second := simulate(t, c); !reflect.DeepEqual(first, second) {
		t.Errorf("%+v\n%+v", first, second)
	}
	c.Seed++
	if other := simulate(t, c); reflect.DeepEqual(first, other) {
		t.Error("another seed gives the same result")
	}
}

// TestSimulate_ShardLimit: a shard never accepts more than its bucket and its rate.
func TestSimulate_ShardLimit(t *testing.T) {
	c := small()
	c.OutageBegin, c.OutageSeconds = 0.01, 99.99 // everything waits, then everything comes
	r := simulate(t, c)
	for shard, lines := range r.AcceptedLines {
		most := c.ShardBytes * (1 + r.Drained + c.FlushSeconds + float64(c.BackoffCap) + 1)
		if bytes := float64(lines * c.LineBytes); bytes > most {
			t.Errorf("shard %d accepted %v bytes in %v s", shard, bytes, r.Drained)
		}
	}
	// The backlog alone keeps four shards busy for this time.
	if fastest := float64(r.Backlog*c.LineBytes)/(4*c.ShardBytes) - 1; r.Drained < fastest {
		t.Errorf("drained after %v s, at least %v s are needed", r.Drained, fastest)
	}
}

// TestSimulate_Backoff compares the waits with the ranges of flb_scheduler.c.
func TestSimulate_Backoff(t *testing.T) {
	for _, tt := range []struct{ base, top, retry, low, high int }{
		{5, 60, 1, 6, 11}, {5, 60, 2, 6, 21}, {5, 60, 3, 6, 41}, {5, 60, 4, 6, 61}, {5, 60, 100, 6, 61},
		{5, 2000, 4, 6, 81}, {5, 2000, 9, 6, 2001}, {5, 5, 1, 6, 6}, {5, 1, 3, 6, 6},
	} {
		s := &simulation{Config: Config{BackoffBase: tt.base, BackoffCap: tt.top}, random: rand.New(rand.NewPCG(1, 1))}
		low, high := math.Inf(1), 0.0
		for range 20_000 {
			wait := s.wait(tt.retry)
			low, high = math.Min(low, wait), math.Max(high, wait)
		}
		if low != float64(tt.low) || high != float64(tt.high) {
			t.Errorf("retry %d with base %d and cap %d waits %v to %v s, not %d to %d", tt.retry, tt.base, tt.top, low, high, tt.low, tt.high)
		}
	}
}

// TestSimulate_MatchesPlanner: two calculations that have nothing in common, a queue's
// tail and a simulation, find about the same throttling.
func TestSimulate_MatchesPlanner(t *testing.T) {
	for _, tt := range []struct {
		flush  float64
		shards int
	}{{10, 8}, {30, 8}, {30, 10}, {60, 10}, {60, 15}} {
		c := base()
		c.Hosts, c.FlushSeconds, c.Shards = 1000, tt.flush, tt.shards
		c.Seconds, c.MeasureFrom, c.MeasureUntil = 720, 120, 720
		r := simulate(t, c)
		simulated := float64(r.FirstThrottled) / float64(r.FirstAttempts)
		estimated := input(c).ThrottledShare(c.Shards)
		t.Logf("flush %v, %d shards: simulated %.3f, estimated %.3f", tt.flush, tt.shards, simulated, estimated)
		if math.Abs(estimated-simulated) > 0.02+simulated*0.3 {
			t.Errorf("flush %v, %d shards: simulated %.3f, estimated %.3f", tt.flush, tt.shards, simulated, estimated)
		}
	}
}

func TestValidate_NamesTheField(t *testing.T) {
	c := small()
	c.Hosts, c.FlushSeconds = 0, math.NaN()
	_, err := Simulate(c)
	if err == nil || !strings.Contains(err.Error(), "Hosts") || !strings.Contains(err.Error(), "FlushSeconds") {
		t.Error(err)
	}
	c = small()
	c.Shards = 1
	if _, err := Simulate(c); err == nil || !strings.Contains(err.Error(), "never drains") {
		t.Error(err)
	}
}

func TestHistogram_Quantile(t *testing.T) {
	var h Histogram
	if h.Mean() != 0 || h.Quantile(0.5) != 0 {
		t.Error("an empty histogram is not 0")
	}
	h.Add(1, 99)
	h.Add(9, 1)
	if h.Mean() != 1.08 || h.Quantile(0.99) != 1.05 || h.Quantile(1) != 9.05 {
		t.Errorf("mean %v, 99%% %v, 100%% %v", h.Mean(), h.Quantile(0.99), h.Quantile(1))
	}
}
