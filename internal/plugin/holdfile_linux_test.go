package plugin

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"out_kinesis_agg/internal/option"
)

// A FIFO in the place of the file does not block a flush.
func TestReadHoldFile_NotAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if word, err := readHoldFile(path); word != option.Hold || err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("%q, %v", word, err)
	}
}
