package plugin

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"out_kinesis_agg/internal/kinesis"
	"out_kinesis_agg/internal/version"
	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/chunktest"
	"out_kinesis_agg/test/kit/fakekinesis"
)

// streamSender notes the stream of each PutRecord and the records in it.
type streamSender map[string][]string

func (s streamSender) PutRecord(_ context.Context, stream, _ string, data []byte) (string, error) {
	a, err := kpl.Open(data)
	if err != nil {
		return "", err
	}
	for _, r := range a.All() {
		s[stream] = append(s[stream], string(r.Data))
	}
	return "shardId-000000000000", nil
}

func (streamSender) Describe(context.Context, string) (kinesis.Stream, error) {
	return kinesis.Stream{}, errors.New("not expected")
}

func (s streamSender) Close() {}

func TestFlush_StreamPerTag(t *testing.T) {
	sent := streamSender{}
	in, _ := startOver(t, sent, "stream", "logs-$TAG[0]", "tag_key", "tag")
	for _, tag := range []string{"web.1", "db", "web.2"} {
		if got := in.Flush(tag, chunktest.New().Event(1, chunktest.M("n", 1)).Bytes()); got != Delivered {
			t.Errorf("%s: outcome %v", tag, got)
		}
	}
	if got := sent["logs-web"]; !slices.Equal(got, []string{`{"n":1,"tag":"web.1"}`, `{"n":1,"tag":"web.2"}`}) || len(sent["logs-db"]) != 1 || len(sent) != 2 {
		t.Errorf("%q", sent)
	}
}

func TestFlush_RecordsWithoutLogKey(t *testing.T) {
	sent := streamSender{}
	in, l := startOver(t, sent, "stream", "logs", "log_key", "log")
	got := counts{}
	in.metrics = newMetrics(got)
	c := chunktest.New().Event(1, chunktest.M("log", "a")).Event(1, chunktest.M("secret", "b"))
	if outcome := in.Flush("app", c.Bytes()); outcome != Delivered {
		t.Errorf("outcome %v", outcome)
	}
	if outcome := in.Flush("app", chunktest.New().Event(1, chunktest.M("secret", "b")).Bytes()); outcome != Delivered {
		t.Errorf("outcome %v of a chunk with nothing to send", outcome)
	}
	if !slices.Equal(sent["logs"], []string{"a"}) || got["dropped_records_total no_log_key"] != 2 {
		t.Errorf("%q, %v", sent, got)
	}
	wantLog(t, l, "error: ", "log_key", "tag app")
}

func TestCheckStream_Refusals(t *testing.T) {
	for _, test := range []struct {
		name    string
		server  fakekinesis.Options
		options []string
		err     []string // empty: it starts
		warning []string // empty: there is none
	}{
		{"good", fakekinesis.Options{}, nil, nil, nil},
		{"large records", fakekinesis.Options{RecordLimitBytes: 10 << 20}, []string{"max_record_size", "10MiB"}, nil, nil},
		{"records too large", fakekinesis.Options{}, []string{"max_record_size", "2M"},
			[]string{"option max_record_size: 2000000 exceeds the record limit of logs, 1048576 bytes", "UpdateMaxRecordSize"}, nil},
		{"distributes records", fakekinesis.Options{Auto: func() bool { return true }}, nil, []string{"option check_stream: logs", "AUTO", "record_format ndjson"}, nil},
		{"distributes records without the envelope", fakekinesis.Options{Auto: func() bool { return true }}, []string{"record_format", "ndjson"}, nil, nil},
		{"distributes records, on_auto_stream ndjson", fakekinesis.Options{Auto: func() bool { return true }}, []string{"on_auto_stream", "ndjson"}, nil, nil},
		{"not there", fakekinesis.Options{Streams: []string{"other"}}, nil, nil, []string{"check_stream", "not found"}},
		{"$TAG", fakekinesis.Options{}, []string{"stream", "$TAG"}, []string{"option check_stream", "$TAG"}, nil},
		{"off", fakekinesis.Options{Auto: func() bool { return true }}, []string{"check_stream", "false"}, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := fakekinesis.Start(test.server)
			defer server.Close()
			var l logged
			in, err := Start(getter(append(test.options, "stream", "logs", "region", "eu-central-1", "check_stream", "true",
				"endpoint", server.URL(), "aws_key_id", "AKIA", "aws_sec_key", "secret", "fixed_partition_key", "key")), l.log, uncounted{}, keepsRunning)
			if in != nil {
				defer in.Stop()
			}
			if (err != nil) != (test.err != nil) {
				t.Fatalf("error %v", err)
			}
			for _, text := range test.err {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%q is not in: %v", text, err)
				}
			}
			lines := l.take()
			if err != nil {
				return
			}
			info := lines[len(lines)-1]
			if !strings.Contains(info, "info: version "+version.String()+": stream logs, region eu-central-1, ") ||
				!strings.Contains(info, "aws_sec_key set") || !strings.Contains(info, "fixed_partition_key key") {
				t.Errorf("log %q", info)
			}
			if (len(lines) > 1) != (test.warning != nil) {
				t.Fatalf("log %q", lines)
			}
			for _, text := range test.warning {
				if !strings.HasPrefix(lines[0], "warn: ") || !strings.Contains(lines[0], text) {
					t.Errorf("%q is not in: %s", text, lines[0])
				}
			}
		})
	}
}

// The first record already has no envelope if check_stream has found AUTO.
func TestCheckStream_StartsWithoutEnvelope(t *testing.T) {
	server := fakekinesis.Start(fakekinesis.Options{Auto: func() bool { return true }})
	defer server.Close()
	in, err := Start(getter([]string{"stream", "logs", "region", "eu-central-1", "check_stream", "true", "on_auto_stream", "ndjson",
		"endpoint", server.URL(), "aws_key_id", "AKIA", "aws_sec_key", "secret"}), new(logged).log, uncounted{}, keepsRunning)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Stop()
	c := chunktest.AccessLog(1, 3)
	if got := in.Flush("app", c.Bytes); got != Delivered {
		t.Fatalf("outcome %v", got)
	}
	if got, want := string(server.Records()[0].Data), strings.Join(c.JSON, "\n")+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestStart_NamesEachInvalidTemplate(t *testing.T) {
	_, err := Start(getter([]string{"stream", "$TAG[", "fixed_partition_key", "$TAG["}), new(logged).log, uncounted{}, keepsRunning)
	if err == nil || len(Lines(err)) != 2 {
		t.Errorf("%v", err)
	}
}

func TestStart_WarnsOfOptionsWithoutEffect(t *testing.T) {
	var l logged
	in, err := Start(getter([]string{"stream", "logs", "region", "eu-central-1", "num_threads", "5"}), l.log, uncounted{}, keepsRunning)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Stop()
	if lines := l.take(); len(lines) != 2 || !strings.HasPrefix(lines[0], "warn: option num_threads has no effect: ") {
		t.Errorf("log %q", lines)
	}
}
