package e2e

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// chunkFileContent parses a chunk file of the engine (chunkio,
// cio_file_st.h; all numbers are big-endian):
//
//	 0  2 bytes  c1 00
//	 2  4 bytes  CRC-32 of what begins at 22, if storage.checksum is on
//	 6  4 bytes  padding
//	10  4 bytes  length of the content
//	14  8 bytes  padding
//	22  2 bytes  length of the metadata
//	24           metadata, then content
//
// A file may be longer than its content, since the engine extends it by pages.
func chunkFileContent(file []byte) (metadata, content []byte, err error) {
	const header = 24
	if len(file) < header || file[0] != 0xc1 || file[1] != 0 {
		return nil, nil, fmt.Errorf("%d bytes, begin % x: not a chunk file", len(file), file[:min(len(file), 2)])
	}
	contentBytes := int(binary.BigEndian.Uint32(file[10:]))
	begin := header + int(binary.BigEndian.Uint16(file[22:]))
	if len(file) < begin+contentBytes {
		return nil, nil, fmt.Errorf("%d bytes, want %d of header and metadata and %d of content", len(file), begin, contentBytes)
	}
	return file[header:begin], file[begin : begin+contentBytes], nil
}

// deadLetters reads the chunk files of a folder: by file name, their contents.
func deadLetters(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.flb"))
	if err != nil {
		t.Fatal(err)
	}
	letters := map[string][]byte{}
	for _, path := range files {
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		_, content, err := chunkFileContent(file)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		letters[filepath.Base(path)] = content
	}
	return letters
}

// decodedIDs decodes a chunk's events and returns the member id of their bodies.
func decodedIDs(t *testing.T, content []byte) (ids []int) {
	t.Helper()
	in := bytes.NewReader(content)
	for d := msgpack.NewDecoder(in); in.Len() > 0; {
		var event []msgpack.RawMessage // [[timestamp, metadata], body]
		var body struct {
			ID int `msgpack:"id"`
		}
		if err := d.Decode(&event); err != nil || len(event) != 2 {
			t.Fatalf("event %d of a dead letter: %d elements, %v", len(ids), len(event), err)
		}
		if err := msgpack.Unmarshal(event[1], &body); err != nil {
			t.Fatalf("event %d of a dead letter: %v", len(ids), err)
		}
		ids = append(ids, body.ID)
	}
	return ids
}

// TestFluentBit_DeadLetters checks what storage.keep.rejected keeps of chunks
// that the plugin or the engine gives up: each byte of the chunk, once. Of two chunks,
// each goes to an output with another format. A chunk of which nothing can be read is
// not among them: the engine discards it in the input or when it loads its file, before
// it reaches an output.
func TestFluentBit_DeadLetters(t *testing.T) {
	t.Parallel()
	needVersion(t, 5, 0, "the next start of 4.2 deletes dead letters")
	formats := aggregator.Formats()
	throttle := fakekinesis.Error(400, "ProvisionedThroughputExceededException", "Rate exceeded")
	for _, tt := range []struct {
		name     string
		chunk    chunktest.Corpus
		options  []string
		fault    func(n int, r *fakekinesis.Request) fakekinesis.Fault
		accepted int // log records of each chunk
		inLog    []string
	}{
		{
			name: "oversize chunk", chunk: numbered(50, contents),
			options: []string{"Retry_Limit no_limits", "max_record_size 1000", "oversize_chunk drop"},
			inLog:   []string{"record of 1000 bytes"},
		},
		{
			name: "chunk refused by the stream", chunk: largeChunk,
			options: []string{"Retry_Limit no_limits", "max_record_size 10M", "oversize_chunk drop"},
			inLog:   []string{"is refused by the stream"},
		},
		{
			name: "retries used up", chunk: numbered(50, contents), options: []string{"Retry_Limit 1"},
			fault: func(int, *fakekinesis.Request) fakekinesis.Fault { return throttle },
			inLog: []string{"Rate exceeded", "cannot be retried"},
		},
		{
			name: "retries forbidden", chunk: numbered(50, contents), options: []string{"Retry_Limit no_retries"},
			fault: func(int, *fakekinesis.Request) fakekinesis.Fault { return throttle },
			inLog: []string{"Rate exceeded", "not retried"},
		},
		{
			// The engine knows only whole chunks, so the dead letter has the part
			// that Kinesis took as well.
			name: "retries used up after a part was sent", chunk: numbered(4, strings.Repeat("x", 1000)),
			options: []string{"Retry_Limit 1", "max_record_size 2200"},
			fault: func(n int, _ *fakekinesis.Request) fakekinesis.Fault {
				if n == 1 {
					return fakekinesis.OK
				}
				return throttle
			},
			accepted: 2, inLog: []string{"Rate exceeded", "cannot be retried"},
		},
	} {
		for _, storage := range []string{"memory", "filesystem"} {
			t.Run(tt.name+" in "+storage, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				var servers []*fakekinesis.Server
				var outputs string
				for _, format := range formats {
					server := fakekinesis.Start(fakekinesis.Options{Fault: tt.fault})
					defer server.Close()
					servers = append(servers, server)
					section := outputAt(server.URL(), string(format)+"/*", string(format), append(slices.Clone(tt.options), "record_format "+string(format), "Workers 2")...)
					outputs += strings.Replace(section, "Retry_Limit no_limits\n", "\n", 1)
				}
				puts := func() (n int) {
					for _, server := range servers {
						n += server.Counts().PutRecords
					}
					return n
				}
				port, err := harness.FreePort()
				if err != nil {
					t.Fatal(err)
				}
				pipeline := fmt.Sprintf("[INPUT]\n    Name forward\n    Listen 127.0.0.1\n    Port %d\n    storage.type %s\n\n", port, storage) +
					outputs
				service := []string{
					"storage.path " + filepath.Join(dir, "chunks"), "storage.keep.rejected on",
					"storage.rejected.path dead", "storage.rejected.limit 10M",
					// The engine counts dead letters of an earlier start as chunks that
					// wait, and takes all of its grace to stop.
					"Grace 2",
				}
				engine := startEngineIn(t, dir, pipeline, service...)
				const letter = "/dead.letter"
				for _, format := range formats {
					forward(t, engine, port, string(format)+letter, tt.chunk.Bytes)
				}
				const kept = "quarantined rejected chunk"
				await(t, engine, "dead letters", engineDeadline, func() bool { return strings.Count(engine.Log(), kept) >= len(formats) })
				if err := engine.Stop(); err != nil {
					t.Error(err)
				}
				if n := strings.Count(engine.Log(), kept); n != len(formats) {
					t.Errorf("the engine kept %d dead letters, want %d", n, len(formats))
				}
				for _, words := range append(tt.inLog, letter) {
					if strings.Count(engine.Log(), words) < len(formats) {
						t.Errorf("the log does not contain %q for each chunk:\n%s", words, engine.Log())
					}
				}
				if strings.Contains(engine.Log(), contents) {
					t.Errorf("contents of a record are in the log:\n%s", engine.Log())
				}
				for i, server := range servers {
					if got := len(texts(t, server.Records())); got != tt.accepted {
						t.Errorf("%s: %d log records arrived, want %d", formats[i], got, tt.accepted)
					}
				}

				folder := filepath.Join(dir, "chunks", "dead")
				letters := deadLetters(t, folder)
				if len(letters) != len(formats) {
					t.Fatalf("dead letters: %d files, want %d", len(letters), len(formats))
				}
				for _, format := range formats {
					if !slices.ContainsFunc(slices.Collect(maps.Keys(letters)), func(file string) bool { return strings.HasPrefix(file, string(format)+"_dead.letter_") }) {
						t.Errorf("dead letters %q, want one with the tag of %s in its name", slices.Collect(maps.Keys(letters)), format)
					}
				}
				for _, content := range letters {
					if !bytes.Equal(content, tt.chunk.Bytes) {
						t.Errorf("the dead letter has %d bytes of content, want the %d bytes of the chunk", len(content), len(tt.chunk.Bytes))
					}
					if got := decodedIDs(t, content); !slices.Equal(got, consecutive(len(tt.chunk.JSON))) {
						t.Errorf("ids in the dead letter: %v", got)
					}
				}

				// The next start leaves them alone.
				before := puts()
				engine = startEngineIn(t, dir, pipeline, service...)
				started(t, engine)
				if err := engine.Stop(); err != nil {
					t.Error(err)
				}
				if again := deadLetters(t, folder); !maps.EqualFunc(again, letters, bytes.Equal) {
					t.Errorf("after another start: %d dead letters, or others", len(again))
				}
				if n := puts() - before; n != 0 {
					t.Errorf("another start sent %d PutRecords", n)
				}
			})
		}
	}
}

func consecutive(n int) []int {
	ids := make([]int, n)
	for i := range ids {
		ids[i] = i
	}
	return ids
}

// awaitLog waits until the engine's log contains some words.
func awaitLog(t *testing.T, engine *harness.FluentBit, words string, within time.Duration) {
	t.Helper()
	await(t, engine, fmt.Sprintf("%q in the log", words), within, func() bool { return strings.Contains(engine.Log(), words) })
}

// await waits until done returns true. It fails if the engine ends before.
func await(t *testing.T, engine *harness.FluentBit, what string, within time.Duration, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	err := harness.Until(ctx, func() (bool, error) {
		ended := engine.Ended() // before done, which may be true only then
		ok := done()
		if !ok && ended {
			return false, errors.New("fluent-bit ended")
		}
		return ok, nil
	})
	if err != nil {
		t.Fatalf("no %s after %s: %v\n%.20000s", what, within, err, engine.Log())
	}
}

// TestFluentBit_ManyDeadLetters checks dead letters of two tags one after another, one
// for each format.
// The engine names their files by an address in memory, so it may reach a name
// again, and then appends to that file.
func TestFluentBit_ManyDeadLetters(t *testing.T) {
	t.Parallel()
	needVersion(t, 4, 2, "storage.keep.rejected is new in 4.2")
	const chunks, records = 40, 25
	formats := aggregator.Formats()
	dir := t.TempDir()
	server := fakekinesis.Start(fakekinesis.Options{})
	defer server.Close()
	input, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	port, service := httpServer(t)
	engine := startEngineIn(t, dir, fmt.Sprintf("[INPUT]\n    Name forward\n    Listen 127.0.0.1\n    Port %d\n\n", input)+
		outputsTo(server.URL(), "FORMAT", "Workers 2", "max_record_size 1K", "oversize_chunk drop"),
		append(service, "Flush 0.05", "storage.path "+filepath.Join(dir, "chunks"), "storage.keep.rejected on")...)
	for i := range chunks {
		var bodies []chunktest.Map
		for id := i * records; id < (i+1)*records; id++ {
			bodies = append(bodies, chunktest.M("id", id, "text", contents+strings.Repeat("x", 40)))
		}
		forward(t, engine, input, string(formats[i%len(formats)]), chunktest.NewCorpus(bodies...).Bytes)
	}
	for _, format := range formats {
		awaitMetric(t, engine, port, fmt.Sprintf(`fluentbit_output_dropped_records_total{name="%s"}`, format), chunks*records/len(formats), engineDeadline)
	}
	if err := engine.Stop(); err != nil {
		t.Error(err)
	}
	letters := deadLetters(t, filepath.Join(dir, "chunks", "rejected"))
	var got []int
	for _, content := range letters {
		got = append(got, decodedIDs(t, content)...)
	}
	slices.Sort(got)
	if !slices.Equal(got, consecutive(chunks*records)) {
		t.Errorf("%d records are in the dead letters, want each of %d once", len(got), chunks*records)
	}
	if n := server.Counts().PutRecords; n != 0 {
		t.Errorf("%d PutRecords", n)
	}
	t.Logf("%d records in %d files", len(got), len(letters))
}
