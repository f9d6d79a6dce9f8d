package plan

import (
	"fmt"
	"math"

	"out_kinesis_agg/kpl"
)

// Advice is a setting of Fluent Bit or of the plugin, with a reason.
type Advice struct {
	Setting string `json:"setting"`
	Value   string `json:"value"`
	Reason  string `json:"reason"`
}

// requestSeconds is the assumed time of one PutRecord, for the number of workers.
const requestSeconds = 0.1

func (p Plan) advise() []Advice {
	in := p.Input
	var all []Advice
	add := func(setting, value, format string, args ...any) {
		all = append(all, Advice{setting, value, fmt.Sprintf(format, args...)})
	}
	record, reason := p.recordSize()
	add("max_record_size", fmt.Sprint(record), "%s", reason)
	in.MaxRecordBytes = record
	now, _ := quick(in, p.Prices)
	if seconds, usd := cheapestFlush(in, p.Prices); usd < now.Provisioned*0.95 {
		add("flush", fmt.Sprint(seconds), "then %.2f USD instead of %.2f", usd, now.Provisioned)
		in.FlushSeconds = float64(seconds)
	} else {
		add("flush", trim(in.FlushSeconds), "1 to 30 s: no interval saves 5%%")
	}
	switch {
	case in.Compression > 1 && !in.inBatches():
		add("batch_size", "1M", "lines on their own compress poorly")
	case in.Compression == 1:
		five := in
		five.Compression = 5
		with := "with record_format ndjson"
		if !in.NDJSON {
			// The plugin makes a batch that does not fit into a record smaller.
			five.BatchBytes = min(1_000_000, 4*in.MaxRecordBytes)
			with = "with batch_size 1M"
		}
		if other, err := quick(five, p.Prices); err == nil {
			add("compression", "zstd", "%s; at a ratio of 5: %.2f USD", with, other.Provisioned)
		}
	}
	perHost := p.Aggregated.RecordsPerSecond / float64(in.Hosts)
	workers := max(2, int(math.Ceil(perHost*requestSeconds*2)))
	add("workers", fmt.Sprint(workers), "%s PutRecord/s per host, of %v s each", trim(perHost), requestSeconds)
	disk := in.LinesPerSecond * in.LineBytes / JSONPerMsgpack / float64(in.Hosts) * in.OutageHours * 3600
	add("storage.total_limit_size", fmt.Sprintf("%dM", max(100, int(math.Ceil(disk*1.25/1e6)))),
		"chunks of %s h on one host, and a quarter more", trim(in.OutageHours))
	add("retry_limit", "no_limits", "the default drops a chunk after one retry")
	add("scheduler.cap", "60", "a chunk waits for at most 61 s after an outage")
	return all
}

// quick calculates only what the advice compares.
func quick(in Input, prices Prices) (Way, error) {
	if err := in.Validate(); err != nil {
		return Way{}, err
	}
	return in.way("", in.traffic(), prices), nil
}

// cheapestFlush returns the shortest usual interval with at most 5% more than the
// lowest cost, and its cost.
func cheapestFlush(in Input, prices Prices) (seconds int, usd float64) {
	intervals := []int{1, 2, 5, 10, 15, 20, 30}
	costs := make([]float64, len(intervals))
	lowest := math.Inf(1)
	for i, interval := range intervals {
		in.FlushSeconds = float64(interval)
		w, err := quick(in, prices)
		if err != nil {
			return 0, math.Inf(1)
		}
		costs[i] = w.Provisioned
		lowest = math.Min(lowest, w.Provisioned)
	}
	for i, interval := range intervals {
		if costs[i] <= lowest*1.05 {
			return interval, costs[i]
		}
	}
	return 0, math.Inf(1) // costs that are not numbers
}

// smoothRecordBytes is ten full payload units: records of this size cost the same as
// records of 1 MiB, and spread over the shards more evenly.
const smoothRecordBytes = 10 * UnitBytes

// recordSize recommends smaller records if they need fewer shards.
func (p Plan) recordSize() (int, string) {
	in := p.Input
	if p.Aggregated.RecordBytes <= smoothRecordBytes {
		return in.MaxRecordBytes, "records are small"
	}
	in.MaxRecordBytes = smoothRecordBytes
	w, err := quick(in, p.Prices)
	if err != nil || w.Provisioned >= p.Aggregated.Provisioned*0.95 {
		if in = p.Input; in.MaxRecordBytes <= kpl.DefaultMaxRecordBytes {
			return in.MaxRecordBytes, "smaller records save less than 5%"
		}
		return in.MaxRecordBytes, "set the stream's limit first; AWS: at most 2% of traffic above 1 MiB"
	}
	return smoothRecordBytes, fmt.Sprintf("%d shards instead of %d; then %.2f USD", w.Shards, p.Aggregated.Shards, w.Provisioned)
}

// trim prints a number with at most two decimals.
func trim(v float64) string { return fmt.Sprint(math.Round(v*100) / 100) }
