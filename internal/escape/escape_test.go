package escape

import (
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestLine(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{`plain "quoted" C:\n`, `plain "quoted" C:\n`},
		{"größe 鍵 😀 \u00a0\u3000", "größe 鍵 😀 \u00a0\u3000"},
		{"a\nb\rc\td\x00e\x07\x1b[31m\x7f", `a\nb\rc\td\x00e\a\x1b[31m\x7f`},
		{"\u0080\u0085\u009b31m", `\u0080\u0085\u009b31m`},
		{"\u2028\u2029", `\u2028\u2029`},
		{"\u202a\u202e\u2066\u2069\u200f\ufeff", `\u202a\u202e\u2066\u2069\u200f\ufeff`},
		{"\xff\xc3(\xed\xa0\x80", `\xff\xc3(\xed\xa0\x80`},
		{"\ufffd", "\ufffd"}, // valid UTF-8
	} {
		if got := Line(test.in); got != test.want {
			t.Errorf("%q: got %s, want %s", test.in, got, test.want)
		}
	}
}

func TestLine_LongLines(t *testing.T) {
	for _, test := range []struct {
		name, in string
		kept     int // bytes of in
	}{
		{"at the limit", strings.Repeat("x", maxLineBytes), maxLineBytes},
		{"one byte above", strings.Repeat("x", maxLineBytes+1), maxLineBytes},
		{"a character across the limit", strings.Repeat("x", maxLineBytes-1) + "é", maxLineBytes - 1},
		{"only escapes", strings.Repeat("\n", 10_000), maxLineBytes / 2},
		{"an escape across the limit", strings.Repeat("x", maxLineBytes-1) + "\n", maxLineBytes - 1},
		{"a mebibyte", strings.Repeat("x", 1<<20), maxLineBytes},
	} {
		t.Run(test.name, func(t *testing.T) {
			want := strings.ReplaceAll(test.in[:test.kept], "\n", `\n`)
			if more := len(test.in) - test.kept; more > 0 {
				want += " (" + strconv.Itoa(more) + " bytes more)"
			}
			if got := Line(test.in); got != want {
				t.Errorf("%d bytes, want %d; end %q", len(got), len(want), got[max(0, len(got)-40):])
			}
		})
	}
}

func TestText(t *testing.T) {
	long := strings.Repeat("é", maxLineBytes)
	for in, want := range map[string]string{"a\tb\n": "a\tb\n", "\x1b[2J\r\u009b\xff\u202e": `\x1b[2J\r\u009b\xff\u202e`, long: long} {
		if got := Text(in); got != want {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestTag(t *testing.T) {
	long := strings.Repeat("t", maxTagBytes)
	for _, test := range []struct{ in, want string }{
		{"app.web-1_x", "app.web-1_x"},
		{"", `""`},
		{"a, 5 bytes, is retried", `"a, 5 bytes, is retried"`},
		{`a"b`, `"a\"b"`},
		{"a\nb", "a\nb"}, // Log escapes it
		{long, long},
		{long + "u", long + " (1 bytes more)"},
		{long[1:] + "é", long[1:] + " (2 bytes more)"},
	} {
		if got := Tag(test.in); got != test.want {
			t.Errorf("%q: got %q, want %q", test.in, got, test.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add("tag\n[2026/01/01 00:00:00] [error] forged")
	f.Add("\x1b[2J\x07\u202e\u2028\xff")
	f.Add(strings.Repeat("\xf0\x9f\x98", 2000))
	f.Fuzz(func(t *testing.T, line string) {
		got := Line(line)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is not valid UTF-8", got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Zl, unicode.Zp) {
				t.Fatalf("%q contains %U", got, r)
			}
		}
		if len(got) > maxLineBytes+len(" (4611686018427387904 bytes more)") {
			t.Fatalf("%d bytes", len(got))
		}
		if len(line) > maxLineBytes/10 {
			return
		}
		// Without quotes and backslashes, the result is that of strconv.
		plain := strings.NewReplacer(`"`, "", `\`, "").Replace(line)
		if q := strconv.QuoteToGraphic(plain); Line(plain) != q[1:len(q)-1] {
			t.Fatalf("%q, want %s", Line(plain), q)
		}
	})
}
