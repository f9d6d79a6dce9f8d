package interop

import (
	"encoding/hex"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/aggregator"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
)

// The folders with the source of Fluentd 1.15 and of fluent-plugin-kinesis-aggregation
// 0.4.1, which users fetch: they are not kept here. Debian has Ruby and the gems.
const (
	fluentdVariable = "FLUENTD"
	fluentdPlugin   = "FLUENT_PLUGIN_KINESIS_AGGREGATION"
	fluentdPackages = "ruby ruby-yajl ruby-msgpack ruby-google-protobuf ruby-serverengine ruby-sigdump ruby-strptime ruby-tzinfo ruby-cool.io ruby-http-parser.rb"
)

// fluentd returns the user records that the plugin of Fluentd sends for an event.
func fluentd(settings, tag string, body chunktest.Map) ([]string, error) {
	event := chunktest.AppendValue(nil, []any{tag, chunktest.EventTime{Sec: 1764044400, Nsec: 123456789}, body})
	out, err := output(event, ".", "ruby", filepath.Join("ruby", "fluentd.rb"), os.Getenv(fluentdVariable), os.Getenv(fluentdPlugin), "stream_name logs\nbuffer_chunk_limit 300k\n"+settings)
	if err != nil {
		return nil, err
	}
	var users []string
	for line := range strings.Lines(string(out)) {
		data, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		aggregate, err := kpl.Open(data)
		if err != nil {
			return nil, err
		}
		for _, user := range aggregate.All() {
			users = append(users, string(user.Data))
		}
	}
	return users, nil
}

// ours returns what this plugin sends for it.
func ours(t *testing.T, transform aggregator.Transform, tag string, body chunktest.Map) []string {
	t.Helper()
	create, err := aggregator.Factory(transform)
	if err != nil {
		t.Fatal(err)
	}
	chunk := chunktest.New().Event(chunktest.EventTime{Sec: 1764044400, Nsec: 123456789}, body)
	r := create().Build(aggregator.Chunk{Tag: tag, Data: chunk.Bytes()}, 0, "key", aggregator.Limit{RecordMax: 1 << 20, SingleRecordMax: 1 << 20})
	aggregate, err := kpl.Open(r.Data)
	if err != nil {
		t.Fatal(err)
	}
	var users []string
	for _, user := range aggregate.All() {
		users = append(users, string(user.Data))
	}
	return users
}

// TestFluentd_Comparison: what docs/migrating.md says about the differences to
// fluent-plugin-kinesis-aggregation.
func TestFluentd_Comparison(t *testing.T) {
	if os.Getenv(fluentdVariable) == "" || os.Getenv(fluentdPlugin) == "" {
		t.Skipf("set %s and %s to the folders of their source, and install Debian's packages %s", fluentdVariable, fluentdPlugin, fluentdPackages)
	}
	if _, err := exec.LookPath("ruby"); err != nil {
		t.Skipf("%v: install Debian's packages %s", err, fluentdPackages)
	}
	document, err := os.ReadFile(filepath.Join("..", "..", "docs", "migrating.md"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TZ", "Europe/Berlin")
	added := aggregator.Transform{TimeKey: "time", TimeFormat: "%Y-%m-%dT%H:%M:%SZ", TagKey: "tag"}
	for _, tt := range []struct {
		name, settings string
		transform      aggregator.Transform
		body           chunktest.Map
		theirs, ours   string // theirs is "" if their record is not sent
	}{
		{"ordinary", "", aggregator.Transform{}, chunktest.M("s", "é€😀/<", "i", -7, "b", true, "n", nil, "a", []any{1, chunktest.M("k", 1.5)}),
			`{"s":"é€😀/<","i":-7,"b":true,"n":null,"a":[1,{"k":1.5}]}`, `{"s":"é€😀/<","i":-7,"b":true,"n":null,"a":[1,{"k":1.5}]}`},
		{"nothing is added", "", aggregator.Transform{}, chunktest.M("a", 1), `{"a":1}`, `{"a":1}`},
		{"time and tag", "include_time_key true\ninclude_tag_key true\n", added, chunktest.M("a", 1),
			`{"a":1,"tag":"app","time":"2025-11-25T05:20:00+01:00"}`, `{"a":1,"time":"2025-11-25T04:20:00Z","tag":"app"}`},
		{"utc", "include_time_key true\nutc true\n", aggregator.Transform{TimeKey: "time", TimeFormat: "%Y-%m-%dT%H:%M:%SZ"}, chunktest.M("a", 1),
			`{"a":1,"time":"2025-11-25T04:20:00Z"}`, `{"a":1,"time":"2025-11-25T04:20:00Z"}`},
		{"1e20", "", aggregator.Transform{}, chunktest.M("f", 1e20), `{"f":1.0e+20}`, `{"f":1e+20}`},
		{"1e-7", "", aggregator.Transform{}, chunktest.M("f", 1e-7), `{"f":1.0e-07}`, `{"f":1e-07}`},
		{"digits", "", aggregator.Transform{}, chunktest.M("f", 123456789012345680.0), `{"f":1.2345678901234568e+17}`, `{"f":123456789012345680.0}`},
		{"float32", "", aggregator.Transform{}, chunktest.M("f", float32(0.1)), `{"f":0.10000000149011612}`, `{"f":0.1000000014901161}`},
		{"control characters", "", aggregator.Transform{}, chunktest.M("s", "\x0b\x1f\x7f"), `{"s":"\u000B\u001F` + "\x7f" + `"}`, `{"s":"\u000b\u001f\u007f"}`},
		{"duplicate key", "", aggregator.Transform{}, chunktest.M("a", 1, "b", 2, "a", 3), `{"a":3,"b":2}`, `{"b":2,"a":3}`},
		{"nil key", "", aggregator.Transform{}, chunktest.M(nil, 1), `{"":1}`, `{"null":1}`},
		{"NaN", "", aggregator.Transform{}, chunktest.M("f", math.NaN()), "", `{"f":null}`},
		{"EventTime", "", aggregator.Transform{}, chunktest.M("t", chunktest.EventTime{Sec: 1764044400}), `{"t":1764044400}`, `{"t":"aSUucAAAAAA="}`},
		{"invalid UTF-8", "", aggregator.Transform{}, chunktest.M("s", "a\xffb"), "{\"s\":\"a\xffb\"}", "{\"s\":\"a\ufffdb\"}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			theirs, err := fluentd(tt.settings, "app", tt.body)
			refused := err != nil && strings.Contains(err.Error(), "is an invalid number")
			if refused != (tt.theirs == "") || !refused && (err != nil || !slices.Equal(theirs, []string{tt.theirs})) {
				t.Errorf("theirs: %q, %v; want %q", theirs, err, tt.theirs)
			}
			if got := ours(t, tt.transform, "app", tt.body); !slices.Equal(got, []string{tt.ours}) {
				t.Errorf("ours: %q, want %q", got, tt.ours)
			}
			if tt.theirs == "" || tt.theirs == tt.ours || strings.Contains(tt.theirs, "\x7f") || strings.Contains(tt.theirs, "\xff") {
				return
			}
			for _, text := range []string{tt.theirs, tt.ours} {
				if !strings.Contains(string(document), "`"+text+"`") {
					t.Errorf("docs/migrating.md does not show %s", text)
				}
			}
		})
	}
}
