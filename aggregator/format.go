package aggregator

import (
	"out_kinesis_agg/kpl"
)

// Format is the format of a Kinesis record. Its values are those of the option
// record_format.
type Format string

const (
	// KPL is an aggregated record of the Kinesis Producer Library. The zero value
	// of Format means KPL too.
	KPL Format = "kpl"
	// NDJSON is one batch of lines, without the envelope of KPL: a line for each log
	// record, ended by a newline. Compression compresses the batch as a whole.
	NDJSON Format = "ndjson"
)

// Formats returns all formats, the default first. The caller owns the slice.
func Formats() []Format { return []Format{KPL, NDJSON} }

// maxLinesBytes bounds the lines of a record of NDJSON before compression, unless
// Transform.BatchBytes does: readers of compressed records have such a bound too.
const maxLinesBytes = 64 << 20 // decompress.DefaultMaxBytes

// framing is what a format writes around user records, and the only code that
// knows the formats apart while a record is built. It is a value with branches and
// not an interface, because its methods are called for each log record.
type framing uint8

const (
	kplFraming framing = iota
	// linesFraming writes nothing: the Kinesis record is the lines, or the only
	// batch of them.
	linesFraming
)

// framing returns the framing of a format, false if there is no such format.
func (f Format) framing() (_ framing, ok bool) {
	switch f {
	case "", KPL:
		return kplFraming, true
	case NDJSON:
		return linesFraming, true
	}
	return 0, false
}

// outside returns the part of a Kinesis record's size that a build does not
// append before seal: the partition key of the request, and the digest.
func (f framing) outside(partitionKey string) int {
	if f == linesFraming {
		return len(partitionKey)
	}
	return kpl.DigestBytes + len(partitionKey)
}

// spaceBytes returns the size of what begin and seal append.
func (f framing) spaceBytes(partitionKey string) int {
	if f == linesFraming {
		return 0
	}
	return kpl.HeadBytes(partitionKey) + kpl.DigestBytes
}

// begin appends what comes before the first user record.
func (f framing) begin(dst []byte, partitionKey string) []byte {
	if f == linesFraming {
		return dst
	}
	return kpl.AppendHead(dst, partitionKey)
}

// open reserves space for the prefix of a user record of about guess bytes.
func (f framing) open(dst []byte, guess int) []byte {
	if f == linesFraming {
		return dst
	}
	return kpl.OpenRecord(dst, guess)
}

// close writes the prefix of the user record dst[data:] into dst[start:data].
func (f framing) close(dst []byte, start, data int) []byte {
	if f == linesFraming {
		return dst
	}
	return kpl.CloseRecord(dst, start, data)
}

// recordBytes returns the size of a user record of n bytes with its prefix.
func (f framing) recordBytes(n int) int {
	if f == linesFraming {
		return n
	}
	return kpl.RecordBytes(n)
}

// seal appends what comes after the last user record.
func (f framing) seal(dst []byte) []byte {
	if f == linesFraming {
		return dst
	}
	return kpl.Seal(dst)
}

// holdsOneBatch reports whether a Kinesis record is one batch.
func (f framing) holdsOneBatch() bool { return f == linesFraming }
