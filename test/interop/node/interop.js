#!/usr/bin/env node
// interop.js reads Kinesis records with aws-kinesis-agg, checksums verified, or
// writes them:
//   interop.js read RECORDS GROUPS
//   interop.js write GROUPS RECORDS
// The files are those of frames.go. NODE_PATH has to contain the library.
'use strict';

const fs = require('node:fs');
const { RecordAggregator } = require('aws-kinesis-agg');
const { deaggregate } = require('../../kit/readers/deaggregate.js');

const [mode, from, to] = process.argv.slice(2);
const input = fs.readFileSync(from);
let at = 0;
const output = fs.openSync(to, 'w');
let pending = [];
let pendingBytes = 0;

function field() {
  const length = input.readUInt32BE(at);
  at += 4 + length;
  return input.subarray(at - length, at);
}

function emit(buffer) {
  pending.push(buffer);
  pendingBytes += buffer.length;
  if (pendingBytes > 1 << 22) {
    flush();
  }
}

function flush() {
  fs.writeSync(output, Buffer.concat(pending));
  pending = [];
  pendingBytes = 0;
}

function emitField(value) {
  const buffer = Buffer.from(value);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(buffer.length);
  emit(length);
  emit(buffer);
}

function read() {
  const partitionKey = field().toString();
  field();
  field(); // the shard's range, which the library does not look at
  const data = field().toString('base64');
  let records;
  try {
    records = deaggregate({ partitionKey, sequenceNumber: '1', data });
  } catch {
    records = [{ partitionKey, data }];
  }
  const plain = records.length === 1 && records[0].subSequenceNumber === undefined;
  const head = Buffer.alloc(5);
  head.write(plain ? 'P' : 'A');
  head.writeUInt32BE(records.length, 1);
  emit(head);
  for (const [i, r] of records.entries()) {
    if (!plain && r.subSequenceNumber !== i) {
      throw new Error(`sub-sequence number ${r.subSequenceNumber}`);
    }
    emitField(r.partitionKey);
    emitField(r.explicitPartitionKey ?? '');
    emitField(Buffer.from(r.data, 'base64'));
  }
}

function write() {
  const count = input.readUInt32BE(at + 1);
  at += 5;
  const aggregator = new RecordAggregator();
  for (let i = 0; i < count; i++) {
    const partitionKey = field().toString();
    const explicitHashKey = field().toString() || undefined;
    aggregator.addUserRecord({ partitionKey, explicitHashKey, data: field() });
  }
  const record = aggregator.build();
  emitField(record.partitionKey);
  emitField('');
  emitField('');
  emitField(record.data);
}

while (at < input.length) {
  (mode === 'read' ? read : write)();
}
flush();
