/** A log record: id identifies it, also if it arrives twice. */
export interface LogRecord {
  id: string;
  data: Buffer;
}

export function logRecords(kinesis: { data: string; partitionKey: string; sequenceNumber: string }): LogRecord[];

export class Handled {
  each(records: LogRecord[], handle: (record: LogRecord) => void | Promise<void>): Promise<void>;
}
