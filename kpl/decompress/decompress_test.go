package decompress_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
)

// compress compresses data as a writer does.
func compress(t testing.TB, format compression.Format, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch format {
	case compression.None:
		return data
	case compression.Snappy:
		return s2.EncodeSnappy(nil, data)
	case compression.Gzip:
		w = gzip.NewWriter(&b)
	case compression.Zlib:
		w = zlib.NewWriter(&b)
	case compression.Zstd:
		w, err = zstd.NewWriter(&b)
	default:
		t.Fatalf("the tests cannot write %s: add it to compress in decompress_test.go", format)
	}
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var texts = []string{"", "{}", `{"log":"Zürich 東京"}`, strings.Repeat("0123456789", 30_000)}

func TestAppend_EachFormat(t *testing.T) {
	var d decompress.Decoder
	for range 2 { // the second time with decoders that were used
		for _, format := range compression.Formats() {
			for _, text := range texts {
				packed := compress(t, format, []byte(text))
				got, err := d.Append([]byte("before:"), packed, format)
				if err != nil || string(got) != "before:"+text {
					t.Errorf("%s of %d bytes: %d bytes, %v", format, len(text), len(got), err)
				}
			}
		}
	}
}

func TestDetect(t *testing.T) {
	for _, format := range compression.Formats() {
		if format == compression.Snappy {
			continue // it cannot be detected
		}
		for _, text := range texts {
			packed := compress(t, format, []byte(text))
			if got := decompress.Detect(packed); got != format {
				t.Errorf("%s of %d bytes (% x): taken for %s", format, len(text), packed[:min(len(packed), 10)], got)
			}
		}
	}
	for _, text := range []string{"", "x", "\x1f\x8b", "x\x9c", "(\xb5/\xfd", "xylophone", "plain text", "[1]", "\xf3\x89\x9a\xc2"} {
		if got := decompress.Detect([]byte(text)); got != compression.None {
			t.Errorf("%q: taken for %s", text, got)
		}
	}
}

func TestAppend_DamageLeavesDst(t *testing.T) {
	var d decompress.Decoder
	text := []byte(strings.Repeat("a line of a log\n", 100))
	for _, format := range compression.Formats()[1:] {
		packed := compress(t, format, text)
		bad := map[string][]byte{
			"cut":     packed[:len(packed)/2],
			"empty":   {},
			"longer":  append(slices.Clone(packed), "more"...),
			"garbage": []byte("this is not compressed at all"),
		}
		for name, data := range bad {
			if name == "empty" && format == compression.Zstd {
				continue // a valid stream without frames
			}
			got, err := d.Append([]byte("before:"), data, format)
			if err == nil || string(got) != "before:" {
				t.Errorf("%s, %s: %q, %v", format, name, got, err)
			}
		}
		// The next record is not affected.
		if got, err := d.Append(nil, packed, format); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s, after damage: %d bytes, %v", format, len(got), err)
		}
	}
	// The zero value of a format is None.
	if got, err := d.Append([]byte("before:"), text, ""); err != nil || !bytes.Equal(got, append([]byte("before:"), text...)) {
		t.Errorf("no format: %d bytes, %v", len(got), err)
	}
	if _, err := d.Append(nil, text, "brotli"); err == nil {
		t.Error("brotli: no error")
	}
}

func TestAppend_MaxBytes(t *testing.T) {
	text := bytes.Repeat([]byte{'x'}, 5000)
	for _, format := range compression.Formats()[1:] {
		packed := compress(t, format, text)
		exact := decompress.Decoder{MaxBytes: len(text)}
		if got, err := exact.Append([]byte("before:"), packed, format); err != nil || len(got) != len("before:")+len(text) {
			t.Errorf("%s at the limit: %d bytes, %v", format, len(got), err)
		}
		below := decompress.Decoder{MaxBytes: len(text) - 1}
		if _, err := below.Append(nil, packed, format); !errors.Is(err, decompress.ErrTooLarge) {
			t.Errorf("%s above the limit: %v", format, err)
		}
	}
}

func FuzzAppend(f *testing.F) {
	for _, format := range compression.Formats() {
		f.Add(compress(f, format, []byte("some text")))
	}
	d := decompress.Decoder{MaxBytes: 1 << 16}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, format := range compression.Formats()[1:] {
			got, err := d.Append([]byte("before:"), data, format)
			if !bytes.HasPrefix(got, []byte("before:")) || err != nil && len(got) != len("before:") || len(got) > 1<<16+len("before:") {
				t.Errorf("%s: %.20q, %v", format, got, err)
			}
		}
	})
}

func ExampleDecoder() {
	// A Kinesis record with user records that are compressed.
	b := kpl.AppendHead(nil, "key")
	for _, text := range []string{`{"log":"one"}`, `{"log":"two"}`} {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write([]byte(text))
		_ = w.Close()
		open := len(b)
		b = kpl.OpenRecord(b, packed.Len())
		at := len(b)
		b = append(b, packed.Bytes()...)
		b = kpl.CloseRecord(b, open, at)
	}
	data := kpl.Seal(b)

	aggregate, err := kpl.Open(data)
	if err != nil {
		fmt.Println(err)
		return
	}
	var decoder decompress.Decoder
	var text []byte // reused: what Append returns is valid until the next one
	for n, r := range aggregate.All() {
		format := decompress.Detect(r.Data)
		if text, err = decoder.Append(text[:0], r.Data, format); err != nil {
			fmt.Println(n, err)
			return
		}
		fmt.Printf("%d %s %s\n", n, format, text)
	}
	// Output:
	// 0 gzip {"log":"one"}
	// 1 gzip {"log":"two"}
}
