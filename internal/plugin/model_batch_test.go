package plugin

import (
	"encoding/base64"
	"strings"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
)

// batchOptions makes two thirds of the schedules send batches, in all formats, half of
// these without the envelope. A chunk has up to about 3,000 bytes: all batches are
// smaller than a chunk, and the larger ones do not fit into a record.
func (m *model) batchOptions() []string {
	recordFormat := m.random.IntN(3)
	if recordFormat == 0 {
		return nil
	}
	formats := compression.Formats()
	m.compression = formats[m.random.IntN(len(formats))]
	sizes := []string{"1000", "1500", "3K", "1M"}
	options := []string{"batch_size", sizes[m.random.IntN(len(sizes))], "compression", string(m.compression)}
	if m.bare = recordFormat == 1; m.bare {
		options = append(options, "record_format", "ndjson")
	}
	return options
}

// userRecords returns the user records of a Kinesis record.
func (m *model) userRecords(data []byte) (all [][]byte) {
	if m.bare {
		return [][]byte{data}
	}
	a, err := kpl.Open(data)
	if err != nil {
		m.t.Error(err)
	}
	for _, r := range a.All() {
		all = append(all, r.Data)
	}
	return all
}

// text returns a string of n random characters, so that a chunk is split after
// compression too.
func (m *model) text(n int) string {
	random := make([]byte, n)
	for i := range random {
		random[i] = byte(m.random.Uint32())
	}
	return base64.StdEncoding.EncodeToString(random)[:n]
}

// logRecords returns the log records of a user record.
func (m *model) logRecords(data []byte) (all []string) {
	if m.compression == "" {
		return []string{string(data)}
	}
	text, err := m.decoder.Append(nil, data, m.compression)
	if err != nil {
		m.t.Error(err)
	}
	body, ended := strings.CutSuffix(string(text), "\n")
	if !ended {
		m.t.Errorf("a batch does not end with a newline: %q", text)
	}
	return strings.Split(body, "\n")
}
