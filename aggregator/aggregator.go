// Package aggregator turns a Fluent Bit chunk into KPL aggregated records: it
// reads log events from msgpack, writes each record's body as JSON and frames it
// as a user record, in one pass into the buffer that is sent.
//
// The JSON rules are in json.go, object.go, string.go and number.go, the options
// that change a record in transform.go, batches in batch.go, and the size of an
// aggregated record in package kpl.
package aggregator

import (
	"out_kinesis_agg/kpl"
)

// Aggregator builds aggregated records. It reuses its buffers: create one for
// each goroutine and keep it. It is not safe for concurrent use.
type Aggregator struct {
	buffer    []byte
	json      jsonWriter
	transform *transform // nil: records stay as they are
	batch     *batch     // nil: each log record is a user record
}

// Result is one aggregated record, and what was left out of it.
type Result struct {
	// Aggregate is the sealed record, nil if there is no user record to send. It
	// belongs to the Aggregator and is valid until its next Build.
	Aggregate []byte
	// LogRecords is the number of log records in Aggregate.
	LogRecords int
	// UserRecords is the number of user records in Aggregate: the log records,
	// or their batches.
	UserRecords int
	// PlainBytes is the size of the user records before compression.
	PlainBytes int
	// Next is the offset in the chunk at which the next Build continues, or the
	// length of the chunk when all of it is done.
	Next int

	// Unreadable is the rest of the chunk from the first byte that is not
	// msgpack, or from the event that is truncated.
	Unreadable Loss
	// NotEvents are values that are msgpack but not log events.
	NotEvents Loss
	// TooDeep are records that are nested deeper than 100 levels.
	TooDeep Loss
	// TooLarge are records that exceed Limit.SingleRecordMax on their own.
	TooLarge Loss
	// NoLogKey are records without the key in Transform.LogKey.
	NoLogKey Loss
	// NoDataKey are records that Transform.DataKeys leaves empty.
	NoDataKey Loss
}

// Loss counts what of a chunk is not sent.
type Loss struct {
	Count  int
	Offset int // of the first one in the chunk
	Bytes  int // in the chunk, of all of them
}

func (l *Loss) add(from, to int) {
	if l.Count == 0 {
		l.Offset = from
	}
	l.Count++
	l.Bytes += to - from
}

// Limit bounds Kinesis records, in bytes of data and partition key together.
type Limit struct {
	// RecordMax is the largest record with several user records.
	RecordMax int
	// SingleRecordMax is the largest record with one user record, which cannot be
	// split. It is at least RecordMax.
	SingleRecordMax int
}

// New returns an Aggregator that leaves records as they are.
func New() *Aggregator { return new(Aggregator) }

// Build builds one aggregated record from the events of chunk that start at
// offset from, as many as the limit permits. from is 0 or the Next of an earlier
// Result. partitionKey has to be valid UTF-8. chunk is only read, and not kept.
// There are no errors: the Result counts what cannot be sent.
func (a *Aggregator) Build(chunk []byte, from int, partitionKey string, limit Limit) Result {
	b := a.begin(chunk, from, partitionKey, limit)
	i := from
	for i < len(chunk) && !b.full {
		if i = b.event(i); i == len(chunk) && b.batch != nil {
			// The last batch may send the loop back to the batch's start.
			i = b.closeBatch(i)
		}
	}
	return b.seal(i)
}

// build is an aggregated record that is not sealed yet.
type build struct {
	*Aggregator
	chunk []byte
	limit Limit
	// overhead is the part of the Kinesis record's size that is not in dst: the
	// digest, and the partition key of the request.
	overhead int

	dst      []byte
	empty    int // the length of dst without a user record
	lastSize int // of the last user record, a guess for the next one
	full     bool
	result   Result
}

func (a *Aggregator) begin(chunk []byte, from int, partitionKey string, limit Limit) build {
	if a.buffer == nil {
		// JSON is about as large as msgpack; buffers grow where it is larger.
		size := min(limit.RecordMax, len(chunk)+len(chunk)/4)
		a.buffer = make([]byte, 0, size+kpl.HeadBytes(partitionKey)+kpl.DigestBytes)
	}
	b := build{
		Aggregator: a,
		chunk:      chunk,
		limit:      limit,
		overhead:   kpl.DigestBytes + len(partitionKey),
		dst:        kpl.AppendHead(a.buffer[:0], partitionKey),
	}
	b.empty = len(b.dst)
	if a.transform != nil {
		a.transform.begin(chunk, from)
	}
	if a.batch != nil {
		a.batch.begin()
	}
	return b
}

// event processes the value at chunk[i], and returns the offset at which to
// continue.
func (b *build) event(i int) int {
	class, next := readEvent(b.chunk, i)
	switch class {
	case recordEvent:
		return b.record(i, next)
	case markerEvent:
		if b.transform != nil {
			b.transform.marker(b.chunk, i)
		}
		return next
	case notEvent:
		b.result.NotEvents.add(i, next)
		return next
	default: // malformedEvent
		return b.unreadable(i)
	}
}

// unreadable counts the rest of the chunk as lost. Nothing in it can be found
// again, because msgpack has no marks between values.
func (b *build) unreadable(i int) int {
	b.result.Unreadable.add(i, len(b.chunk))
	return len(b.chunk)
}

// record adds the event at chunk[i] with its body at chunk[body].
func (b *build) record(i, body int) (next int) {
	if b.batch != nil {
		return b.batchRecord(i, body)
	}
	start := len(b.dst)
	b.dst = kpl.OpenRecord(b.dst, b.lastSize)
	data := len(b.dst)
	var st status
	var plain int
	if b.transform == nil {
		b.dst, next, st = b.json.value(b.dst, b.chunk, body, 0)
		plain = len(b.dst) - data
	} else {
		b.dst, plain, next, st = b.transform.userRecord(b.dst, b.chunk, i, body)
	}
	if st != statusOK {
		b.dst = b.dst[:start]
		return b.lost(i, st)
	}
	switch b.close(start, data, b.limit.SingleRecordMax) {
	case admitted:
		b.count(1, plain)
	case tooLarge:
		b.result.TooLarge.add(i, next)
	case noRoom:
		return b.stop(i)
	}
	return next
}

// lost counts the event at chunk[i], whose record cannot be written.
func (b *build) lost(i int, st status) int {
	next, ok := skip(b.chunk, i)
	if st == statusMalformed || !ok {
		return b.unreadable(i)
	}
	switch st {
	case statusTooDeep:
		b.result.TooDeep.add(i, next)
	case statusNoDataKey:
		b.result.NoDataKey.add(i, next)
	default: // statusNoLogKey
		b.result.NoLogKey.add(i, next)
	}
	return next
}

// admission says whether a user record is in the aggregated record.
type admission uint8

const (
	admitted admission = iota
	// noRoom: it fits into the next aggregated record.
	noRoom
	// tooLarge: it does not fit into an aggregated record on its own.
	tooLarge
)

// close frames the user record dst[data:], which begins with room for its prefix
// at dst[start]. aloneMax is the largest Kinesis record that may hold it alone. It
// cuts dst back if the user record is not admitted.
func (b *build) close(start, data, aloneMax int) admission {
	size := len(b.dst) - data
	b.dst = kpl.CloseRecord(b.dst, start, data)
	switch {
	case len(b.dst)+b.overhead <= b.limit.RecordMax:
		b.lastSize = size
		return admitted
	case b.empty+kpl.RecordBytes(size)+b.overhead > aloneMax:
		b.dst = b.dst[:start]
		return tooLarge
	case start > b.empty:
		b.dst = b.dst[:start]
		return noRoom
	}
	b.lastSize = size
	b.full = true // larger than RecordMax, and alone
	return admitted
}

// count adds an admitted user record to the result.
func (b *build) count(logRecords, plainBytes int) {
	b.result.UserRecords++
	b.result.LogRecords += logRecords
	b.result.PlainBytes += plainBytes
}

// stop ends the aggregated record before the event at chunk[i].
func (b *build) stop(i int) int {
	b.full = true
	return i
}

func (b *build) seal(next int) Result {
	b.result.Next = next
	if b.result.UserRecords > 0 {
		b.dst = kpl.Seal(b.dst)
		b.result.Aggregate = b.dst
	}
	b.buffer = b.dst
	return b.result
}
