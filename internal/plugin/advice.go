package plugin

import (
	"errors"
	"fmt"

	"out_kinesis_agg/internal/kinesis"
)

// settingOptions maps the fields of kinesis.Settings that Open can refuse to options.
var settingOptions = map[string]string{
	"Region":          "region",
	"Profile":         "profile",
	"CredentialsPath": "credentials_path",
	"KeyID":           "aws_key_id",
	"SecretKey":       "aws_sec_key",
	"SessionToken":    "aws_session_token",
}

// optionError names the option of an error from kinesis.Open.
func optionError(err error) error {
	var setting *kinesis.SettingError
	if errors.As(err, &setting) && settingOptions[setting.Field] != "" {
		return fmt.Errorf("option %s: %w", settingOptions[setting.Field], setting.Err)
	}
	return err
}
