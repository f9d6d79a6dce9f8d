package consumer

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"out_kinesis_agg/internal/kinesis"
)

const (
	// The wait after the first error in a row, and the longest wait.
	firstWait   = readInterval
	longestWait = 5 * time.Second

	// maxFailures is how many errors of the network or of AWS are retried in a
	// row, which takes about half a minute. Throttling is retried without limit.
	maxFailures = 10
)

// retry makes a call and repeats it while its errors are transient.
func (r *Reader) retry(ctx context.Context, call func() error) error {
	wait := firstWait
	for failures := 0; ; {
		err := call()
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		var own *handlerError
		switch {
		case errors.As(err, &own):
			return err
		case kinesis.Classify(err) == kinesis.CauseThrottled:
			r.Monitor.Throttled()
		case isRetryable(err) && failures < maxFailures:
			if failures++; failures == 1 {
				r.Monitor.Warn("%v: retrying", callError{err})
			}
		default:
			return callError{err}
		}
		// Half of the wait is random, so that shards do not retry at the same time.
		if err := sleep(ctx, wait/2+rand.N(wait/2)); err != nil {
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// handlerError marks an error of Handle. Such an error may be one of the
// network, and is not retried.
type handlerError struct{ err error }

func (e *handlerError) Error() string { return e.err.Error() }
func (e *handlerError) Unwrap() error { return e.err }

// callError shortens an error of the SDK to the error that Kinesis returned, or to the
// error of the connection, and adds advice.
type callError struct{ err error }

func (e callError) Unwrap() error { return e.err }

func (e callError) Error() string {
	text := e.err.Error()
	var response smithy.APIError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.As(e.err, &response):
		text = response.ErrorCode() + ": " + response.ErrorMessage()
	case errors.As(e.err, &unsent):
		text = unsent.Err.Error()
	}
	if advice := kinesis.Classify(e.err).Advice; advice != "" {
		text += ": " + advice
	}
	return text
}

// isRetryable reports whether a repetition can succeed without a change.
func isRetryable(err error) bool {
	var dns *net.DNSError
	switch c := kinesis.Classify(err); c {
	case kinesis.CauseUnreachable, kinesis.CauseBadResponse:
		return true
	case kinesis.CauseDNS:
		return errors.As(err, &dns) && !dns.IsNotFound
	default:
		return c.Transient
	}
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
