package main

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"out_kinesis_agg/kpl"
)

// statistics counts records instead of printing them.
type statistics struct {
	w    *bufio.Writer
	warn func(format string, args ...any)
	now  func() time.Time

	shards map[string]*count
}

// count is what was in a shard.
type count struct {
	records    int // Kinesis records of any kind
	aggregated int // of them: whole aggregates,
	plain      int
	damaged    int
	outside    int // aggregates that KCL would drop
	users      int
	bytes      int // of data, of any kind

	aggregateUsers int // users of whole aggregates
	aggregateBytes int // their data and partition keys, as the limit counts them

	oldest, newest time.Time
}

func (c *count) add(other *count) {
	c.records += other.records
	c.aggregated += other.aggregated
	c.plain += other.plain
	c.damaged += other.damaged
	c.outside += other.outside
	c.users += other.users
	c.bytes += other.bytes
	c.aggregateUsers += other.aggregateUsers
	c.aggregateBytes += other.aggregateBytes
	c.span(other.oldest)
	c.span(other.newest)
}

// span widens the time from oldest to newest.
func (c *count) span(at time.Time) {
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

func (t *statistics) take(s *shard, records []record) (users int, err error) {
	c := t.shards[s.id]
	if c == nil {
		c = new(count)
		if t.shards == nil {
			t.shards = map[string]*count{}
		}
		t.shards[s.id] = c
	}
	before := c.users
	for _, r := range records {
		c.records++
		c.bytes += len(r.Data)
		c.span(aws.ToTime(r.ApproximateArrivalTimestamp))
		aggregate, err := kpl.Open(r.Data)
		switch {
		case errors.Is(err, kpl.ErrNotAggregated):
			c.plain++
			c.users++
		case err != nil:
			c.damaged++
			t.warn("%s %s: %v", s.id, aws.ToString(r.SequenceNumber), err)
		default:
			c.aggregated++
			c.users += aggregate.Len()
			c.aggregateUsers += aggregate.Len()
			c.aggregateBytes += len(r.Data) + len(aws.ToString(r.PartitionKey))
			if aggregate.CheckHashKeys(s.keys) != nil {
				c.outside++
			}
		}
	}
	return c.users - before, nil
}

// end prints the table.
func (t *statistics) end() error {
	var total count
	w := tabwriter.NewWriter(t.w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "shard\taggregated\tplain\tdamaged\tuser records\tbytes\tper aggregate\tfill of 1 MiB\toldest\tnewest\t\n")
	for _, id := range slices.Sorted(maps.Keys(t.shards)) {
		t.row(w, id, t.shards[id])
		total.add(t.shards[id])
	}
	if len(t.shards) != 1 {
		t.row(w, "all", &total)
	}
	err := errors.Join(w.Flush(), t.w.Flush())
	if total.outside > 0 {
		t.warn("%d aggregated records hold a user record of another shard: KCL drops them whole", total.outside)
	}
	return errors.Join(err, damage(total.damaged))
}

func (t *statistics) row(w *tabwriter.Writer, name string, c *count) {
	per, fill := "-", "-"
	if c.aggregated > 0 {
		per = fmt.Sprintf("%.1f", float64(c.aggregateUsers)/float64(c.aggregated))
		fill = fmt.Sprintf("%.1f%%", 100*float64(c.aggregateBytes)/float64(c.aggregated)/kpl.DefaultMaxRecordBytes)
	}
	now := t.now()
	fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%s\t\n", name, c.aggregated, c.plain, c.damaged,
		c.users, c.bytes, per, fill, age(now, c.oldest), age(now, c.newest))
}
