package main

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/compression"
	"out_kinesis_agg/kpl/decompress"
	kplproto "out_kinesis_agg/proto"
)

// instances returns the arguments of the six instances: one sends each chunk as a
// single record and one splits most, two do the same with batches, and two with
// batches without the envelope.
func instances(url string) []string {
	split := fmt.Sprint("max_record_size=", splitBytes)
	return slices.Concat(
		instance(url),
		instance(url, split),
		instance(url, "batch_size=256K", "compression=zstd"),
		// These batches hold about ten log records, and large chunks are split.
		instance(url, "batch_size=1000", "compression=zlib", "compression_level=1", "max_record_size=1000"),
		instance(url, "record_format=ndjson", "compression=zstd"),
		instance(url, "record_format=ndjson", split),
	)
}

// userRecords returns the user records of a Kinesis record, or the batch that is one.
func userRecords(data []byte) (all [][]byte, err error) {
	if data[0] == '{' || decompress.Detect(data) != compression.None {
		return [][]byte{data}, nil
	}
	var aggregate kplproto.AggregatedRecord
	message := data[min(len(data), len(kpl.Magic)):max(len(data)-kpl.DigestBytes, len(kpl.Magic))]
	if err := proto.Unmarshal(message, &aggregate); err != nil {
		return nil, fmt.Errorf("a record that is not an aggregated record: %w", err)
	}
	for _, r := range aggregate.Records {
		all = append(all, r.Data)
	}
	return all, nil
}

// logRecords returns the log records of a user record, which may be a batch.
func logRecords(data []byte) (all [][]byte, err error) {
	var decoder decompress.Decoder
	text, err := decoder.Append(nil, data, decompress.Detect(data))
	if err != nil {
		return nil, err
	}
	for line := range decompress.Lines(text) {
		all = append(all, bytes.Clone(line))
	}
	return all, nil
}
