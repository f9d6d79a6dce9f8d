package aggregator

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/lestrrat-go/strftime"
)

// CheckTimeFormat returns an error if format is invalid. The conversions are
// strftime's, with %s for the Unix time, and for fractions of a second %L or %3N
// (milliseconds), %f or %6N (microseconds), %N or %9N (nanoseconds).
func CheckTimeFormat(format string) error {
	_, err := newClock(format)
	return err
}

// clock writes times as JSON strings. It formats each second once, and while the
// second stays the same only its fraction.
type clock struct {
	format []timePiece
	second int64
	text   []byte // of the second, with zeros for its fractions
	spaces []fraction
}

// timePiece is a literal, a conversion of strftime, or a fraction of a second with
// a number of digits.
type timePiece struct {
	literal    string
	conversion *strftime.Strftime
	digits     int
}

// fraction is the offset in the text of the digits of a fraction of a second.
type fraction struct{ at, digits int }

// fractions are the conversions that strftime lacks.
var fractions = []struct {
	conversion string
	digits     int
}{
	{"%L", 3}, {"%3N", 3}, {"%f", 6}, {"%6N", 6}, {"%N", 9}, {"%9N", 9},
}

// unixTime is %s, which is not in the library's default set.
var unixTime = strftime.WithSpecification('s', strftime.AppendFunc(func(b []byte, t time.Time) []byte {
	return strconv.AppendInt(b, t.Unix(), 10)
}))

// newClock parses a format. Each conversion is passed to the library alone, because
// it joins neighbours into one layout of the time package, in which literals can
// have a meaning.
func newClock(format string) (*clock, error) {
	c := &clock{second: math.MinInt64}
	for format != "" {
		literal, _, _ := strings.Cut(format, "%")
		if literal != "" {
			c.format = append(c.format, timePiece{literal: literal})
			format = format[len(literal):]
			continue
		}
		piece := timePiece{}
		bytes := min(2, len(format))
		for _, f := range fractions {
			if strings.HasPrefix(format, f.conversion) {
				piece.digits, bytes = f.digits, len(f.conversion)
			}
		}
		if piece.digits == 0 {
			if strings.HasPrefix(format, "%-") { // without padding
				bytes = min(3, len(format))
			}
			var err error
			if piece.conversion, err = strftime.New(format[:bytes], unixTime); err != nil {
				return nil, fmt.Errorf("strftime has no conversion %q", format[:bytes])
			}
		}
		c.format = append(c.format, piece)
		format = format[bytes:]
	}
	return c, nil
}

// appendTime appends a time as a JSON string.
func (c *clock) appendTime(dst []byte, seconds int64, nanos uint32) []byte {
	if seconds != c.second {
		c.set(seconds)
	}
	start := len(dst)
	dst = append(dst, c.text...)
	for _, f := range c.spaces {
		n := nanos
		for range 9 - f.digits {
			n /= 10
		}
		for at := start + f.at + f.digits - 1; at >= start+f.at; at-- {
			dst[at] = byte('0' + n%10)
			n /= 10
		}
	}
	return dst
}

// set formats a second.
func (c *clock) set(seconds int64) {
	c.second = seconds
	c.spaces = c.spaces[:0]
	t := time.Unix(seconds, 0).UTC()
	text := append(c.text[:0], '"')
	for _, p := range c.format {
		at := len(text)
		switch {
		case p.digits > 0:
			c.spaces = append(c.spaces, fraction{at, p.digits})
			text = append(text, "000000000"[:p.digits]...)
		case p.conversion != nil:
			text = escapeFrom(p.conversion.FormatBuffer(text, t), at)
		default:
			text = escapeFrom(append(text, p.literal...), at)
		}
	}
	c.text = append(text, '"')
}

// escapeFrom escapes text[at:] for a JSON string.
func escapeFrom(text []byte, at int) []byte {
	end := len(text)
	text = appendString(text, text, at, end)
	inner := text[end+1 : len(text)-1]
	return append(text[:at], inner...)
}
