package main

import (
	"bytes"
	"crypto/md5"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	"github.com/aws/aws-lambda-go/events"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/decompress"
)

var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// source identifies a Kinesis record. If the plugin sends one twice, the second has the
// same random partition key and the same bytes. Under another key, records with the same
// bytes may be different ones: the sequence number tells them apart.
func source(record events.KinesisRecord) string {
	if uuid.MatchString(record.PartitionKey) {
		return fmt.Sprintf("%s/%x", record.PartitionKey, md5.Sum(record.Data))
	}
	return record.SequenceNumber
}

// logRecords calls yield for each log record of a Kinesis record: of an aggregated one,
// of one without the KPL envelope (`record_format ndjson`), and of another producer's.
// It stops at the first error.
func logRecords(record events.KinesisRecord, yield func(id string, data []byte) error) error {
	source := source(record)
	var decoder decompress.Decoder
	var text []byte
	userRecord := func(sub int, data []byte, aggregated bool) error {
		// For `compression snappy`, pass compression.Snappy of kpl/compression.
		var err error
		if text, err = decoder.Append(text[:0], data, decompress.Detect(data)); err != nil {
			return err
		}
		n := 0
		for line := range lines(text, aggregated) {
			if err := yield(fmt.Sprintf("%s/%d/%d", source, sub, n), line); err != nil {
				return err
			}
			n++
		}
		return nil
	}
	aggregate, err := kpl.Open(record.Data)
	if errors.Is(err, kpl.ErrNotAggregated) {
		return userRecord(0, record.Data, false)
	}
	if err != nil {
		return err
	}
	for sub, user := range aggregate.All() {
		if err := userRecord(sub, user.Data, true); err != nil {
			return err
		}
	}
	return nil
}

// lines splits a batch, which ends with a newline, at byte 0A. Anything else is one log
// record. So is text of another producer, unless each of its lines is JSON.
func lines(text []byte, aggregated bool) func(yield func([]byte) bool) {
	batch := bytes.HasSuffix(text, []byte{'\n'})
	if batch && !aggregated {
		for line := range decompress.Lines(text) {
			batch = batch && json.Valid(line)
		}
	}
	if batch {
		return decompress.Lines(text)
	}
	return func(yield func([]byte) bool) { yield(text) }
}

// handled remembers, for the last Kinesis records, how many of their log records are
// handled, as long as this instance of the function lives.
type handled struct {
	counts map[string]int
	oldest []string
}

// each calls handle for the log records of a Kinesis record that are not handled yet.
func (h *handled) each(record events.KinesisRecord, handle func(id string, data []byte) error) error {
	source := source(record)
	if h.counts == nil {
		h.counts = map[string]int{}
	}
	if _, known := h.counts[source]; !known {
		h.oldest = append(h.oldest, source)
		if len(h.oldest) > 10_000 {
			delete(h.counts, h.oldest[0])
			h.oldest = h.oldest[1:]
		}
	}
	done, n := h.counts[source], 0
	h.counts[source] = done
	return logRecords(record, func(id string, data []byte) error {
		if n++; n <= done {
			return nil
		}
		if err := handle(id, data); err != nil {
			return err
		}
		h.counts[source] = n
		return nil
	})
}
