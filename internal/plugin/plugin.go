// Package plugin is one [OUTPUT] section: options and chunks in, outcomes out. It
// connects the packages that do the work, and holds the registry of instances.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/option"
)

// Outcome is the result of a flush.
type Outcome int

const (
	// Delivered: Kinesis accepted the chunk, or there was nothing to send.
	Delivered Outcome = iota
	// Retry: the engine should flush the same bytes again.
	Retry
	// Undeliverable: no retry can succeed.
	Undeliverable
)

// String is the value of the label outcome of a metric.
func (o Outcome) String() string {
	return [...]string{"delivered", "retry", "error"}[o]
}

// Log writes a line to the instance's log. It is called from any goroutine.
type Log func(level engine.Level, line string)

// sender is the part of kinesis.Sender that an instance uses.
type sender interface {
	streamClient
	Close()
}

// Instance is one [OUTPUT] section. Its methods are safe for concurrent use.
type Instance struct {
	config   option.Config
	log      Log
	sender   sender
	streams  streams
	meter    engine.Meter
	metrics  metrics
	progress progress

	losses        logThrottle // by reason
	firstDelivery sync.Once
	split         sync.Once
	threads       sync.Once
	// aggregators has one for each concurrent flush.
	aggregators sync.Pool
	liners      sync.Pool // the same, without the envelope, for streams with AUTO

	mu       sync.Mutex
	stopped  bool
	flushing sync.WaitGroup

	shutdown       *shutdown
	ctx            context.Context // of all flushes, canceled by shutdown
	endWatch       context.CancelFunc
	watching       sync.WaitGroup
	onEngineThread atomic.Bool // flushes run there

	checking sync.WaitGroup // the check of the stream at start
	endCheck context.CancelFunc
}

func newInstance(c option.Config, s sender, log Log, meter engine.Meter) (*Instance, error) {
	lines := c.Transform
	// One record is one batch, so batch_size would need more records.
	lines.Format, lines.BatchBytes = aggregator.NDJSON, 0
	newAggregator, err := aggregator.Factory(c.Transform)
	newLiner, errLines := aggregator.Factory(lines)
	if err := errors.Join(err, errLines); err != nil {
		// Package option checks the same rules.
		return nil, fmt.Errorf("options that change records: %w", err)
	}
	return &Instance{
		config: c,
		log:    log,
		sender: s,
		streams: streams{
			client:    s,
			onAuto:    c.OnAutoStream,
			holdFile:  holdFilePath(),
			interval:  intervalOf(os.Getenv(intervalVariable)),
			recordMax: c.MaxRecordBytes,
		},
		meter:       meter,
		metrics:     newMetrics(meter),
		aggregators: sync.Pool{New: func() any { return newAggregator() }},
		liners:      sync.Pool{New: func() any { return newLiner() }},
		endCheck:    func() {},
		shutdown:    newShutdown(),
		ctx:         context.Background(),
		endWatch:    func() {},
	}, nil
}

// watchEngine bounds the time of flushes when the engine stops.
func (in *Instance) watchEngine(stopping func() (grace time.Duration, ok bool)) {
	done, endWatch := context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(context.Background())
	in.ctx, in.endWatch = ctx, endWatch
	in.watching.Go(func() {
		defer cancel()
		in.shutdown.watch(stopping, cancel, done.Done())
	})
}

// Log writes a line to the instance's log.
func (in *Instance) Log(level engine.Level, line string) { in.log(level, line) }

// Stop waits for the current flushes and closes the connections. Later flushes
// return Retry.
func (in *Instance) Stop() {
	in.mu.Lock()
	in.stopped = true
	in.mu.Unlock()
	in.endCheck()
	in.checking.Wait()
	in.flushing.Wait()
	in.endWatch()
	in.watching.Wait()
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

// WithoutWorkers logs, once, that a flush runs on the engine thread.
func (in *Instance) WithoutWorkers() {
	in.onEngineThread.Store(true)
	in.threads.Do(func() {
		in.log(engine.Warn, "flushes run on the engine thread and block all inputs: set workers to 1 or more")
	})
}

// Flush sends one chunk, all of one tag: as one Kinesis record if it fits into
// one, otherwise as oversize_chunk says. chunk is only read, and not kept.
func (in *Instance) Flush(tag string, chunk []byte) Outcome {
	if !in.begin() {
		return Retry
	}
	defer in.flushing.Done()
	outcome := Retry
	for again := true; again && in.shutdown.begin(!in.onEngineThread.Load()); {
		outcome, again = in.attempt(tag, chunk)
	}
	in.metrics.chunks.With(outcome.String()).Add(1)
	return outcome
}

// attempt sends one chunk after begin of in.shutdown has let it.
func (in *Instance) attempt(tag string, chunk []byte) (outcome Outcome, again bool) {
	// Deferred, so that a panic does not keep other flushes waiting.
	defer func() { again = in.shutdown.end() && outcome == Retry }()
	// One deadline for all parts, because the engine cannot interrupt a flush. The
	// retry continues after the parts that were sent by then.
	ctx, cancel := context.WithTimeout(in.ctx, in.config.RequestTimeout)
	defer cancel()
	f := flush{
		in:     in,
		ctx:    ctx,
		tag:    tag,
		stream: in.streams.find(in.config.Stream.For(tag)),
		chunk:  chunk,
		agg:    in.aggregators.Get().(*aggregator.Aggregator),
	}
	outcome = f.run()
	// Not after a panic, which may have left its state inconsistent.
	in.aggregators.Put(f.agg)
	if f.liner != nil {
		in.liners.Put(f.liner)
	}
	return outcome, false
}

// Lines splits an error of errors.Join into one line for each that it joins. An error
// that wraps several in a message of its own stays one line.
func Lines(err error) []string {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || err.Error() != errors.Join(joined.Unwrap()...).Error() {
		return []string{strings.ReplaceAll(err.Error(), "\n", " ")}
	}
	var lines []string
	for _, e := range joined.Unwrap() {
		lines = append(lines, Lines(e)...)
	}
	return lines
}
