package aggregator

// batch collects log records as newline-delimited JSON, which become one user
// record. Batches compress far better than single records, because log records
// repeat each other.
type batch struct {
	maxBytes   int // of lines, unless it is one log record
	compressor compressor

	// max is maxBytes, or less after a batch was too large for the Kinesis record:
	// compressed sizes are only known after compression.
	max     int
	lines   []byte
	records int
	// from is the offset in the chunk of the first event of lines. before is
	// the result without that event and all later ones: a batch that does not fit
	// is read again, and its losses are counted then.
	from   int
	before Result
}

func (c *batch) begin() {
	c.max = c.maxBytes
	c.lines = c.lines[:0]
	c.records = 0
}

// batchRecord adds the event at chunk[i] with its body at chunk[body] to the
// batch, and closes the batch before it if that is full.
func (b *build) batchRecord(i, body int) (next int) {
	c := b.batch
	start := len(c.lines)
	var st status
	if b.transform == nil {
		c.lines, next, st = b.json.value(c.lines, b.chunk, body, 0)
	} else {
		c.lines, next, st = b.transform.appendText(c.lines, b.chunk, i, body)
	}
	if st != statusOK {
		c.lines = c.lines[:start]
		return b.lost(i, st)
	}
	c.lines = append(c.lines, '\n')
	if c.records > 0 && b.batchExceeds(len(c.lines)) {
		line := c.lines[start:]
		c.lines = c.lines[:start]
		if at := b.closeBatch(i); at != i || b.full {
			return at
		}
		// The buffer still holds the line after its new end.
		c.lines = append(c.lines[:0], line...)
	}
	if c.records == 0 {
		c.from, c.before = i, b.result
	}
	c.records++
	return next
}

// batchExceeds reports whether a batch of so many bytes is too large. Without
// compression it fills the Kinesis record to its limit.
func (b *build) batchExceeds(bytes int) bool {
	return bytes > b.batch.max ||
		b.batch.compressor == nil && len(b.dst)+b.framing.recordBytes(bytes)+b.outside > b.limit.RecordMax
}

// closeBatch makes a user record of the batch, whose events end at chunk[end]. It
// returns the offset at which to continue: end, or the batch's own start if the
// batch is to be read again, in smaller batches or for the next Kinesis record.
func (b *build) closeBatch(end int) int {
	c := b.batch
	if c.records == 0 {
		return end
	}
	start := len(b.dst)
	b.dst = b.framing.open(b.dst, b.lastSize)
	data := len(b.dst)
	if c.compressor == nil {
		b.dst = append(b.dst, c.lines...)
	} else {
		b.dst = c.compressor.compress(b.dst, c.lines)
	}
	records, uncompressed, size := c.records, len(c.lines), len(b.dst)-data
	c.records, c.lines = 0, c.lines[:0]
	aloneMax := b.limit.RecordMax // Several log records can be split.
	if records == 1 {
		aloneMax = b.limit.SingleRecordMax
	}
	switch b.close(start, data, aloneMax) {
	case admitted:
		b.count(records, uncompressed)
		b.full = b.full || b.framing.holdsOneBatch()
		return end
	case noRoom:
		b.result = c.before
		return b.stop(c.from)
	}
	if records == 1 {
		b.result.Losses.add(TooLarge, c.from, b.endOf(c.from))
		return end
	}
	// Smaller ones, until they fit or hold one log record: halves, which other batches
	// may join in the record, or a bit less than the part that probably fits.
	b.result = c.before
	c.max = uncompressed / 2
	if b.framing.holdsOneBatch() {
		room := max(0, b.limit.RecordMax-b.outside)
		c.max = int(float64(uncompressed) * float64(room) / float64(size) * 15 / 16)
	}
	if b.transform != nil {
		b.transform.begin(b.chunk, c.from)
	}
	return c.from
}

// endOf returns the offset after the event at chunk[i], which is complete.
func (b *build) endOf(i int) int {
	next, _ := skip(b.chunk, i)
	return next
}
