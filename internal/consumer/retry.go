package consumer

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
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
		case isThrottled(err):
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

// callError shortens an error of the SDK to the error that Kinesis returned, or
// to the error of the connection.
type callError struct{ err error }

func (e callError) Unwrap() error { return e.err }

func (e callError) Error() string {
	var response smithy.APIError
	var unsent *smithyhttp.RequestSendError
	switch {
	case errors.As(e.err, &response):
		return response.ErrorCode() + ": " + response.ErrorMessage()
	case errors.As(e.err, &unsent):
		return unsent.Err.Error()
	}
	return e.err.Error()
}

func isThrottled(err error) bool {
	var e smithy.APIError
	return errors.As(err, &e) && e.ErrorCode() == "KMSThrottlingException" ||
		retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary
}

func isRetryable(err error) bool {
	var e smithy.APIError
	if errors.As(err, &e) && (e.ErrorCode() == "InternalFailureException" || e.ErrorCode() == "InternalFailure") {
		return true
	}
	return errors.Is(err, context.DeadlineExceeded) ||
		retry.IsErrorRetryables(retry.DefaultRetryables).IsErrorRetryable(err) == aws.TrueTernary
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
