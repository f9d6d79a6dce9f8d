import java.io.IOException;
import java.io.OutputStream;
import java.io.PrintStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import software.amazon.awssdk.http.nio.netty.NettyNioAsyncHttpClient;
import software.amazon.awssdk.services.cloudwatch.CloudWatchAsyncClient;
import software.amazon.awssdk.services.dynamodb.DynamoDbAsyncClient;
import software.amazon.awssdk.services.kinesis.KinesisAsyncClient;
import software.amazon.kinesis.common.ConfigsBuilder;
import software.amazon.kinesis.common.InitialPositionInStream;
import software.amazon.kinesis.common.InitialPositionInStreamExtended;
import software.amazon.kinesis.coordinator.Scheduler;
import software.amazon.kinesis.lifecycle.events.InitializationInput;
import software.amazon.kinesis.lifecycle.events.LeaseLostInput;
import software.amazon.kinesis.lifecycle.events.ProcessRecordsInput;
import software.amazon.kinesis.lifecycle.events.ShardEndedInput;
import software.amazon.kinesis.lifecycle.events.ShutdownRequestedInput;
import software.amazon.kinesis.metrics.NullMetricsFactory;
import software.amazon.kinesis.processor.ShardRecordProcessor;
import software.amazon.kinesis.processor.SingleStreamTracker;
import software.amazon.kinesis.retrieval.KinesisClientRecord;
import software.amazon.kinesis.retrieval.polling.PollingConfig;

/**
 * A KCL application: Consume STREAM KINESIS DYNAMODB, the last two being base URLs. It prints a line a user record,
 * "SHARD SEQUENCE SUBSEQUENCE BASE64", until its standard input ends.
 */
public final class Consume {
    private static final PrintStream OUT = System.out;
    private static final String TABLE = "interop";

    public static void main(String[] args) {
        Thread end = new Thread(() -> {
            try {
                System.in.transferTo(OutputStream.nullOutputStream());
            } catch (IOException e) {
                // It has ended in another way.
            }
            Runtime.getRuntime().halt(0);
        });
        end.setDaemon(true);
        end.start();
        String stream = args[0];
        KinesisAsyncClient kinesis = KinesisAsyncClient.builder()
                .endpointOverride(URI.create(args[1]))
                .httpClientBuilder(NettyNioAsyncHttpClient.builder())
                .build();
        DynamoDbAsyncClient dynamo = DynamoDbAsyncClient.builder()
                .endpointOverride(URI.create(args[2]))
                .build();
        CloudWatchAsyncClient cloudWatch = CloudWatchAsyncClient.builder()
                .endpointOverride(URI.create(args[1]))
                .build();
        ConfigsBuilder configs = new ConfigsBuilder(
                new SingleStreamTracker(
                        stream,
                        InitialPositionInStreamExtended.newInitialPosition(InitialPositionInStream.TRIM_HORIZON)),
                TABLE,
                kinesis,
                dynamo,
                cloudWatch,
                "worker",
                Processor::new);
        new Scheduler(
                        configs.checkpointConfig(),
                        configs.coordinatorConfig()
                                .parentShardPollIntervalMillis(500)
                                .shardConsumerDispatchPollIntervalMillis(200),
                        configs.leaseManagementConfig()
                                .shardSyncIntervalMillis(1000)
                                .failoverTimeMillis(1000),
                        configs.lifecycleConfig(),
                        configs.metricsConfig().metricsFactory(new NullMetricsFactory()),
                        configs.processorConfig(),
                        configs.retrievalConfig()
                                .retrievalSpecificConfig(
                                        new PollingConfig(stream, kinesis).idleTimeBetweenReadsInMillis(200)))
                .run();
    }

    private static final class Processor implements ShardRecordProcessor {
        private String shard;

        @Override
        public void initialize(InitializationInput input) {
            shard = input.shardId();
        }

        @Override
        public void processRecords(ProcessRecordsInput input) {
            StringBuilder lines = new StringBuilder();
            for (KinesisClientRecord r : input.records()) {
                byte[] data = new byte[r.data().remaining()];
                r.data().get(data);
                lines.append(shard).append(' ').append(r.sequenceNumber()).append(' ')
                        .append(r.aggregated() ? r.subSequenceNumber() : -1).append(' ')
                        .append(Base64.getEncoder().encodeToString(data)).append('\n');
            }
            synchronized (OUT) {
                OUT.write(lines.toString().getBytes(StandardCharsets.UTF_8), 0, lines.length());
                OUT.flush();
            }
        }

        @Override
        public void leaseLost(LeaseLostInput input) {}

        @Override
        public void shardEnded(ShardEndedInput input) {
            try {
                input.checkpointer().checkpoint();
            } catch (Exception e) {
                throw new IllegalStateException(e);
            }
        }

        @Override
        public void shutdownRequested(ShutdownRequestedInput input) {}
    }
}
