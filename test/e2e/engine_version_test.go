package e2e

import (
	"fmt"
	"os/exec"
	"testing"

	"out_kinesis_agg/test/kit/harness"
)

// needVersion skips a test of what the engine does only from a version on.
func needVersion(t *testing.T, major, minor int, why string) {
	t.Helper()
	path, err := harness.FindFluentBit()
	if err != nil {
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), path, "--version").Output()
	if err != nil {
		t.Fatalf("%s --version: %v", path, err)
	}
	var gotMajor, gotMinor int
	if _, err := fmt.Sscanf(string(out), "Fluent Bit v%d.%d", &gotMajor, &gotMinor); err != nil {
		t.Fatalf("%s --version: %q: %v", path, out, err)
	}
	if gotMajor < major || gotMajor == major && gotMinor < minor {
		t.Skipf("Fluent Bit %d.%d or later is needed: %s; %s is %d.%d", major, minor, why, path, gotMajor, gotMinor)
	}
}
