package e2e

import (
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/chunktest"
)

// TestOptions_OfOtherPlugins: a configuration of another plugin, with only the
// name of the plugin changed, works, or the log names what to write instead.
func TestOptions_OfOtherPlugins(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		plugin  string
		stream  string // the option's name
		options []string
		warns   []string // an option each
		body    chunktest.Map
		want    string
	}{
		{"AWS's Go plugin", "stream",
			[]string{"aggregation=true", "append_newline=true", "replace_dots=_", "data_keys=log,time,kubernetes",
				"time_key=time", "time_key_format=%Y-%m-%dT%H:%M:%S.%L", "compression=none", "http_request_timeout=10",
				"experimental_concurrency=4", "experimental_concurrency_retries=3"},
			[]string{"experimental_concurrency", "experimental_concurrency_retries"},
			chunktest.M("log", "x", "stream", "stdout", "kubernetes", chunktest.M("app.kubernetes.io/name", "web")),
			`{"log":"x","kubernetes":{"app_kubernetes_io/name":"web"},"time":"2026-03-01T12:00:00.123"}` + "\n"},
		{"kinesis_streams", "stream",
			[]string{"time_key=time", "time_key_format=%Y-%m-%dT%H:%M:%S.%3N", "auto_retry_requests=true", "simple_aggregation=false",
				"sts_endpoint=https://sts.us-east-1.amazonaws.com"},
			nil,
			chunktest.M("log", "x"), `{"log":"x","time":"2026-03-01T12:00:00.123"}`},
		{"fluent-plugin-kinesis-aggregation", "stream_name",
			[]string{"include_time_key=true", "include_tag_key=true", "time_format=%FT%TZ", "num_threads=5",
				"detach_process=2", "buffer_chunk_limit=300k", "debug=false"},
			[]string{"num_threads", "detach_process", "buffer_chunk_limit"},
			chunktest.M("log", "x"), `{"log":"x","time":"2026-03-01T12:00:00Z","tag":"app.log"}`},
	} {
		t.Run(tt.plugin, func(t *testing.T) {
			t.Parallel()
			stream := newStream(t, 1)
			words := instance(stream, tt.options...)
			words[1] = tt.stream + "=" + stream
			c := chunktest.New().Event(chunktest.EventTime{Sec: 1772366400, Nsec: 123456789}, tt.body)
			run := runHost(t, fixture.host, words, chunkFile(t, "app.log", c.Bytes()))
			wantOutcomes(t, run, 1, 0, 0)
			wantAggregates(t, stream, []string{tt.want})
			for _, option := range tt.warns {
				logLine(t, run, "[ warn]", "option "+option+" has no effect")
			}
			if got := strings.Count(run.Stderr, "[ warn]"); got != len(tt.warns) {
				t.Errorf("%d warnings, want %d:\n%s", got, len(tt.warns), run.Stderr)
			}
		})
	}
}
