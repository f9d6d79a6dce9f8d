package aggregator

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/kit/chunktest"
)

// Each worker has its own encoder, which is dropped with its Aggregator when the
// plugin is idle. libzstd's memory is outside of Go's heap, where a leak is not
// visible to the garbage collector.
func TestCompress_MemoryIsReturned(t *testing.T) {
	if testing.Short() {
		t.Skip("this test takes seconds: run it without -short")
	}
	c := chunktest.AccessLog(1, 4000)
	create, err := Factory(Transform{BatchBytes: 1 << 20, Compression: compression.Zstd, CompressionLevel: 3})
	if err != nil {
		t.Fatal(err)
	}
	const aggregators = 300 // of more than 1 MB each, in libzstd alone
	before := residentBytes(t)
	for range aggregators {
		create().Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
	}
	const most = 100 << 20
	deadline := time.Now().Add(time.Minute)
	for {
		runtime.GC() // the finalizers run after it, in a goroutine of their own
		grown := residentBytes(t) - before
		if grown < most {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes remain of %d dropped Aggregators, want less than %d", grown, aggregators, most)
		}
		runtime.Gosched()
	}
}

func residentBytes(t *testing.T) int {
	t.Helper()
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Skip("this test reads the memory in use from /proc: run it on Linux: ", err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// A frame states its size and needs no larger window than that, so that a reader
// allocates once.
func TestCompress_ZstdFrame(t *testing.T) {
	_, highest := compression.Zstd.Levels()
	for level := range highest + 1 {
		c, err := newCompressor(compression.Zstd, level)
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range []string{"", "x", strings.Repeat("0123456789", 1000), strings.Repeat("a line of a log\n", 20_000)} {
			out := c.compress([]byte("before:"), []byte(record))
			frame, ok := bytes.CutPrefix(out, []byte("before:"))
			if !ok {
				t.Fatalf("level %d: dst is not kept: %.20q", level, out)
			}
			var h zstd.Header
			if err := h.Decode(frame); err != nil {
				t.Fatal(err)
			}
			if !h.HasFCS || h.FrameContentSize != uint64(len(record)) || !h.SingleSegment && h.WindowSize > uint64(len(record)) || h.HasCheckSum {
				t.Errorf("level %d, %d bytes: %+v", level, len(record), h)
			}
			if got := decompress(t, compression.Zstd, string(frame)); got != record {
				t.Errorf("level %d: %d bytes read back, want %d", level, len(got), len(record))
			}
		}
	}
}

// The default levels are part of the documentation.
func TestCompress_DefaultLevels(t *testing.T) {
	c := chunktest.AccessLog(1, 1000)
	for format, level := range map[compression.Format]int{compression.Gzip: 6, compression.Zlib: 6, compression.Zstd: 1, compression.Snappy: 1} {
		build := func(level int) []byte {
			a := transformed(t, Transform{BatchBytes: 100_000, Compression: format, CompressionLevel: level})
			return a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest).Data
		}
		if normal, _ := format.Levels(); normal != level || !bytes.Equal(build(0), build(level)) {
			t.Errorf("%s: the default is not level %d", format, level)
		}
		if bytes.Equal(build(0), build(level+1)) {
			t.Errorf("%s: the levels %d and %d give the same bytes", format, level, level+1)
		}
	}
}

// The zero value of a format means the same as None.
func TestCompress_NoFormatIsNone(t *testing.T) {
	c := chunktest.AccessLog(1, 100)
	for _, format := range []compression.Format{"", compression.None} {
		got, _ := buildTransformed(t, Transform{Compression: format}, c.Bytes)
		same(t, got, c.JSON)
	}
}
