package e2e

import (
	"regexp"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/fakekinesis"
)

// TestLog_HostileText: neither a tag nor an error text from outside begins a line of
// the log, hides a part of one, or reaches a terminal as a command.
func TestLog_HostileText(t *testing.T) {
	t.Parallel()
	const forged = "[2026/01/01 00:00:00] [error] [output:kinesis_agg:kinesis_agg.0] forged"
	hostile := "a\n" + forged + "\r\x1b[2J\x07\u0085\u202eevil\u2028\xff"
	for _, tt := range []struct {
		name, tag string
		fault     fakekinesis.Fault
		options   []string
		inLog     []string
	}{
		{"tag", hostile, fakekinesis.Error(400, "ResourceNotFoundException", "no stream"), nil,
			[]string{`a\n[2026/01/01`, `\r\x1b[2J\a\u0085\u202eevil\u2028\xff`}},
		{"error message", "app", fakekinesis.Error(400, "ResourceNotFoundException", "a\x1b[2J\x07\u0085\u202eevil\u2028"), []string{"debug=true"},
			[]string{`a\x1b[2J\a\u0085\u202eevil\u2028`}},
		{"lines in an error message", "app", fakekinesis.Error(400, "ResourceNotFoundException", strings.TrimSuffix(hostile, "\xff")), nil, nil},
		{"long error message", "app", fakekinesis.Error(400, "ResourceNotFoundException", strings.Repeat("\x07", 20_000)), nil,
			[]string{`\a\a\a`}},
		{"error code", "app", fakekinesis.Error(400, hostile[:20], "text"), []string{"debug=true"}, nil},
		{"long tag", strings.Repeat("t", 5000), fakekinesis.Error(400, "ResourceNotFoundException", "no stream"), nil,
			[]string{strings.Repeat("t", 256) + " (4744 bytes more)", "no stream"}},
		{"alias", "app", fakekinesis.OK, []string{"alias=x\n" + forged}, []string{`:x\n[2026`}},
		{"option", "app", fakekinesis.OK, []string{"role_session_name=x\n" + forged}, []string{`x\n[2026`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := fakekinesis.Start(fakekinesis.Options{Fault: func(int, *fakekinesis.Request) fakekinesis.Fault { return tt.fault }})
			defer server.Close()
			for name, host := range map[string]string{"through the engine": fixture.host, "to stderr": fixture.oldHost} {
				run := runHost(t, host, faultAt(server.URL(), tt.options...), chunkFile(t, tt.tag, faultChunk.Bytes))
				for line := range strings.Lines(run.Stderr) {
					line = strings.TrimSuffix(line, "\n")
					if strings.HasPrefix(line, forged) || unprintable.MatchString(line) || len(line) > 4096 {
						t.Errorf("%s: %q", name, line)
					}
				}
				for _, want := range tt.inLog {
					if !strings.Contains(run.Stderr, want) {
						t.Errorf("%s: %q is not in the log:\n%.2000s", name, want, run.Stderr)
					}
				}
			}
		})
	}
}

// unprintable is what a log must not have in it.
var unprintable = regexp.MustCompile(`[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]|\x{FFFD}`)
