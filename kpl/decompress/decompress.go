// Package decompress undoes the compression that a writer of aggregated records
// gave each user record on its own: gzip, zlib, Zstandard or Snappy blocks.
//
//	var decoder decompress.Decoder
//	for _, r := range aggregate.All() {
//		format := decompress.Detect(r.Data)
//		text, err = decoder.Append(text[:0], r.Data, format)
//		...
//	}
//
// It stands apart from package kpl, so that a consumer without compression does
// not carry the decoders.
package decompress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Format is a compression, named as the plugin's option compression names it.
type Format string

// The formats. None is the zero value's other name.
const (
	None   Format = "none"
	Gzip   Format = "gzip"
	Zlib   Format = "zlib"
	Zstd   Format = "zstd"
	Snappy Format = "snappy" // the block format, without framing
)

// Formats returns all formats.
func Formats() []Format { return []Format{None, Gzip, Zlib, Zstd, Snappy} }

// DefaultMaxBytes is the most that one user record may become where a Decoder
// sets no other limit: 64 MiB, several times what 10 MiB of logs, the largest
// Kinesis record, come from, and little enough for a reader that is sent
// something malicious.
const DefaultMaxBytes = 64 << 20

// ErrTooLarge says that a user record becomes larger than the limit.
var ErrTooLarge = errors.New("it becomes larger than the limit")

// Detect tells the format from the first bytes: Gzip, Zstd or Zlib, else None.
// Snappy blocks begin with their length, which can be anything, and have to be
// known. Text and JSON are None, but for text that begins with "x^", which
// could be Zlib, and for which Append has an error.
func Detect(data []byte) Format {
	switch {
	case len(data) >= 18 && data[0] == 0x1f && data[1] == 0x8b && data[2] == 8:
		return Gzip // RFC 1952: magic number, and the only method there is
	case len(data) >= 9 && binary.LittleEndian.Uint32(data) == 0xfd2fb528:
		return Zstd // RFC 8878
	case len(data) >= 8 && data[0] == 0x78 && data[1]&0x20 == 0 && binary.BigEndian.Uint16(data)%31 == 0:
		return Zlib // RFC 1950: deflate, 32 KiB window, no dictionary, header check
	}
	return None
}

// Decoder decompresses user records, one at a time. The zero value is ready to
// use. It keeps what it needs for each format that it has met, and is to be
// used by one goroutine at a time.
type Decoder struct {
	// MaxBytes bounds what one user record becomes; 0 is DefaultMaxBytes. It is
	// not to be changed after the first use.
	MaxBytes int

	in   bytes.Reader
	gzip *gzip.Reader
	zlib io.ReadCloser
	zstd *zstd.Decoder
}

// Append appends what data decompresses to. data is only read, and not kept.
// The result aliases dst alone. On an error, dst is returned as it was.
func (d *Decoder) Append(dst, data []byte, format Format) ([]byte, error) {
	out, err := d.append(dst, data, format)
	if err != nil {
		return dst, fmt.Errorf("decompress: %s: %w", format, err)
	}
	return out, nil
}

func (d *Decoder) append(dst, data []byte, format Format) ([]byte, error) {
	limit := d.MaxBytes
	if limit <= 0 {
		limit = DefaultMaxBytes
	}
	d.in.Reset(data)
	defer d.in.Reset(nil)
	switch format {
	case None, "":
		return append(dst, data...), nil

	case Gzip:
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		if err := d.gzip.Reset(&d.in); err != nil {
			return dst, err
		}
		return readAll(dst, d.gzip, limit)

	case Zlib:
		var err error
		if d.zlib == nil {
			d.zlib, err = zlib.NewReader(&d.in)
		} else {
			err = d.zlib.(zlib.Resetter).Reset(&d.in, nil)
		}
		if err != nil {
			return dst, err
		}
		out, err := readAll(dst, d.zlib, limit)
		if err == nil && d.in.Len() > 0 {
			err = fmt.Errorf("%d bytes are left behind its end", d.in.Len())
		}
		return out, err

	case Zstd:
		if d.zstd == nil {
			var err error
			d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
			if err != nil {
				return dst, err
			}
		}
		// What is in dst already would count against the limit.
		text, err := d.zstd.DecodeAll(data, dst[len(dst):])
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			err = ErrTooLarge
		}
		return append(dst, text...), err

	case Snappy:
		n, err := s2.DecodedLen(data)
		if err != nil {
			return dst, err
		}
		if n > limit {
			return dst, ErrTooLarge
		}
		// s2 decodes into a slice of its own length only.
		text, err := s2.Decode(nil, data)
		if err != nil {
			return dst, err
		}
		return append(dst, text...), nil
	}
	return dst, fmt.Errorf("it is no format: %v are", Formats())
}

// readAll appends all that r has, up to limit bytes.
func readAll(dst []byte, r io.Reader, limit int) ([]byte, error) {
	start := len(dst)
	for {
		if len(dst) == cap(dst) {
			dst = append(dst, 0)[:len(dst)]
		}
		n, err := r.Read(dst[len(dst):cap(dst)])
		dst = dst[:len(dst)+n]
		if len(dst)-start > limit {
			return dst, ErrTooLarge
		}
		if err == io.EOF {
			return dst, nil
		}
		if err != nil {
			return dst, err
		}
	}
}
