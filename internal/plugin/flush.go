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

func (f *flush) deliver() Outcome {
	for f.at.offset < len(f.chunk) {
		if f.timeRunsOut() {
			f.logRetry(engine.Warn, kinesis.CauseTimeout.Name, fmt.Sprintf("request_timeout of %s is too short for all of it: %d bytes are delivered, the rest follows with the retry",
				f.in.config.RequestTimeout, f.at.offset))
			return Retry
		}
		onAuto := f.checkStrategy()
		switch onAuto {
		case option.Hold:
			return Retry
		case option.Drop:
			return f.giveUp("is held because of the strategy AUTO of the stream, but the file " + f.in.streams.holdFile + " says drop,")
		}
		lines := onAuto == option.NDJSON
		key, limit, repeated := f.identity(lines)
		part := f.builder(lines).Build(aggregator.Chunk{Tag: f.tag, Data: f.chunk}, f.at.offset, key, limit)
		if f.drops() && (part.Next < len(f.chunk) || part.Losses[aggregator.TooLarge].Count > 0) {
			return f.giveUp(fmt.Sprintf("does not fit into one record of %d bytes", limit.RecordMax))
		}
		if part.Data != nil {
			f.logSplit()
			recordBytes := len(key) + len(part.Data)
			done, err := f.send(key, part)
			c := f.classify(err)
			switch {
			case err == nil:
				f.accept(key, part, done)
				if lines {
					f.in.metrics.autoLines.Add(1)
				}
			case !needsSplit(c, recordBytes):
				if !repeated && kinesis.NotStored(err) {
					f.at.unsettled = attempt{}
				}
				if !kinesis.NotStored(err) {
					f.shrink(c, part.LogRecords, recordBytes)
				}
				f.logFailure(c, err)
				return Retry
			case f.drops():
				return f.giveUp(fmt.Sprintf("is refused by the stream (%v)", err))
			case part.LogRecords > 1:
				f.lowerLimit(c, recordBytes, err)
				f.at.unsettled = attempt{}
				continue
			default:
				if line := f.stream.failures.failed(c.Name, fmt.Sprintf("%s a log record is refused: %v", f.chunkText(), err)); line != "" {
					f.in.log(engine.Error, line)
				}
				loseRecord(&part, f.at.offset)
			}
		}
		// Only now, because a retry reads the same losses again.
		f.logLosses(part)
		f.at.offset, f.at.unsettled = part.Next, attempt{}
	}
	if f.accepted > 1 || f.accepted == 1 && f.resumed {
		f.in.metrics.splitChunks.Add(1)
	}
	if f.unreadable && f.accepted == 0 && !f.resumed {
		return f.giveUp("contains no readable record")
	}
	return Delivered
}

// identity returns the partition key and the limit of the next part: the fixed key,
// or a random one, so that a retry can leave a busy shard. If Kinesis may have stored
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

// builder returns what builds the next part: lines, without the envelope, or records of
// the configured format.
func (f *flush) builder(lines bool) *aggregator.Aggregator {
	if !lines {
		return f.agg
	}
	if f.liner == nil {
		f.liner = f.in.liners.Get().(*aggregator.Aggregator)
	}
	return f.liner
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
func loseRecord(part *aggregator.Result, from int) {
	bytes := part.Next - from
	for _, l := range part.Losses {
		bytes -= l.Bytes
	}
	l := &part.Losses[aggregator.TooLarge]
	l.Count++
	l.Offset = from
	l.Bytes += bytes
}

// response is that of a successful PutRecord.
type response struct {
	shardID string
	ticket  autostream.Ticket
	took    time.Duration
}

// send sends one part.
func (f *flush) send(key string, part aggregator.Result) (response, error) {
	began := time.Now()
	r := response{ticket: f.stream.detector.Begin()}
	var err error
	r.shardID, err = f.in.sender.PutRecord(f.ctx, f.stream.name, key, part.Data)
	r.took = time.Since(began)
	f.in.metrics.seconds.Observe(r.took.Seconds())
	return r, err
}

// classify counts the error of a request and returns its cause, nil if there is none.
func (f *flush) classify(err error) *kinesis.Cause {
	if err == nil {
		f.in.shutdown.observe(false)
		return nil
	}
	c := kinesis.Classify(err)
	f.in.shutdown.observe(c == kinesis.CauseTimeout)
	f.in.metrics.failures.With(c.Name).Add(1)
	if c == kinesis.CauseStreamNotFound {
		f.stream.detector.Reset() // Another stream may get this name.
	}
	return c
}

// accept records that Kinesis accepted a part.
func (f *flush) accept(key string, part aggregator.Result, r response) {
	// With the strategy AUTO, consumers lose aggregated records only.
	if f.in.config.Format == aggregator.KPL {
		if alarm := f.stream.accepted(r.ticket, key, r.shardID); alarm != "" {
			f.in.metrics.autoStreams.Add(1)
			f.in.log(engine.Error, alarm)
		}
	}
	f.setPace(len(key)+len(part.Data), r.took)
	f.accepted++
	f.in.metrics.accepted(part, part.Next-f.at.offset)
	f.in.firstDelivery.Do(func() {
		f.in.endCheck()
		f.in.log(engine.Info, fmt.Sprintf("first record accepted: stream %s, %s, log records: %d, user records: %d, bytes: %d, time: %d ms",
			f.stream.name, r.shardID, part.LogRecords, part.UserRecords, len(part.Data), r.took.Milliseconds()))
	})
	for _, line := range f.stream.failures.succeeded(f.stream.name) {
		f.in.log(engine.Info, line)
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
// exceeded it before and the next part would probably do so again. Kinesis may accept a record
// whose response comes too late, and then the retry repeats it, so the part is
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

// checkStrategy finds out whether the stream has the strategy AUTO, and logs it. It
// returns what to do with the part then, a value of on_auto_stream or option.Drop, and
// an empty string with user partition keys.
func (f *flush) checkStrategy() (onAuto string) {
	v := f.stream.check(f.ctx)
	if v.news != "" {
		f.in.log(engine.Info, v.news)
	}
	if v.alarm {
		f.in.metrics.autoStreams.Add(1)
	}
	if v.problem == "" {
		return ""
	}
	onAuto = f.in.streams.onAuto
	if onAuto == option.Hold {
		word, err := readHoldFile(f.in.streams.holdFile)
		if err != nil {
			v.problem += ": the file that releases held chunks cannot be used: " + err.Error()
		}
		if onAuto = word; onAuto == option.Hold {
			f.in.metrics.heldFlushes.Add(1)
			f.logRetry(engine.Error, causeAuto, v.problem+"; to release held chunks, write warn, ndjson or drop to "+f.in.streams.holdFile)
			return onAuto
		}
		v.problem += "; they are released, because " + f.in.streams.holdFile + " says " + word
	}
	if line := f.stream.failures.failed(causeAuto, v.problem); line != "" {
		f.in.log(engine.Error, line)
	}
	return onAuto
}

// shrink makes the parts of the chunk smaller if this one exceeded the time limit
// and had all of it. With oversize_chunk drop, a chunk is one record or none. Smaller
// parts are other records than the one that may be stored, so they have new keys.
func (f *flush) shrink(c *kinesis.Cause, records, recordBytes int) {
	if c != kinesis.CauseTimeout || f.accepted > 0 || records == 1 || f.drops() {
		return
	}
	f.at.maxPartBytes = max(recordBytes/2, minPartBytes)
	if f.at.maxPartBytes < recordBytes {
		f.at.unsettled = attempt{}
	}
}

// lowerLimit makes the records of the stream smaller, since one was refused for its
// size. The limit is unknown: a stream accepts at least DefaultMaxRecordBytes, and that
// of a proxy or gateway is found by halves.
func (f *flush) lowerLimit(c *kinesis.Cause, recordBytes int, err error) {
	limit := int64(kpl.DefaultMaxRecordBytes)
	if c == kinesis.CauseRequestTooLarge {
		limit = max(int64(recordBytes/2), minPartBytes)
	}
	for old := f.stream.recordMax.Load(); limit < old; old = f.stream.recordMax.Load() {
		if f.stream.recordMax.CompareAndSwap(old, limit) {
			f.in.log(engine.Error, fmt.Sprintf("records of stream %s have at most %d bytes until restart, because a larger one is refused: %v",
				f.stream.name, limit, err))
			return
		}
	}
}

// chunkText names the chunk in a log line.
func (f *flush) chunkText() string {
	return fmt.Sprintf("chunk of tag %s, %d bytes,", escape.Tag(f.tag), len(f.chunk))
}

func (f *flush) giveUp(why string) Outcome {
	f.in.log(engine.Error, fmt.Sprintf("%s %s and is not sent", f.chunkText(), why))
	return Undeliverable
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

// logFailure logs why the chunk has to be retried, unless the log has it already.
func (f *flush) logFailure(c *kinesis.Cause, err error) {
	level := engine.Warn
	if c.Operator {
		level = engine.Error
	}
	f.logRetry(level, c.Name, err.Error())
}

func (f *flush) logRetry(level engine.Level, cause, text string) {
	if line := f.stream.failures.failed(cause, text); line != "" {
		f.in.log(level, fmt.Sprintf("%s will be retried: %s", f.chunkText(), line))
	}
}

// logLosses logs what of the chunk is not sent, by kind, at most once a minute.
func (f *flush) logLosses(p aggregator.Result) {
	for reason, l := range p.Losses {
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
