package deploy

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/test/kit/fakekinesis"
	"out_kinesis_agg/test/kit/harness"
)

// TestECS_RouterDelivers starts the engine as the start scripts of AWS's image
// and of its init image do: with three other plugins in Go, and without -e for
// this one, whose configuration has to load it. The other plugins are copies of
// this one, because AWS's are in no package registry; each has a Go runtime of its
// own.
func TestECS_RouterDelivers(t *testing.T) {
	engine, err := harness.FindFluentBit()
	if err != nil {
		t.Skipf("SKIPPED: %v", err)
	}
	plugin := os.Getenv("OUT_KINESIS_AGG_SO")
	if plugin == "" {
		t.Skip("SKIPPED: set OUT_KINESIS_AGG_SO to the built library, as `make deploy-check` does")
	}
	library, err := os.ReadFile(root(t, plugin))
	if err != nil {
		t.Fatal(err)
	}
	for _, init := range []bool{false, true} {
		t.Run(fmt.Sprintf("init %t", init), func(t *testing.T) {
			dir := t.TempDir()
			args := []string{}
			for _, name := range []string{"firehose.so", "cloudwatch.so", "kinesis.so"} {
				args = append(args, "-e", write(t, string(library), dir, name))
			}
			own := write(t, string(library), dir, "out_kinesis_agg.so")
			paths := strings.NewReplacer(
				"/fluent-bit/lib/out_kinesis_agg.so", own, "/fluent-bit/etc/", dir+"/",
				"/var/lib/fluent-bit", filepath.Join(dir, "storage"), "http_server              on", "http_server off")
			write(t, paths.Replace(read(t, "deploy/ecs/kinesis-agg-plugins.conf")), dir, "kinesis-agg-plugins.conf")
			write(t, paths.Replace(read(t, "deploy/ecs/kinesis-agg.conf")), dir, "kinesis-agg.conf")

			const lines = 200
			var mu sync.Mutex
			got := map[string]int{}
			all := make(chan struct{})
			server := fakekinesis.Start(fakekinesis.Options{OnRecord: func(r fakekinesis.Record) {
				aggregate, err := kpl.Open(r.Data)
				if err != nil {
					t.Errorf("record: %v", err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				before := len(got)
				for _, u := range aggregate.All() {
					got[string(u.Data)]++
				}
				if before < lines && len(got) >= lines {
					close(all)
				}
			}})
			defer server.Close()

			// What ECS generates, with a file instead of the containers' output.
			var text strings.Builder
			for n := range lines {
				fmt.Fprintf(&text, "line %d\n", n)
			}
			log := write(t, text.String(), dir, "app.log")
			main := write(t, fmt.Sprintf(`[INPUT]
    Name           tail
    Tag            app-firelens-1
    Path           %s
    Read_from_Head on

[FILTER]
    Name   record_modifier
    Match  *
    Record ecs_cluster test

@INCLUDE %s/kinesis-agg.conf

[OUTPUT]
    Name        kinesis_agg
    Match       app-firelens*
    stream      logs
    region      us-east-1
    endpoint    %s
    workers     1
    retry_limit no_limits
`, log, dir, server.URL()), dir, "fluent-bit.conf")
			if init {
				// The init process includes the configuration that ECS generates, and
				// then the object that it downloads.
				object := write(t, "[SERVICE]\n    flush 0.2\n\n[FILTER]\n    Name   record_modifier\n    Match  *\n    Record from_s3 yes\n", dir, "s3.conf")
				main = write(t, fmt.Sprintf("@INCLUDE %s\n@INCLUDE %s\n", main, object), dir, "fluent-bit-init.conf")
			}

			var output bytes.Buffer
			cmd := exec.CommandContext(t.Context(), engine, append(args, "-c", main)...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID="+harness.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+harness.SecretAccessKey)
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-all:
			case <-time.After(imageDeadline):
				t.Error("not all lines arrived")
			}
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Errorf("the engine ended with %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if len(got) != lines {
				t.Errorf("%d different records, want %d", len(got), lines)
			}
			for record, n := range got {
				if n != 1 || init != strings.Contains(record, `"from_s3":"yes"`) {
					t.Errorf("%s arrived %d times", record, n)
				}
			}
			if t.Failed() {
				t.Log(output.String())
			}
		})
	}
}
