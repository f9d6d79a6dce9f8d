#!/usr/bin/env node
// deaggregate.js exports deaggregate(record). As a command, it reads Kinesis
// records from stdin, as JSON lines
//   {"partitionKey": "...", "explicitHashKey": "...", "sequenceNumber": "...", "data": "base64"}
// and prints their user records, as JSON lines
//   {"partitionKey": "...", "explicitHashKey": "...", "sequenceNumber": "...", "subSequenceNumber": 0, "data": "base64"}
// in order. A record that is not aggregated is printed without subSequenceNumber.
// The command exits with code 1 at the first record that aws-kinesis-agg refuses.
'use strict';

const readline = require('node:readline');
const { deaggregateSync } = require('aws-kinesis-agg');

const VERIFY_CHECKSUMS = true;

// deaggregate returns the user records of a Kinesis record, with the checksum
// verified. It throws if aws-kinesis-agg refuses the record.
function deaggregate(record) {
  let userRecords;
  deaggregateSync(
    {
      partitionKey: record.partitionKey,
      explicitPartitionKey: record.explicitHashKey,
      sequenceNumber: record.sequenceNumber,
      data: record.data,
    },
    VERIFY_CHECKSUMS,
    (err, records) => {
      if (err) {
        throw err;
      }
      userRecords = records;
    },
  );
  return userRecords;
}

async function main() {
  let line = 0;
  for await (const text of readline.createInterface({ input: process.stdin, crlfDelay: Infinity })) {
    line++;
    if (text === '') {
      continue;
    }
    let userRecords;
    try {
      userRecords = deaggregate(JSON.parse(text));
    } catch (err) {
      throw new Error(`record ${line}: ${err.message}`);
    }
    const out = userRecords.map((r) => JSON.stringify({
      partitionKey: r.partitionKey,
      explicitHashKey: r.explicitPartitionKey,
      sequenceNumber: r.sequenceNumber,
      subSequenceNumber: r.subSequenceNumber,
      data: r.data,
    }) + '\n').join('');
    if (!process.stdout.write(out)) {
      await new Promise((resolve) => process.stdout.once('drain', resolve));
    }
  }
}

module.exports = { deaggregate };

if (require.main === module) {
  main().catch((err) => {
    process.stderr.write(`deaggregate: ${err.message}\n`);
    process.exitCode = 1;
  });
}
