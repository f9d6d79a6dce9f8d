package aggregator

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/test/kit/chunktest"
)

// built is all that Build makes of a chunk.
type built struct {
	lines   []string // of all batches, without newlines
	batches []string // decompressed user records
	parts   int      // Kinesis records
	sum     Result
}

// buildBatches builds a chunk to its end and checks sizes and counts.
func buildBatches(t testing.TB, a *Aggregator, c compression.Format, data []byte, limit Limit) built {
	t.Helper()
	var all built
	for from := 0; from < len(data); {
		r := a.Build(Chunk{testTag, data}, from, testKey, limit)
		if r.Next <= from {
			t.Fatalf("no progress at %d of %d", from, len(data))
		}
		from = r.Next
		for reason := range r.Losses {
			all.sum.Losses[reason].Count += r.Losses[reason].Count
			all.sum.Losses[reason].Bytes += r.Losses[reason].Bytes
		}
		if r.Data == nil {
			if r.UserRecords+r.LogRecords+r.UncompressedBytes != 0 {
				t.Fatalf("counts without an aggregated record: %+v", r)
			}
			continue
		}
		all.parts++
		var lines, plain int
		records := []string{string(r.Data)} // with NDJSON
		if !a.framing.holdsOneBatch() {
			records = open(t, r.Data, testKey)
		}
		for _, record := range records {
			text := record
			if c != compression.None && c != "" {
				text = decompress(t, c, record)
			}
			all.batches = append(all.batches, text)
			body, ended := strings.CutSuffix(text, "\n")
			if !ended {
				t.Fatalf("the last line of a batch has no newline: %.100q", text)
			}
			split := strings.Split(body, "\n")
			all.lines = append(all.lines, split...)
			lines += len(split)
			plain += len(text)
		}
		if r.UserRecords != len(records) || r.LogRecords != lines || r.UncompressedBytes != plain {
			t.Fatalf("counted %d user records, %d log records, %d bytes; want %d, %d, %d",
				r.UserRecords, r.LogRecords, r.UncompressedBytes, len(records), lines, plain)
		}
		size := len(r.Data) + len(testKey)
		if size > limit.RecordMax && lines > 1 || size > limit.SingleRecordMax {
			t.Fatalf("%d log records in %d bytes, limit %+v", lines, size, limit)
		}
	}
	return all
}

var allCompressions = compression.Formats()

func TestBatch_LinesInOrder(t *testing.T) {
	for name, c := range corpora(100) {
		for _, format := range allCompressions {
			for _, batchBytes := range []int{1, 700, 5_000, 1 << 30} {
				for _, recordMax := range []int{4_000, 20_000, 1 << 20} {
					t.Run(fmt.Sprint(name, format, batchBytes, recordMax), func(t *testing.T) {
						a := transformed(t, Transform{BatchBytes: batchBytes, Compression: format})
						all := buildBatches(t, a, format, c.Bytes, Limit{recordMax, 1 << 20})
						same(t, all.lines, c.JSON)
						for _, b := range all.batches {
							if len(b) > batchBytes && strings.Count(b, "\n") > 1 {
								t.Fatalf("a batch of %d bytes, want at most %d", len(b), batchBytes)
							}
						}
					})
				}
			}
		}
	}
}

// Without a limit in the way, a batch is closed only by the record that exceeds it,
// if only by a byte.
func TestBatch_IsFull(t *testing.T) {
	c := chunktest.AccessLog(1, 100)
	exact := 0
	for batchBytes := 3_000; batchBytes < 3_400; batchBytes++ {
		all := buildBatches(t, transformed(t, Transform{BatchBytes: batchBytes}), compression.None, c.Bytes, largest)
		next := 0
		for i, b := range all.batches {
			if len(b) == batchBytes {
				exact++
			}
			next += strings.Count(b, "\n")
			if i+1 < len(all.batches) && len(b)+len(c.JSON[next])+1 <= batchBytes {
				t.Errorf("batch %d of %d bytes has room for the next record within %d", i, len(b), batchBytes)
			}
		}
		if all.parts != 1 {
			t.Errorf("%d parts", all.parts)
		}
	}
	if exact == 0 {
		t.Error("no batch has exactly the size of the option")
	}
}

// Without compression, batches fill a record to its limit as single records do.
func TestBatch_UncompressedFillsRecord(t *testing.T) {
	c := chunktest.AccessLog(1, 1000)
	limit := Limit{100_000, 100_000}
	single := buildBatches(t, transformed(t, Transform{AppendNewline: true}), compression.None, c.Bytes, limit)
	batches := buildBatches(t, transformed(t, Transform{BatchBytes: 30_000}), compression.None, c.Bytes, limit)
	if batches.parts > single.parts {
		t.Errorf("%d parts with batches, %d without", batches.parts, single.parts)
	}
}

// The size of an uncompressed batch is known before it is written: a record with room
// for all lines has one batch, and with one byte less, one with all but the last line.
func TestBatch_UncompressedExactSize(t *testing.T) {
	c := chunktest.AccessLog(1, 20)
	a := transformed(t, Transform{BatchBytes: 1 << 20})
	whole := a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
	exact := len(whole.Data) + len(testKey)
	for size, want := range map[int]int{exact: 20, exact - 1: 19} {
		r := a.Build(Chunk{testTag, c.Bytes}, 0, testKey, Limit{size, size})
		if r.LogRecords != want || r.UserRecords != 1 {
			t.Errorf("%d log records in %d batches in a record of at most %d bytes, want %d in one", r.LogRecords, r.UserRecords, size, want)
		}
	}
}

func TestBatch_LargeRecordAlone(t *testing.T) {
	at := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	c := chunktest.NewCorpus(at(1), at(2), at(500), at(3), at(4))
	all := buildBatches(t, transformed(t, Transform{BatchBytes: 100}), compression.None, c.Bytes, largest)
	want := []string{c.JSON[0] + "\n" + c.JSON[1] + "\n", c.JSON[2] + "\n", c.JSON[3] + "\n" + c.JSON[4] + "\n"}
	same(t, all.batches, want)
}

func TestBatch_TransformsEachRecord(t *testing.T) {
	c := chunktest.New().Event(testTime, chunktest.M("n", 1)).Event(testTime, chunktest.M("n", 2))
	a := transformed(t, Transform{TimeKey: "t", TimeFormat: isoMillis, AppendNewline: true, BatchBytes: 1000, Compression: compression.Zstd})
	all := buildBatches(t, a, compression.Zstd, c.Bytes(), largest)
	same(t, all.batches, []string{`{"n":1,"t":"` + testISO + `"}` + "\n" + `{"n":2,"t":"` + testISO + `"}` + "\n"})
}

// A batch that does not fit is read again by the next Build, and the losses among
// its events are counted once.
func TestBatch_LossesCountOnce(t *testing.T) {
	c := chunktest.New()
	var want []string
	random := rand.New(rand.NewPCG(1, 1))
	for i := range 400 {
		body := chunktest.M("n", i, "log", fmt.Sprintf("%x%x%x", random.Uint64(), random.Uint64(), random.Uint64()))
		c.Event(1, body).Value(i).Event(1, nest(200, func(v any) any { return chunktest.M("k", v) }))
		want = append(want, chunktest.JSON(body))
	}
	data := append(c.Bytes(), 0xc1)
	for _, format := range allCompressions {
		a := transformed(t, Transform{BatchBytes: 2_000, Compression: format})
		all := buildBatches(t, a, format, data, Limit{5_000, 5_000})
		same(t, all.lines, want)
		if all.sum.Losses[NotEvent].Count != 400 || all.sum.Losses[TooDeep].Count != 400 || all.sum.Losses[Unreadable].Bytes != 1 {
			t.Errorf("%s: %+v", format, all.sum)
		}
		if all.parts < 2 {
			t.Errorf("%s: one part", format)
		}
	}
}

func TestBatch_TooLargeRecord(t *testing.T) {
	at := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	c := chunktest.NewCorpus(at(10), at(3000), at(20))
	all := buildBatches(t, transformed(t, Transform{BatchBytes: 10_000}), compression.None, c.Bytes, Limit{2000, 2000})
	same(t, all.lines, []string{c.JSON[0], c.JSON[2]})
	if all.sum.Losses[TooLarge].Count != 1 {
		t.Errorf("%+v", all.sum)
	}
}

// Only a single log record may use the room above RecordMax.
func TestBatch_SingleRecordMax(t *testing.T) {
	at := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	c := chunktest.NewCorpus(at(600), at(600), at(600), at(5000))
	all := buildBatches(t, transformed(t, Transform{BatchBytes: 10_000}), compression.None, c.Bytes, Limit{1500, 10_000})
	same(t, all.lines, c.JSON)
	if all.parts != 3 {
		t.Errorf("%d parts, want 3", all.parts)
	}
}

// A group's attributes belong to the events after its marker, also if a batch is
// read again.
func TestBatch_KeepsGroups(t *testing.T) {
	c := chunktest.New()
	var want []string
	for g := range 40 {
		c.GroupOpen(chunktest.M("g", g), chunktest.M())
		for n := range 3 {
			c.Event(1, chunktest.M("n", n, "x", strings.Repeat("y", 50)))
			want = append(want, fmt.Sprintf(`{"n":%d,"x":"%s","m":{"g":%d}}`, n, strings.Repeat("y", 50), g))
		}
	}
	for _, recordMax := range []int{500, 1000, 100_000} {
		a := transformed(t, Transform{MetadataKey: "m", BatchBytes: 2_000, Compression: compression.Gzip})
		all := buildBatches(t, a, compression.Gzip, c.Bytes(), Limit{recordMax, recordMax})
		same(t, all.lines, want)
	}
}

// A full chunk of the tail input is one record of a stream with the default limit.
func TestBatch_FullChunkInOneRecord(t *testing.T) {
	const chunkBytes = 2_057_301 // the largest chunk of tail with 32 KB buffers
	for name, c := range map[string]chunktest.Corpus{
		"access log": chunktest.AccessLog(1, 7200), "kubernetes": chunktest.Kubernetes(1, 4200),
	} {
		end, _ := slices.BinarySearch(c.Ends, chunkBytes)
		if end == len(c.Ends) {
			t.Fatalf("%s: only %d bytes", name, len(c.Bytes))
		}
		for _, format := range []compression.Format{compression.Zstd, compression.Gzip} {
			a := transformed(t, Transform{BatchBytes: 1_000_000, Compression: format})
			r := a.Build(Chunk{testTag, c.Bytes[:c.Ends[end]]}, 0, testKey, Limit{kpl.DefaultMaxRecordBytes, kpl.DefaultMaxRecordBytes})
			if r.Next != c.Ends[end] {
				t.Errorf("%s, %s: %d of %d bytes in the first record", name, format, r.Next, c.Ends[end])
			}
		}
	}
}

func TestBatch_DoesNotAllocate(t *testing.T) {
	c := chunktest.AccessLog(1, 1000)
	for _, compression := range allCompressions {
		for _, options := range []Transform{{BatchBytes: 100_000}, {Format: NDJSON}} {
			options.Compression = compression
			a := transformed(t, options)
			allocs := testing.AllocsPerRun(5, func() { a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest) })
			if allocs > 1 { // for each chunk; snappy's pool may be empty
				t.Errorf("%+v: %v allocations for a chunk of %d records", options, allocs, len(c.JSON))
			}
		}
	}
}

// FuzzBatch compares batches of any bytes with the records of a Build without
// batches.
func FuzzBatch(f *testing.F) {
	for _, c := range corpora(4) {
		f.Add(c.Bytes, uint16(300), uint16(400), uint8(0))
		f.Add(append(bytes.Clone(c.Bytes), 7, 0xc1), uint16(50), uint16(900), uint8(3))
	}
	f.Add(chunktest.New().GroupOpen(chunktest.M(), chunktest.M("a", 1)).Event(1.5, chunktest.M("a", "b")).Value(3).GroupClose().Legacy(-1, chunktest.M()).Bytes(), uint16(9), uint16(9), uint8(1))
	f.Fuzz(func(t *testing.T, data []byte, batchBytes, room uint16, formatIndex uint8) {
		if batchBytes == 0 {
			return
		}
		format := allCompressions[int(formatIndex)%len(allCompressions)]
		a := transformed(t, Transform{BatchBytes: int(batchBytes), Compression: format})
		limit := Limit{RecordMax: 200 + int(room)}
		limit.SingleRecordMax = limit.RecordMax + int(room)/2

		checkAgainstSingle(t, buildBatches(t, a, format, data, limit), data)
	})
}

// checkAgainstSingle compares lines with the records of a Build without batches.
func checkAgainstSingle(t *testing.T, all built, data []byte) {
	t.Helper()
	whole := New().Build(Chunk{testTag, data}, 0, testKey, largest)
	var want []string
	if whole.Data != nil {
		want = open(t, whole.Data, testKey)
	}
	// Records that are too large in every batch are missing.
	missing := 0
	got := all.lines
	for _, text := range want {
		if len(got) > 0 && got[0] == text {
			got = got[1:]
		} else {
			missing++
		}
	}
	if len(got) > 0 || missing != all.sum.Losses[TooLarge].Count {
		t.Fatalf("%d lines too many, %d missing, %d too large", len(got), missing, all.sum.Losses[TooLarge].Count)
	}
	for _, reason := range []LossReason{NotEvent, TooDeep} {
		if all.sum.Losses[reason].Count != whole.Losses[reason].Count {
			t.Fatalf("losses %+v, want %+v", all.sum.Losses, whole.Losses)
		}
	}
	if all.sum.Losses[Unreadable].Bytes != whole.Losses[Unreadable].Bytes {
		t.Fatalf("losses %+v, want %+v", all.sum.Losses, whole.Losses)
	}
}

func BenchmarkBuildBatch(b *testing.B) {
	for _, corpus := range benchmarkCorpora() {
		c := corpus.c
		for _, format := range allCompressions {
			b.Run(corpus.name+"/"+string(format), func(b *testing.B) {
				a := transformed(b, Transform{BatchBytes: 1_000_000, Compression: format})
				r := a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
				b.SetBytes(int64(len(c.Bytes)))
				b.ReportAllocs()
				for b.Loop() {
					a.Build(Chunk{testTag, c.Bytes}, 0, testKey, largest)
				}
				b.ReportMetric(float64(r.UncompressedBytes)/float64(len(r.Data)), "ratio")
			})
		}
	}
}

func TestNDJSON_LinesInOrder(t *testing.T) {
	for name, c := range corpora(100) {
		for _, format := range allCompressions {
			for _, batchBytes := range []int{0, 1, 700, 5_000, 1 << 30} {
				for _, recordMax := range []int{4_000, 20_000, 1 << 20} {
					t.Run(fmt.Sprint(name, format, batchBytes, recordMax), func(t *testing.T) {
						a := transformed(t, Transform{Format: NDJSON, BatchBytes: batchBytes, Compression: format})
						all := buildBatches(t, a, format, c.Bytes, Limit{recordMax, 1 << 20})
						same(t, all.lines, c.JSON)
						for _, b := range all.batches {
							if batchBytes > 0 && len(b) > batchBytes && strings.Count(b, "\n") > 1 {
								t.Fatalf("a batch of %d bytes, want at most %d", len(b), batchBytes)
							}
						}
						if recordMax == 1<<20 && batchBytes == 0 && all.parts != 1 {
							t.Errorf("%d records, want 1", all.parts)
						}
					})
				}
			}
		}
	}
}

// A consumer that uses KCL gets the same bytes of a batch with and without the
// envelope, in every compression.
func TestNDJSON_SameBytesAsBatch(t *testing.T) {
	for name, c := range corpora(300) {
		for _, format := range allCompressions {
			for _, more := range []Transform{{}, {TagKey: "t"}, {AppendNewline: true}} {
				more.BatchBytes, more.Compression = 20_000, format
				batches := buildBatches(t, transformed(t, more), format, c.Bytes, largest)
				var want []string
				for from := 0; from < len(c.Bytes); {
					r := transformed(t, more).Build(Chunk{testTag, c.Bytes}, from, testKey, largest)
					want = append(want, open(t, r.Data, testKey)...)
					from = r.Next
				}
				more.Format = NDJSON
				a := transformed(t, more)
				var got []string
				for from := 0; from < len(c.Bytes); {
					r := a.Build(Chunk{testTag, c.Bytes}, from, testKey, largest)
					got = append(got, string(r.Data))
					from = r.Next
				}
				if len(got) != len(batches.batches) {
					t.Errorf("%s, %s: %d records, %d batches", name, format, len(got), len(batches.batches))
				}
				same(t, got, want)
			}
		}
	}
}

// The size of a record is exact: one byte less holds one line less.
func TestNDJSON_ExactSize(t *testing.T) {
	c := chunktest.AccessLog(1, 20)
	exact := len(strings.Join(c.JSON, "\n")) + 1 + len(testKey)
	a := transformed(t, Transform{Format: NDJSON})
	if all := buildBatches(t, a, compression.None, c.Bytes, Limit{exact, exact}); all.parts != 1 {
		t.Errorf("%d records of at most %d bytes, want 1", all.parts, exact)
	}
	r := a.Build(Chunk{testTag, c.Bytes}, 0, testKey, Limit{exact - 1, exact - 1})
	if r.LogRecords != 19 || r.Next != c.Ends[18] {
		t.Errorf("%d log records in a record of at most %d bytes, want 19", r.LogRecords, exact-1)
	}
	line := len(c.JSON[0]) + 1
	for most, want := range map[int]int{line: 0, line - 1: 1} {
		only := c.Bytes[:c.Ends[0]]
		all := buildBatches(t, a, compression.None, only, Limit{10, most + len(testKey)})
		if got := all.sum.Losses[TooLarge].Count; got != want {
			t.Errorf("a line of %d bytes, at most %d: %d too large, want %d", line, most, got, want)
		}
	}
}

func TestNDJSON_LargeLineAlone(t *testing.T) {
	at := func(n int) chunktest.Map { return chunktest.M("log", strings.Repeat("x", n)) }
	c := chunktest.NewCorpus(at(1), at(2), at(500), at(3), at(4))
	for _, format := range allCompressions {
		all := buildBatches(t, transformed(t, Transform{Format: NDJSON, BatchBytes: 100, Compression: format}), format, c.Bytes, largest)
		want := []string{c.JSON[0] + "\n" + c.JSON[1] + "\n", c.JSON[2] + "\n", c.JSON[3] + "\n" + c.JSON[4] + "\n"}
		same(t, all.batches, want)
	}
}

func TestNDJSON_FullChunkInOneRecord(t *testing.T) {
	c := chunktest.Kubernetes(1, 3500)
	for _, format := range []compression.Format{compression.Zstd, compression.Gzip} {
		a := transformed(t, Transform{Format: NDJSON, Compression: format})
		if r := a.Build(Chunk{testTag, c.Bytes}, 0, testKey, Limit{kpl.DefaultMaxRecordBytes, kpl.DefaultMaxRecordBytes}); r.Next != len(c.Bytes) {
			t.Errorf("%s: %d of %d bytes in the first record", format, r.Next, len(c.Bytes))
		}
	}
}

// Each format has every log record, and Kinesis records within the limit.
func TestFormats_EveryLogRecord(t *testing.T) {
	c := chunktest.Kubernetes(1, 300)
	for _, format := range Formats() {
		a := transformed(t, Transform{Format: format})
		var got []string
		for from := 0; from < len(c.Bytes); {
			limit := Limit{RecordMax: 10_000, SingleRecordMax: 10_000}
			r := a.Build(Chunk{testTag, c.Bytes}, from, testKey, limit)
			if size := len(r.Data) + len(testKey); r.Next <= from || size > limit.RecordMax {
				t.Fatalf("%s: %d bytes from %d to %d", format, size, from, r.Next)
			}
			from = r.Next
			switch format {
			case KPL:
				got = append(got, open(t, r.Data, testKey)...)
			case NDJSON:
				for line := range strings.Lines(string(r.Data)) {
					got = append(got, strings.TrimSuffix(line, "\n"))
				}
			default:
				t.Fatalf("this test cannot read %s: add a case", format)
			}
		}
		same(t, got, c.JSON)
	}
}

// FuzzNDJSON compares the lines of any bytes with the records of a Build without
// batches.
func FuzzNDJSON(f *testing.F) {
	for _, c := range corpora(4) {
		f.Add(c.Bytes, uint16(300), uint16(400), uint8(0))
		f.Add(append(bytes.Clone(c.Bytes), 7, 0xc1), uint16(0), uint16(900), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, batchBytes, room uint16, formatIndex uint8) {
		format := allCompressions[int(formatIndex)%len(allCompressions)]
		a := transformed(t, Transform{Format: NDJSON, BatchBytes: int(batchBytes), Compression: format})
		limit := Limit{RecordMax: len(testKey) + 20 + int(room)}
		limit.SingleRecordMax = limit.RecordMax + int(room)/2
		checkAgainstSingle(t, buildBatches(t, a, format, data, limit), data)
	})
}
