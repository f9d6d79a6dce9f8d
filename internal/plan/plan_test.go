package plan

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func calculate(t *testing.T, change func(*Input)) Plan {
	t.Helper()
	in := Defaults()
	change(&in)
	p, err := New(in, USEast1())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func want(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-6*math.Max(1, math.Abs(want)) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// A month has 730 * 3,600 = 2,628,000 seconds, and a GB 1,073,741,824 bytes.
const (
	month = 2_628_000.0
	gb    = 1_073_741_824.0
)

// TestPlan_OneHost is calculated by hand. 100 lines/s and flush 5 make a chunk of
// 500 lines every 5 seconds. In the aggregated record, a line of 300 bytes has the
// prefixes 1+2 (record), 2 (key index), 1+2 (data): 308 bytes. Besides there are 4
// (magic number), 1+1+36 (partition key table), 16 (MD5) and 36 (partition key):
// 94 bytes. The record has 500*308 + 94 = 154,094 bytes, which are 7 payload units
// (6.02 rounded up) and 151 KB (150.5 rounded up).
func TestPlan_OneHost(t *testing.T) {
	p := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes = 100, 300 })
	a := p.Aggregated
	want(t, "chunks/s", p.ChunksPerSecond, 0.2)
	want(t, "records/s", a.RecordsPerSecond, 0.2)
	want(t, "requests/s", a.RequestsPerSecond, 0.2)
	want(t, "bytes per record", a.RecordBytes, 154_094)
	want(t, "bytes/s", a.BytesPerSecond, 30_818.8)
	want(t, "units/s", a.UnitsPerSecond, 1.4)
	want(t, "unit fill", a.UnitFill, 154_094.0/(7*25_600))
	want(t, "record fill", p.RecordFill, 154_094.0/1_048_576)
	want(t, "shards", float64(a.Shards), 1)
	// 730*0.015 for the shard, and 1.4*2,628,000 = 3,679,200 units.
	want(t, "provisioned", a.Provisioned, 10.95+3.6792*0.014)
	// One consumer reads what is written.
	in, out := 0.2*151*1024*month/gb, 30_818.8*month/gb
	want(t, "standard", a.Standard, 730*0.04+in*0.08+out*0.04)
	// The minimum of 25 MB/s is more than the load: 25*2,628,000/1,024 GB.
	want(t, "advantage", a.Advantage, 25*month/1024*0.032+out*0.016)

	// One line per record: 100 units/s, 100 KB/s on demand; PutRecords sends 500
	// lines in one request.
	want(t, "single requests/s", p.PutRecord.RequestsPerSecond, 100)
	want(t, "PutRecords requests/s", p.PutRecords.RequestsPerSecond, 0.2)
	want(t, "single provisioned", p.PutRecord.Provisioned, 10.95+100*2.628*0.014)
	want(t, "single standard", p.PutRecords.Standard, 730*0.04+100*1024*month/gb*0.08+30_000*month/gb*0.04)
	want(t, "mean flush delay", p.Delay.MeanFlush, 2.5)
	want(t, "first retry", p.Delay.RetryShortest, 6)
	want(t, "first retry", p.Delay.RetryLongest, 11)
}

// TestPlan_FullChunks: 50,000 lines/s of 600 bytes on one host, flush 1. A line has
// 600/1.2 = 500 bytes of msgpack, so a chunk of more than 2,048,000 bytes has
// 4,097 lines, and a flush has 12 such chunks and one of 50,000 - 12*4,097 = 836
// lines. A line takes 608 bytes of a record, and (1,048,576 - 94) / 608 = 1,724.5:
// a full chunk makes two records of 1,724 lines and one of 649, and the rest one.
func TestPlan_FullChunks(t *testing.T) {
	p := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes, in.FlushSeconds = 50_000, 600, 1 })
	want(t, "chunks/s", p.ChunksPerSecond, 13)
	want(t, "records/s", p.Aggregated.RecordsPerSecond, 12*3+1)
	want(t, "bytes/s", p.Aggregated.BytesPerSecond, 50_000*608+37*94)
	// 1,724*608+94 = 1,048,286 bytes: 41 units. 649*608+94 = 394,686: 16 units.
	// 836*608+94 = 508,382: 20 units.
	want(t, "units/s", p.Aggregated.UnitsPerSecond, 12*(2*41+16)+20)
	want(t, "min shards", float64(p.Aggregated.MinShards), math.Ceil((50_000*608+37*94)/1_048_576.0))
}

// TestPlan_Batches: 1,000 lines/s of 99 bytes, flush 10, batches of 10,000 bytes. A
// batch has 100 lines of 100 bytes with their newline, 10,000 bytes, and 2,000 after
// compression by 5. It takes 2,000 + 1+2+2+1+2 = 2,008 bytes of a record, and a
// chunk has 100 of them.
func TestPlan_Batches(t *testing.T) {
	p := calculate(t, func(in *Input) {
		in.LinesPerSecond, in.LineBytes, in.FlushSeconds, in.BatchBytes, in.Compression = 1000, 99, 10, 10_000, 5
	})
	want(t, "records/s", p.Aggregated.RecordsPerSecond, 0.1)
	want(t, "bytes per record", p.Aggregated.RecordBytes, 100*2008+94)
	want(t, "units/s", p.Aggregated.UnitsPerSecond, 0.8)
}

// TestPlan_SilentHosts: a flush of a host with few lines often has none. With 0.1
// lines per flush on average, 1 - exp(-0.1) = 9.516% of the flushes have a chunk.
func TestPlan_SilentHosts(t *testing.T) {
	p := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes, in.Hosts = 2, 300, 100 })
	want(t, "chunks/s", p.ChunksPerSecond, 100/5*0.09516258196404048)
	// Never more than one line per record.
	if p.ChunksPerSecond > 2 {
		t.Errorf("%v chunks/s for 2 lines/s", p.ChunksPerSecond)
	}
}

// TestPlan_PayloadUnit: 109 lines of 226 bytes, which take 234 bytes each, and the
// other 94 bytes are exactly one payload unit of 25,600 bytes.
func TestPlan_PayloadUnit(t *testing.T) {
	for _, tt := range []struct{ lineBytes, bytes, units float64 }{
		{226, 109*234 + 94, 1},
		{227, 109*235 + 94, 2},
	} {
		p := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes, in.FlushSeconds = 109, tt.lineBytes, 1 })
		want(t, "bytes", p.Aggregated.RecordBytes, tt.bytes)
		want(t, "units", p.Aggregated.UnitsPerSecond, tt.units)
	}
	want(t, "25,600 bytes", units(25_600), 1)
	want(t, "25,601 bytes", units(25_601), 2)
}

// TestPlan_OnDemandRounding: each record is billed in whole KB.
func TestPlan_OnDemandRounding(t *testing.T) {
	for _, tt := range []struct{ lineBytes, billed float64 }{{1, 1024}, {1024, 1024}, {1025, 2048}} {
		p := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes = 10, tt.lineBytes })
		want(t, "billed bytes/s", p.PutRecord.BilledInBytesPerSecond, 10*tt.billed)
	}
}

// TestPlan_AdvantageMinimum: above 25 MB/s, the load itself is billed.
func TestPlan_AdvantageMinimum(t *testing.T) {
	usd := func(mb float64) float64 {
		p := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes, in.Consumers = mb*1024, 1024, 0 })
		return p.PutRecord.Advantage
	}
	want(t, "below", usd(1), 25*month/1024*0.032)
	want(t, "at the minimum", usd(25), 25*month/1024*0.032)
	want(t, "above", usd(26), 26*month/1024*0.032)
}

// TestPlan_RetentionAndFanOut: 1,024 lines/s of 1,024 bytes are 1 MB/s: 3.515625 GB
// an hour.
func TestPlan_RetentionAndFanOut(t *testing.T) {
	extra := func(hours, fanOut int) (provisioned, standard, advantage float64) {
		base := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes = 1024, 1024 }).PutRecord
		w := calculate(t, func(in *Input) {
			in.LinesPerSecond, in.LineBytes, in.RetentionHours, in.FanOut = 1024, 1024, hours, fanOut
		}).PutRecord
		if w.Shards != base.Shards {
			t.Fatal("the number of shards depends on consumers or retention")
		}
		return w.Provisioned - base.Provisioned, w.Standard - base.Standard, w.Advantage - base.Advantage
	}
	shards := float64(calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes = 1024, 1024 }).PutRecord.Shards)
	p, s, a := extra(168, 0)
	want(t, "7 days, provisioned", p, shards*730*0.020)
	want(t, "7 days, standard", s, 144*3.515625*0.10)
	want(t, "7 days, advantage", a, 144*3.515625*0.023)
	p, s, a = extra(169, 0)
	want(t, "an hour more, provisioned", p, shards*730*0.020+3.515625*0.023)
	want(t, "an hour more, standard", s, 144*3.515625*0.10+3.515625*0.023)
	want(t, "an hour more, advantage", a, 145*3.515625*0.023)
	p, s, a = extra(24, 2)
	want(t, "fan-out, provisioned", p, 2*(shards*730*0.015+730*3.515625*0.013))
	want(t, "fan-out, standard", s, 2*730*3.515625*0.05)
	want(t, "fan-out, advantage", a, 2*730*3.515625*0.016)
}

// TestShards_Headroom: the average load is the lower bound, a smaller accepted share
// needs more shards, and large records need more than small ones.
func TestShards_Headroom(t *testing.T) {
	shards := func(maxRecordBytes int, share float64) int {
		p := calculate(t, func(in *Input) {
			in.LinesPerSecond, in.LineBytes, in.Hosts = 100_000, 600, 100
			in.MaxRecordBytes, in.Throttled = maxRecordBytes, share
		})
		if a := p.Aggregated; a.Shards < a.MinShards || a.ThrottledShare > share {
			t.Errorf("%d shards of at least %d throttle %v of at most %v", a.Shards, a.MinShards, a.ThrottledShare, share)
		}
		return p.Aggregated.Shards
	}
	if large, small := shards(1<<20, 0.05), shards(256_000, 0.05); large <= small {
		t.Errorf("%d shards for records of 1 MiB, %d for records of 256,000 bytes", large, small)
	}
	if strict, loose := shards(256_000, 0.001), shards(256_000, 0.2); strict <= loose {
		t.Errorf("%d shards for a share of 0.001, %d for 0.2", strict, loose)
	}
}

// TestShards_RecordLimit: small records meet the limit of 1,000 records/s first.
func TestShards_RecordLimit(t *testing.T) {
	p := calculate(t, func(in *Input) { in.LinesPerSecond, in.LineBytes, in.Hosts = 2500, 100, 2500 })
	if p.PutRecord.MinShards != 3 || p.PutRecord.Shards < 3 {
		t.Errorf("%d and %d shards for 2,500 records/s", p.PutRecord.MinShards, p.PutRecord.Shards)
	}
}

// randomInput returns a valid input.
func randomInput(r *rand.Rand) Input {
	in := Defaults()
	in.LinesPerSecond = math.Exp(r.Float64()*14 - 2)
	in.LineBytes = math.Floor(math.Exp(r.Float64()*7)) + 1
	in.Hosts = 1 + r.IntN(1000)
	in.TagsPerHost = 1 + r.IntN(30)
	in.FlushSeconds = []float64{0.2, 1, 5, 30}[r.IntN(4)]
	if r.IntN(2) == 0 {
		in.BatchBytes, in.Compression = 1000+r.IntN(100_000), 1+9*r.Float64()
	}
	in.MaxRecordBytes = []int{256_000, 1 << 20, 10 << 20}[r.IntN(3)]
	in.RetentionHours = 24 + r.IntN(1000)
	in.FanOut = r.IntN(3)
	return in
}

// TestPlan_MoreLinesCostMore: no price falls when there are more lines.
func TestPlan_MoreLinesCostMore(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		in := randomInput(r)
		less, err := New(in, USEast1())
		if err != nil {
			t.Fatal(err)
		}
		in.LinesPerSecond *= 1 + r.Float64()*r.Float64()
		more, err := New(in, USEast1())
		if err != nil {
			t.Fatal(err)
		}
		for i, pair := range [][2]Way{{less.Aggregated, more.Aggregated}, {less.PutRecord, more.PutRecord}} {
			for j, usd := range [][2]float64{
				{pair[0].Provisioned, pair[1].Provisioned}, {pair[0].Standard, pair[1].Standard}, {pair[0].Advantage, pair[1].Advantage},
			} {
				if usd[1] < usd[0]*(1-1e-9) {
					t.Fatalf("way %d, price %d: %v USD for %v lines/s, %v USD for %v: %+v",
						i, j, usd[0], less.Input.LinesPerSecond, usd[1], more.Input.LinesPerSecond, in)
				}
			}
		}
	}
}

// TestPlan_BytesAreKept: all lines are in the records, however they are split.
func TestPlan_BytesAreKept(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for range 200 {
		in := randomInput(r)
		in.BatchBytes, in.Compression = 0, 1
		p, err := New(in, USEast1())
		if err != nil {
			t.Fatal(err)
		}
		a := p.Aggregated
		lines := (a.BytesPerSecond - a.RecordsPerSecond*float64(in.overheadBytes())) / in.userRecord().encodedBytes
		want(t, "lines/s", lines/in.LinesPerSecond, 1)
		if a.RecordBytes > float64(in.MaxRecordBytes) || a.UnitFill > 1 {
			t.Errorf("record of %v bytes, units filled to %v: %+v", a.RecordBytes, a.UnitFill, in)
		}
	}
}

func TestValidate_NamesTheFlag(t *testing.T) {
	for flag, change := range map[string]func(*Input){
		"lines":           func(in *Input) { in.LinesPerSecond = 0 },
		"line-bytes":      func(in *Input) { in.LineBytes = math.NaN() },
		"hosts":           func(in *Input) { in.Hosts = 0 },
		"tags":            func(in *Input) { in.TagsPerHost = -1 },
		"flush":           func(in *Input) { in.FlushSeconds = math.Inf(1) },
		"compression":     func(in *Input) { in.Compression = 0.5 },
		"batch-size":      func(in *Input) { in.BatchBytes = 999 },
		"max-record-size": func(in *Input) { in.MaxRecordBytes = 10<<20 + 1 },
		"retention":       func(in *Input) { in.RetentionHours = 23 },
		"consumers":       func(in *Input) { in.Consumers = -1 },
		"fan-out":         func(in *Input) { in.FanOut = 51 },
		"throttled":       func(in *Input) { in.Throttled = 0 },
		"outage":          func(in *Input) { in.OutageHours = -1 },
	} {
		in := Defaults()
		in.LinesPerSecond, in.LineBytes = 1, 1
		change(&in)
		_, err := New(in, USEast1())
		if err == nil || !strings.HasPrefix(err.Error(), "plan: "+flag+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", flag, err)
		}
	}
	// The line fits with its overhead, or not.
	in := Defaults()
	in.LinesPerSecond, in.MaxRecordBytes = 1, 100_000
	in.LineBytes = 100_000 - 94 - 10
	if _, err := New(in, USEast1()); err != nil {
		t.Error(err)
	}
	in.LineBytes++
	if _, err := New(in, USEast1()); err == nil {
		t.Error("a line that does not fit is accepted")
	}
	// All errors at once.
	if err := (Input{}).Validate(); strings.Count(err.Error(), "\n") < 4 {
		t.Errorf("only %v", err)
	}
}

func TestReadPrices(t *testing.T) {
	text, err := json.Marshal(USEast1())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadPrices(bytes.NewReader(text)); err != nil || got != USEast1() {
		t.Errorf("got %+v, %v", got, err)
	}
	for what, text := range map[string]string{
		`"shard_hour"`:        strings.Replace(string(text), `"shard_hour":0.015,`, "", 1),
		`unknown field "x"`:   strings.Replace(string(text), `{`, `{"x":1,`, 1),
		`is negative`:         strings.Replace(string(text), `0.015`, `-1`, 1),
		`is null`:             strings.Replace(string(text), `0.015`, `null`, 1),
		`more than one`:       string(text) + "{}",
		`EOF`:                 "",
		`cannot unmarshal`:    "[]",
		`shard_hour of type`:  strings.Replace(string(text), `0.015`, `"1"`, 1),
		`is missing`:          "{}",
		`invalid character`:   "{]",
		`: region is missing`: strings.Replace(string(text), `"region":"us-east-1",`, "", 1),
	} {
		if what == `"shard_hour"` {
			what = "shard_hour is missing"
		}
		if _, err := ReadPrices(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("want an error with %q, got %v", what, err)
		}
	}
}

func TestWrite_80Columns(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	inputs := []Input{Defaults(), Defaults()}
	inputs[0].LinesPerSecond, inputs[0].LineBytes = 1e9, 1000
	inputs[1].LinesPerSecond, inputs[1].LineBytes, inputs[1].Hosts, inputs[1].TagsPerHost = 1e-6, 1, 1e6, 1e5
	for range 100 {
		inputs = append(inputs, randomInput(r))
	}
	for _, in := range inputs {
		p, err := New(in, USEast1())
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := p.Write(&b); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(b.String(), "\n") {
			if utf8.RuneCountInString(line) > 80 {
				t.Errorf("%d columns: %s", utf8.RuneCountInString(line), line)
			}
			if strings.Contains(line, "NaN") || strings.Contains(line, "Inf") {
				t.Errorf("not a number: %s", line)
			}
		}
		if _, err := json.Marshal(p); err != nil {
			t.Errorf("%+v: %v", in, err)
		}
	}
}

// A record without the envelope is one batch: the lines and the partition key.
func TestNew_NDJSON(t *testing.T) {
	in := Defaults()
	in.LinesPerSecond, in.LineBytes, in.NDJSON = 100_000, 299, true
	in.FlushSeconds = 1 // 100,000 lines are 30,000,000 bytes
	for _, test := range []struct {
		batchBytes  int
		compression float64
		lines       float64 // of a full record
	}{
		{0, 1, 3495},        // 3,495 lines are 1,048,500 bytes, and the key has 36
		{0, 5, math.Inf(1)}, // all of a chunk
		{30_000, 1, 100},
		{30_000, 5, 100},
		{1_000, 1, 3},
	} {
		in.BatchBytes, in.Compression = test.batchBytes, test.compression
		largest := 0.0
		for _, r := range in.traffic().records {
			largest = max(largest, r.bytes)
		}
		lines := min(test.lines, in.chunkLines())
		if want := math.Ceil(lines*300/test.compression) + 36; math.Abs(largest-want) > 1 {
			t.Errorf("batch-size %d, compression %v: the largest record has %v bytes, want %v", in.BatchBytes, test.compression, largest, want)
		}
	}
}
