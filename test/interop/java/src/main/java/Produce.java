import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import software.amazon.awssdk.auth.credentials.EnvironmentVariableCredentialsProvider;
import software.amazon.kinesis.producer.KinesisProducer;
import software.amazon.kinesis.producer.KinesisProducerConfiguration;
import software.amazon.kinesis.producer.UserRecordResult;

/**
 * Sends user records with the native KPL: Produce GROUPS STREAM PORT TEMPDIR. It aggregates as it likes, so that
 * groups are not kept together, and a record "1" comes before them. PORT is that of a local Kinesis with TLS.
 */
public final class Produce {
    public static void main(String[] args) throws Exception {
        long port = Long.parseLong(args[2]);
        KinesisProducer producer = new KinesisProducer(new KinesisProducerConfiguration()
                .setRegion(System.getenv("AWS_REGION"))
                .setKinesisEndpoint("127.0.0.1")
                .setKinesisPort(port)
                .setCloudwatchEndpoint("127.0.0.1")
                .setCloudwatchPort(port)
                .setStsEndpoint("127.0.0.1")
                .setStsPort(port)
                .setVerifyCertificate(false)
                .setMetricsLevel("none")
                .setTempDirectory(args[3])
                .setCredentialsProvider(EnvironmentVariableCredentialsProvider.create()));
        // What comes before it knows the shards, it does not aggregate.
        producer.addUserRecord(args[1], "first", ByteBuffer.wrap(new byte[] {'1'})).get(60, TimeUnit.SECONDS);
        TimeUnit.SECONDS.sleep(3);
        List<Future<UserRecordResult>> results = new ArrayList<>();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(Files.newInputStream(Path.of(args[0]))))) {
            while (in.available() > 0) {
                in.readByte();
                int count = in.readInt();
                for (int i = 0; i < count; i++) {
                    String key = text(in);
                    String explicit = text(in);
                    ByteBuffer data = ByteBuffer.wrap(bytes(in));
                    results.add(producer.addUserRecord(args[1], key, explicit.isEmpty() ? null : explicit, data));
                }
            }
        }
        producer.flush();
        for (Future<UserRecordResult> result : results) {
            if (!result.get(60, TimeUnit.SECONDS).isSuccessful()) {
                throw new IOException("a record was not taken");
            }
        }
        producer.destroy();
        System.exit(0); // The client has threads that go on.
    }

    private static byte[] bytes(DataInputStream in) throws IOException {
        byte[] field = new byte[in.readInt()];
        in.readFully(field);
        return field;
    }

    private static String text(DataInputStream in) throws IOException {
        return new String(bytes(in), StandardCharsets.UTF_8);
    }
}
