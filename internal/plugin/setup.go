package plugin

import (
	"errors"
	"fmt"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/internal/option"
)

// setup is what an instance makes of its options before it knows Kinesis.
type setup struct {
	option.Config
	keys          partitionKeys
	streams       streamNames
	newAggregator func() *aggregator.Aggregator
}

// prepare reads the options that have a syntax of their own. The error names
// each bad one.
func prepare(c option.Config) (setup, error) {
	keys, badKey := parsePartitionKeys(c.FixedPartitionKey)
	streams, badStream := parseStreamNames(c.Stream)
	newAggregator, err := aggregator.Factory(transform(c))
	if err != nil {
		// Not for want of checks in package option.
		err = fmt.Errorf("options that shape records: %w", err)
	}
	return setup{c, keys, streams, newAggregator}, errors.Join(badKey, badStream, err)
}

func transform(c option.Config) aggregator.Transform {
	s := aggregator.Transform{
		TimeKey:          c.TimeKey,
		TimeFormat:       c.TimeKeyFormat,
		TagKey:           c.TagKey,
		MetadataKey:      c.MetadataKey,
		DataKeys:         c.DataKeyList(),
		LogKey:           c.LogKey,
		ReplaceDots:      c.ReplaceDots,
		AppendNewline:    c.AppendNewline,
		CompressionLevel: c.CompressionLevel,
	}
	if c.Compression != option.Uncompressed {
		s.Compression = aggregator.Compression(c.Compression)
	}
	return s
}
