package plugin

import (
	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/internal/version"
)

// settings returns what the sender needs of a configuration.
func settings(c option.Config) kinesis.Settings {
	return kinesis.Settings{
		Region:          c.Region,
		RoleARN:         c.RoleARN,
		ExternalID:      c.ExternalID,
		RoleSessionName: c.RoleSessionName,
		KeyID:           c.KeyID,
		SecretKey:       c.SecretKey,
		SessionToken:    c.SessionToken,
		Profile:         c.Profile,
		CredentialsPath: c.CredentialsPath,
		Endpoint:        c.Endpoint,
		STSEndpoint:     c.STSEndpoint,
		HTTPProxy:       c.HTTPProxy,
		RequestTimeout:  c.RequestTimeout,
		ConnectTimeout:  c.ConnectTimeout,
		AutoRetry:       c.AutoRetryRequests,
		WireFormat:      kinesis.WireFormat(c.WireFormat),
		Shell:           engine.Spawn,
		Version:         version.String(),
	}
}
