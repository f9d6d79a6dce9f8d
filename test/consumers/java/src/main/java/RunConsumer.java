import com.amazonaws.services.lambda.runtime.events.KinesisEvent;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import org.apache.flink.util.Collector;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** Runs an example for its test: RunConsumer kcl|lambda|flink, with Kinesis records in stdin as lines of base64. */
public final class RunConsumer {
    public static void main(String[] args) throws Exception {
        System.setOut(new PrintStream(System.out, true, StandardCharsets.UTF_8));
        List<ByteBuffer> records = new ArrayList<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            records.add(ByteBuffer.wrap(Base64.getDecoder().decode(line)));
        }
        switch (args[0]) {
            case "kcl" -> {
                List<KinesisClientRecord> users = new ArrayList<>();
                records.forEach(data -> users.addAll(LogRecords.userRecords(data))); // as KCL does
                new KclProcessor(System.out::println)
                        .processRecords(ProcessRecordsInput.builder().records(users).build());
            }
            case "lambda" -> {
                KinesisEvent event = new KinesisEvent();
                event.setRecords(new ArrayList<>());
                for (ByteBuffer data : records) {
                    KinesisEvent.Record kinesis = new KinesisEvent.Record();
                    kinesis.setData(data);
                    KinesisEvent.KinesisEventRecord record = new KinesisEvent.KinesisEventRecord();
                    record.setKinesis(kinesis);
                    event.getRecords().add(record);
                }
                new LambdaHandler().handleRequest(event, null);
            }
            case "flink" -> {
                FlinkSchema schema = new FlinkSchema();
                for (ByteBuffer data : records) {
                    schema.deserialize(data.array(), new Collector<>() {
                        @Override
                        public void collect(String line) {
                            System.out.println(line);
                        }

                        @Override
                        public void close() {}
                    });
                }
            }
            default -> throw new IllegalArgumentException(args[0]);
        }
    }
}
