// Package plan calculates what a fleet of Fluent Bit hosts with this plugin sends
// to Kinesis: chunks, records, shards, cost and delay, next to the same lines
// without aggregation.
//
// The calculation is for a steady load that is the same on every host. figures.go
// has all limits and prices, with sources.
package plan

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"

	"out_kinesis_agg/kpl"
)

// Input describes the load and the settings. Start from Defaults.
type Input struct {
	LinesPerSecond float64 `json:"lines_per_second"` // of all hosts together
	LineBytes      float64 `json:"line_bytes"`       // JSON of one log record
	Hosts          int     `json:"hosts"`
	TagsPerHost    int     `json:"tags_per_host"` // a chunk has one tag
	FlushSeconds   float64 `json:"flush_seconds"`
	// Compression is the size of a user record over its compressed size; 1 is none.
	Compression float64 `json:"compression_ratio"`
	// NDJSON is record_format ndjson: a record is one batch.
	NDJSON         bool `json:"ndjson"`
	BatchBytes     int  `json:"batch_size"` // 0: each log record is a user record, or as large as a record with NDJSON
	MaxRecordBytes int  `json:"max_record_size"`
	RetentionHours int  `json:"retention_hours"`
	Consumers      int  `json:"consumers"` // that share the throughput of shards
	FanOut         int  `json:"fan_out_consumers"`
	// Throttled is the accepted share of records that a shard throttles at the
	// first attempt, between 0 and 1. See Shards.
	Throttled   float64 `json:"throttled_share"`
	OutageHours float64 `json:"outage_hours"` // that the disk of a host must survive
}

// Defaults returns the settings that this project's documents recommend, for a
// single host, without a load.
func Defaults() Input {
	return Input{
		Hosts: 1, TagsPerHost: 1, FlushSeconds: 5, Compression: 1,
		MaxRecordBytes: kpl.DefaultMaxRecordBytes, RetentionHours: MinRetentionHours,
		Consumers: 1, Throttled: 0.05, OutageHours: 6,
	}
}

// minMaxRecordBytes is the smallest value of the option max_record_size.
const minMaxRecordBytes = 1000

// Validate returns an error for each value that is out of range, joined. Names are
// those of the flags of the command.
func (in Input) Validate() error {
	var errs []error
	number := func(name string, v, low, high float64) {
		if !(v >= low && v <= high) { // also false for NaN
			plain := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }
			errs = append(errs, fmt.Errorf("plan: %s: %s is not between %s and %s", name, plain(v), plain(low), plain(high)))
		}
	}
	number("lines", in.LinesPerSecond, 1e-6, 1e9)
	number("line-bytes", in.LineBytes, 1, kpl.LargestMaxRecordBytes)
	number("hosts", float64(in.Hosts), 1, 1e6)
	number("tags", float64(in.TagsPerHost), 1, 1e5)
	number("flush", in.FlushSeconds, 0.1, 3600)
	number("compression", in.Compression, 1, 1000)
	if in.BatchBytes != 0 {
		number("batch-size", float64(in.BatchBytes), 1000, kpl.LargestMaxRecordBytes)
	}
	number("max-record-size", float64(in.MaxRecordBytes), minMaxRecordBytes, kpl.LargestMaxRecordBytes)
	number("retention", float64(in.RetentionHours), MinRetentionHours, MaxRetentionHours)
	number("consumers", float64(in.Consumers), 0, 1000)
	// Source of 50: developer guide, "Quotas and limits", with on-demand advantage.
	number("fan-out", float64(in.FanOut), 0, 50)
	number("throttled", in.Throttled, 0.0001, 0.9)
	number("outage", in.OutageHours, 0, 8760)
	if len(errs) == 0 {
		if u, limit := in.userRecord(), float64(in.MaxRecordBytes-in.overheadBytes()); u.encodedBytes > limit {
			errs = append(errs, fmt.Errorf("plan: max-record-size: a user record of %.0f bytes (line-bytes, batch-size, compression) does not fit into %d bytes",
				u.bytes, in.MaxRecordBytes))
		}
	}
	return errors.Join(errs...)
}

// keyBytes is the partition key, a random UUID. It counts for the record limit and
// for the throughput of a shard. That it is billed is inferred.
const keyBytes = 36

// checksumBytes is the MD5 at the end of an aggregated record.
const checksumBytes = 16

// overheadBytes is what a record has besides its user records.
func (in Input) overheadBytes() int {
	if in.NDJSON {
		return keyBytes
	}
	return kpl.HeadBytes(string(make([]byte, keyBytes))) + checksumBytes + keyBytes
}

// encodedBytes is the size of a user record within a record.
func (in Input) encodedBytes(bytes float64) float64 {
	if in.NDJSON {
		return bytes
	}
	return float64(kpl.RecordBytes(int(bytes)))
}

// inBatches reports whether log records are joined.
func (in Input) inBatches() bool { return in.BatchBytes > 0 || in.NDJSON }

// userRecord is a full user record: one line, or a batch.
type userRecord struct {
	lines        float64
	bytes        float64 // after compression
	encodedBytes float64 // in the aggregated record
}

func (in Input) userRecord() userRecord {
	lines, raw := 1.0, in.LineBytes
	if in.inBatches() {
		batch := float64(in.BatchBytes)
		if most := float64(in.MaxRecordBytes-in.overheadBytes()) * in.Compression; in.NDJSON && (batch == 0 || batch > most) {
			batch = most
		}
		// A batch that is not larger than a line holds one line.
		line := in.LineBytes + 1
		lines = max(1, math.Floor(batch/line))
		raw = lines * line
	}
	compressed := math.Ceil(raw / in.Compression)
	return userRecord{lines, compressed, in.encodedBytes(compressed)}
}

// records is a number of records per second that have the same size, partition key
// included.
type records struct {
	perSecond, bytes float64
	perBurst         float64 // of one host, on average
}

// traffic is what all hosts send: each chunk becomes full records and one rest.
type traffic struct {
	chunksPerSecond float64
	records         []records
	burstsPerSecond float64 // of all hosts
}

// burstRecords is the largest number of records that a host sends within a second
// after a flush: those of two workers, with the time of a request that the advice
// assumes. The rest of a large flush follows later.
const burstRecords = 2 / requestSeconds

// chunkLines returns the lines of a chunk that the engine closes because it is full.
func (in Input) chunkLines() float64 {
	return math.Floor(ChunkBytes/(in.LineBytes/JSONPerMsgpack)) + 1
}

// traffic calculates the records from the lines of one tag between two flushes.
// Lines arrive at random (Poisson): a flush finds no line with probability
// exp(-mean), and then there is no chunk.
func (in Input) traffic() traffic {
	sources := float64(in.Hosts) * float64(in.TagsPerHost)
	mean := in.LinesPerSecond / sources * in.FlushSeconds
	notEmpty := -math.Expm1(-mean)
	flushes := sources / in.FlushSeconds * notEmpty // per second, with a chunk
	lines := mean / notEmpty                        // of a flush with a chunk, at least 1

	full := math.Floor(lines / in.chunkLines())
	rest := lines - full*in.chunkLines()
	var t traffic
	add := func(perSecond, lines float64) {
		if perSecond <= 0 {
			return
		}
		t.chunksPerSecond += perSecond
		for _, r := range in.split(lines) {
			r.perSecond *= perSecond
			t.records = append(t.records, r)
		}
	}
	add(flushes*full, in.chunkLines())
	// A chunk has at least one line: a rest of 0.2 lines is a chunk in one of five
	// flushes.
	add(flushes*min(1, rest), max(1, rest))

	perSecond := 0.0
	for _, r := range t.records {
		perSecond += r.perSecond
	}
	t.burstsPerSecond = max(float64(in.Hosts)/in.FlushSeconds, perSecond/burstRecords)
	for i := range t.records {
		t.records[i].perBurst = t.records[i].perSecond / t.burstsPerSecond
	}
	return t
}

// split returns the records of one chunk. perSecond is their number.
func (in Input) split(lines float64) []records {
	u := in.userRecord()
	users := lines / u.lines
	overhead := float64(in.overheadBytes())
	if in.inBatches() && users < 1 {
		// The only batch of the chunk is not full.
		bytes := math.Ceil(lines * (in.LineBytes + 1) / in.Compression)
		return []records{{perSecond: 1, bytes: in.encodedBytes(bytes) + overhead}}
	}
	perRecord := math.Floor((float64(in.MaxRecordBytes) - overhead) / u.encodedBytes)
	if in.NDJSON {
		perRecord = 1
	}
	full := math.Floor(users / perRecord)
	var all []records
	if full > 0 {
		all = append(all, records{perSecond: full, bytes: perRecord*u.encodedBytes + overhead})
	}
	if rest := users - full*perRecord; rest > 0 {
		all = append(all, records{perSecond: 1, bytes: rest*u.encodedBytes + overhead})
	}
	return all
}

// Way is one way to send the lines, and what it needs.
type Way struct {
	Name              string  `json:"name"`
	RequestsPerSecond float64 `json:"requests_per_second"`
	RecordsPerSecond  float64 `json:"records_per_second"`
	BytesPerSecond    float64 `json:"bytes_per_second"` // partition keys included
	RecordBytes       float64 `json:"record_bytes"`     // mean
	// UnitFill is the used share of the PUT payload units that are billed.
	UnitFill       float64 `json:"unit_fill"`
	UnitsPerSecond float64 `json:"payload_units_per_second"`
	// MinShards is enough on average, Shards with headroom; see the function Shards.
	MinShards int `json:"min_shards"`
	Shards    int `json:"shards"`
	// ThrottledShare is the expected share of throttled first attempts with Shards.
	ThrottledShare float64 `json:"throttled_share"`
	// BilledInBytesPerSecond is what an on-demand stream bills: records are rounded
	// up to 1 KB.
	BilledInBytesPerSecond float64 `json:"billed_in_bytes_per_second"`
	// USD per month.
	Provisioned float64 `json:"provisioned_usd_per_month"`
	Standard    float64 `json:"on_demand_standard_usd_per_month"`
	Advantage   float64 `json:"on_demand_advantage_usd_per_month"`
}

// Plan is the result.
type Plan struct {
	Input           Input   `json:"input"`
	Prices          Prices  `json:"prices"`
	ChunksPerSecond float64 `json:"chunks_per_second"`
	// RecordFill is the mean record over max_record_size.
	RecordFill float64 `json:"record_fill"`
	Aggregated Way     `json:"aggregated"`
	PutRecords Way     `json:"put_records"`
	PutRecord  Way     `json:"put_record"`

	Delay  Delay    `json:"delay_seconds"`
	Advice []Advice `json:"advice"`
}

// Delay is what the way to Kinesis adds to a line, without the time of requests.
type Delay struct {
	MeanFlush     float64 `json:"flush_mean"`     // half of the flush interval
	LongestFlush  float64 `json:"flush_longest"`  // the flush interval
	RetryShortest float64 `json:"retry_shortest"` // first retry after throttling
	RetryLongest  float64 `json:"retry_longest"`
	Mean          float64 `json:"mean"` // flush, and retries of the throttled share
}

// New calculates a plan.
func New(in Input, prices Prices) (Plan, error) {
	if err := in.Validate(); err != nil {
		return Plan{}, err
	}
	t := in.traffic()
	p := Plan{Input: in, Prices: prices, ChunksPerSecond: t.chunksPerSecond}
	p.Aggregated = in.way("aggregated", t, prices)
	p.Aggregated.RequestsPerSecond = p.Aggregated.RecordsPerSecond
	p.RecordFill = p.Aggregated.RecordBytes / float64(in.MaxRecordBytes)

	// Without aggregation each line is a record, neither batched nor compressed. Its
	// partition key is not counted, which favors these ways.
	flushes := float64(in.Hosts) / in.FlushSeconds
	single := traffic{records: []records{{in.LinesPerSecond, in.LineBytes, in.LinesPerSecond / flushes}}, burstsPerSecond: flushes}
	p.PutRecord = in.way("one line per PutRecord", single, prices)
	p.PutRecord.RequestsPerSecond = in.LinesPerSecond
	p.PutRecords = p.PutRecord
	p.PutRecords.Name = "one line per record, PutRecords"
	perRequest := math.Min(PutRecordsLimit, math.Floor(PutRecordsBytes/in.LineBytes))
	linesPerChunk := in.LinesPerSecond / t.chunksPerSecond
	p.PutRecords.RequestsPerSecond = t.chunksPerSecond * math.Ceil(linesPerChunk/perRequest)

	p.Delay = in.delay(p.Aggregated.ThrottledShare)
	p.Advice = p.advise()
	return p, nil
}

// delay: the n-th retry follows with the share's n-th power, and waits for the mean
// of the engine's range.
func (in Input) delay(throttled float64) Delay {
	d := Delay{MeanFlush: in.FlushSeconds / 2, LongestFlush: in.FlushSeconds}
	d.RetryShortest = BackoffBaseSeconds + 1
	d.RetryLongest = BackoffBaseSeconds*2 + 1
	d.Mean = d.MeanFlush
	share := throttled
	for n := 1; n <= 50; n++ {
		highest := math.Min(BackoffCapSeconds, BackoffBaseSeconds*math.Pow(2, float64(n)))
		d.Mean += share * ((BackoffBaseSeconds+highest)/2 + 1)
		share *= throttled
	}
	return d
}

// way calculates what the records need and cost.
func (in Input) way(name string, t traffic, prices Prices) Way {
	w := Way{Name: name}
	for _, r := range t.records {
		w.RecordsPerSecond += r.perSecond
		w.BytesPerSecond += r.perSecond * r.bytes
		w.UnitsPerSecond += r.perSecond * units(r.bytes)
		w.BilledInBytesPerSecond += r.perSecond * onDemandBytes(r.bytes)
	}
	w.RecordBytes = w.BytesPerSecond / w.RecordsPerSecond
	w.UnitFill = w.BytesPerSecond / (w.UnitsPerSecond * UnitBytes)
	w.MinShards = minShards(w)
	w.Shards, w.ThrottledShare = t.shards(in.Throttled, w.MinShards)
	w.Provisioned = in.provisioned(w, prices)
	w.Standard = in.standard(w, prices)
	w.Advantage = in.advantage(w, prices)
	return w
}

// units returns the PUT payload units of a record.
func units(recordBytes float64) float64 { return math.Ceil(recordBytes / UnitBytes) }

// onDemandBytes returns the bytes that an on-demand stream bills for a record.
func onDemandBytes(recordBytes float64) float64 {
	return math.Ceil(recordBytes/OnDemandRoundingBytes) * OnDemandRoundingBytes
}

// gbPerMonth converts a rate.
func gbPerMonth(bytesPerSecond float64) float64 {
	return bytesPerSecond * 3600 * HoursPerMonth / GB
}

// storedGB returns the data that a stream holds of the hours from one age to
// another.
func storedGB(bytesPerSecond float64, fromHours, toHours int) float64 {
	return bytesPerSecond * 3600 * float64(max(0, toHours-fromHours)) / GB
}

func (in Input) provisioned(w Way, p Prices) float64 {
	shardHours := float64(w.Shards) * HoursPerMonth
	usd := shardHours*p.ShardHour + w.UnitsPerSecond*3600*HoursPerMonth/1e6*p.MillionUnits
	if in.RetentionHours > MinRetentionHours {
		usd += shardHours * p.ExtendedShardHour
	}
	usd += storedGB(w.BytesPerSecond, extendedRetentionHours, in.RetentionHours) * p.LongTermGBMonth
	return usd + float64(in.FanOut)*(shardHours*p.FanOutShardHour+gbPerMonth(w.BytesPerSecond)*p.FanOutGB)
}

func (in Input) standard(w Way, p Prices) float64 {
	out := gbPerMonth(w.BytesPerSecond)
	return HoursPerMonth*p.StandardStreamHour + gbPerMonth(w.BilledInBytesPerSecond)*p.StandardInGB +
		out*(float64(in.Consumers)*p.StandardOutGB+float64(in.FanOut)*p.StandardFanOutGB) +
		storedGB(w.BytesPerSecond, MinRetentionHours, min(in.RetentionHours, extendedRetentionHours))*p.StandardExtendedGB +
		storedGB(w.BytesPerSecond, extendedRetentionHours, in.RetentionHours)*p.StandardLongTermGB
}

// advantage rounds records like on-demand standard, which is inferred.
func (in Input) advantage(w Way, p Prices) float64 {
	billed := math.Max(w.BilledInBytesPerSecond, p.AdvantageMinMBPerSecond*(1<<20))
	return gbPerMonth(billed)*p.AdvantageInGB +
		gbPerMonth(w.BytesPerSecond)*float64(in.Consumers+in.FanOut)*p.AdvantageOutGB +
		storedGB(w.BytesPerSecond, MinRetentionHours, in.RetentionHours)*p.AdvantageRetentionGB
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }
