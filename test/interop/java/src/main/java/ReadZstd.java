import io.airlift.compress.zstd.ZstdInputStream;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;

/** ReadZstd FILE prints a file that Trino's decompressor has decompressed. */
public final class ReadZstd {
    public static void main(String[] args) throws IOException {
        try (InputStream in = new ZstdInputStream(new FileInputStream(args[0]))) {
            in.transferTo(System.out);
        }
        System.out.flush();
    }
}
