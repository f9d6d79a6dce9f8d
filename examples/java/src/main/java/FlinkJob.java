import java.time.Duration;
import java.util.Map;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.functions.RichFilterFunction;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple3;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.kinesis.source.KinesisStreamsSource;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;

/** A job that prints each log record of a stream once: FlinkJob STREAM_ARN [OPTION=VALUE...], with Flink's options. */
public final class FlinkJob {
    public static void main(String[] args) throws Exception {
        Configuration config = new Configuration();
        config.setString("flink.stream.initpos", "TRIM_HORIZON"); // in connector 5: source.init.position
        for (int i = 1; i < args.length; i++) {
            String[] option = args[i].split("=", 2);
            config.setString(option[0], option[1]);
        }
        KinesisStreamsSource<Tuple3<String, Integer, String>> source =
                KinesisStreamsSource.<Tuple3<String, Integer, String>>builder()
                        .setStreamArn(args[0])
                        .setSourceConfig(config)
                        .setDeserializationSchema(new FlinkSchema())
                        .build();
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.enableCheckpointing(60_000);
        env.fromSource(source, WatermarkStrategy.noWatermarks(), "logs")
                .returns(FlinkSchema.TYPE) // Flink does not ask the schema.
                .keyBy(log -> log.f0, Types.STRING)
                .filter(new Once())
                .map(log -> log.f2)
                .returns(TypeInformation.of(String.class))
                .print(); // yours
        env.execute("logs");
    }

    /** Passes each log record once, by its position in the Kinesis record, which is the key. */
    private static final class Once extends RichFilterFunction<Tuple3<String, Integer, String>> {
        private static final long serialVersionUID = 1;
        private transient ValueState<Integer> passed;

        @Override
        public void open(OpenContext context) {
            ValueStateDescriptor<Integer> descriptor = new ValueStateDescriptor<>("passed", Types.INT);
            descriptor.enableTimeToLive(
                    StateTtlConfig.newBuilder(Duration.ofHours(6)).cleanupFullSnapshot().build());
            passed = getRuntimeContext().getState(descriptor);
        }

        @Override
        public boolean filter(Tuple3<String, Integer, String> log) throws Exception {
            int count = passed.value() == null ? 0 : passed.value();
            if (log.f1 < count) {
                return false;
            }
            passed.update(log.f1 + 1);
            return true;
        }
    }
}
