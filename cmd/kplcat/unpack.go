package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"unicode/utf8"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
)

// unpacker decompresses user records and splits batches into log records. It keeps
// one decompressed user record, of at most decompress.DefaultMaxBytes, in memory.
type unpacker struct {
	format  compression.Format // or auto
	noSplit bool
	warn    func(format string, args ...any)

	decoder   decompress.Decoder
	text      []byte // output of the decoder, reused
	damaged   int    // user records
	unchanged int    // user records that are not in the given format
	binary    int    // user records that are neither UTF-8 nor in a format that is detected
}

// errTruncated is the damage of a batch whose last line is incomplete.
var errTruncated = errors.New("the last line of the batch is incomplete")

// unpack returns the text of a user record, which is valid until the next call. It
// reports damage. ok is false if the user record is to be skipped. n is the
// sub-sequence number, or -1 for a plain record.
func (u *unpacker) unpack(s *consumer.Shard, r *consumer.Record, n int, data []byte) (text []byte, ok bool) {
	text, err := u.decompress(data)
	if err == nil && (u.noSplit || !isTruncated(text)) {
		return text, true
	}
	u.damaged++
	at := s.ID + " " + r.SequenceNumber
	if n >= 0 {
		at += fmt.Sprint(", sub-sequence number ", n)
	}
	if err != nil {
		u.warn("%s: skipped: %v", at, err)
		return nil, false
	}
	u.warn("%s: %v", at, errTruncated)
	return text, true
}

// decompress returns data unchanged if they are not compressed. An error means
// that they are compressed and damaged.
func (u *unpacker) decompress(data []byte) ([]byte, error) {
	detected := decompress.Detect(data)
	format := u.format
	if format == auto {
		format = detected
	}
	if format == compression.None {
		if u.format == auto && !utf8.Valid(data) {
			u.binary++
		}
		return data, nil
	}
	text, err := u.decoder.Append(u.text[:0], data, format)
	if err == nil {
		u.text = text
		return text, nil
	}
	// No header of gzip, zlib or zstd is UTF-8, except the zlib header "x^".
	if errors.Is(err, decompress.ErrTooLarge) || format == detected && !utf8.Valid(data) {
		return nil, err
	}
	if u.format != auto {
		if u.unchanged++; u.unchanged == 1 {
			u.warn("a user record is printed without decompression: %v", err)
		}
	}
	return data, nil
}

// isBatch reports whether text consists of log records that are to be split. Data of
// other producers can end with a newline too: binary data, and a JSON value that is
// written in several lines.
func (u *unpacker) isBatch(text []byte) bool {
	switch {
	case u.noSplit:
		return false
	case !decompress.IsBatch(text):
		return isTruncated(text)
	case !utf8.Valid(text):
		return false
	}
	// json.Valid returns after the first line of a batch.
	return bytes.IndexByte(text, '\n') == len(text)-1 || !json.Valid(text)
}

// isTruncated reports whether text is the start of a batch that ends within a
// line: the first line is a JSON object, and the last one is the start of one.
func isTruncated(text []byte) bool {
	if len(text) == 0 || text[0] != '{' || decompress.IsBatch(text) {
		return false
	}
	first, last := bytes.IndexByte(text, '\n'), bytes.LastIndexByte(text, '\n')+1
	return first > 0 && text[last] == '{' && !json.Valid(text[last:]) && json.Valid(text[:first])
}

// records iterates over the log records in text, with their line numbers from 0. The
// line number is -1 if text is not a batch. The log records alias text.
func (u *unpacker) records(text []byte) iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		if !u.isBatch(text) {
			yield(-1, text)
			return
		}
		n := 0
		for line := range decompress.Lines(text) {
			if !yield(n, line) {
				return
			}
			n++
		}
	}
}

// count returns the number of log records in text.
func (u *unpacker) count(text []byte) int {
	switch {
	case !u.isBatch(text):
		return 1
	case decompress.IsBatch(text):
		return bytes.Count(text, []byte{'\n'})
	}
	return bytes.Count(text, []byte{'\n'}) + 1
}

// end reports the user records that are not in the given format, and those that may be
// in the one that is not detected.
func (u *unpacker) end() {
	if u.binary > 0 {
		u.warn("%s binary: use --decompress %s if that is their compression", isOrAre(u.binary, "user record"), compression.Snappy)
	}
	if u.unchanged > 0 {
		u.warn("%s not in the format %s", isOrAre(u.unchanged, "user record"), u.format)
	}
}

// damage returns the error of a run that has read so many damaged aggregated
// records and damaged user records.
func damage(aggregated, users int) error {
	var errs []error
	if aggregated > 0 {
		errs = append(errs, fmt.Errorf("%s skipped", wasOrWere(aggregated, "damaged aggregated record")))
	}
	if users > 0 {
		errs = append(errs, fmt.Errorf("%s damaged: --decompress none --no-split prints them as they are", isOrAre(users, "user record")))
	}
	return errors.Join(errs...)
}

func isOrAre(n int, noun string) string   { return verb(n, noun, "is", "are") }
func wasOrWere(n int, noun string) string { return verb(n, noun, "was", "were") }

func verb(n int, noun, one, many string) string {
	if n == 1 {
		return count(n, noun) + " " + one
	}
	return count(n, noun) + " " + many
}
