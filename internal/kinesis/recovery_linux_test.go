package kinesis

import (
	"context"
	"strings"
	"syscall"
	"testing"
)

// Without free descriptors nothing can be connected and no file can be read. That the
// files changed meanwhile is found later.
func TestRecovery_DescriptorsReturn(t *testing.T) {
	isolate(t)
	path, valid, sender, now := openOnFile(t)
	sender.pool.CloseIdleConnections()
	overwrite(t, path, keysFile(newKey))
	valid.key.Store(newKey)
	pass(now)

	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	none := limit
	none.Cur = 0
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none))
	_, err := sender.PutRecord(context.Background(), "logs", "key", []byte("data"))
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	if err == nil || !strings.Contains(err.Error(), "too many open files") {
		t.Errorf("got %v", err)
	}
	pass(now)
	put(t, sender)
}
