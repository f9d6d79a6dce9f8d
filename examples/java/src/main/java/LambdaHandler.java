import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.events.KinesisEvent;
import com.amazonaws.services.lambda.runtime.events.StreamsEventResponse;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;

/** An AWS Lambda function. Switch on ReportBatchItemFailures in the event source mapping. */
public final class LambdaHandler implements RequestHandler<KinesisEvent, StreamsEventResponse> {
    private final Handled handled = new Handled(10_000);

    @Override
    public StreamsEventResponse handleRequest(KinesisEvent event, Context context) {
        for (KinesisEvent.KinesisEventRecord item : event.getRecords()) {
            KinesisEvent.Record record = item.getKinesis();
            String number = record.getSequenceNumber();
            try {
                handled.each(LogRecords.of(record.getPartitionKey(), number, record.getData()), this::handle);
            } catch (IOException | RuntimeException e) {
                System.err.println("record " + number + ": " + e);
                // Lambda calls again with this record and all after it.
                return new StreamsEventResponse(List.of(new StreamsEventResponse.BatchItemFailure(number)));
            }
        }
        return new StreamsEventResponse(List.of());
    }

    /** This method is yours. Store the data under the ID. */
    private void handle(LogRecord record) {
        System.out.println(new String(record.data(), StandardCharsets.UTF_8));
    }
}
