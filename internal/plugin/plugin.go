// Package plugin is one [OUTPUT] section at work: it takes options and chunks
// in and gives outcomes out, and wires the packages together that do the work.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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
	stream   string
	limit    int // of a record, in bytes
	timeout  time.Duration
	keys     partitionKeys
	troubles troubles
	// aggregators is a pool, so that there are as many as flushes at a time.
	aggregators sync.Pool

	mu       sync.Mutex
	stopped  bool
	flushing sync.WaitGroup
}

// Start reads the options and prepares an instance; nothing is sent yet. The
// error names each bad option. Stop the instance.
func Start(get func(name string) string, log Log) (*Instance, error) {
	c, err := option.Parse(get)
	if err != nil {
		return nil, err
	}
	keys, err := parsePartitionKeys(c.FixedPartitionKey)
	if err != nil {
		return nil, err
	}
	s := settings(c)
	if c.Debug {
		s.Debug = func(format string, args ...any) { log(engine.Info, fmt.Sprintf(format, args...)) }
	}
	k, err := kinesis.Open(context.Background(), s)
	if err != nil {
		return nil, fmt.Errorf("option %w", err)
	}
	for _, base := range k.PlaintextRemote() {
		log(engine.Warn, fmt.Sprintf("records and credentials go to %s unencrypted: write https:// unless the network in between is yours", base))
	}
	kind := "random partition keys"
	if c.FixedPartitionKey != "" {
		kind = "a fixed partition key"
	}
	log(engine.Info, fmt.Sprintf("version %s, stream %s in %s, records of up to %d bytes with %s",
		Version, c.Stream, k.Region(), c.MaxRecordBytes, kind))
	return newInstance(c, keys, k, log), nil
}

func newInstance(c option.Config, keys partitionKeys, s sender, log Log) *Instance {
	return &Instance{
		log:         log,
		sender:      s,
		stream:      c.Stream,
		limit:       c.MaxRecordBytes,
		timeout:     c.RequestTimeout,
		keys:        keys,
		troubles:    troubles{now: time.Now},
		aggregators: sync.Pool{New: func() any { return aggregator.New(c.MaxRecordBytes) }},
	}
}

func settings(c option.Config) kinesis.Settings {
	return kinesis.Settings{
		Stream:          c.Stream,
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

// Flush sends one chunk, all of one tag, as one aggregated record. chunk is only
// read, and not kept.
func (in *Instance) Flush(tag string, chunk []byte) Outcome {
	if !in.begin() {
		return Retry
	}
	defer in.flushing.Done()
	a := in.aggregators.Get().(*aggregator.Aggregator)
	outcome := in.flush(a, tag, chunk)
	// Not after a panic, which may have left it in the middle of something.
	in.aggregators.Put(a)
	return outcome
}

func (in *Instance) flush(a *aggregator.Aggregator, tag string, chunk []byte) Outcome {
	key := in.keys.next(tag)
	part := a.Fill(chunk, 0, key)
	if part.Next < len(chunk) || part.TooLarge.Count > 0 {
		in.log(engine.Error, fmt.Sprintf("chunk of tag %s, %d bytes, fits into no record of %d bytes and is not sent: raise the stream's record size and max_record_size",
			tag, len(chunk), in.limit))
		return Undeliverable
	}
	if part.Aggregate == nil {
		in.reportLosses(tag, part)
		if part.Unreadable.Count+part.NotEvents.Count+part.TooDeep.Count > 0 {
			in.log(engine.Error, fmt.Sprintf("chunk of tag %s, %d bytes, has no record that can be read and is not sent", tag, len(chunk)))
			return Undeliverable
		}
		return Delivered
	}
	ctx, cancel := context.WithTimeout(context.Background(), in.timeout)
	defer cancel()
	if _, err := in.sender.PutRecord(ctx, in.stream, key, part.Aggregate); err != nil {
		in.reportFailure(tag, len(chunk), err)
		return Retry
	}
	for _, line := range in.troubles.worked() {
		in.log(engine.Info, line)
	}
	// Not before, since a retry would come upon the same losses again.
	in.reportLosses(tag, part)
	return Delivered
}

// reportFailure logs why a chunk has to be retried, unless that is known.
func (in *Instance) reportFailure(tag string, chunkBytes int, err error) {
	v := kinesis.Judge(err)
	line := in.troubles.failed(v.Cause, failureText(v, err))
	if line == "" {
		return
	}
	level := engine.Warn
	if v.Outcome != kinesis.Retry {
		level = engine.Error
	}
	in.log(level, fmt.Sprintf("chunk of tag %s, %d bytes, is to be retried: %s", tag, chunkBytes, line))
}

func failureText(v kinesis.Verdict, err error) string {
	if v.Advice == "" {
		return err.Error()
	}
	return err.Error() + ": " + v.Advice
}

// reportLosses logs what of a chunk could not be sent.
func (in *Instance) reportLosses(tag string, p aggregator.Part) {
	for _, l := range []struct {
		aggregator.Loss
		what string
	}{
		{p.Unreadable, "the rest of the chunk is no msgpack, or breaks off"},
		{p.NotEvents, "values that are no log events"},
		{p.TooDeep, "records that are nested too deep"},
	} {
		if l.Count > 0 {
			in.log(engine.Error, fmt.Sprintf("lost from a chunk of tag %s: %s: %d from byte offset %d on, %d bytes",
				tag, l.what, l.Count, l.Offset, l.Bytes))
		}
	}
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
