package engine

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const (
	// maxLineBytes is where a line is cut. The engine cuts one at 4,096 bytes,
	// its time and level included, wherever a character may be. Source:
	// src/flb_log.c, struct log_message and flb_log_print.
	maxLineBytes = 3900
	// maxTagBytes is as much of a tag as a line shows.
	maxTagBytes = 256
)

// escape makes a line printable: what strconv.QuoteToGraphic would escape, but
// for quotes and backslashes, is escaped as it does. So control characters, line
// separators, characters that change the direction of text and invalid UTF-8
// can neither begin a new line nor hide a part of this one. A line that is longer
// than 3,900 bytes is cut.
func escape(line string) string {
	total := len(line)
	// What is escaped only grows, so that the rest need not be looked at.
	line = prefix(line, maxLineBytes)
	var b strings.Builder
	b.Grow(len(line))
	at := 0
	for at < len(line) {
		r, size := utf8.DecodeRuneInString(line[at:])
		text := line[at : at+size]
		if r == utf8.RuneError && size == 1 || !strconv.IsGraphic(r) {
			text = strconv.QuoteToGraphic(text)
			text = text[1 : len(text)-1]
		}
		if b.Len()+len(text) > maxLineBytes {
			break
		}
		b.WriteString(text)
		at += size
	}
	if at < total {
		fmt.Fprintf(&b, " (%d bytes more)", total-at)
	}
	return b.String()
}

// Tag is a tag as a line of the log shows it: shortened to 256 bytes, and quoted
// if it has spaces, quotes or commas in it, which could be taken for the line's own.
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

// prefix cuts a text after at most n bytes, before a character that would be
// cut in two.
func prefix(text string, n int) string {
	if len(text) <= n {
		return text
	}
	for back := range utf8.UTFMax {
		if utf8.RuneStart(text[n-back]) {
			return text[:n-back]
		}
	}
	return text[:n] // not UTF-8
}
