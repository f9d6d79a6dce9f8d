package plugin

import (
	"context"
	"errors"
	"fmt"
	"time"

	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/kinesis"
)

// dryRun is kinesis.Sender.DryRun.
type dryRun func(ctx context.Context, stream, partitionKey string, data []byte) error

// checkAccess finds out whether records can be written to a stream, with the
// permission that they need and without storing one. It returns a line for the log, or
// an empty string, also if the check was throttled or failed in another way that says
// nothing about the configuration. The aggregated record that it sends has no user record, so
// that consumers would not see it even if it were stored.
func checkAccess(ctx context.Context, stream string, try dryRun) string {
	key, record := emptyRecord()
	err := try(ctx, stream, key, record)
	if err == nil || errors.Is(err, kinesis.ErrNoDryRun) || kinesis.Classify(err).Transient {
		return ""
	}
	return "records cannot be written yet, chunks will be retried: " + err.Error()
}

// checkInBackground runs checkAccess after the delay, without delaying the start. Stop
// ends it, and so does the first record that Kinesis accepts: Kinesis permits one check
// a second and stream, bills it, and thousands of agents can start at once. Its line
// goes to stderr, because the engine's log only accepts lines from the threads on which
// the engine calls the plugin.
func (in *Instance) checkInBackground(stream string, delay time.Duration, try dryRun) {
	ctx, cancel := context.WithCancel(context.Background())
	in.endCheck = cancel
	in.checking.Go(func() {
		defer func() {
			if p := recover(); p != nil {
				in.log(engine.Error, fmt.Sprintf("panic during the check of the stream: %v", p))
			}
		}()
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		if line := checkAccess(ctx, stream, try); line != "" {
			in.log(engine.Error, line)
		}
	})
}
