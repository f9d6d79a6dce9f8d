package plugin

import (
	"context"
	"fmt"
	"time"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/kpl"
)

// flush is one chunk on its way.
type flush struct {
	*Instance
	ctx    context.Context
	tag    string
	stream string
	chunk  []byte
	limit  aggregator.Limit
	filler *aggregator.Aggregator

	parts      int  // that Kinesis has, those of earlier flushes counted as one
	unreadable bool // some of the chunk
}

// run sends the chunk in as few records as it fits into, one after another, from
// where an earlier flush of the same chunk came to.
func (f *flush) run() Outcome {
	f.filler.SetTag(f.tag)
	from, id := f.progress.resume(f.tag, f.chunk)
	if from > 0 {
		f.parts = 1
	}
	for from < len(f.chunk) {
		key := f.keys.next(f.tag)
		part := f.filler.Fill(f.chunk, from, key, f.limit)
		if part.Next < len(f.chunk) || part.TooLarge.Count > 0 {
			if f.drop {
				return f.giveUp(fmt.Sprintf("fits into no record of %d bytes", f.limit.Bytes))
			}
			f.sayOversize()
		}
		if part.Aggregate != nil {
			v, err := f.put(key, part.Aggregate)
			switch {
			case err == nil:
				f.parts++
				f.metrics.records("", part.Records)
				f.metrics.chunkBytes("", part.Next-from)
				f.metrics.aggregateBytes("", len(part.Aggregate))
			case !tooLarge(v, len(key)+len(part.Aggregate)):
				f.progress.note(id, f.tag, f.chunk, from)
				f.sayFailure(v, err)
				return Retry
			case f.drop:
				return f.giveUp(fmt.Sprintf("is refused by the stream (%v)", err))
			case part.Records > 1:
				f.lower(err)
				continue
			default:
				part.TooLarge = aggregator.Loss{Count: 1, Offset: from, Bytes: part.Next - from}
			}
		}
		// Not before, since a retry would come upon the same losses again.
		f.sayLosses(part)
		from = part.Next
	}
	f.progress.forget(id)
	if f.parts > 1 {
		f.metrics.splitChunks("", 1)
	}
	if f.unreadable && f.parts == 0 {
		return f.giveUp("has no record that can be read")
	}
	return Delivered
}

// tooLarge reports whether the stream takes smaller records only. A refusal that
// says so of a record that every stream takes means something else.
func tooLarge(v kinesis.Verdict, recordBytes int) bool {
	return recordBytes > kpl.DefaultMaxRecordBytes && v.Outcome == kinesis.TooLarge
}

// put sends one record. The verdict is that on the error, if there is one.
func (f *flush) put(key string, aggregate []byte) (kinesis.Verdict, error) {
	began := time.Now()
	_, err := f.sender.PutRecord(f.ctx, f.stream, key, aggregate)
	f.metrics.seconds(time.Since(began).Seconds())
	if err != nil {
		v := kinesis.Judge(err)
		f.metrics.failures(v.Cause, 1)
		return v, err
	}
	f.metrics.putRecords("", 1)
	for _, line := range f.troubles.worked() {
		f.log(engine.Info, line)
	}
	return kinesis.Verdict{}, nil
}

// lower makes the records smaller, since the stream refused one that is larger
// than what every stream takes. How much more it takes, it does not tell.
func (f *flush) lower(err error) {
	f.limit.Bytes = kpl.DefaultMaxRecordBytes
	if f.limitBytes.Swap(kpl.DefaultMaxRecordBytes) > kpl.DefaultMaxRecordBytes {
		f.log(engine.Error, fmt.Sprintf("the stream takes less than max_record_size, and gets records of up to %d bytes until the next start: raise the stream with UpdateMaxRecordSize, or lower max_record_size: %v",
			kpl.DefaultMaxRecordBytes, err))
	}
}

func (f *flush) giveUp(why string) Outcome {
	f.log(engine.Error, fmt.Sprintf("chunk of tag %s, %d bytes, %s and is not sent", f.tag, len(f.chunk), why))
	return Undeliverable
}

func (f *flush) sayOversize() {
	f.oversize.Do(func() {
		f.log(engine.Warn, fmt.Sprintf("chunk of tag %s, %d bytes, is more than a record of %d bytes and is sent as several; for one PutRecord a chunk raise the stream with UpdateMaxRecordSize and then max_record_size",
			f.tag, len(f.chunk), f.limit.Bytes))
	})
}

// sayFailure logs why the chunk has to be retried, unless that is known.
func (f *flush) sayFailure(v kinesis.Verdict, err error) {
	text := err.Error()
	if v.Advice != "" {
		text += ": " + v.Advice
	}
	level := engine.Warn
	if v.Outcome != kinesis.Retry {
		level = engine.Error
	}
	if line := f.troubles.failed(v.Cause, text); line != "" {
		f.log(level, fmt.Sprintf("chunk of tag %s, %d bytes, is to be retried: %s", f.tag, len(f.chunk), line))
	}
}

// sayLosses logs what of the chunk could not be sent, by kind, and not more than
// once a minute.
func (f *flush) sayLosses(p aggregator.Part) {
	for _, l := range losses(p) {
		if l.Count == 0 {
			continue
		}
		f.metrics.dropped(l.reason, l.Count)
		f.unreadable = f.unreadable || l.unreadable
		if line := f.losses.failed(l.reason, fmt.Sprintf("lost from a chunk of tag %s, %d bytes: %s: %d from byte offset %d on, %d bytes",
			f.tag, len(f.chunk), l.what, l.Count, l.Offset, l.Bytes)); line != "" {
			f.log(engine.Error, line)
		}
	}
}
