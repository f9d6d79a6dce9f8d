import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.function.Consumer;
import software.amazon.kinesis.exceptions.InvalidStateException;
import software.amazon.kinesis.exceptions.ShutdownException;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** A record processor of KCL, which has taken aggregated records apart. */
final class KclProcessor implements ShardRecordProcessor {
    private final Handled handled = new Handled(200_000); // user records
    private final Consumer<LogRecord> handle; // yours

    KclProcessor(Consumer<LogRecord> handle) {
        this.handle = handle;
    }

    @Override
    public void processRecords(ProcessRecordsInput input) {
        for (KinesisClientRecord record : input.records()) {
            try {
                handled.each(LogRecords.ofUserRecord(record), handle);
            } catch (IOException e) {
                // KCL logs this and goes on: write the record to a place for damaged records instead, or stop.
                throw new UncheckedIOException("record " + record.sequenceNumber(), e);
            }
        }
        // Checkpoint here, as often as you may repeat records after a restart.
    }

    @Override
    public void initialize(InitializationInput input) {}

    @Override
    public void leaseLost(LeaseLostInput input) {}

    @Override
    public void shardEnded(ShardEndedInput input) {
        try {
            input.checkpointer().checkpoint();
        } catch (InvalidStateException | ShutdownException e) {
            throw new IllegalStateException(e);
        }
    }

    @Override
    public void shutdownRequested(ShutdownRequestedInput input) {}
}
