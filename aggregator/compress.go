package aggregator

import (
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// Compression is how a user record is compressed.
type Compression string

// The values of Compression.
const (
	Uncompressed Compression = ""
	Gzip         Compression = "gzip"   // RFC 1952
	Zlib         Compression = "zlib"   // RFC 1950
	Zstd         Compression = "zstd"   // RFC 8878, a frame without checksum
	Snappy       Compression = "snappy" // the block format, without framing
)

// MostLevel is the highest level of compression; the lowest is 1.
func (c Compression) MostLevel() int {
	switch c {
	case Gzip, Zlib:
		return flate.BestCompression
	case Zstd:
		return 22 // zstd's own; the library has four speeds for them
	case Snappy:
		return 3
	}
	return 0
}

// compressor compresses one record after another.
type compressor interface {
	// compress appends what record becomes to dst.
	compress(dst, record []byte) []byte
}

// newCompressor returns nil for Uncompressed. Level 0 is the library's default.
func newCompressor(c Compression, level int) (compressor, error) {
	if level < 0 || level > c.MostLevel() {
		return nil, fmt.Errorf("level %d of %q is not from 1 to %d", level, c, c.MostLevel())
	}
	deflate := level
	if level == 0 {
		deflate = flate.DefaultCompression
	}
	switch c {
	case Uncompressed:
		return nil, nil
	case Gzip:
		w, err := gzip.NewWriterLevel(io.Discard, deflate)
		return &streamed{writer: w}, err
	case Zlib:
		w, err := zlib.NewWriterLevel(io.Discard, deflate)
		return &streamed{writer: w}, err
	case Snappy:
		return blocks(level), nil
	case Zstd:
		options := []zstd.EOption{
			zstd.WithEncoderConcurrency(1), // of this compressor; there is one for each worker
			zstd.WithEncoderCRC(false),     // the aggregated record has a checksum
			zstd.WithLowerEncoderMem(true),
			zstd.WithZeroFrames(true), // an empty record is a frame too
		}
		if level > 0 {
			options = append(options, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
		}
		e, err := zstd.NewWriter(nil, options...)
		return frames{e}, err
	}
	return nil, fmt.Errorf("there is no %q", c)
}

// streamed is for gzip and zlib.
type streamed struct {
	writer interface {
		io.WriteCloser
		Reset(io.Writer)
	}
	out []byte
}

func (s *streamed) compress(dst, record []byte) []byte {
	s.out = dst
	s.writer.Reset(s)
	// Write, below, does not fail.
	_, _ = s.writer.Write(record)
	_ = s.writer.Close()
	dst, s.out = s.out, nil
	return dst
}

func (s *streamed) Write(b []byte) (int, error) {
	s.out = append(s.out, b...)
	return len(b), nil
}

// frames is for zstd.
type frames struct{ *zstd.Encoder }

func (f frames) compress(dst, record []byte) []byte { return f.EncodeAll(record, dst) }

// blocks is for snappy; its value is the level.
type blocks int

func (level blocks) compress(dst, record []byte) []byte {
	encode := s2.EncodeSnappy
	switch level {
	case 2:
		encode = s2.EncodeSnappyBetter
	case 3:
		encode = s2.EncodeSnappyBest
	}
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(record)))
	out := encode(dst[len(dst):cap(dst)], record)
	return dst[:len(dst)+len(out)]
}
