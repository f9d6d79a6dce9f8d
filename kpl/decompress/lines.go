package decompress

import (
	"bytes"
	"iter"
)

// Lines iterates over the log records of a user record, after decompression. With
// the option batch_size, a user record is a batch: newline-delimited JSON, with a
// newline after each log record. Without it, a user record is one log record. Lines
// takes both: a stream may hold both, and the JSON of a log record contains no
// newline.
//
// A line is passed without its newline. Nothing else is removed: "\r" and spaces
// stay, and an empty line is passed as an empty line. The newline after the last
// line may be missing. There is at least one line, so an empty text is one
// empty log record.
//
// A line aliases text, and is valid as long as text is. Its capacity is its length,
// so that an append to it leaves text as it is. Lines does not allocate, copy or
// change text, and may be called for the same text several times at once.
//
// With the option log_key, a log record may be a string that contains newlines. Lines
// returns it in parts: do not use Lines on a stream of such records without
// batch_size.
func Lines(text []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for {
			end := bytes.IndexByte(text, '\n')
			if end < 0 {
				yield(text[:len(text):len(text)])
				return
			}
			if !yield(text[:end:end]) || end == len(text)-1 {
				return
			}
			text = text[end+1:]
		}
	}
}

// IsBatch reports whether text, a user record after decompression, ends with a
// newline, as every batch does. A user record that is one log record does not,
// unless the option append_newline ends it with one as well, or the option log_key
// sends a string that ends with one. Lines needs no call of IsBatch.
func IsBatch(text []byte) bool {
	return len(text) > 0 && text[len(text)-1] == '\n'
}
