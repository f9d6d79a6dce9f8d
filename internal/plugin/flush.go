package plugin

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/autostream"
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/escape"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/kpl"
)

// minPartBytes is the size below which a part that exceeded the time limit is not
// made smaller: what takes longer than request_timeout at this size is an endpoint
// that does not respond, not a slow connection.
const minPartBytes = 16 << 10

// flush is one attempt to deliver one chunk. A chunk that fits into one record is
// one part; a larger one is several, sent one after another.
type flush struct {
	in     *Instance
	ctx    context.Context // has a deadline
	tag    string
	stream *stream
	chunk  []byte
	agg    *aggregator.Aggregator
	liner  *aggregator.Aggregator // without the envelope; nil until it is needed

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

// deliver sends the parts of the chunk that are left, one after another.
func (f *flush) deliver() Outcome {
	for f.at.offset < len(f.chunk) {
		if f.timeRunsOut() {
			return f.retry(engine.Warn, kinesis.CauseTimeout.Name, fmt.Sprintf("request_timeout of %s is too short for all of it: %d bytes are delivered, the rest follows with the retry",
				f.in.config.RequestTimeout, f.at.offset))
		}
		v := f.stream.check(f.ctx)
		f.report(v)
		switch v.treatment {
		case option.Hold:
			f.in.metrics.heldFlushes.Add(1)
			return f.retry(engine.Error, causeAuto, v.problem)
		case option.Drop:
			return f.giveUp("is held because of the strategy AUTO of the stream, but the file " + f.stream.holdFile + " says drop,")
		}
		p := f.build(v.treatment == option.NDJSON)
		if f.drops() && (p.Next < len(f.chunk) || p.Losses[aggregator.TooLarge].Count > 0) {
			return f.giveUp(fmt.Sprintf("does not fit into one record of %d bytes", f.limit().RecordMax))
		}
		if p.Data == nil {
			f.advance(p)
			continue
		}
		f.logSplit()
		r := f.send(p)
		f.record(r)
		switch {
		case r.err == nil:
			f.accept(p, r)
			f.advance(p)
		case !needsSplit(r.cause, p.recordBytes()):
			f.prepareRetry(p, r)
			return f.retry(levelOf(r.cause), r.cause.Name, r.err.Error())
		case f.drops():
			return f.giveUp(fmt.Sprintf("is refused by the stream (%v)", r.err))
		case p.LogRecords > 1:
			f.lowerLimit(p, r)
		default:
			f.logFailure(engine.Error, r.cause.Name, fmt.Sprintf("%s a log record is refused: %v", f.chunkText(), r.err))
			p.loseRecord(f.at.offset)
			f.advance(p)
		}
	}
	if f.accepted > 1 || f.accepted == 1 && f.resumed {
		f.in.metrics.splitChunks.Add(1)
	}
	if f.unreadable && f.accepted == 0 && !f.resumed {
		return f.giveUp("contains no readable record")
	}
	return Delivered
}

// part is the next record of a chunk.
type part struct {
	aggregator.Result
	key      string // the partition key
	lines    bool   // without the envelope, because of the strategy AUTO
	repeated bool   // an earlier flush may have stored this record
}

// recordBytes is the size that Kinesis limits.
func (p *part) recordBytes() int { return len(p.key) + len(p.Data) }

// build builds the next part: lines, without the envelope, or a record of the
// configured format.
func (f *flush) build(lines bool) part {
	agg := f.agg
	if lines {
		if f.liner == nil {
			f.liner = f.in.liners.Get().(*aggregator.Aggregator)
		}
		agg = f.liner
	}
	key, limit, repeated := f.identity(lines)
	return part{agg.Build(aggregator.Chunk{Tag: f.tag, Data: f.chunk}, f.at.offset, key, limit), key, lines, repeated}
}

// identity returns the partition key and the limit of the next part: the fixed key,
// or a random one, which lets a retry leave a busy shard. If Kinesis may have stored
// the part before, they are those of the earlier attempt, so that a consumer
// recognizes the record.
func (f *flush) identity(lines bool) (key string, limit aggregator.Limit, repeated bool) {
	limit = f.limit()
	if key := f.in.config.FixedPartitionKey.For(f.tag); key != "" {
		return key, limit, false
	}
	if repeated = f.at.unsettled.key != uuid.Nil && f.at.unsettled.lines == lines; !repeated {
		// Kept before the request, so that a panic does not lose it.
		f.at.unsettled = attempt{uuid.New(), int32(limit.RecordMax), lines}
	}
	limit.RecordMax = int(f.at.unsettled.recordMax)
	return f.at.unsettled.key.String(), limit, repeated
}

// drops reports whether a chunk is one record or none.
func (f *flush) drops() bool { return f.in.config.OversizeChunk == option.Drop }

// limit bounds the next record.
func (f *flush) limit() aggregator.Limit {
	recordMax := int(f.stream.recordMax.Load())
	if f.at.maxPartBytes > 0 {
		recordMax = min(recordMax, f.at.maxPartBytes)
	}
	return aggregator.Limit{RecordMax: recordMax, SingleRecordMax: f.in.config.MaxRecordBytes}
}

// needsSplit reports whether only smaller records can be accepted. A refusal for the
// size of a record that every stream accepts means something else, as does HTTP 413 for
// a request that is smaller than what any proxy or gateway permits.
func needsSplit(c *kinesis.Cause, recordBytes int) bool {
	return c == kinesis.CauseTooLarge && recordBytes > kpl.DefaultMaxRecordBytes ||
		c == kinesis.CauseRequestTooLarge && recordBytes > minPartBytes
}

// loseRecord counts the only log record of a part, which starts at the offset from,
// as too large. The part may have other losses.
func (p *part) loseRecord(from int) {
	bytes := p.Next - from
	for _, l := range p.Losses {
		bytes -= l.Bytes
	}
	l := &p.Losses[aggregator.TooLarge]
	l.Count++
	l.Offset = from
	l.Bytes += bytes
}

// response is that of a PutRecord.
type response struct {
	shardID string
	err     error
	cause   *kinesis.Cause // of err
	ticket  autostream.Ticket
	took    time.Duration
}

// send sends one part.
func (f *flush) send(p part) response {
	began := time.Now()
	r := response{ticket: f.stream.detector.Begin()}
	r.shardID, r.err = f.in.sender.PutRecord(f.ctx, f.stream.name, p.key, p.Data)
	r.took = time.Since(began)
	if r.err != nil {
		r.cause = kinesis.Classify(r.err)
	}
	return r
}

// record counts a response.
func (f *flush) record(r response) {
	f.in.metrics.seconds.Observe(r.took.Seconds())
	f.in.shutdown.observe(r.cause == kinesis.CauseTimeout)
	if r.err != nil {
		f.in.metrics.failures.With(r.cause.Name).Add(1)
	}
	if r.cause == kinesis.CauseStreamNotFound {
		f.stream.detector.Reset() // Another stream may get this name.
	}
}

// accept records that Kinesis accepted a part.
func (f *flush) accept(p part, r response) {
	// With the strategy AUTO, consumers lose aggregated records only.
	if f.in.config.Format == aggregator.KPL {
		if alarm := f.stream.accepted(r.ticket, p.key, r.shardID); alarm != "" {
			f.in.metrics.autoStreams.Add(1)
			f.in.log(engine.Error, alarm)
		}
	}
	f.setPace(p.recordBytes(), r.took)
	f.accepted++
	f.in.metrics.accepted(p.Result, p.Next-f.at.offset)
	if p.lines {
		f.in.metrics.autoLines.Add(1)
	}
	f.in.firstDelivery.Do(func() {
		f.in.endCheck()
		f.in.log(engine.Info, fmt.Sprintf("first record accepted: stream %s, %s, log records: %d, user records: %d, bytes: %d, time: %d ms",
			f.stream.name, r.shardID, p.LogRecords, p.UserRecords, len(p.Data), r.took.Milliseconds()))
	})
	for _, line := range f.stream.failures.succeeded(f.stream.name) {
		f.in.log(engine.Info, line)
	}
}

// advance continues after a part. Its losses count only now, because a retry reads
// the same ones again.
func (f *flush) advance(p part) {
	f.logLosses(p.Losses)
	f.at.offset, f.at.unsettled = p.Next, attempt{}
}

// prepareRetry decides whether the retry repeats the same record: it does if Kinesis
// may have stored it, now or earlier.
func (f *flush) prepareRetry(p part, r response) {
	switch {
	case !kinesis.NotStored(r.err):
		f.shrink(p, r)
	case !p.repeated:
		f.at.unsettled = attempt{}
	}
}

// setPace measures how fast the chunk goes, and lifts the bound of a chunk that
// exceeded the time limit before as soon as there is time to spare.
func (f *flush) setPace(recordBytes int, took time.Duration) {
	f.bytesPerTime = float64(recordBytes) / float64(max(took, 1))
	if f.at.maxPartBytes == 0 || took > f.timeLeft()/4 {
		return
	}
	if f.at.maxPartBytes *= 2; f.at.maxPartBytes >= f.in.config.MaxRecordBytes {
		f.at.maxPartBytes = 0
	}
}

func (f *flush) timeLeft() time.Duration {
	deadline, _ := f.ctx.Deadline()
	return time.Until(deadline)
}

// timeRunsOut reports whether the next part would exceed the time limit. This is so if
// the limit has passed, for example after the process was suspended, or if the chunk
// exceeded it before and the next part would probably do so again. Kinesis may accept a
// record whose response comes too late, and then the retry repeats it, so the part is
// left to a flush with more time.
func (f *flush) timeRunsOut() bool {
	left := f.timeLeft()
	if f.accepted == 0 || left > 0 && f.at.maxPartBytes == 0 {
		return false
	}
	// JSON is about as large as msgpack.
	next := min(f.at.maxPartBytes, len(f.chunk)-f.at.offset)
	return left <= 0 || float64(next) > f.bytesPerTime*float64(left)
}

// report logs and counts what a check of the stream's strategy found out.
func (f *flush) report(v verdict) {
	if v.news != "" {
		f.in.log(engine.Info, v.news)
	}
	if v.alarm {
		f.in.metrics.autoStreams.Add(1)
	}
	if v.problem != "" && v.treatment != option.Hold {
		f.logFailure(engine.Error, causeAuto, v.problem)
	}
}

// shrink makes the parts of the chunk smaller if this one exceeded the time limit
// and had all of it. With oversize_chunk drop, a chunk is one record or none. Smaller
// parts are other records than the one that may be stored, so they have new keys.
func (f *flush) shrink(p part, r response) {
	if r.cause != kinesis.CauseTimeout || f.accepted > 0 || p.LogRecords == 1 || f.drops() {
		return
	}
	f.at.maxPartBytes = max(p.recordBytes()/2, minPartBytes)
	if f.at.maxPartBytes < p.recordBytes() {
		f.at.unsettled = attempt{}
	}
}

// lowerLimit makes the records of the stream smaller, since one was refused for its
// size. The limit is unknown: a stream accepts at least DefaultMaxRecordBytes, and that
// of a proxy or gateway is found by halves.
func (f *flush) lowerLimit(p part, r response) {
	f.at.unsettled = attempt{}
	limit := int64(kpl.DefaultMaxRecordBytes)
	if r.cause == kinesis.CauseRequestTooLarge {
		limit = max(int64(p.recordBytes()/2), minPartBytes)
	}
	for old := f.stream.recordMax.Load(); limit < old; old = f.stream.recordMax.Load() {
		if f.stream.recordMax.CompareAndSwap(old, limit) {
			f.in.log(engine.Error, fmt.Sprintf("records of stream %s have at most %d bytes until restart, because a larger one is refused: %v",
				f.stream.name, limit, r.err))
			return
		}
	}
}

// chunkText names the chunk in a log line.
func (f *flush) chunkText() string {
	return fmt.Sprintf("chunk of tag %s, %d bytes,", escape.Tag(f.tag), len(f.chunk))
}

// giveUp logs why the chunk cannot be delivered.
func (f *flush) giveUp(why string) Outcome {
	f.in.log(engine.Error, fmt.Sprintf("%s %s and is not sent", f.chunkText(), why))
	return Undeliverable
}

// retry logs why the chunk has to be retried.
func (f *flush) retry(level engine.Level, cause, why string) Outcome {
	f.logFailure(level, cause, fmt.Sprintf("%s will be retried: %s", f.chunkText(), why))
	return Retry
}

// logFailure logs a failure of the stream, unless the log has it already.
func (f *flush) logFailure(level engine.Level, cause, text string) {
	if line := f.stream.failures.failed(cause, text); line != "" {
		f.in.log(level, line)
	}
}

// levelOf returns the level of a failure in the log.
func levelOf(c *kinesis.Cause) engine.Level {
	if c.Operator {
		return engine.Error
	}
	return engine.Warn
}

// logSplit logs, once for an instance, that a chunk needs more than one record:
// when the second one is ready to be sent.
func (f *flush) logSplit() {
	if f.at.offset == 0 || f.accepted == 0 && !f.resumed || f.limit().RecordMax < f.in.config.MaxRecordBytes {
		return
	}
	f.in.split.Do(func() {
		f.in.log(engine.Info, fmt.Sprintf("%s does not fit into one record of %d bytes and is sent as several; for one PutRecord a chunk, raise the stream's limit with UpdateMaxRecordSize and then max_record_size",
			f.chunkText(), f.limit().RecordMax))
	})
}

// logLosses logs what of the chunk is not sent, by kind, at most once a minute.
func (f *flush) logLosses(losses aggregator.Losses) {
	for reason, l := range losses {
		if l.Count == 0 {
			continue
		}
		kind := lossKinds[reason]
		f.in.metrics.dropped.With(kind.label).Add(l.Count)
		f.unreadable = f.unreadable || kind.unreadable
		if line := f.in.losses.failed(kind.label, fmt.Sprintf("lost from a %s %s: %d from byte offset %d, %d bytes",
			f.chunkText(), kind.text, l.Count, l.Offset, l.Bytes)); line != "" {
			f.in.log(engine.Error, line)
		}
	}
}
