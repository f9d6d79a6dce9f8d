package kinesis

import "testing"

// NUL is an empty file, and pipes have names of their own.
var specialFiles map[string]func(*testing.T) string
