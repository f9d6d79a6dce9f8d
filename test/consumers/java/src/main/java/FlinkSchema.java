import java.io.IOException;
import java.nio.ByteBuffer;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.util.Collector;
import software.amazon.kinesis.retrieval.KinesisClientRecord;

/**
 * A schema for Flink's {@code KinesisStreamsSource}, which passes Kinesis records as they are:
 * {@code KinesisStreamsSource.<String>builder().setDeserializationSchema(new FlinkSchema())}.
 */
public final class FlinkSchema implements DeserializationSchema<String> {
    private static final long serialVersionUID = 1;

    @Override
    public void deserialize(byte[] message, Collector<String> out) throws IOException {
        for (KinesisClientRecord user : LogRecords.userRecords(ByteBuffer.wrap(message))) {
            LogRecords.ofUserRecord(user.data()).forEach(out::collect);
        }
    }

    @Override
    public String deserialize(byte[] message) {
        throw new UnsupportedOperationException("a Kinesis record holds many log records");
    }

    @Override
    public boolean isEndOfStream(String next) {
        return false;
    }

    @Override
    public TypeInformation<String> getProducedType() {
        return TypeInformation.of(String.class);
    }
}
