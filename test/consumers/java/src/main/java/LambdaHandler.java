import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.events.KinesisEvent;
import java.io.IOException;
import java.io.UncheckedIOException;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** An AWS Lambda function. */
public final class LambdaHandler implements RequestHandler<KinesisEvent, Void> {
    @Override
    public Void handleRequest(KinesisEvent event, Context context) {
        for (KinesisEvent.KinesisEventRecord record : event.getRecords()) {
            try {
                for (KinesisClientRecord user : LogRecords.userRecords(record.getKinesis().getData())) {
                    LogRecords.ofUserRecord(user.data()).forEach(this::handle);
                }
            } catch (IOException e) {
                throw new UncheckedIOException("record " + record.getKinesis().getSequenceNumber(), e);
            }
        }
        return null;
    }

    /** This method is yours. */
    private void handle(String line) {
        System.out.println(line);
    }
}
