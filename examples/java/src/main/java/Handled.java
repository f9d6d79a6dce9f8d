import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Consumer;

/** Remembers, for the last sources of log records, how many of their log records are handled. */
final class Handled {
    private final Map<String, Integer> counts;

    /** An entry takes about 250 bytes. */
    Handled(int maxSources) {
        counts = new LinkedHashMap<>() {
            private static final long serialVersionUID = 1;

            @Override
            protected boolean removeEldestEntry(Map.Entry<String, Integer> eldest) {
                return size() > maxSources;
            }
        };
    }

    /** Calls {@code handle} for the log records, all of one source, that are not handled yet. */
    void each(List<LogRecord> records, Consumer<LogRecord> handle) {
        String source = records.get(0).source();
        for (int n = counts.getOrDefault(source, 0); n < records.size(); n++) {
            handle.accept(records.get(n));
            counts.put(source, n + 1);
        }
    }
}
