import java.io.BufferedInputStream;
import java.io.BufferedOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * Reads Kinesis records with KCL's AggregatorUtil: Interop IN OUT. The files are those of frames.go.
 */
public final class Interop {
    public static void main(String[] args) throws IOException {
        AggregatorUtil util = new AggregatorUtil();
        try (DataInputStream in = new DataInputStream(new BufferedInputStream(open(args[0])));
                DataOutputStream out =
                        new DataOutputStream(new BufferedOutputStream(Files.newOutputStream(Path.of(args[1]))))) {
            while (in.available() > 0) {
                String key = text(in);
                String starting = text(in);
                String ending = text(in);
                KinesisClientRecord record = KinesisClientRecord.builder()
                        .partitionKey(key)
                        .sequenceNumber("1")
                        .data(ByteBuffer.wrap(bytes(in)))
                        .build();
                write(out, util.deaggregate(List.of(record), starting, ending));
            }
        }
    }

    private static void write(DataOutputStream out, List<KinesisClientRecord> records) throws IOException {
        boolean plain = records.size() == 1 && !records.get(0).aggregated();
        out.writeByte(plain ? 'P' : 'A');
        out.writeInt(records.size());
        int number = 0;
        for (KinesisClientRecord r : records) {
            if (!plain && r.subSequenceNumber() != number++) {
                throw new IOException("sub-sequence number " + r.subSequenceNumber());
            }
            write(out, r.partitionKey().getBytes(StandardCharsets.UTF_8));
            String explicit = r.explicitHashKey() == null ? "" : r.explicitHashKey();
            write(out, explicit.getBytes(StandardCharsets.UTF_8));
            byte[] data = new byte[r.data().remaining()];
            r.data().get(data);
            write(out, data);
        }
    }

    private static void write(DataOutputStream out, byte[] field) throws IOException {
        out.writeInt(field.length);
        out.write(field);
    }

    private static InputStream open(String path) throws IOException {
        return Files.newInputStream(Path.of(path));
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
