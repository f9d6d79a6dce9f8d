import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.github.luben.zstd.ZstdInputStream;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.regex.Pattern;
import java.util.zip.GZIPInputStream;
import java.util.zip.InflaterInputStream;
import software.amazon.kinesis.retrieval.AggregatorUtil;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * Log records in what the plugin writes: in aggregated records, in records without the KPL envelope
 * ({@code record_format ndjson}), and in records of other producers.
 */
final class LogRecords {
    private static final Pattern UUID =
            Pattern.compile("[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}");
    private static final ObjectMapper JSON =
            new ObjectMapper().enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

    private LogRecords() {}

    /** Returns the log records of a Kinesis record, as Lambda and Flink pass it. */
    static List<LogRecord> of(String partitionKey, String sequenceNumber, ByteBuffer data) throws IOException {
        List<LogRecord> all = new ArrayList<>();
        String source = source(partitionKey, sequenceNumber, data);
        for (KinesisClientRecord user : userRecords(partitionKey, sequenceNumber, data)) {
            add(all, source, user);
        }
        return all;
    }

    /** Returns the log records of a user record, as KCL passes it. */
    static List<LogRecord> ofUserRecord(KinesisClientRecord user) throws IOException {
        List<LogRecord> all = new ArrayList<>();
        String source = source(user.partitionKey(), user.sequenceNumber(), user.data());
        add(all, source + "/" + user.subSequenceNumber(), user);
        return all;
    }

    private static void add(List<LogRecord> all, String source, KinesisClientRecord user) throws IOException {
        List<byte[]> lines = lines(decompress(bytes(user.data())), user.aggregated());
        for (int line = 0; line < lines.size(); line++) {
            String id = source + "/" + user.subSequenceNumber() + "/" + line;
            all.add(new LogRecord(source, all.size(), id, lines.get(line)));
        }
    }

    /**
     * Identifies a record. If the plugin sends one twice, the second has the same random partition key and the same
     * bytes. Under another key, records with the same bytes may be different ones: the sequence number tells them
     * apart.
     */
    private static String source(String partitionKey, String sequenceNumber, ByteBuffer data) {
        if (!UUID.matcher(partitionKey).matches()) {
            return sequenceNumber;
        }
        try {
            byte[] digest = MessageDigest.getInstance("MD5").digest(bytes(data));
            return partitionKey + "/" + HexFormat.of().formatHex(digest);
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // Every Java platform has it.
        }
    }

    /** Takes a Kinesis record apart, as KCL does. A record that is not aggregated is its own user record. */
    static List<KinesisClientRecord> userRecords(String partitionKey, String sequenceNumber, ByteBuffer data) {
        KinesisClientRecord record = KinesisClientRecord.builder()
                .data(data.duplicate())
                .partitionKey(partitionKey)
                .sequenceNumber(sequenceNumber)
                .build();
        return new AggregatorUtil().deaggregate(List.of(record));
    }

    // The first bytes tell the format, except that of `compression snappy`, for which the library snappy-java has
    // Snappy.uncompress.
    private static byte[] decompress(byte[] data) throws IOException {
        if (startsWith(data, 0xf3, 0x89, 0x9a, 0xc2)) {
            // AggregatorUtil and KCL pass on what they cannot take apart.
            throw new IOException("damaged aggregated record of " + data.length + " bytes");
        }
        try (InputStream in = decompressor(data)) {
            return in.readAllBytes();
        }
    }

    private static InputStream decompressor(byte[] data) throws IOException {
        InputStream in = new ByteArrayInputStream(data);
        if (startsWith(data, 0x28, 0xb5, 0x2f, 0xfd)) {
            return new ZstdInputStream(in);
        }
        int head = data.length < 2 ? 0 : (data[0] & 0xff) << 8 | data[1] & 0xff;
        if (head == 0x1f8b) {
            return new GZIPInputStream(in);
        }
        if (head >> 8 == 0x78 && head % 31 == 0 && (head & 0x20) == 0) {
            return new InflaterInputStream(in); // zlib: RFC 1950
        }
        return in;
    }

    // A batch ends with a newline, and is split at byte 0A. Anything else is one log record. So is text of another
    // producer, unless each of its lines is JSON.
    private static List<byte[]> lines(byte[] data, boolean aggregated) {
        if (data.length == 0 || data[data.length - 1] != '\n') {
            return List.of(data);
        }
        List<byte[]> all = new ArrayList<>();
        for (int from = 0, to = 0; to < data.length; to++) {
            if (data[to] == '\n') {
                all.add(Arrays.copyOfRange(data, from, to));
                from = to + 1;
            }
        }
        return aggregated || all.stream().allMatch(LogRecords::isJson) ? all : List.of(data);
    }

    private static boolean isJson(byte[] line) {
        try {
            return !JSON.readTree(line).isMissingNode();
        } catch (IOException e) {
            return false;
        }
    }

    private static byte[] bytes(ByteBuffer data) {
        byte[] bytes = new byte[data.remaining()];
        data.duplicate().get(bytes);
        return bytes;
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
