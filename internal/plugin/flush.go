package plugin

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/kpl"
)

// minPartBytes is the size below which a part that exceeded the time limit is not
// made smaller: what takes longer than request_timeout at this size is an endpoint
// that does not respond, not a slow connection.
const minPartBytes = 16 << 10

// failureCauses are the causes that a stream can recover from.
var failureCauses = append(kinesis.Causes(), causeAuto)

// flush is one attempt to deliver one chunk. A chunk that fits into one record is
// one part; a larger one is several, sent one after another.
type flush struct {
	in       *Instance
	ctx      context.Context
	deadline time.Time // of ctx, by the instance's clock
	tag      string
	stream   string
	chunk    []byte
	agg      *aggregator.Aggregator
	watch    *watch // of the stream

	at           position // how far the chunk is delivered, earlier flushes included
	resumed      bool     // by an earlier flush, Kinesis accepted a part
	accepted     int      // parts that Kinesis accepted in this flush
	bytesPerTime float64  // of the part that was accepted last, per nanosecond
	unreadable   bool     // some of the chunk
}

// run delivers the chunk from the position that an earlier flush reached.
func (f *flush) run() Outcome {
	f.at = f.in.progress.take(f.tag, f.chunk)
	f.resumed = f.at.offset > 0
	outcome := Retry
	// Deferred, so that a panic does not lose the position.
	defer func() {
		if outcome == Retry {
			f.in.progress.put(f.tag, f.chunk, f.at)
		}
	}()
	outcome = f.deliver()
	return outcome
}

func (f *flush) deliver() Outcome {
	for f.at.offset < len(f.chunk) {
		if f.timeRunsOut() || f.isHeld() {
			return Retry
		}
		key := f.partitionKey()
		part := f.agg.Build(f.chunk, f.at.offset, key, f.limit())
		if f.drops() && (part.Next < len(f.chunk) || part.TooLarge.Count > 0) {
			return f.giveUp(fmt.Sprintf("does not fit into one record of %d bytes", f.limit().RecordMax))
		}
		if part.Aggregate != nil {
			f.logSplit()
			c, err := f.put(key, part)
			recordBytes := len(key) + len(part.Aggregate)
			switch {
			case err == nil: // put has counted it
			case !needsSplit(c, recordBytes):
				f.shrink(c, part.LogRecords, recordBytes)
				f.logFailure(c, err)
				return Retry
			case f.drops():
				return f.giveUp(fmt.Sprintf("is refused by the stream (%v)", err))
			case part.LogRecords > 1:
				f.lowerLimit(err)
				continue
			default:
				part.TooLarge = aggregator.Loss{Count: 1, Offset: f.at.offset, Bytes: part.Next - f.at.offset}
			}
		}
		// Only now, because a retry reads the same losses again.
		f.logLosses(part)
		f.at.offset = part.Next
	}
	if f.accepted > 1 || f.accepted == 1 && f.resumed {
		f.in.metrics.splitChunks.Add(1)
	}
	if f.unreadable && f.accepted == 0 && !f.resumed {
		return f.giveUp("contains no readable record")
	}
	return Delivered
}

// partitionKey returns the key for the next part: the fixed one, or a random one, so
// that a retry can leave a busy shard.
func (f *flush) partitionKey() string {
	if key := f.in.config.FixedPartitionKey.For(f.tag); key != "" {
		return key
	}
	return uuid.NewString()
}

// drops reports whether a chunk is one record or none.
func (f *flush) drops() bool { return f.in.config.OversizeChunk == option.Drop }

// limit bounds the next record.
func (f *flush) limit() aggregator.Limit {
	recordMax := int(f.in.recordMax.Load())
	if f.at.maxPartBytes > 0 {
		recordMax = min(recordMax, f.at.maxPartBytes)
	}
	return aggregator.Limit{RecordMax: recordMax, SingleRecordMax: f.in.config.MaxRecordBytes}
}

// needsSplit reports whether the stream only accepts smaller records. A refusal for
// the size of a record that every stream accepts means something else.
func needsSplit(c kinesis.Classification, recordBytes int) bool {
	return recordBytes > kpl.DefaultMaxRecordBytes && c.Action == kinesis.Split
}

// put sends one part. The classification is that of the error, if there is one.
func (f *flush) put(key string, part aggregator.Result) (kinesis.Classification, error) {
	began := f.in.now()
	ticket := f.watch.detector.Begin()
	shardID, err := f.in.sender.PutRecord(f.ctx, f.stream, key, part.Aggregate)
	took := f.in.now().Sub(began)
	f.in.metrics.seconds.Observe(took.Seconds())
	if err != nil {
		c := kinesis.Classify(err)
		f.in.metrics.failures.With(c.Cause).Add(1)
		if c.Cause == kinesis.CauseStreamNotFound {
			f.watch.detector.Reset() // Another stream may get this name.
		}
		return c, err
	}
	if alarm := f.watch.accepted(ticket, key, shardID); alarm != "" {
		f.in.metrics.autoStreams.Add(1)
		f.in.log(engine.Error, alarm)
	}
	f.acceptedPart(len(key)+len(part.Aggregate), took)
	f.in.metrics.accepted(part, part.Next-f.at.offset)
	f.in.firstDelivery.Do(func() {
		f.in.log(engine.Info, fmt.Sprintf("first record accepted: stream %s, %s, log records: %d, user records: %d, bytes: %d, time: %d ms",
			f.stream, shardID, part.LogRecords, part.UserRecords, len(part.Aggregate), took.Milliseconds()))
	})
	for _, line := range f.in.failures.succeeded(f.stream, failureCauses) {
		f.in.log(engine.Info, line)
	}
	return kinesis.Classification{}, nil
}

// acceptedPart measures how fast the chunk goes, and lifts the bound of a chunk
// that exceeded the time limit before as soon as there is time to spare.
func (f *flush) acceptedPart(recordBytes int, took time.Duration) {
	f.accepted++
	f.bytesPerTime = float64(recordBytes) / float64(max(took, 1))
	if f.at.maxPartBytes == 0 || took > f.deadline.Sub(f.in.now())/4 {
		return
	}
	if f.at.maxPartBytes *= 2; f.at.maxPartBytes >= f.in.config.MaxRecordBytes {
		f.at.maxPartBytes = 0
	}
}

// timeRunsOut reports whether the next part would exceed the time limit: because
// the limit is over, as after a stop of the process, or because the chunk exceeded it
// before and the next part would probably do so again. Kinesis may accept a record
// whose response comes too late, and then the retry repeats it, so that the part is
// left to a flush with more time.
func (f *flush) timeRunsOut() bool {
	left := f.deadline.Sub(f.in.now())
	if f.accepted == 0 || left > 0 && f.at.maxPartBytes == 0 {
		return false
	}
	// JSON is about as large as msgpack.
	next := min(f.at.maxPartBytes, len(f.chunk)-f.at.offset)
	if left > 0 && float64(next) <= f.bytesPerTime*float64(left) {
		return false
	}
	f.logRetry(engine.Warn, kinesis.CauseTimeout, fmt.Sprintf("request_timeout of %s is too short for all of it: %d bytes are delivered, the rest follows with the retry",
		f.in.config.RequestTimeout, f.at.offset))
	return true
}

// isHeld reports whether the chunk has to wait, because the stream has the strategy
// AUTO.
func (f *flush) isHeld() bool {
	problem, recovered := f.watch.check(f.ctx)
	if recovered != "" {
		f.in.log(engine.Info, recovered)
	}
	if problem == "" {
		return false
	}
	if !f.in.guard.holds {
		if line := f.in.failures.failed(failure{f.stream, causeAuto}, problem); line != "" {
			f.in.log(engine.Error, line)
		}
		return false
	}
	f.in.metrics.heldFlushes.Add(1)
	f.logRetry(engine.Error, causeAuto, problem)
	return true
}

// shrink makes the parts of the chunk smaller if this one exceeded the time limit
// and had all of it. With oversize_chunk drop, a chunk is one record or none.
func (f *flush) shrink(c kinesis.Classification, records, recordBytes int) {
	if c.Cause == kinesis.CauseTimeout && f.accepted == 0 && records > 1 && !f.drops() {
		f.at.maxPartBytes = max(recordBytes/2, minPartBytes)
	}
}

// lowerLimit makes the records of the instance smaller, since the stream refused
// one that is larger than what every stream accepts. Its own limit is unknown.
func (f *flush) lowerLimit(err error) {
	if f.in.recordMax.Swap(kpl.DefaultMaxRecordBytes) > kpl.DefaultMaxRecordBytes {
		f.in.log(engine.Error, fmt.Sprintf("the stream's record limit is below max_record_size; records have at most %d bytes until restart: raise the stream's limit with UpdateMaxRecordSize, or lower max_record_size: %v",
			kpl.DefaultMaxRecordBytes, err))
	}
}

// chunkText names the chunk in a log line.
func (f *flush) chunkText() string {
	return fmt.Sprintf("chunk of tag %s, %d bytes,", engine.Tag(f.tag), len(f.chunk))
}

func (f *flush) giveUp(why string) Outcome {
	f.in.log(engine.Error, fmt.Sprintf("%s %s and is not sent", f.chunkText(), why))
	return Undeliverable
}

// logSplit logs, once for an instance, that a chunk needs more than one record:
// when the second one is ready to be sent.
func (f *flush) logSplit() {
	if f.at.offset == 0 || f.accepted == 0 && !f.resumed || f.at.maxPartBytes > 0 {
		return
	}
	f.in.split.Do(func() {
		f.in.log(engine.Info, fmt.Sprintf("%s does not fit into one record of %d bytes and is sent as several; for one PutRecord a chunk, raise the stream's limit with UpdateMaxRecordSize and then max_record_size",
			f.chunkText(), f.limit().RecordMax))
	})
}

// logFailure logs why the chunk has to be retried, unless the log has it already.
func (f *flush) logFailure(c kinesis.Classification, err error) {
	level := engine.Warn
	if c.Action != kinesis.Retry {
		level = engine.Error
	}
	f.logRetry(level, c.Cause, failureText(err))
}

func (f *flush) logRetry(level engine.Level, cause, text string) {
	if line := f.in.failures.failed(failure{f.stream, cause}, text); line != "" {
		f.in.log(level, fmt.Sprintf("%s will be retried: %s", f.chunkText(), line))
	}
}

// logLosses logs what of the chunk is not sent, by kind, at most once a minute.
func (f *flush) logLosses(p aggregator.Result) {
	for _, l := range losses(p) {
		if l.Count == 0 {
			continue
		}
		f.in.metrics.dropped.With(l.reason).Add(l.Count)
		f.unreadable = f.unreadable || l.unreadable
		if line := f.in.losses.failed(failure{cause: l.reason}, fmt.Sprintf("lost from a %s %s: %d from byte offset %d, %d bytes",
			f.chunkText(), l.text, l.Count, l.Offset, l.Bytes)); line != "" {
			f.in.log(engine.Error, line)
		}
	}
}
