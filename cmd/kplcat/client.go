package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/logging"

	"out_kinesis_agg/internal/consumer"
)

// requestTimeout bounds one request. A response holds up to 10 MiB.
const requestTimeout = time.Minute

// connect makes the Kinesis client.
func connect(ctx context.Context, o options) (consumer.API, error) {
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(requestTimeout)),
		// The SDK logs warnings to standard error in a format of its own. Errors
		// that matter are returned.
		config.WithLogger(logging.Nop{}),
	}
	if o.region != "" {
		load = append(load, config.WithRegion(o.region))
	}
	if o.profile != "" {
		load = append(load, config.WithSharedConfigProfile(o.profile))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("AWS configuration: %w", err)
	}
	if cfg.Region == "" {
		return nil, errors.New("no region: set --region or AWS_REGION, or give the stream's ARN")
	}
	if o.roleARN != "" {
		cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), o.roleARN))
	}
	return kinesis.NewFromConfig(cfg, func(k *kinesis.Options) {
		// Package consumer retries.
		k.Retryer = aws.NopRetryer{}
		if o.endpoint != "" {
			k.BaseEndpoint = aws.String(o.endpoint)
		}
	}), nil
}
