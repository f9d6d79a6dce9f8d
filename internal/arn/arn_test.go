package arn

import "testing"

func TestRegion(t *testing.T) {
	for stream, want := range map[string]string{
		"arn:aws-cn:kinesis:cn-north-1:123456789012:stream/logs": "cn-north-1",
		"arn:aws:kinesis": "",
		"logs":            "",
		"":                "",
	} {
		if got := Region(stream); got != want {
			t.Errorf("%q: %q, want %q", stream, got, want)
		}
	}
}
