package plan

import (
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/dustin/go-humanize"
)

// Write prints the plan as tables of at most 80 columns.
func (p Plan) Write(w io.Writer) error {
	var b strings.Builder
	in, ways := p.Input, []Way{p.Aggregated, p.PutRecords, p.PutRecord}
	fmt.Fprintf(&b, "%s lines/s of %s bytes, %s hosts, flush %s s\n\n", number(in.LinesPerSecond),
		number(in.LineBytes), number(float64(in.Hosts)), trim(in.FlushSeconds))
	row := func(name string, value func(Way) string) {
		fmt.Fprintf(&b, "%-32s", name)
		for _, way := range ways {
			fmt.Fprintf(&b, "%16s", value(way))
		}
		b.WriteString("\n")
	}
	titles := map[string]string{p.Aggregated.Name: "aggregated", p.PutRecords.Name: "PutRecords", p.PutRecord.Name: "PutRecord"}
	row("", func(w Way) string { return titles[w.Name] })
	row("requests/s", func(w Way) string { return number(w.RequestsPerSecond) })
	row("records/s", func(w Way) string { return number(w.RecordsPerSecond) })
	row("MB/s (2^20 bytes)", func(w Way) string { return number(w.BytesPerSecond / (1 << 20)) })
	row("bytes per record, mean", func(w Way) string { return number(w.RecordBytes) })
	row("25 KB payload units/s", func(w Way) string { return number(w.UnitsPerSecond) })
	row("used part of these units", func(w Way) string { return percent(w.UnitFill) })
	row("shards, average load", func(w Way) string { return number(float64(w.MinShards)) })
	row("shards, with headroom", func(w Way) string { return number(float64(w.Shards)) })
	row("throttled first attempts", func(w Way) string { return percent(w.ThrottledShare) })
	fmt.Fprintf(&b, "\nUSD per month, %s\n", p.Prices.Region)
	row("provisioned", func(w Way) string { return usd(w.Provisioned) })
	row("on-demand standard", func(w Way) string { return usd(w.Standard) })
	row("on-demand advantage", func(w Way) string { return usd(w.Advantage) })
	fmt.Fprintf(&b, "\nchunks/s %s, record filled to %s of max_record_size\n", number(p.ChunksPerSecond), percent(p.RecordFill))
	fmt.Fprintf(&b, "delay: flush %s s on average, at most %s s; a throttled record waits\n"+
		"%s to %s s for its first retry; %s s on average in all\n",
		trim(p.Delay.MeanFlush), trim(p.Delay.LongestFlush), trim(p.Delay.RetryShortest), trim(p.Delay.RetryLongest), trim(p.Delay.Mean))
	b.WriteString("\nRecommended settings\n")
	for _, a := range p.Advice {
		line := fmt.Sprintf("  %-25s%-10s%s", a.Setting, a.Value, a.Reason)
		b.WriteString(wrap(line, 80, 37))
	}
	if p.Aggregated.BytesPerSecond > OnDemandStartBytesPerSecond {
		b.WriteString("\nA new on-demand stream accepts 4 MB/s: warm it, or start earlier.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// wrap breaks a line at spaces. Further lines are indented.
func wrap(line string, width, indent int) string {
	var b strings.Builder
	for len(line) > width {
		at := strings.LastIndex(line[:width+1], " ")
		if at <= indent {
			break
		}
		b.WriteString(line[:at] + "\n")
		line = strings.Repeat(" ", indent) + line[at+1:]
	}
	return b.String() + line + "\n"
}

// number prints three significant digits, or a whole number with commas.
func number(v float64) string {
	switch {
	case v >= 100:
		return humanize.Comma(int64(math.Round(v)))
	case v == math.Trunc(v):
		return fmt.Sprint(v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

func usd(v float64) string { return humanize.CommafWithDigits(math.Round(v*100)/100, 2) }

func percent(v float64) string { return fmt.Sprintf("%.3g%%", v*100) }
