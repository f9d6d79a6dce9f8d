package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/internal/escape"
	"out_kinesis_agg/kpl"
)

// statistics counts records instead of printing them.
type statistics struct {
	w      *bufio.Writer
	warn   func(format string, args ...any)
	unpack unpacker

	shards map[string]*shardCount
}

// shardCount counts the records of a shard.
type shardCount struct {
	aggregated int // valid aggregated records
	plain      int
	damaged    int
	outside    int // valid aggregated records that KCL drops
	users      int // user records, plain records included
	logs       int // log records
	bytes      int // data of all Kinesis records
	logBytes   int // user records after decompression

	joined      int // valid aggregated records, and batches without the envelope
	joinedLogs  int // their log records
	joinedBytes int // their data and partition keys

	oldest, newest time.Time
}

func (c *shardCount) add(other *shardCount) {
	c.aggregated += other.aggregated
	c.plain += other.plain
	c.damaged += other.damaged
	c.outside += other.outside
	c.users += other.users
	c.logs += other.logs
	c.bytes += other.bytes
	c.logBytes += other.logBytes
	c.joined += other.joined
	c.joinedLogs += other.joinedLogs
	c.joinedBytes += other.joinedBytes
	c.span(other.oldest)
	c.span(other.newest)
}

// span extends the time from oldest to newest.
func (c *shardCount) span(at time.Time) {
	if at.IsZero() {
		return
	}
	if c.oldest.IsZero() || at.Before(c.oldest) {
		c.oldest = at
	}
	if at.After(c.newest) {
		c.newest = at
	}
}

func (t *statistics) print(s *consumer.Shard, records []consumer.Record) (logs int, err error) {
	c := t.shards[s.ID]
	if c == nil {
		c = new(shardCount)
		if t.shards == nil {
			t.shards = map[string]*shardCount{}
		}
		t.shards[s.ID] = c
	}
	for i := range records {
		r := &records[i]
		c.bytes += len(r.Data)
		c.span(r.Arrival)
		c.users += r.Len()
		n, batch := t.count(s, r, c)
		logs += n
		if batch || r.Aggregate != nil {
			c.joined++
			c.joinedLogs += n
			c.joinedBytes += len(r.Data) + len(r.PartitionKey)
		}
		switch {
		case r.Damage != nil:
			c.damaged++
			t.warn("%s %s: %v", s.ID, r.SequenceNumber, r.Damage)
		case r.Aggregate == nil:
			c.plain++
		default:
			c.aggregated++
			if r.Aggregate.CheckHashKeys(s.HashKeys) != nil {
				c.outside++
			}
		}
	}
	c.logs += logs
	return logs, nil
}

// count returns the number of log records of a Kinesis record, and whether the last
// of its user records is a batch. It adds their bytes to c.
func (t *statistics) count(s *consumer.Shard, r *consumer.Record, c *shardCount) (logs int, batch bool) {
	for n, user := range r.UserRecords() {
		if text, ok := t.unpack.unpack(s, r, n, user.Data); ok {
			logs += t.unpack.count(text)
			batch = t.unpack.isBatch(text)
			c.logBytes += len(text)
		}
	}
	return logs, batch
}

// The widths add up to 80 columns. Counts are abbreviated to fit.
const rowFormat = "%5s %6s %6s %6s %6s %6s %6s %6s %5s %5s %6s %6s\n"

// end prints the table.
func (t *statistics) end() error {
	fmt.Fprintf(t.w, rowFormat, "", "", "", "dam-", "user", "log", "", "un-", "per", "of", "", "")
	fmt.Fprintf(t.w, rowFormat, "shard", "aggr.", "plain", "aged", "recs.", "recs.", "bytes", "packed", "rec.", "1 MiB", "oldest", "newest")
	var total shardCount
	for _, id := range slices.Sorted(maps.Keys(t.shards)) {
		t.row(shardNumber(id), t.shards[id])
		total.add(t.shards[id])
	}
	if len(t.shards) != 1 {
		t.row("all", &total)
	}
	err := t.w.Flush()
	if total.outside > 0 {
		t.warn("%s with a user record of another shard: KCL drops all their user records", count(total.outside, "aggregated record"))
	}
	t.unpack.end()
	return errors.Join(err, damage(total.damaged, t.unpack.damaged))
}

func (t *statistics) row(name string, c *shardCount) {
	per, fill := "-", "-"
	if c.joined > 0 {
		mean := float64(c.joinedLogs) / float64(c.joined)
		if per = fmt.Sprintf("%.1f", mean); len(per) > 5 {
			per = abbreviate(int(mean), 5)
		}
		percent := 100 * float64(c.joinedBytes) / float64(c.joined) / kpl.DefaultMaxRecordBytes
		if fill = fmt.Sprintf("%.1f%%", percent); len(fill) > 5 {
			fill = fmt.Sprintf("%.0f%%", percent)
		}
	}
	fmt.Fprintf(t.w, rowFormat, name, abbreviate(c.aggregated, 6), abbreviate(c.plain, 6), abbreviate(c.damaged, 6),
		abbreviate(c.users, 6), abbreviate(c.logs, 6), abbreviate(c.bytes, 6), abbreviate(c.logBytes, 6), per, fill,
		age(c.oldest), age(c.newest))
}

// shardNumber shortens a shard ID to the number that --shard accepts.
func shardNumber(id string) string {
	var n uint32
	if _, err := fmt.Sscanf(id, shardFormat, &n); err == nil && fmt.Sprintf(shardFormat, n) == id {
		return strconv.FormatUint(uint64(n), 10)
	}
	return escape.Line(id)
}

// abbreviate formats n in at most width characters, which are at least 5: in
// full, or as 12.3M, with the decimal units k, M, G, T, P and E.
func abbreviate(n, width int) string {
	text := strconv.Itoa(n)
	if len(text) <= width {
		return text
	}
	scaled := float64(n)
	for _, unit := range "kMGTPE" {
		if scaled /= 1000; scaled < 999.95 {
			if text = fmt.Sprintf("%.1f%c", scaled, unit); len(text) > width {
				text = fmt.Sprintf("%.0f%c", scaled, unit)
			}
			return text
		}
	}
	return text
}

// age formats the time since then in at most 6 characters.
func age(then time.Time) string {
	if then.IsZero() {
		return "-"
	}
	switch d := max(time.Since(then), 0); {
	case d < 59950*time.Millisecond:
		return d.Round(100 * time.Millisecond).String()
	case d < time.Hour-time.Second/2:
		return d.Round(time.Second).String()
	case d < 24*time.Hour:
		d = d.Truncate(time.Minute)
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d < 100*24*time.Hour:
		return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
	default:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	}
}
