package plugin

import (
	"encoding/base64"
	"strings"

	"out_kinesis_agg/kpl/compression"
)

// batchOptions makes half of the schedules send batches, in all formats. A chunk
// has up to about 3,000 bytes: all batches are smaller than a chunk, and the larger
// ones do not fit into a record.
func (m *model) batchOptions() []string {
	if m.random.IntN(2) == 0 {
		return nil
	}
	formats := compression.Formats()
	m.compression = formats[m.random.IntN(len(formats))]
	sizes := []string{"1000", "1500", "3K", "1M"}
	return []string{"batch_size", sizes[m.random.IntN(len(sizes))], "compression", string(m.compression)}
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
