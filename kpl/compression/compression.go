// Package compression names the formats in which the plugin compresses user
// records. It contains no encoder or decoder: package kpl/decompress has the
// decoders.
package compression

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

// Formats returns all formats, None first. The caller owns the slice.
func Formats() []Format { return []Format{None, Gzip, Zlib, Zstd, Snappy} }
