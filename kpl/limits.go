package kpl

// Limits of Kinesis Data Streams, each with its source.
const (
	// DefaultMaxRecordBytes is the default record limit of a stream, for the data
	// and the partition key together: 1 MiB. Source: Kinesis Data Streams
	// developer guide, "Quotas and limits"; API reference, CreateStream,
	// MaxRecordSizeInKiB (default 1024).
	DefaultMaxRecordBytes = 1 << 20

	// LargestMaxRecordBytes is the largest record limit that UpdateMaxRecordSize
	// can set: 10,240 KiB. Source: API reference, UpdateMaxRecordSize,
	// MaxRecordSizeInKiB (1024 to 10240).
	LargestMaxRecordBytes = 10 << 20

	// MaxPartitionKeyChars is the maximum length of a partition key in Unicode code
	// points, the unit of the length trait in the API's Smithy model. Source: API
	// reference, PutRecord, PartitionKey (length 1 to 256).
	MaxPartitionKeyChars = 256
)
