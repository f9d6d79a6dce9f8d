import com.github.luben.zstd.ZstdInputStream;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.zip.GZIPInputStream;
import java.util.zip.InflaterInputStream;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/** Log records in what the plugin writes. */
final class LogRecords {
    private LogRecords() {}

    /**
     * Returns the log records of a user record, which is a batch of the option {@code batch_size} or a single log
     * record, compressed or not. KCL passes user records to the application.
     */
    static List<String> ofUserRecord(ByteBuffer data) throws IOException {
        byte[] bytes = new byte[data.remaining()];
        data.duplicate().get(bytes);
        if (startsWith(bytes, 0xf3, 0x89, 0x9a, 0xc2)) {
            // AggregatorUtil and KCL pass on what they cannot take apart.
            throw new IOException("damaged aggregated record of " + bytes.length + " bytes");
        }
        try (InputStream in = decompress(bytes)) {
            String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
            // One newline at the end is that of the last line.
            return List.of((text.endsWith("\n") ? text.substring(0, text.length() - 1) : text).split("\n", -1));
        }
    }

    /** Takes a Kinesis record apart. A record that is not aggregated is its own user record. */
    static List<KinesisClientRecord> userRecords(ByteBuffer data) {
        KinesisClientRecord record = KinesisClientRecord.builder()
                .data(data.duplicate())
                // AggregatorUtil requires them, and copies them to records that are not aggregated.
                .partitionKey("unknown")
                .sequenceNumber("0")
                .build();
        return new AggregatorUtil().deaggregate(List.of(record));
    }

    // The first bytes tell the format, except that of `compression snappy`, for which the library snappy-java has
    // Snappy.uncompress.
    private static InputStream decompress(byte[] data) throws IOException {
        InputStream in = new ByteArrayInputStream(data);
        if (startsWith(data, 0x28, 0xb5, 0x2f, 0xfd)) {
            return new ZstdInputStream(in);
        }
        if (startsWith(data, 0x1f, 0x8b)) {
            return new GZIPInputStream(in);
        }
        if (startsWith(data, 0x78)) {
            return new InflaterInputStream(in); // zlib
        }
        return in;
    }

    private static boolean startsWith(byte[] data, int... magic) {
        for (int i = 0; i < magic.length; i++) {
            if (i == data.length || (data[i] & 0xff) != magic[i]) {
                return false;
            }
        }
        return true;
    }
}
