// Log records in what the plugin writes: of aggregated records, of records without
// the KPL envelope (`record_format ndjson`), and records of other producers.
'use strict';

const { createHash } = require('node:crypto');
const zlib = require('node:zlib');
const { deaggregateSync } = require('aws-kinesis-agg');

// Node.js decompresses zstd itself since 22.15.
const unzstd = zlib.zstdDecompressSync ?? require('fzstd').decompress;

const MAGIC = Buffer.from('f3899ac2', 'hex');
const VERIFY_CHECKSUMS = true;
const NEWLINE = 0x0a;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

// logRecords returns the log records of a Kinesis record of a Lambda event, as
// { id, data }: a string that identifies the log record, and a Buffer.
function logRecords(kinesis) {
  const data = Buffer.from(kinesis.data, 'base64');
  const aggregated = data.subarray(0, MAGIC.length).equals(MAGIC);
  const source = sourceOf(kinesis, data);
  return (aggregated ? userRecords(kinesis) : [data]).flatMap((user, sub) =>
    lines(decompress(user), aggregated).map((line, n) => ({ id: `${source}/${sub}/${n}`, data: line })));
}

// sourceOf identifies a Kinesis record. If the plugin sends one twice, the second has
// the same random partition key and the same bytes. Under another key, records with
// the same bytes may be different ones: the sequence number tells them apart.
function sourceOf(kinesis, data) {
  return UUID.test(kinesis.partitionKey)
    ? `${kinesis.partitionKey}/${createHash('md5').update(data).digest('hex')}`
    : kinesis.sequenceNumber;
}

function userRecords(kinesis) {
  let all;
  deaggregateSync(kinesis, VERIFY_CHECKSUMS, (err, records) => {
    if (err) {
      throw new Error(`damaged aggregated record: ${err}`);
    }
    all = records;
  });
  return all.map((record) => Buffer.from(record.data, 'base64'));
}

// decompress returns data without its compression, which the first bytes tell. For
// `compression snappy`, which they do not tell, use the module snappy.
function decompress(data) {
  if (data.subarray(0, 4).toString('hex') === '28b52ffd') {
    return Buffer.from(unzstd(data));
  }
  const head = data.length < 2 ? 0 : data.readUInt16BE();
  const isZlib = head >> 8 === 0x78 && head % 31 === 0 && (head & 0x20) === 0; // RFC 1950
  return head === 0x1f8b || isZlib ? zlib.unzipSync(data) : data;
}

// lines splits a batch, which ends with a newline, at byte 0A. Anything else is one
// log record. So is text of another producer, unless each of its lines is JSON.
function lines(data, aggregated) {
  if (data.at(-1) !== NEWLINE) {
    return [data];
  }
  const all = [];
  for (let from = 0, to; from < data.length; from = to + 1) {
    to = data.indexOf(NEWLINE, from);
    all.push(data.subarray(from, to));
  }
  return aggregated || all.every(isJSON) ? all : [data];
}

function isJSON(data) {
  try {
    JSON.parse(data);
    return true;
  } catch {
    return false;
  }
}

// Handled remembers, for the last Kinesis records, how many of their log records are
// handled, as long as this instance of the function lives.
class Handled {
  #counts = new Map();

  // each calls handle for the log records of a Kinesis record that are not handled yet.
  async each(records, handle) {
    const source = records[0].id.replace(/\/\d+\/\d+$/, '');
    for (let n = this.#counts.get(source) ?? 0; n < records.length; n++) {
      await handle(records[n]);
      this.#counts.set(source, n + 1);
    }
    if (this.#counts.size > 10_000) {
      this.#counts.delete(this.#counts.keys().next().value); // the oldest
    }
  }
}

module.exports = { logRecords, Handled };
