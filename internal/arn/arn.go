// Package arn reads the ARNs of Kinesis data streams:
// arn:PARTITION:kinesis:REGION:ACCOUNT:stream/NAME. It does not check that they are
// valid.
package arn

import "strings"

// Is reports whether a stream is given by its ARN instead of by its name.
func Is(stream string) bool { return strings.HasPrefix(stream, "arn:") }

// Region returns the region of an ARN, or an empty string for a name.
func Region(stream string) string {
	if parts := strings.Split(stream, ":"); Is(stream) && len(parts) > 3 {
		return parts[3]
	}
	return ""
}
