package aggregator

import (
	"math"
	"slices"
	"strconv"
)

// appendUint appends n. Numbers of up to eight digits, which are most of those in
// logs, do not go through the general formatter.
func appendUint(dst []byte, n uint64) []byte {
	if n >= 1e8 {
		return strconv.AppendUint(dst, n, 10)
	}
	digits := 1
	for power := uint64(10); power <= n; power *= 10 {
		digits++
	}
	dst = slices.Grow(dst, wordBytes)
	text := dst[len(dst) : len(dst)+digits]
	for m, i := uint32(n), digits-1; i >= 0; i-- {
		text[i] = byte('0' + m%10)
		m /= 10
	}
	return dst[:len(dst)+digits]
}

// appendFloat appends a double as JSON. The text is Fluent Bit's (`%.1f` for
// whole numbers that fit into 64 bits, else `%.16g`) where that reads back as
// the same number, else the shortest text that does. NaN and infinities, which
// JSON lacks, are null.
func appendFloat(dst []byte, f float64) []byte {
	if dst, done := appendWholeOrNull(dst, f); done {
		return dst
	}
	if dst, done := appendShortDecimal(dst, f); done {
		return dst
	}
	at := len(dst)
	dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
	shortest := digits(dst[at:])
	dst = dst[:at]
	if shortest > 16 {
		return appendShortest(dst, f)
	}
	// There are 16 digits that read back as f, and `%.16g` is at least as close
	// to f as those, so it reads back as well; but below a power of two the
	// numbers lie closer than above it.
	dst = appendG16(dst, f)
	if mantissa := math.Float64bits(f) << 12; mantissa == 0 {
		if back, err := strconv.ParseFloat(string(dst[at:]), 64); err != nil || back != f {
			return appendShortest(dst[:at], f)
		}
	}
	return dst
}

// maxDecimals is the number of digits after the point that appendShortDecimal tries.
const maxDecimals = 6

// powersOfTen are those that appendShortDecimal needs; they are exact up to 1e22.
var powersOfTen = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9,
	1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19}

// appendShortDecimal appends doubles such as 0.25 or 1234.567, which are common in
// logs, without the general formatter. f is not a whole number.
func appendShortDecimal(dst []byte, f float64) ([]byte, bool) {
	a := math.Abs(f)
	if !(a >= 1e-4 && a < 1e8) {
		return dst, false
	}
	for decimals := 1; decimals <= maxDecimals; decimals++ {
		power := powersOfTen[decimals]
		whole := uint64(a*power + 0.5) // below 2^53
		if float64(whole)/power != a {
			continue
		}
		// whole/power reads back as f: both are exact, and the quotient is the
		// double nearest to the true one. `%.16g` has the same digits if no other
		// number of 16 digits is nearer to f, that is, if f is less than half a unit
		// of the 16th digit away; 0.4999, because the product is rounded.
		first := -decimals // the exponent of ten of the first digit
		for uint64(powersOfTen[first+decimals+1]) <= whole {
			first++
		}
		off := math.FMA(a, power, -float64(whole)) // times power, exact
		if math.Abs(off)*powersOfTen[15-first] > 0.4999*power {
			return dst, false
		}
		if f < 0 {
			dst = append(dst, '-')
		}
		unit := uint64(power)
		dst = appendUint(dst, whole/unit)
		point := len(dst)
		dst = appendUint(dst, unit+whole%unit)
		dst[point] = '.' // replaces the leading 1
		return dst, true
	}
	return dst, false
}

// digits counts the digits before the exponent of a number as %e writes it.
func digits(text []byte) int {
	n := 0
	for _, c := range text {
		switch {
		case c == 'e':
			return n
		case c >= '0':
			n++
		}
	}
	return n
}

// appendFloat32 appends a single as JSON. `%.16g` has more digits than a single
// can hold, so text always reads back as the same single.
func appendFloat32(dst []byte, f float32) []byte {
	if dst, done := appendWholeOrNull(dst, float64(f)); done {
		return dst
	}
	return appendG16(dst, float64(f))
}

// appendWholeOrNull handles the doubles that need no digits after the point:
// whole numbers in the range of int64, NaN and infinities. A whole number
// outside is left to `%.16g`, because the engine tests for one with a cast to
// int64.
func appendWholeOrNull(dst []byte, f float64) ([]byte, bool) {
	if f >= -1<<63 && f < 1<<63 {
		whole := int64(f)
		if float64(whole) != f {
			return dst, false
		}
		if whole == 0 && math.Signbit(f) {
			dst = append(dst, '-')
		}
		return append(strconv.AppendInt(dst, whole, 10), '.', '0'), true
	}
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...), true
	}
	return dst, false
}

// appendG16 is C's `%.16g`.
func appendG16(dst []byte, f float64) []byte {
	return strconv.AppendFloat(dst, f, 'g', 16, 64)
}

// appendShortest appends the fewest digits that read back as f, with an
// exponent in the same range of values in which `%.16g` has one.
func appendShortest(dst []byte, f float64) []byte {
	format := byte('e')
	if a := math.Abs(f); a >= 1e-4 && a < 1e16 {
		format = 'f'
	}
	return strconv.AppendFloat(dst, f, format, -1, 64)
}
