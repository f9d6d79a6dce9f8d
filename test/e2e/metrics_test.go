package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"out_kinesis_agg/test/kit/harness"
)

// TestFluentBit_Metrics reads the engine's metrics as Prometheus does: those of
// three instances, two of which deliver, each in another format.
func TestFluentBit_Metrics(t *testing.T) {
	t.Parallel()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	stream := newStream(t, 1)
	engine := startEngine(t, fmt.Sprintf(`[SERVICE]
    HTTP_Server On
    HTTP_Listen 127.0.0.1
    HTTP_Port   %d

[INPUT]
    Name dummy
    Tag  app
    Samples 1
    Copies 3

`, port)+output("*", stream)+output("*", "no-such-stream", "Alias elsewhere")+"\n"+
		output("*", newStream(t, 1), "Alias lines", "record_format ndjson"))
	arrived(t, engine, stream, 3)

	want := []string{
		`fluentbit_output_proc_records_total{name="kinesis_agg.0"} 3`, // the engine's own
		`fluentbit_kinesis_agg_log_records_total{name="kinesis_agg.0"} 3`,
		`fluentbit_kinesis_agg_user_records_total{name="kinesis_agg.0"} 3`,
		`fluentbit_kinesis_agg_log_records_total{name="lines"} 3`,
		`fluentbit_kinesis_agg_user_records_total{name="lines"} 1`,
		`fluentbit_kinesis_agg_put_records_total{name="lines"} 1`,
		`fluentbit_kinesis_agg_user_records_total{name="elsewhere"} 0`,
		`fluentbit_kinesis_agg_put_records_total{name="kinesis_agg.0"} 1`,
		`fluentbit_kinesis_agg_chunks_total{name="kinesis_agg.0",outcome="delivered"} 1`,
		`fluentbit_kinesis_agg_put_record_failures_total{name="kinesis_agg.0",cause="stream_not_found"} 0`,
		`fluentbit_kinesis_agg_dropped_records_total{name="elsewhere",reason="too_large"} 0`,
		`fluentbit_kinesis_agg_split_chunks_total{name="kinesis_agg.0"} 0`,
		`fluentbit_kinesis_agg_put_record_seconds_count{name="kinesis_agg.0"} 1`,
	}
	// How often the other instance has failed by now is not known.
	failing := []string{
		`fluentbit_kinesis_agg_put_record_failures_total{name="elsewhere",cause="stream_not_found"} `,
		`fluentbit_kinesis_agg_chunks_total{name="elsewhere",outcome="retry"} `,
	}
	ctx, cancel := context.WithTimeout(t.Context(), engineDeadline)
	defer cancel()
	var text string
	var missing []string
	err = harness.Until(ctx, func() (bool, error) {
		text, missing = metrics(ctx, t, port), nil
		for _, line := range want {
			if !strings.Contains(text, line+"\n") {
				missing = append(missing, line)
			}
		}
		for _, line := range failing {
			if !strings.Contains(text, line) || strings.Contains(text, line+"0\n") {
				missing = append(missing, line)
			}
		}
		return len(missing) == 0, nil
	})
	if err != nil {
		t.Fatalf("missing:\n%s\namong:\n%s", strings.Join(missing, "\n"), text)
	}
}

// metrics gets what the engine shows to Prometheus.
func metrics(ctx context.Context, t *testing.T, port int) string {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/api/v2/metrics/prometheus", port), nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
