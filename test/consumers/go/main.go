// Command go is an AWS Lambda function for a stream that the plugin writes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"

	"out_kinesis_agg/kpl"
	"out_kinesis_agg/kpl/decompress"
)

func main() {
	lambda.Start(handler)
}

func handler(_ context.Context, event events.KinesisEvent) error {
	var decoder decompress.Decoder
	var text []byte
	userRecord := func(data []byte) error {
		// For `compression snappy`, pass compression.Snappy of kpl/compression.
		var err error
		if text, err = decoder.Append(text[:0], data, decompress.Detect(data)); err != nil {
			return err
		}
		for line := range decompress.Lines(text) {
			if err := handle(line); err != nil {
				return err
			}
		}
		return nil
	}
	for _, record := range event.Records {
		data := record.Kinesis.Data
		aggregate, err := kpl.Open(data)
		if errors.Is(err, kpl.ErrNotAggregated) {
			err = userRecord(data) // of another producer
		}
		if err == nil {
			for _, user := range aggregate.All() {
				if err = userRecord(user.Data); err != nil {
					break
				}
			}
		}
		if err != nil {
			return fmt.Errorf("record %s: %w", record.Kinesis.SequenceNumber, err)
		}
	}
	return nil
}

// handle is yours. line is valid until it returns.
func handle(line []byte) error {
	_, err := fmt.Fprintf(os.Stdout, "%s\n", line)
	return err
}
