import com.amazonaws.services.lambda.runtime.events.KinesisEvent;
import com.amazonaws.services.lambda.runtime.events.StreamsEventResponse;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * Runs an example for its test: RunConsumer kcl|lambda, with Kinesis records in stdin as lines of partition key,
 * sequence number and base64. It exits with code 3 if the function reports a failure.
 */
public final class RunConsumer {
    public static void main(String[] args) throws Exception {
        System.setOut(new PrintStream(System.out, true, StandardCharsets.UTF_8));
        KinesisEvent event = new KinesisEvent();
        event.setRecords(new ArrayList<>());
        List<KinesisClientRecord> users = new ArrayList<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] fields = line.split("\t", -1);
            ByteBuffer data = ByteBuffer.wrap(Base64.getDecoder().decode(fields[2]));
            KinesisEvent.Record kinesis = new KinesisEvent.Record();
            kinesis.setPartitionKey(fields[0]);
            kinesis.setSequenceNumber(fields[1]);
            kinesis.setData(data);
            KinesisEvent.KinesisEventRecord record = new KinesisEvent.KinesisEventRecord();
            record.setKinesis(kinesis);
            event.getRecords().add(record);
            users.addAll(LogRecords.userRecords(fields[0], fields[1], data)); // as KCL does
        }
        if (args[0].equals("kcl")) {
            new KclProcessor(log -> System.out.println(new String(log.data(), StandardCharsets.UTF_8)))
                    .processRecords(ProcessRecordsInput.builder().records(users).build());
            return;
        }
        StreamsEventResponse response = new LambdaHandler().handleRequest(event, null);
        for (StreamsEventResponse.BatchItemFailure failure : response.getBatchItemFailures()) {
            System.err.println("failure " + failure.getItemIdentifier());
            System.exit(3);
        }
    }
}
