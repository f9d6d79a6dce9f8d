package main

import (
	"context"
	"errors"
	"time"

	"out_kinesis_agg/internal/consumer"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/version"
)

const (
	// requestTimeout bounds one request. A response holds up to 10 MiB of records.
	requestTimeout = time.Minute

	// maxResponseBytes is above 10 MiB of records in base64, with their keys.
	maxResponseBytes = 64 << 20
)

// connect makes the Kinesis client, with the credentials, the connections and the
// limits of the plugin.
func connect(ctx context.Context, o options) (consumer.API, error) {
	s, err := kinesis.Open(ctx, kinesis.Settings{
		Connection: kinesis.Connection{
			Region:         o.region,
			Profile:        o.profile,
			RoleARN:        o.roleARN,
			Endpoint:       o.endpoint,
			RequestTimeout: requestTimeout,
		},
		MaxResponseBytes: maxResponseBytes,
		Version:          version.String(),
	})
	var setting *kinesis.SettingError
	if errors.As(err, &setting) && setting.Field == "Region" {
		return nil, errors.New("no region: set --region or AWS_REGION, or give the stream's ARN")
	}
	if err != nil {
		return nil, err
	}
	return s.Client(), nil
}
