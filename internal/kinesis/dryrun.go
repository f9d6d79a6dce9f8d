package kinesis

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// ErrNoDryRun is the error of DryRun for an endpoint that is not AWS's own.
var ErrNoDryRun = errors.New("kinesis: only AWS's own endpoints are known to support DryRun")

// DryRun checks, within RequestTimeout, the endpoint, the credentials, the stream and the
// permission to write to it, but not the stream's KMS key. Nothing is stored. Kinesis
// permits one call a second and stream, and bills it. It needs the permission of
// PutRecord. Source: "Dry run validation" of the developer guide. DryRun returns nil,
// ErrNoDryRun, or an *Error.
//
// An endpoint that does not know DryRun would store the record, so it is only
// sent to AWS's own endpoints; data should not contain user records in any case.
func (s *Sender) DryRun(ctx context.Context, stream, partitionKey string, data []byte) error {
	if s.client.Options().BaseEndpoint != nil {
		return ErrNoDryRun
	}
	ctx, cancel := context.WithTimeout(ctx, s.requestTimeout)
	defer cancel()
	ctx, try := newAttempt(ctx)
	in := &kinesis.PutRecordInput{PartitionKey: &partitionKey, Data: data, DryRun: aws.Bool(true)}
	in.StreamName, in.StreamARN = streamID(stream)
	_, err := s.client.PutRecord(ctx, in)
	var success *types.DryRunOperationException
	if err == nil || errors.As(err, &success) {
		return nil
	}
	return s.failed(ctx, try, "check stream "+stream, err)
}
