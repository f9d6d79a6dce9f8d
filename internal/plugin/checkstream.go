package plugin

import (
	"context"
	"fmt"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
)

// checkStream implements the option check_stream. The error says why the stream
// cannot be used, the warning why it could not be checked. auto reports that the
// stream has the strategy AUTO, and that on_auto_stream permits it.
func checkStream(ctx context.Context, c option.Config,
	describe func(ctx context.Context, stream string) (kinesis.Stream, error)) (auto bool, warning string, err error) {
	name := c.Stream.String()
	stream, err := describe(ctx, name)
	if err != nil {
		return false, "check_stream: " + err.Error(), nil
	}
	auto = stream.DistributesRecords && c.Format != aggregator.NDJSON
	if auto && c.OnAutoStream != option.NDJSON {
		return false, "", fmt.Errorf("option check_stream: %s has the record distribution strategy AUTO, with which consumers lose aggregated records: change the stream to USER_PARTITION_KEY, or set record_format ndjson or on_auto_stream ndjson", name)
	}
	if most := stream.MaxRecordBytes; most > 0 && c.MaxRecordBytes > most {
		return false, "", fmt.Errorf("option max_record_size: %d exceeds the record limit of %s, %d bytes: set %d or less, or raise the stream's limit with UpdateMaxRecordSize",
			c.MaxRecordBytes, name, most, most)
	}
	return auto, "", nil
}
