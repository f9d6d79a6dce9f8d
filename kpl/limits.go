package kpl

// The limits of Kinesis Data Streams that the format has to respect, each with
// its source. Nothing else in the project repeats these numbers.
const (
	// DefaultMaxRecordBytes is the largest record, data blob and partition key
	// together, that a stream takes unless it was raised: 1 MiB. Source:
	// Kinesis Data Streams developer guide, "Quotas and limits"; API reference,
	// CreateStream, MaxRecordSizeInKiB (default 1024).
	DefaultMaxRecordBytes = 1 << 20

	// LargestMaxRecordBytes is what UpdateMaxRecordSize can raise a stream to:
	// 10,240 KiB. Source: API reference, UpdateMaxRecordSize,
	// MaxRecordSizeInKiB (1024 to 10240).
	LargestMaxRecordBytes = 10 << 20

	// MaxPartitionKeyChars bounds a partition key, in Unicode code points (the
	// unit of the length trait in the API's Smithy model). Source: API
	// reference, PutRecord, PartitionKey (length 1 to 256).
	MaxPartitionKeyChars = 256
)
