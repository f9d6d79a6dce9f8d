package main

import (
	"bytes"
	"fmt"
	"slices"

	"out_kinesis_agg/kpl/decompress"
)

// instances returns the arguments of the four instances: one sends each chunk as a
// single record and one splits most, and two do the same with batches.
func instances(url string) []string {
	split := fmt.Sprint("max_record_size=", splitBytes)
	return slices.Concat(
		instance(url),
		instance(url, split),
		instance(url, "batch_size=256K", "compression=zstd"),
		// These batches hold about ten log records, and large chunks are split.
		instance(url, "batch_size=1000", "compression=zlib", "compression_level=1", "max_record_size=1000"),
	)
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
