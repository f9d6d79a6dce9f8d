package aggregator

import (
	"fmt"
	"io"
	"slices"

	"github.com/DataDog/zstd"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"

	"out_kinesis_agg/kpl/compression"
)

// compressor compresses user records one after another. It is not safe for
// concurrent use.
type compressor interface {
	// compress appends the compressed record to dst.
	compress(dst, record []byte) []byte
}

// newCompressor returns nil for None, which has no levels. Level 0 is the default
// of the format.
func newCompressor(f compression.Format, level int) (compressor, error) {
	if f == "" || f == compression.None {
		return nil, nil
	}
	normal, highest := f.Levels()
	if level < 0 || level > highest {
		return nil, fmt.Errorf("level %d of %q is not within 1 to %d", level, f, highest)
	}
	if level == 0 {
		level = normal
	}
	switch f {
	case compression.Gzip:
		w, err := gzip.NewWriterLevel(io.Discard, level)
		return &streamed{writer: w}, err
	case compression.Zlib:
		w, err := zlib.NewWriterLevel(io.Discard, level)
		return &streamed{writer: w}, err
	case compression.Zstd:
		return &frames{ctx: zstd.NewCtx(), level: level}, nil
	case compression.Snappy:
		return blocks(level), nil
	}
	return nil, fmt.Errorf("unknown format %q", f)
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
