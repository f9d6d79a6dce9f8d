package plan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

// Limits of Kinesis Data Streams, each with its source. Checked 2026-11-24. The
// limits of one record are in package kpl.
const (
	// ShardBytesPerSecond and ShardRecordsPerSecond limit the writes to a shard.
	// Source: developer guide, "Quotas and limits" (1 MB/s, 1,000 records/s). That
	// 1 MB is 2^20 bytes is inferred from the record limit, where the guide gives
	// both.
	ShardBytesPerSecond   = 1 << 20
	ShardRecordsPerSecond = 1000

	// PutRecordsLimit is the largest number of records in one PutRecords request,
	// and PutRecordsBytes its largest size. Source: API reference, PutRecords.
	PutRecordsLimit = 500
	PutRecordsBytes = 10 << 20

	// OnDemandStartBytesPerSecond is the write capacity of a new on-demand stream.
	// Source: developer guide, "Quotas and limits".
	OnDemandStartBytesPerSecond = 4 << 20

	// Retention of a stream in hours. Source: API reference,
	// IncreaseStreamRetentionPeriod.
	MinRetentionHours = 24
	MaxRetentionHours = 8760
)

// Billing, with sources. Checked 2026-11-24.
const (
	// UnitBytes is a PUT payload unit, 25 KB. Source: Kinesis pricing page. That a
	// KB has 1,024 bytes is stated there for on-demand streams and inferred here.
	UnitBytes = 25 << 10

	// OnDemandRoundingBytes: an on-demand stream bills each record that is written
	// as a multiple of 1 KB (1,024 bytes). Source: Kinesis pricing page, "Data-In".
	// Data that are read are not rounded. Source: trek10.com, "Kinesis Data Streams
	// On-demand vs. Provisioned Billing Mode Cost Comparison" (2023-09-21). The
	// developer guide contradicts it, "Service-managed keys": "For on-demand streams,
	// KPL aggregation provides no cost benefit because pricing is based on throughput".
	OnDemandRoundingBytes = 1 << 10

	// GB is the unit of the prices per GB. That it has 2^30 bytes is inferred from
	// the definition of KB.
	GB = 1 << 30

	// HoursPerMonth is the usual average month of AWS calculators.
	HoursPerMonth = 730

	// extendedRetentionHours ends the extended retention; after it, long-term
	// retention begins. Source: Kinesis pricing page.
	extendedRetentionHours = 7 * 24
)

// Facts of Fluent Bit. Read in the source of 5.1.1, and measured.
const (
	// ChunkBytes closes a chunk: the engine appends no more to a chunk whose
	// content has passed this size. Source: flb_input_chunk.h,
	// FLB_INPUT_CHUNK_FS_MAX_SIZE.
	ChunkBytes = 2_048_000

	// JSONPerMsgpack is the size of JSON over the size of the msgpack of a chunk.
	// Measured for the sample logs of this project: 1.1 to 1.3.
	JSONPerMsgpack = 1.2

	// BackoffBaseSeconds and BackoffCapSeconds bound the wait before a retry: a
	// random whole number of seconds from base to min(cap, base * 2^n), plus 1,
	// for retry n = 1, 2, ... Source: flb_scheduler.c. 60 is the cap that the
	// documents of this project recommend; the engine's default is 2000.
	BackoffBaseSeconds = 5
	BackoffCapSeconds  = 60
)

// Prices are in USD, without tax, discounts and transfer of data.
type Prices struct {
	Region string `json:"region"`

	// Provisioned streams.
	ShardHour         float64 `json:"shard_hour"`
	MillionUnits      float64 `json:"million_payload_units"`
	ExtendedShardHour float64 `json:"extended_retention_shard_hour"`
	LongTermGBMonth   float64 `json:"long_term_gb_month"`
	FanOutShardHour   float64 `json:"fan_out_shard_hour"`
	FanOutGB          float64 `json:"fan_out_gb"`

	// On-demand standard.
	StandardStreamHour float64 `json:"standard_stream_hour"`
	StandardInGB       float64 `json:"standard_in_gb"`
	StandardOutGB      float64 `json:"standard_out_gb"`
	StandardFanOutGB   float64 `json:"standard_fan_out_gb"`
	StandardExtendedGB float64 `json:"standard_extended_gb_month"`
	StandardLongTermGB float64 `json:"standard_long_term_gb_month"`

	// On-demand advantage. It has no price for streams, enhanced fan-out costs the
	// same as other reads, and the account pays for at least
	// AdvantageMinMBPerSecond MB/s of data in.
	AdvantageInGB           float64 `json:"advantage_in_gb"`
	AdvantageOutGB          float64 `json:"advantage_out_gb"`
	AdvantageRetentionGB    float64 `json:"advantage_retention_gb_month"`
	AdvantageMinMBPerSecond float64 `json:"advantage_minimum_mb_per_second"`
}

// USEast1 returns the prices of us-east-1 (N. Virginia), collected 2026-11-24.
// Source of the provisioned prices, of fan-out and of on-demand standard: the
// golden file of infracost for aws_kinesis_stream. Source of extended retention and
// of on-demand advantage: github.com/api-evangelist/kinesis, plans/ (2026-05-05).
// No source was found for the price of retention with on-demand advantage, so it is
// the price of long-term retention.
func USEast1() Prices {
	return Prices{
		Region:            "us-east-1",
		ShardHour:         0.015,
		MillionUnits:      0.014,
		ExtendedShardHour: 0.020,
		LongTermGBMonth:   0.023,
		FanOutShardHour:   0.015,
		FanOutGB:          0.013,

		StandardStreamHour: 0.04,
		StandardInGB:       0.08,
		StandardOutGB:      0.04,
		StandardFanOutGB:   0.05,
		StandardExtendedGB: 0.10,
		StandardLongTermGB: 0.023,

		AdvantageInGB:           0.032,
		AdvantageOutGB:          0.016,
		AdvantageRetentionGB:    0.023,
		AdvantageMinMBPerSecond: 25,
	}
}

// ReadPrices reads prices as JSON, with the names that Prices marshals to. It needs
// all of them, so that a plan never mixes the prices of two regions.
func ReadPrices(r io.Reader) (Prices, error) {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return Prices{}, fmt.Errorf("plan: prices: %w", err)
	}
	var p Prices
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil {
		return Prices{}, fmt.Errorf("plan: prices: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return Prices{}, errors.New("plan: prices: more than one JSON value")
	}
	var given, all map[string]any
	template, _ := json.Marshal(USEast1())
	if err := errors.Join(json.Unmarshal(text, &given), json.Unmarshal(template, &all)); err != nil {
		return Prices{}, fmt.Errorf("plan: prices: %w", err)
	}
	for _, name := range sortedKeys(all) {
		value, ok := given[name]
		if !ok {
			return Prices{}, fmt.Errorf("plan: prices: %s is missing", name)
		}
		if price, isNumber := value.(float64); isNumber && (price < 0 || math.IsInf(price, 0)) {
			return Prices{}, fmt.Errorf("plan: prices: %s: %v is negative", name, price)
		}
		if value == nil {
			return Prices{}, fmt.Errorf("plan: prices: %s is null", name)
		}
	}
	return p, nil
}
