package aggregator

import (
	"fmt"
	"io"
	"slices"

	"github.com/DataDog/zstd"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
)

// Compression is the format that user records are compressed in.
type Compression string

// The values of Compression.
const (
	Uncompressed Compression = ""
	Gzip         Compression = "gzip"   // RFC 1952
	Zlib         Compression = "zlib"   // RFC 1950
	Zstd         Compression = "zstd"   // RFC 8878, a frame without checksum
	Snappy       Compression = "snappy" // the block format, without framing
)

// MaxLevel is the highest compression level; the lowest is 1. It is 0 for
// Uncompressed.
func (c Compression) MaxLevel() int {
	switch c {
	case Gzip, Zlib:
		return flate.BestCompression
	case Zstd:
		return 22 // ZSTD_maxCLevel()
	case Snappy:
		return 3
	}
	return 0
}

// compressor compresses user records one after another. It is not safe for
// concurrent use.
type compressor interface {
	// compress appends the compressed record to dst.
	compress(dst, record []byte) []byte
}

// newCompressor returns nil for Uncompressed, which has no levels. Level 0 is the
// default of the format.
func newCompressor(c Compression, level int) (compressor, error) {
	if c == Uncompressed {
		return nil, nil
	}
	if level < 0 || level > c.MaxLevel() {
		return nil, fmt.Errorf("level %d of %q is not within 1 to %d", level, c, c.MaxLevel())
	}
	deflate := level
	if level == 0 {
		deflate = deflateDefaultLevel
	}
	switch c {
	case Gzip:
		w, err := gzip.NewWriterLevel(io.Discard, deflate)
		return &streamed{writer: w}, err
	case Zlib:
		w, err := zlib.NewWriterLevel(io.Discard, deflate)
		return &streamed{writer: w}, err
	case Snappy:
		return blocks(level), nil
	case Zstd:
		if level == 0 {
			level = zstdDefaultLevel
		}
		return &frames{ctx: zstd.NewCtx(), level: level}, nil
	}
	return nil, fmt.Errorf("unknown format %q", c)
}

// deflateDefaultLevel is the fastest level at which batches are not larger than the
// gzip of the engine's own plugins. The library's default is 5.
const deflateDefaultLevel = 6

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

// zstdDefaultLevel is the level that the engine's own plugins use. On batches of log
// lines it is the fastest of the levels from 1, and levels 2 and 3 save bytes only if
// the lines are long texts.
const zstdDefaultLevel = 1

// frames is for zstd. It calls libzstd, which takes half the processor time of the
// encoder in Go. In a flush the call runs on the engine's coroutine stack, which is
// small: libzstd uses 1 to 2 KiB of it at every level, since its tables are on the
// heap. The finalizer of the context frees them.
type frames struct {
	ctx   zstd.Ctx
	level int
}

func (f *frames) compress(dst, record []byte) []byte {
	dst = slices.Grow(dst, zstd.CompressBound(len(record)))
	out, err := f.ctx.CompressLevel(dst[len(dst):cap(dst)], record, f.level)
	if err != nil {
		// The level is valid and dst has room: libzstd could not allocate memory.
		panic("aggregator: zstd: " + err.Error())
	}
	return dst[:len(dst)+len(out)]
}

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
