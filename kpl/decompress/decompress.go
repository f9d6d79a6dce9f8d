// Package decompress decompresses the user records that the plugin writes with the
// option compression (gzip, zlib, Zstandard or Snappy blocks), and iterates over the
// lines of the batches that it writes with the option batch_size.
//
//	var decoder decompress.Decoder
//	for _, r := range aggregate.All() {
//		format := decompress.Detect(r.Data)
//		text, err = decoder.Append(text[:0], r.Data, format)
//		...
//		for line := range decompress.Lines(text) {
//			...
//		}
//	}
//
// A Kinesis record that the plugin writes with the option record_format ndjson is one
// batch, without the envelope of package kpl: pass its data in place of r.Data.
//
// It is separate from package kpl, so that a consumer of uncompressed records does
// not link the decoders.
package decompress

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"

	"out_kinesis_agg/kpl/compression"
)

// DefaultMaxBytes is the largest size of a user record after decompression, unless
// Decoder.MaxBytes is set. 64 MiB is several times the size of the logs that fit into
// the largest Kinesis record, 10 MiB, and bounds the memory that malicious input
// takes.
const DefaultMaxBytes = 64 << 20

// ErrTooLarge reports a user record that is larger than the limit after
// decompression.
var ErrTooLarge = errors.New("the decompressed size is larger than the limit")

// Detect is compression.Detect. For text that begins with "x^" it may return Zlib, for
// which Append then returns an error.
func Detect(data []byte) compression.Format { return compression.Detect(data) }

// Decoder decompresses user records, one at a time. The zero value is ready to use.
// It keeps the buffers of each format that it has decoded. It is not safe for
// concurrent use.
type Decoder struct {
	// MaxBytes is the largest size of a user record after decompression; 0 means
	// DefaultMaxBytes. It must not be changed after the first use.
	MaxBytes int

	in   bytes.Reader
	gzip *gzip.Reader
	zlib io.ReadCloser
	zstd *zstd.Decoder
}

// Append decompresses data, appends the result to dst and returns the extended
// slice. It does not change data and keeps no reference to it. The returned slice
// aliases dst, never data. On an error, dst is returned unchanged.
func (d *Decoder) Append(dst, data []byte, format compression.Format) ([]byte, error) {
	out, err := d.append(dst, data, format)
	if err != nil {
		return dst, fmt.Errorf("decompress: %s: %w", format, err)
	}
	return out, nil
}

func (d *Decoder) append(dst, data []byte, format compression.Format) ([]byte, error) {
	limit := d.MaxBytes
	if limit <= 0 {
		limit = DefaultMaxBytes
	}
	d.in.Reset(data)
	defer d.in.Reset(nil)
	switch format {
	case compression.None, "":
		return append(dst, data...), nil

	case compression.Gzip:
		if d.gzip == nil {
			d.gzip = new(gzip.Reader)
		}
		if err := d.gzip.Reset(&d.in); err != nil {
			return dst, err
		}
		return readAll(dst, d.gzip, limit)

	case compression.Zlib:
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
			err = fmt.Errorf("%d bytes follow the end of the compressed data", d.in.Len())
		}
		return out, err

	case compression.Zstd:
		if d.zstd == nil {
			var err error
			d.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(limit)))
			if err != nil {
				return dst, err
			}
		}
		// The decoder counts the length of its destination against the limit.
		text, err := d.zstd.DecodeAll(data, dst[len(dst):])
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
			err = ErrTooLarge
		}
		return append(dst, text...), err

	case compression.Snappy:
		n, err := s2.DecodedLen(data)
		if err != nil {
			return dst, err
		}
		if n > limit {
			return dst, ErrTooLarge
		}
		// s2 decodes to the start of a slice, and cannot append.
		text, err := s2.Decode(nil, data)
		if err != nil {
			return dst, err
		}
		return append(dst, text...), nil
	}
	return dst, fmt.Errorf("unknown format: want one of %v", compression.Formats())
}

// readAll appends all bytes of r, up to limit.
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
