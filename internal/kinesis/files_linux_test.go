package kinesis

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// specialFiles make files that are not regular, by kind. A FIFO blocks a reader until
// there is a writer.
var specialFiles = map[string]func(*testing.T) string{
	"FIFO": fifo,
	"link to FIFO": func(t *testing.T) string {
		path := fifo(t)
		must(t, os.Symlink(path, path+"-link"))
		return path + "-link"
	},
	"device": func(*testing.T) string { return "/dev/zero" },
}

func fifo(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "fifo")
	must(t, syscall.Mkfifo(path, 0o600))
	return path
}
