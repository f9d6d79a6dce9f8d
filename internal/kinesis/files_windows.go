package kinesis

import (
	"errors"
	"os"
)

// copyForSDK opens the file: it cannot become a pipe, because the pipes of Windows have
// names of their own. The SDK would not find the first section after a byte order mark.
func copyForSDK(path string, _ []byte, hasBOM bool) (*os.File, error) {
	if hasBOM {
		return nil, errors.New("it begins with a byte order mark: save it as UTF-8 without BOM")
	}
	return os.Open(path)
}

func sdkPath(f *sharedFile) string { return f.path }
