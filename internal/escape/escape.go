// Package escape makes strings from outside printable, so that they can neither begin
// a new line nor control a terminal.
package escape

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxLineBytes is the maximum length of an escaped line. The engine truncates a
	// line at 4,096 bytes, including its time and level, possibly within a
	// character. Source: src/flb_log.c, struct log_message and flb_log_print.
	maxLineBytes = 3900
	// maxTagBytes is the maximum number of bytes of a tag in a line.
	maxTagBytes = 256
)

// Line returns line in printable form, truncated to maxLineBytes. It escapes the
// same characters as strconv.QuoteToGraphic, except for quotes and backslashes. Thus
// control characters, line separators, characters that change the direction of text
// and invalid UTF-8 can neither begin a new line nor hide a part of this line.
func Line(line string) string {
	total := len(line)
	// Escaping never shortens a line, so the rest cannot fit.
	line = prefix(line, maxLineBytes)
	var b strings.Builder
	b.Grow(len(line))
	at := 0
	for at < len(line) {
		char, size := first(line[at:])
		if b.Len()+len(char) > maxLineBytes {
			break
		}
		b.WriteString(char)
		at += size
	}
	if at < total {
		fmt.Fprintf(&b, " (%d bytes more)", total-at)
	}
	return b.String()
}

// Text returns text in printable form, escaped as by Line, but in full and with its
// newlines and tabs.
func Text(text string) string {
	var b strings.Builder
	for at := 0; at < len(text); {
		char, size := first(text[at:])
		if c := text[at]; c == '\n' || c == '\t' {
			char = text[at : at+1]
		}
		b.WriteString(char)
		at += size
	}
	return b.String()
}

// first returns the first character of s, escaped, and its size in s.
func first(s string) (char string, size int) {
	r, size := utf8.DecodeRuneInString(s)
	char = s[:size]
	if r == utf8.RuneError && size == 1 || !strconv.IsGraphic(r) {
		char = strconv.QuoteToGraphic(char)
		char = char[1 : len(char)-1]
	}
	return char, size
}

// Tag returns a tag for use in a log line: truncated to 256 bytes, and quoted if it is
// empty or contains spaces, quotes or commas, so that its end is recognizable.
func Tag(tag string) string {
	shown := prefix(tag, maxTagBytes)
	if tag == "" || strings.ContainsAny(shown, " \",") {
		shown = strconv.QuoteToGraphic(shown)
	}
	if n := len(tag) - len(prefix(tag, maxTagBytes)); n > 0 {
		shown += fmt.Sprintf(" (%d bytes more)", n)
	}
	return shown
}

// prefix returns the first n bytes of s, or a few less so as not to divide a
// character.
func prefix(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for back := range utf8.UTFMax {
		if utf8.RuneStart(s[n-back]) {
			return s[:n-back]
		}
	}
	return s[:n] // not UTF-8
}
