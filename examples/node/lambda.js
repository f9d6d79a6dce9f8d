// An AWS Lambda function on Node.js 18 or later for a stream that the plugin writes.
// Switch on ReportBatchItemFailures in the event source mapping.
'use strict';

const { logRecords, Handled } = require('./log-records.js');

const handled = new Handled();

exports.handler = async (event) => {
  for (const { kinesis } of event.Records) {
    try {
      await handled.each(logRecords(kinesis), handle);
    } catch (err) {
      console.error(`record ${kinesis.sequenceNumber}: ${err.message}`);
      // Lambda calls again with this record and all after it.
      return { batchItemFailures: [{ itemIdentifier: kinesis.sequenceNumber }] };
    }
  }
  return { batchItemFailures: [] };
};

// handle is yours. data is JSON, or what another producer sent; store it under id.
async function handle({ id, data }) {
  console.log(data.toString());
}
