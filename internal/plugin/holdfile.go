package plugin

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"out_kinesis_agg/internal/option"
)

// holdFile is the path of a file with which an operator releases held chunks while
// the engine runs: a reload cannot, because it waits for them. The environment
// variable holdFileVariable replaces the path.
const (
	holdFile         = "/run/kinesis_agg/on_auto_stream"
	holdFileVariable = "KINESIS_AGG_AUTO_STREAM_FILE"
	holdFileMaxBytes = 64
)

func holdFilePath() string {
	if path := os.Getenv(holdFileVariable); path != "" {
		return path
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "kinesis_agg", "on_auto_stream")
	}
	return holdFile
}

// readHoldFile returns the word in the file: option.Warn, option.NDJSON, option.Drop,
// or option.Hold if there is no file or it has no such word.
func readHoldFile(path string) (word string, err error) {
	// Opening a FIFO must not block.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return option.Hold, nil
	}
	if err != nil {
		return option.Hold, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return option.Hold, fmt.Errorf("%s is not a regular file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, holdFileMaxBytes))
	if err != nil {
		return option.Hold, err
	}
	switch word := strings.ToLower(strings.TrimSpace(string(data))); word {
	case option.Warn, option.NDJSON, option.Drop, option.Hold:
		return word, nil
	}
	return option.Hold, fmt.Errorf("%s has none of the words warn, ndjson, drop and hold", path)
}
