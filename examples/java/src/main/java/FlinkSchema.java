import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.connector.kinesis.source.serialization.KinesisDeserializationSchema;
// In the connector flink-connector-aws-kinesis-streams: software.amazon.awssdk.services.kinesis.model.Record.
import org.apache.flink.kinesis.shaded.software.amazon.awssdk.services.kinesis.model.Record;
import org.apache.flink.util.Collector;

/**
 * A schema for Flink's {@code KinesisStreamsSource}, which passes Kinesis records as they are. It collects, for each
 * log record, the Kinesis record that holds it, its position there, and its text.
 */
public final class FlinkSchema implements KinesisDeserializationSchema<Tuple3<String, Integer, String>> {
    private static final long serialVersionUID = 1;

    static final TypeInformation<Tuple3<String, Integer, String>> TYPE =
            Types.TUPLE(Types.STRING, Types.INT, Types.STRING);

    @Override
    public void deserialize(Record record, String stream, String shard, Collector<Tuple3<String, Integer, String>> out)
            throws IOException {
        for (LogRecord log :
                LogRecords.of(record.partitionKey(), record.sequenceNumber(), record.data().asByteBuffer())) {
            out.collect(Tuple3.of(log.source(), log.n(), new String(log.data(), StandardCharsets.UTF_8)));
        }
    }

    @Override
    public TypeInformation<Tuple3<String, Integer, String>> getProducedType() {
        return TYPE;
    }
}
