package kinesis

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// copyForSDK copies the content to memory. The SDK opens files by their path, and would
// block on a FIFO.
func copyForSDK(path string, content []byte, _ bool) (*os.File, error) {
	fd, err := unix.MemfdCreate("aws", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), path)
	if _, err := file.Write(content); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

func sdkPath(f *sharedFile) string { return fmt.Sprintf("/proc/self/fd/%d", f.copy.Fd()) }
