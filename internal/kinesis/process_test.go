package kinesis

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

func processOutput(key string, expires time.Time) string {
	return fmt.Sprintf(`{"Version":1,"AccessKeyId":%q,"SecretAccessKey":"secret","Expiration":%q}`, key, expires.UTC().Format(time.RFC3339))
}

// useProcess configures a credential_process that runs script, and returns the path of
// the configuration.
func useProcess(t *testing.T, script string) (config string) {
	if runtime.GOOS == "windows" {
		t.Skip("needs sh, which Windows does not have")
	}
	path := write(t, "process.sh", script+"\n")
	config = write(t, "config", "[default]\ncredential_process = sh "+path+"\n")
	t.Setenv("AWS_CONFIG_FILE", config)
	return config
}
