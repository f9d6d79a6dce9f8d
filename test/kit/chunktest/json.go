package chunktest

import (
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// AppendJSON appends the JSON text that the plugin has to write for v: the output of
// Fluent Bit's own kinesis_streams without \u escapes of printable text, changed to
// valid JSON where it is not valid. It is slow and simple, because tests compare the
// fast writer with it.
func AppendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case float32:
		return appendFloat(dst, float64(v), 32)
	case float64:
		return appendFloat(dst, v, 64)
	case string:
		return appendString(dst, v)
	case []byte:
		if utf8.Valid(v) {
			return appendString(dst, string(v))
		}
		return appendBase64(dst, v)
	case Ext:
		return appendBase64(dst, v.Data)
	case EventTime:
		return appendBase64(dst, v.bytes())
	case time.Time:
		return appendBase64(dst, eventTime(v).bytes())
	case Wide:
		return AppendJSON(dst, v.Value)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendJSON(dst, e)
		}
		return append(dst, ']')
	case Map:
		return appendObject(dst, v)
	}
	if i, ok := signed(v); ok {
		return strconv.AppendInt(dst, i, 10)
	}
	if u, ok := unsigned(v); ok {
		return strconv.AppendUint(dst, u, 10)
	}
	panic(fmt.Sprintf("chunktest: no JSON for a %T", v))
}

// JSON is AppendJSON to a string.
func JSON(v any) string { return string(AppendJSON(nil, v)) }

// appendObject writes only the last of the pairs with the same key, at its own
// position.
func appendObject(dst []byte, m Map) []byte {
	last := make(map[string]int, len(m))
	for i, p := range m {
		last[keyText(p.Key)] = i
	}
	dst = append(dst, '{')
	first := true
	for i, p := range m {
		key := keyText(p.Key)
		if last[key] != i {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(appendString(dst, key), ':')
		dst = AppendJSON(dst, p.Value)
	}
	return append(dst, '}')
}

// keyText returns the text of a key: a string unchanged, any other value as JSON.
func keyText(key any) string {
	switch key := key.(type) {
	case string:
		return string([]rune(key)) // bytes that are not UTF-8 are all the same
	case Wide:
		return keyText(key.Value)
	case []byte:
		if utf8.Valid(key) {
			return string(key)
		}
		return base64.StdEncoding.EncodeToString(key)
	case Ext:
		return base64.StdEncoding.EncodeToString(key.Data)
	case EventTime:
		return base64.StdEncoding.EncodeToString(key.bytes())
	}
	return JSON(key)
}

func appendBase64(dst, b []byte) []byte {
	return append(base64.StdEncoding.AppendEncode(append(dst, '"'), b), '"')
}

func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s { // a byte that is not UTF-8 ranges as U+FFFD
		switch r {
		case '"', '\\':
			dst = append(dst, '\\', byte(r))
		case '\b':
			dst = append(dst, `\b`...)
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\f':
			dst = append(dst, `\f`...)
		case '\r':
			dst = append(dst, `\r`...)
		default:
			if r < 0x20 || r == 0x7f {
				dst = fmt.Appendf(dst, `\u%04x`, r)
			} else {
				dst = utf8.AppendRune(dst, r)
			}
		}
	}
	return append(dst, '"')
}

// appendFloat writes the engine's text if it parses to the same number of size bits,
// else the shortest text that does.
func appendFloat(dst []byte, f float64, size int) []byte {
	const firstBeyondInt64 = 1 << 63
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	if f == math.Trunc(f) && f >= -firstBeyondInt64 && f < firstBeyondInt64 {
		return strconv.AppendFloat(dst, f, 'f', 1, 64)
	}
	text := strconv.AppendFloat(nil, f, 'g', 16, 64)
	if back, err := strconv.ParseFloat(string(text), size); err != nil || back != f {
		format := byte('e')
		if a := math.Abs(f); a >= 1e-4 && a < 1e16 { // where %.16g has no exponent
			format = 'f'
		}
		text = strconv.AppendFloat(nil, f, format, -1, 64)
	}
	return append(dst, text...)
}
