package plugin

import (
	"errors"
	"fmt"

	"out_kinesis_agg/internal/kinesis"
)

// advice says what to check after a failure, by its cause. Causes that end by
// themselves have none.
var advice = map[string]string{
	kinesis.CauseUnreachable:    "the endpoint cannot be reached: check network, firewall, VPC endpoint and http_proxy",
	kinesis.CauseDNS:            "the endpoint's name cannot be resolved: check region, endpoint and DNS",
	kinesis.CauseTLS:            "there is no trusted TLS connection: check the host's CA certificates (AWS_CA_BUNDLE), its clock, endpoint, and proxies that intercept TLS",
	kinesis.CauseNoCredentials:  "there are no AWS credentials: set aws_key_id and aws_sec_key or profile, or give the host, container or service account a role",
	kinesis.CauseExpiredToken:   "the session token has expired; the plugin cannot renew static credentials with aws_session_token",
	kinesis.CauseAssumeRole:     "the role cannot be assumed: check role_arn and external_id, the permission sts:AssumeRole, and the role's trust policy",
	kinesis.CauseAccessDenied:   "the credentials lack the permission kinesis:PutRecord on the stream, or a policy denies it",
	kinesis.CauseBadKey:         "AWS does not know these credentials: check aws_key_id and aws_session_token or their source, and that they belong to the partition of the region",
	kinesis.CauseBadSignature:   "the signature is wrong: check aws_sec_key or its source, region, and that no proxy changes requests",
	kinesis.CauseClockSkew:      "this host's clock is wrong by more than five minutes: check its time synchronization",
	kinesis.CauseKMS:            "the stream's KMS key cannot be used: the credentials need kms:GenerateDataKey on it, the key has to be enabled, and its policy has to permit them",
	kinesis.CauseStreamNotFound: "the stream does not exist: check stream and region, and set the stream's ARN if it belongs to another account",
	kinesis.CauseTooLarge:       "the record exceeds the stream's limit: set max_record_size to that limit, or raise it with UpdateMaxRecordSize",
	kinesis.CauseRefused:        "the request is refused for the quoted reason: check stream, fixed_partition_key, endpoint and http_proxy",
}

// failureText is the error of a request, with advice.
func failureText(err error) string {
	if text := advice[kinesis.Classify(err).Cause]; text != "" {
		return err.Error() + ": " + text
	}
	return err.Error()
}

// settingOptions maps the fields of kinesis.Settings that Open can refuse to options.
var settingOptions = map[string]string{
	"Region":          "region",
	"Profile":         "profile",
	"CredentialsPath": "credentials_path",
}

// optionError names the option of an error from kinesis.Open.
func optionError(err error) error {
	var setting *kinesis.SettingError
	if errors.As(err, &setting) && settingOptions[setting.Field] != "" {
		return fmt.Errorf("option %s: %w", settingOptions[setting.Field], setting.Err)
	}
	return err
}
