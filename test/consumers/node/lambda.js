// An AWS Lambda function on Node.js 18 or later for a stream that the plugin writes.
// package.json pins the modules.
'use strict';

const zlib = require('node:zlib');
const { deaggregateSync } = require('aws-kinesis-agg');

// Node.js decompresses zstd itself since 22.15.
const unzstd = zlib.zstdDecompressSync ?? require('fzstd').decompress;

const VERIFY_CHECKSUMS = true;

// userRecords returns the user records of a Kinesis record as buffers. A record that
// is not aggregated is its own user record.
function userRecords(kinesis) {
  let all;
  deaggregateSync(kinesis, VERIFY_CHECKSUMS, (err, records) => {
    if (err) {
      throw new Error(`record ${kinesis.sequenceNumber}: ${err}`);
    }
    all = records;
  });
  return all.map((record) => Buffer.from(record.data, 'base64'));
}

// decompress returns a user record without its compression, which the first bytes
// tell. For `compression snappy`, which they do not tell, use the module snappy.
function decompress(data) {
  const start = data.subarray(0, 4).toString('hex');
  if (start === '28b52ffd') {
    return Buffer.from(unzstd(data));
  }
  if (start.startsWith('1f8b') || start.startsWith('78')) {
    return zlib.unzipSync(data); // gzip and zlib
  }
  return data;
}

// lines returns the log records of a user record: a batch of `batch_size`, or a
// single one.
function lines(data) {
  return data.toString().replace(/\n$/, '').split('\n');
}

exports.handler = async (event) => {
  for (const { kinesis } of event.Records) {
    for (const data of userRecords(kinesis)) {
      for (const line of lines(decompress(data))) {
        handle(JSON.parse(line));
      }
    }
  }
};

// handle is yours.
function handle(record) {
  console.log(JSON.stringify(record));
}
