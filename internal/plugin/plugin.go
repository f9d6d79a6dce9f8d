// Package plugin is one [OUTPUT] section at work: it takes options and chunks
// in and gives outcomes out, and wires the packages together that do the work.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
)

// Version is the plugin's version.
const Version = "0.1.0"

// Outcome is what becomes of a chunk.
type Outcome int

const (
	// Delivered: Kinesis has it, or there was nothing to send.
	Delivered Outcome = iota
	// Retry: the engine is to flush the same bytes again.
	Retry
	// Undeliverable: no retry can help.
	Undeliverable
)

// Log writes a line to the instance's log. It is called from any goroutine.
type Log func(level engine.Level, line string)

// sender is what an instance needs of Kinesis.
type sender interface {
	PutRecord(ctx context.Context, stream, partitionKey string, data []byte) (kinesis.Receipt, error)
	Close()
}

// Instance is one [OUTPUT] section. Its methods are safe for concurrent use.
type Instance struct {
	log      Log
	sender   sender
	streams  streamNames
	drop     bool // chunks larger than a record
	maxBytes int  // of a record, as configured
	timeout  time.Duration
	now      func() time.Time
	keys     partitionKeys
	meter    Meter
	metrics  metrics
	progress progress
	// limitBytes is maxBytes until the stream proves to take less.
	limitBytes atomic.Int64

	failures      logThrottle // of delivery, by stream and cause
	losses        logThrottle // by kind
	firstDelivery sync.Once
	split         sync.Once
	threads       sync.Once
	// aggregators is a pool, so that there are as many as flushes at a time.
	aggregators sync.Pool

	mu       sync.Mutex
	stopped  bool
	flushing sync.WaitGroup
}

// Start reads the options and prepares an instance; nothing is sent yet. The
// error names each bad option. Stop the instance.
func Start(get func(name string) string, log Log, meter Meter) (*Instance, error) {
	c, warnings, err := option.Parse(get)
	p, err := prepare(c, err)
	if err != nil {
		return nil, err
	}
	s := p.settings()
	if c.Debug {
		s.Debug = func(format string, args ...any) { log(engine.Info, fmt.Sprintf(format, args...)) }
	}
	k, err := kinesis.Open(context.Background(), s)
	if err != nil {
		return nil, err
	}
	for _, base := range k.PlaintextRemote() {
		warnings = append(warnings, fmt.Sprintf("records and credentials go to %s unencrypted: write https:// unless the network in between is yours", base))
	}
	if c.CheckStream {
		warning, err := checkStream(context.Background(), c, p.streams, k.Describe)
		if err != nil {
			k.Close()
			return nil, err
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	for _, warning := range warnings {
		log(engine.Warn, warning)
	}
	c.Region = k.Region()
	log(engine.Info, fmt.Sprintf("version %s: %s", Version, c.Summary()))
	return newInstance(p, k, log, meter), nil
}

func newInstance(p setup, s sender, log Log, meter Meter) *Instance {
	in := &Instance{
		log:         log,
		sender:      s,
		streams:     p.streams,
		maxBytes:    p.MaxRecordBytes,
		drop:        p.OversizeChunk == option.Drop,
		timeout:     p.RequestTimeout,
		keys:        p.keys,
		meter:       meter,
		metrics:     newMetrics(meter),
		now:         time.Now,
		progress:    progress{now: time.Now},
		failures:    logThrottle{now: time.Now},
		losses:      logThrottle{now: time.Now},
		aggregators: sync.Pool{New: func() any { return p.newAggregator() }},
	}
	in.limitBytes.Store(int64(p.MaxRecordBytes))
	return in
}

func (p setup) settings() kinesis.Settings {
	c := p.Config
	return kinesis.Settings{
		Stream:          p.streams.fixed(),
		Region:          c.Region,
		RoleARN:         c.RoleARN,
		ExternalID:      c.ExternalID,
		RoleSessionName: c.RoleSessionName,
		KeyID:           c.KeyID,
		SecretKey:       c.SecretKey,
		SessionToken:    c.SessionToken,
		Profile:         c.Profile,
		CredentialsPath: c.CredentialsPath,
		Endpoint:        c.Endpoint,
		STSEndpoint:     c.STSEndpoint,
		HTTPProxy:       c.HTTPProxy,
		RequestTimeout:  c.RequestTimeout,
		ConnectTimeout:  c.ConnectTimeout,
		AutoRetry:       c.AutoRetryRequests,
		WireFormat:      kinesis.WireFormat(c.WireFormat),
		Version:         Version,
	}
}

// Log writes a line to the instance's log.
func (in *Instance) Log(level engine.Level, line string) { in.log(level, line) }

// Stop waits for the flushes that are under way and closes the connections.
// Flushes that come later are told to retry.
func (in *Instance) Stop() {
	in.mu.Lock()
	in.stopped = true
	in.mu.Unlock()
	in.flushing.Wait()
	in.sender.Close()
	in.meter.Release()
}

// begin counts a flush, unless the instance is stopped.
func (in *Instance) begin() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.stopped {
		in.flushing.Add(1)
	}
	return !in.stopped
}

// WithoutWorkers takes note that a flush runs on the engine's own thread.
func (in *Instance) WithoutWorkers() {
	in.threads.Do(func() {
		in.log(engine.Warn, "flushes run on the engine thread and block all inputs: set workers to 1 or more")
	})
}

// Flush sends one chunk, all of one tag: as one aggregated record where it fits
// into one, else as oversize_chunk says. chunk is only read, and not kept.
func (in *Instance) Flush(tag string, chunk []byte) Outcome {
	if !in.begin() {
		return Retry
	}
	defer in.flushing.Done()
	// One deadline for all parts: the engine cannot interrupt a flush, and what
	// was sent by then is remembered for the retry.
	ctx, cancel := context.WithTimeout(context.Background(), in.timeout)
	defer cancel()
	f := flush{
		in:       in,
		ctx:      ctx,
		deadline: in.now().Add(in.timeout),
		tag:      tag,
		stream:   in.streams.of(tag),
		chunk:    chunk,
		agg:      in.aggregators.Get().(*aggregator.Aggregator),
	}
	f.agg.SetTag(tag)
	outcome := f.run()
	in.metrics.chunks(outcome.String(), 1)
	// Not after a panic, which may have left it in the middle of something.
	in.aggregators.Put(f.agg)
	return outcome
}

// Lines splits an error that joins several into one line for each.
func Lines(err error) []string {
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		return []string{strings.ReplaceAll(err.Error(), "\n", " ")}
	}
	var lines []string
	for _, e := range joined.Unwrap() {
		lines = append(lines, Lines(e)...)
	}
	return lines
}
