package aggregator

import (
	"encoding/base64"
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// verbatim[c] reports whether byte c needs no escape in a JSON string: printable ASCII
// without quote and backslash. DEL is escaped, as in the engine.
var verbatim = func() (t [256]bool) {
	for c := 0x20; c < 0x7f; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// wordBytes is the number of bytes that the loops below check and copy at a time.
const wordBytes = 8

// appendString appends b[from:to] as a JSON string with its quotes, in Fluent
// Bit's rendering with json.escape_unicode off: control characters, quote,
// backslash and DEL are escaped, valid UTF-8 stays as it is. Each byte that is
// not part of valid UTF-8 becomes U+FFFD. b may alias dst. The bytes of b after to
// are read, but do not change the result.
func appendString(dst, b []byte, from, to int) []byte {
	// Most strings need no escape. They are checked and copied in one loop, in
	// whole words. The last word may extend past the end of the string, in b as
	// well as in dst, where the next append overwrites it.
	dst = slices.Grow(dst, to-from+len(`""`)+wordBytes)
	out, o := dst[:cap(dst)], len(dst)
	out[o] = '"'
	o++
	for ; to-from >= wordBytes; from, o = from+wordBytes, o+wordBytes {
		w := binary.LittleEndian.Uint64(b[from:])
		if special(w) != 0 {
			return appendRuns(out[:o], b[from:to])
		}
		binary.LittleEndian.PutUint64(out[o:], w)
	}
	if len(b)-from < wordBytes {
		return appendRuns(out[:o], b[from:to])
	}
	w := binary.LittleEndian.Uint64(b[from:])
	rest := to - from
	if special(w)<<(64-8*rest) != 0 {
		return appendRuns(out[:o], b[from:to])
	}
	binary.LittleEndian.PutUint64(out[o:], w)
	out[o+rest] = '"'
	return out[:o+rest+1]
}

// appendRuns appends s as the rest of a JSON string with the closing quote: runs of
// bytes that need no escape, and the escapes between them.
func appendRuns(dst, s []byte) []byte {
	done := 0
	for i := verbatimUntil(s, 0); i < len(s); i = verbatimUntil(s, i) {
		c := s[i]
		if c >= utf8.RuneSelf {
			if i = validUntil(s, i); i == len(s) || s[i] < utf8.RuneSelf {
				continue
			}
			dst = append(dst, s[done:i]...)
			dst = append(dst, "\uFFFD"...)
		} else {
			dst = append(dst, s[done:i]...)
			dst = appendEscape(dst, c)
		}
		i++
		done = i
	}
	dst = append(dst, s[done:]...)
	return append(dst, '"')
}

// validUntil returns the offset of the first byte of s from i on that is ASCII or
// not part of valid UTF-8, or len(s).
func validUntil(s []byte, i int) int {
	for i < len(s) && s[i] >= utf8.RuneSelf {
		r, n := utf8.DecodeRune(s[i:])
		if r == utf8.RuneError && n <= 1 {
			break
		}
		i += n
	}
	return i
}

// verbatimUntil returns the offset of the first byte of s from i on that needs an escape,
// or len(s).
func verbatimUntil(s []byte, i int) int {
	for ; len(s)-i >= wordBytes; i += wordBytes {
		if found := special(binary.LittleEndian.Uint64(s[i:])); found != 0 {
			return i + bits.TrailingZeros64(found)/8
		}
	}
	for i < len(s) && verbatim[s[i]] {
		i++
	}
	return i
}

// special sets the high bit of each byte of w that needs an escape: below 0x20, '"',
// '\\', or above 0x7e. Borrows and carries go upwards from such a byte only, so
// that the lowest bit set is right, and those above it may be wrong.
func special(w uint64) uint64 {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	low := w - 0x20*ones
	quote := (w ^ '"'*ones) - ones
	slash := (w ^ '\\'*ones) - ones
	high := w + ones
	return (low | quote | slash | high | w) & highs
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\t':
		return append(dst, '\\', 't')
	case '\n':
		return append(dst, '\\', 'n')
	case '\f':
		return append(dst, '\\', 'f')
	case '\r':
		return append(dst, '\\', 'r')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
}

// appendBinary appends msgpack's bin: as a string if it is valid UTF-8, as the
// engine does, otherwise as base64.
func appendBinary(dst, b []byte) []byte {
	if utf8.Valid(b) {
		return appendString(dst, b, 0, len(b))
	}
	return appendBase64(dst, b)
}

// appendBase64 appends b as a JSON string of standard base64 with padding.
func appendBase64(dst, b []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, '"')
}
