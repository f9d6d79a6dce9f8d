// Package compression is the one place that knows the formats in which the plugin
// compresses user records: their names, levels and headers. It contains no encoder or
// decoder: package kpl/decompress has the decoders.
package compression

import (
	"encoding/binary"
	"math"
)

// Format is a compression format. Its values are those of the option compression.
type Format string

// The formats. The zero value of Format means None too.
const (
	None   Format = "none"
	Gzip   Format = "gzip"   // RFC 1952
	Zlib   Format = "zlib"   // RFC 1950
	Zstd   Format = "zstd"   // RFC 8878; the plugin writes one frame, without a checksum
	Snappy Format = "snappy" // the block format, without framing
)

// info is what differs between the formats.
type info struct {
	format          Format
	normal, highest int // levels
	// minBytes is the smallest size of compressed data, or more than any size for a
	// format that has no header.
	minBytes  int
	hasHeader func(data []byte) bool // data has minBytes
}

var table = []info{
	{format: None, minBytes: math.MaxInt},
	{
		// Level 6 is the fastest at which batches are not larger than the gzip of the
		// engine's own plugins. The library's default is 5.
		format: Gzip, normal: 6, highest: 9, minBytes: 18,
		// RFC 1952: magic number, and the only defined method.
		hasHeader: func(data []byte) bool { return data[0] == 0x1f && data[1] == 0x8b && data[2] == 8 },
	},
	{
		format: Zlib, normal: 6, highest: 9, minBytes: 8,
		// RFC 1950: deflate, 32 KiB window, no dictionary, header check.
		hasHeader: func(data []byte) bool {
			return data[0] == 0x78 && data[1]&0x20 == 0 && binary.BigEndian.Uint16(data)%31 == 0
		},
	},
	{
		// Level 1 is that of the engine's own plugins. On batches of log lines it is the
		// fastest of the levels from 1, and levels 2 and 3 save bytes only if the lines
		// are long texts. 22 is ZSTD_maxCLevel().
		format: Zstd, normal: 1, highest: 22, minBytes: 9,
		// RFC 8878.
		hasHeader: func(data []byte) bool { return binary.LittleEndian.Uint32(data) == 0xfd2fb528 },
	},
	{format: Snappy, normal: 1, highest: 3, minBytes: math.MaxInt},
}

// Formats returns all formats, None first. The caller owns the slice.
func Formats() (all []Format) {
	for _, i := range table {
		all = append(all, i.format)
	}
	return all
}

// Levels returns the default and the highest level of a format. The lowest level is 1.
// Both are 0 for a format without levels.
func (f Format) Levels() (normal, highest int) {
	for _, i := range table {
		if i.format == f {
			return i.normal, i.highest
		}
	}
	return 0, 0
}

// Detect returns the format whose header data begins with, otherwise None. It cannot
// detect Snappy blocks, which begin with their length: the caller has to know that
// format. Text and JSON are None, except that text that begins with "x^" may be detected
// as Zlib.
func Detect(data []byte) Format {
	for _, i := range table {
		if len(data) >= i.minBytes && i.hasHeader(data) {
			return i.format
		}
	}
	return None
}
