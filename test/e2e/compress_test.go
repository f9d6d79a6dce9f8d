package e2e

import (
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/chunktest"
)

// TestCoroutineStack_Zstd: libzstd runs on the stack of the engine's coroutine. The
// host fails the run if a flush takes more stack than an engine before 5.1 has.
func TestCoroutineStack_Zstd(t *testing.T) {
	t.Parallel()
	chunks := []chunktest.Corpus{chunktest.AccessLog(15, 3000), chunktest.LongText(15, 300), chunktest.Numbers(15, 2000)}
	for _, level := range []string{"1", "9", "22"} {
		t.Run(level, func(t *testing.T) {
			t.Parallel()
			stream := newStream(t, 1)
			args := [][]string{
				{"--threads", "1", "--coroutine-stack", "24576"},
				instance(stream, "batch_size=256K", "compression=zstd", "compression_level="+level),
			}
			var want []string
			for _, c := range chunks {
				args = append(args, chunkFile(t, "app.log", c.Bytes))
				want = append(want, c.JSON...)
			}
			run := runHost(t, fixture.host, args...)
			wantOutcomes(t, run, len(chunks), 0, 0)
			for _, flush := range run.All("flush") {
				t.Logf("%d bytes of stack", flush.Int("stack"))
			}
			var got []string
			for _, batch := range slices.Concat(read(t, readAll(t, stream))...) {
				got = append(got, strings.Split(strings.TrimSuffix(decompress(t, "zstd", batch), "\n"), "\n")...)
			}
			wantSame(t, "lines", got, want)
		})
	}
}
