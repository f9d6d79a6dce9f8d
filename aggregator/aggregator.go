// Package aggregator turns a Fluent Bit chunk into Kinesis records that hold many
// log records each: it reads log events from msgpack, writes each record's body as
// JSON and frames it as the format requires, in one pass into the buffer that is
// sent.
//
// Events are read in event.go. The JSON rules are in json.go, object.go, string.go
// and number.go, the options that change a record in transform.go, batches in
// batch.go, and the formats of Kinesis records in format.go.
package aggregator

// Aggregator builds Kinesis records. It reuses its buffers: create one for
// each goroutine and keep it. It is not safe for concurrent use.
type Aggregator struct {
	buffer    []byte
	json      jsonWriter
	framing   framing
	transform *transform // nil: records stay as they are
	batch     *batch     // nil: each log record is a user record, or a line
	maxLines  int        // with lines that are not compressed: their bytes in a record
}

// Chunk is log events of one tag, as msgpack.
type Chunk struct {
	Tag  string
	Data []byte
}

// Result is one Kinesis record, and what was left out of it.
type Result struct {
	// Data is the record's data, nil if there is nothing to send. It belongs to the
	// Aggregator and is valid until its next Build.
	Data []byte
	// LogRecords is the number of log records in Data.
	LogRecords int
	// UserRecords is the number of user records in Data: the log records, or their
	// batches. It is 1 with NDJSON, as for a consumer that uses KCL.
	UserRecords int
	// UncompressedBytes is the size of the user records before compression.
	UncompressedBytes int
	// Next is the offset in the chunk at which the next Build continues, or the
	// length of the chunk when all of it is done.
	Next int

	Losses Losses
}

// Limit bounds Kinesis records, in bytes of data and partition key together.
type Limit struct {
	// RecordMax is the largest record with several log records.
	RecordMax int
	// SingleRecordMax is the largest record with one log record, which cannot be
	// split. It is at least RecordMax.
	SingleRecordMax int
}

// New returns an Aggregator that leaves records as they are.
func New() *Aggregator { return new(Aggregator) }

// Build builds one Kinesis record from the events of chunk that start at offset
// from, as many as the limit permits. from is 0 or the Next of an earlier Result.
// partitionKey has to be valid UTF-8. The chunk is only read, and not kept. There
// are no errors: the Result counts what cannot be sent.
func (a *Aggregator) Build(chunk Chunk, from int, partitionKey string, limit Limit) Result {
	b := a.begin(chunk, from, partitionKey, limit)
	i := from
	for i < len(b.chunk) && !b.full {
		if i = b.event(i); i == len(b.chunk) && b.batch != nil {
			// If the last batch does not fit, i becomes the offset of its first event.
			i = b.closeBatch(i)
		}
	}
	return b.seal(i)
}

// build is a Kinesis record that is not sealed yet.
type build struct {
	*Aggregator
	chunk []byte
	limit Limit
	// outside is the part of the Kinesis record's size that is not in dst.
	outside int

	dst      []byte
	empty    int // the length of dst without a user record
	lastSize int // of the last user record, a guess for the next one
	full     bool
	result   Result
}

func (a *Aggregator) begin(chunk Chunk, from int, partitionKey string, limit Limit) build {
	if a.maxLines > 0 {
		limit.RecordMax = min(limit.RecordMax, a.maxLines+len(partitionKey))
	}
	if a.buffer == nil {
		// JSON is about as large as msgpack; buffers grow where it is larger.
		size := min(limit.RecordMax, len(chunk.Data)+len(chunk.Data)/4)
		a.buffer = make([]byte, 0, size+a.framing.spaceBytes(partitionKey))
	}
	b := build{
		Aggregator: a,
		chunk:      chunk.Data,
		limit:      limit,
		outside:    a.framing.outside(partitionKey),
		dst:        a.framing.begin(a.buffer[:0], partitionKey),
	}
	b.empty = len(b.dst)
	if a.transform != nil {
		a.transform.setTag(chunk.Tag)
		a.transform.begin(chunk.Data, from)
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
		b.result.Losses.add(NotEvent, i, next)
		return next
	default: // malformedEvent
		return b.unreadable(i)
	}
}

// unreadable counts the rest of the chunk as lost. Nothing in it can be found
// again, because msgpack has no marks between values.
func (b *build) unreadable(i int) int {
	b.result.Losses.add(Unreadable, i, len(b.chunk))
	return len(b.chunk)
}

// record adds the event at chunk[i] with its body at chunk[body].
func (b *build) record(i, body int) (next int) {
	if b.batch != nil {
		return b.batchRecord(i, body)
	}
	start := len(b.dst)
	b.dst = b.framing.open(b.dst, b.lastSize)
	data := len(b.dst)
	var st status
	var uncompressed int
	if b.transform == nil {
		b.dst, next, st = b.json.value(b.dst, b.chunk, body, 0)
		uncompressed = len(b.dst) - data
	} else {
		b.dst, uncompressed, next, st = b.transform.userRecord(b.dst, b.chunk, i, body)
	}
	if st != statusOK {
		b.dst = b.dst[:start]
		return b.lost(i, st)
	}
	switch b.close(start, data, b.limit.SingleRecordMax) {
	case admitted:
		b.count(1, uncompressed)
	case tooLarge:
		b.result.Losses.add(TooLarge, i, next)
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
		b.result.Losses.add(TooDeep, i, next)
	case statusNoDataKey:
		b.result.Losses.add(NoDataKey, i, next)
	default: // statusNoLogKey
		b.result.Losses.add(NoLogKey, i, next)
	}
	return next
}

// admission says whether a user record is in the Kinesis record.
type admission uint8

const (
	admitted admission = iota
	// noRoom: it fits into the next Kinesis record.
	noRoom
	// tooLarge: it does not fit into a Kinesis record on its own.
	tooLarge
)

// close frames the user record dst[data:], which begins with room for its prefix
// at dst[start]. aloneMax is the largest Kinesis record that may hold it alone. It
// cuts dst back if the user record is not admitted.
func (b *build) close(start, data, aloneMax int) admission {
	size := len(b.dst) - data
	b.dst = b.framing.close(b.dst, start, data)
	switch {
	case len(b.dst)+b.outside <= b.limit.RecordMax:
		b.lastSize = size
		return admitted
	case b.empty+b.framing.recordBytes(size)+b.outside > aloneMax:
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
func (b *build) count(logRecords, uncompressedBytes int) {
	b.result.UserRecords++
	b.result.LogRecords += logRecords
	b.result.UncompressedBytes += uncompressedBytes
}

// stop ends the Kinesis record before the event at chunk[i].
func (b *build) stop(i int) int {
	b.full = true
	return i
}

func (b *build) seal(next int) Result {
	b.result.Next = next
	if b.result.UserRecords > 0 {
		b.dst = b.framing.seal(b.dst)
		b.result.Data = b.dst
		if b.framing.holdsOneBatch() {
			b.result.UserRecords = 1
		}
	}
	b.buffer = b.dst
	return b.result
}
