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

// prepare reads the options that have a syntax of their own, after Parse has
// returned c and bad. The error joins bad and one for each option that is bad here
// or in what settings hands on.
func prepare(c option.Config, bad error) (setup, error) {
	keys, badKey := parsePartitionKeys(c.FixedPartitionKey)
	streams, badStream := parseStreamNames(c.Stream)
	p := setup{Config: c, keys: keys, streams: streams}
	if err := errors.Join(bad, badKey, badStream, p.settings().Check()); err != nil {
		return p, err
	}
	var err error
	if p.newAggregator, err = aggregator.Factory(transform(c)); err != nil {
		// Not for want of checks in package option.
		err = fmt.Errorf("options that shape records: %w", err)
	}
	return p, err
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
