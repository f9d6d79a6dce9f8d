// Command go is an AWS Lambda function for a stream that the plugin writes. Switch on
// ReportBatchItemFailures in the event source mapping.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(new(function).handle)
}

type function struct {
	handled handled
}

func (f *function) handle(_ context.Context, event events.KinesisEvent) (events.KinesisEventResponse, error) {
	response := events.KinesisEventResponse{BatchItemFailures: []events.KinesisBatchItemFailure{}}
	for _, record := range event.Records {
		if err := f.handled.each(record.Kinesis, handle); err != nil {
			number := record.Kinesis.SequenceNumber
			fmt.Fprintf(os.Stderr, "record %s: %v\n", number, err)
			// Lambda calls again with this record and all after it.
			response.BatchItemFailures = append(response.BatchItemFailures, events.KinesisBatchItemFailure{ItemIdentifier: number})
			break
		}
	}
	return response, nil
}

// handle is yours. data is JSON, or what another producer sent; store it under id. data
// is valid until handle returns.
func handle(id string, data []byte) error {
	_, err := fmt.Printf("%s\n", data)
	return err
}
