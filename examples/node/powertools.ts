// An AWS Lambda function with the batch processor of Powertools for AWS Lambda.
// Switch on ReportBatchItemFailures in the event source mapping.
import { BatchProcessor, EventType, processPartialResponse } from '@aws-lambda-powertools/batch';
import type { Context, KinesisStreamEvent, KinesisStreamRecord } from 'aws-lambda';
import { Handled, logRecords, type LogRecord } from './log-records.js';

const processor = new BatchProcessor(EventType.KinesisDataStreams);
const handled = new Handled();

const recordHandler = (record: KinesisStreamRecord): Promise<void> => handled.each(logRecords(record.kinesis), handle);

export const handler = async (event: KinesisStreamEvent, context: Context) =>
  processPartialResponse(event, recordHandler, processor, {
    context,
    processInParallel: false, // keeps the order
    throwOnFullBatchFailure: false, // reports each failure
  });

// handle is yours. data is JSON, or what another producer sent; store it under id.
async function handle({ id, data }: LogRecord): Promise<void> {
  console.log(data.toString());
}
