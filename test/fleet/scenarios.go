package fleet

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"out_kinesis_agg/internal/plan"
	"out_kinesis_agg/kpl"
)

// The fleet of docs/fleet.md: 200,000 lines/s, 76.4 MB/s.
const (
	fleetHosts     = 10_000
	fleetLines     = 20  // per second and host
	fleetLineJSON  = 392 // bytes
	fleetOverhead  = 94  // partition key, head and checksum of a record
	outageBegin    = 300
	outageSeconds  = 600
	outageFlush    = 30 // a third of the events of 10
	timelineSpacer = 20
)

// base returns the fleet with the settings that the documents recommend.
func base() Config {
	return Config{
		Hosts: fleetHosts, LinesPerSecond: fleetLines, LineBytes: kpl.RecordBytes(fleetLineJSON), FlushSeconds: 10,
		MaxRecordBytes: kpl.DefaultMaxRecordBytes, OverheadBytes: fleetOverhead, Workers: 2,
		Shards: 100, ShardBytes: plan.ShardBytesPerSecond, ShardRecords: plan.ShardRecordsPerSecond,
		RequestSeconds: 0.05, RefusalSeconds: 0.02,
		BackoffBase: plan.BackoffBaseSeconds, BackoffCap: plan.BackoffCapSeconds,
		Seconds: 180, MeasureFrom: 60, MeasureUntil: 180, Seed: 1,
	}
}

// input returns the planner's input for the same fleet.
func input(c Config) plan.Input {
	in := plan.Defaults()
	in.LinesPerSecond, in.LineBytes, in.Hosts = c.LinesPerSecond*float64(c.Hosts), fleetLineJSON, c.Hosts
	in.FlushSeconds, in.MaxRecordBytes = c.FlushSeconds, c.MaxRecordBytes
	return in
}

// planned returns what the planner calculates for the fleet.
func planned(c Config) plan.Way {
	p, err := plan.New(input(c), plan.USEast1())
	if err != nil {
		panic(err)
	}
	return p.Aggregated
}

// simulateAll runs the configurations on all processors.
func simulateAll(all []Config) ([]Result, error) {
	results, errs := make([]Result, len(all)), make([]error, len(all))
	var wait sync.WaitGroup
	limit := make(chan struct{}, 2) // each of the large ones needs some 100 MB
	for i, c := range all {
		wait.Go(func() {
			limit <- struct{}{}
			results[i], errs[i] = Simulate(c)
			<-limit
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, err
		}
		if r := results[i]; r.Pending != 0 || r.Delivered != r.Written {
			return nil, fmt.Errorf("fleet: %d of %d lines are delivered: %+v", r.Delivered, r.Written, all[i])
		}
	}
	return results, nil
}

var (
	steadyFlushes = []float64{1, 10, 30, 60}
	steadyShards  = []int{80, 85, 90, 100, 110, 120, 150, 200}
	tableShards   = []int{80, 90, 100, 120, 200}
)

// steady returns the table of the load without faults, and its picture.
func steady() (table, picture string, err error) {
	var all []Config
	for _, flush := range steadyFlushes {
		for _, shards := range steadyShards {
			c := base()
			c.FlushSeconds, c.Shards = flush, shards
			c.MeasureFrom, c.MeasureUntil, c.Seconds = max(60, 2*flush), max(60, 2*flush)+120, max(60, 2*flush)+120
			all = append(all, c)
		}
	}
	results, err := simulateAll(all)
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	b.WriteString("| flush | record | shards | throttled first attempts | planner's estimate | delay of a line: mean | 99% | after the flush: mean | 99% |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	c := chart{
		title: "Delay of a line, 99%: 10,000 hosts, 200,000 lines/s, 76.4 MB/s",
		x:     "shards", y: "seconds (log scale)", yLog: true,
		xTicks: []float64{80, 100, 120, 140, 160, 180, 200}, yTicks: []float64{1, 2, 5, 10, 20, 50, 100, 200, 500},
	}
	for i, config := range all {
		r := results[i]
		if slices.Contains(tableShards, config.Shards) {
			fmt.Fprintf(&b, "| %.0f s | %.0f KB | %d | %.1f%% | %.1f%% | %.1f s | %.0f s | %.1f s | %.0f s |\n",
				config.FlushSeconds, planned(config).RecordBytes/1024, config.Shards,
				100*float64(r.FirstThrottled)/float64(r.FirstAttempts), 100*input(config).ThrottledShare(config.Shards),
				r.Delays.Mean(), r.Delays.Quantile(0.99), r.AddedDelays.Mean(), r.AddedDelays.Quantile(0.99))
		}
		if i%len(steadyShards) == 0 {
			c.series = append(c.series, series{name: fmt.Sprintf("flush %.0f", config.FlushSeconds)})
		}
		s := &c.series[len(c.series)-1]
		s.points = append(s.points, [2]float64{float64(config.Shards), math.Min(500, r.Delays.Quantile(0.99))})
	}
	return b.String(), c.svg(), nil
}

// outages returns the table and the picture of an outage of ten minutes.
func outages() (table, picture string, err error) {
	cases := []struct{ shards, backoffCap int }{{96, 60}, {117, 60}, {156, 60}, {234, 60}, {156, 300}, {156, 2000}}
	var all []Config
	for _, k := range cases {
		c := base()
		c.FlushSeconds, c.Shards, c.BackoffCap = outageFlush, k.shards, k.backoffCap
		c.OutageBegin, c.OutageSeconds, c.Seconds = outageBegin, outageSeconds, 3900
		c.TimelineSeconds = timelineSpacer
		all = append(all, c)
	}
	results, err := simulateAll(all)
	if err != nil {
		return "", "", err
	}
	var b strings.Builder
	b.WriteString("| shards | share of the capacity used before | `scheduler.cap` | lines waiting at the end of the outage | 99% of them accepted after | all accepted after | queue empty, if no request were throttled |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- |\n")
	c := chart{
		title: "Lines that wait, around an outage of ten minutes", x: "minutes", y: "million lines",
		xTicks: []float64{0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65}, yTicks: []float64{0, 25, 50, 75, 100, 125, 150},
		shade: [2]float64{outageBegin / 60, (outageBegin + outageSeconds) / 60.0}, shadeName: "outage",
	}
	for i, config := range all {
		r := results[i]
		load := planned(config).BytesPerSecond / plan.ShardBytesPerSecond
		// The backlog and what is written meanwhile, with every token used.
		ideal := float64(r.Backlog) / (fleetHosts * fleetLines) * load / (float64(config.Shards) - load)
		fmt.Fprintf(&b, "| %d | %.0f%% | %d | %.1f million | %s | %s | %s |\n", config.Shards, 100*load/float64(config.Shards),
			config.BackoffCap, float64(r.Backlog)/1e6, minutes(r.Drained99), minutes(r.Drained), minutes(ideal))
		s := series{name: fmt.Sprintf("%d shards, scheduler.cap %d", config.Shards, config.BackoffCap), dashed: config.BackoffCap != 60}
		for _, p := range r.Timeline {
			if p.Seconds <= 3900 {
				s.points = append(s.points, [2]float64{p.Seconds / 60, float64(p.WaitingLines) / 1e6})
			}
		}
		c.series = append(c.series, s)
	}
	return b.String(), c.svg(), nil
}

func minutes(seconds float64) string { return fmt.Sprintf("%.1f min", seconds/60) }

// restarts returns the table of rolling restarts.
func restarts() (string, error) {
	cases := []struct {
		what   string
		change func(*Config)
	}{
		{"restart of all hosts within 10 minutes", func(*Config) {}},
		{"the same, with four records of at most 25,600 bytes for each chunk", func(c *Config) { c.MaxRecordBytes = plan.UnitBytes }},
		{"the same during an outage of 10 minutes, 156 shards", func(c *Config) {
			c.MaxRecordBytes = plan.UnitBytes
			c.OutageBegin, c.OutageSeconds = 60, 600
			c.Shards = 156
		}},
	}
	var all []Config
	for _, k := range cases {
		c := base()
		c.RestartBegin, c.RestartSeconds, c.DownSeconds = 60, 600, 20
		c.Seconds, c.MeasureFrom, c.MeasureUntil = 900, 60, 900
		k.change(&c)
		all = append(all, c)
	}
	results, err := simulateAll(all)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("| what | restarts | lines written | delivered | lost | delivered twice | delay of a line: mean | 99% |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for i, r := range results {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %d | %s | %.1f s | %.0f s |\n", cases[i].what, tickText(float64(r.Restarts)),
			tickText(float64(r.Written)), tickText(float64(r.Delivered)), r.Written-r.Delivered, tickText(float64(r.Repeated)),
			r.Delays.Mean(), r.Delays.Quantile(0.99))
	}
	return b.String(), nil
}

// costs returns the picture of docs/planning.md.
func costs() (string, error) {
	c := chart{
		title: "Provisioned stream in us-east-1: 100 hosts, lines of 300 bytes",
		x:     "lines/s of all hosts (log scale)", y: "USD per month (log scale)", xLog: true, yLog: true,
		xTicks: []float64{100, 1000, 10_000, 100_000, 1_000_000}, yTicks: []float64{10, 100, 1000, 10_000, 100_000},
	}
	cost := func(lines, flush float64) (plan.Plan, error) {
		in := plan.Defaults()
		in.LinesPerSecond, in.LineBytes, in.Hosts, in.FlushSeconds = lines, 300, 100, flush
		in.MaxRecordBytes = 10 * plan.UnitBytes
		return plan.New(in, plan.USEast1())
	}
	single := series{name: "one line per record", dashed: true}
	for _, flush := range []float64{1, 5, 30} {
		s := series{name: fmt.Sprintf("aggregated, flush %.0f", flush)}
		for step := range 81 {
			lines := 100 * math.Pow(10, float64(step)/20)
			p, err := cost(lines, flush)
			if err != nil {
				return "", err
			}
			s.points = append(s.points, [2]float64{lines, p.Aggregated.Provisioned})
			if flush == 5 {
				single.points = append(single.points, [2]float64{lines, p.PutRecord.Provisioned})
			}
		}
		c.series = append(c.series, s)
	}
	c.series = append(c.series, single)
	return c.svg(), nil
}
