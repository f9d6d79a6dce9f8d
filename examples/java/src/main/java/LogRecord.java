/**
 * A log record, which is the {@code n}-th of its source: of a Kinesis record, or of a user record that KCL passes on.
 * {@code id} identifies it, also if it arrives twice. {@code data} is JSON, or what another producer sent.
 */
record LogRecord(String source, int n, String id, byte[] data) {}
