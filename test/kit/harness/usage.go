package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Usage is what the engine's process uses at one moment.
type Usage struct {
	Threads int
	Files   int // open file descriptors
	Memory  int // resident, in bytes
}

// Usage reads the process's usage from /proc.
func (f *FluentBit) Usage() (Usage, error) {
	var u Usage
	proc := filepath.Join("/proc", strconv.Itoa(f.PID()))
	tasks, err := os.ReadDir(filepath.Join(proc, "task"))
	if err != nil {
		return u, fmt.Errorf("harness: fluent-bit: usage: %w", err)
	}
	u.Threads = len(tasks)
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		return u, fmt.Errorf("harness: fluent-bit: usage: %w", err)
	}
	u.Files = len(files)
	statm, err := os.ReadFile(filepath.Join(proc, "statm"))
	if err != nil {
		return u, fmt.Errorf("harness: fluent-bit: usage: %w", err)
	}
	var total, resident int
	if _, err := fmt.Sscan(string(statm), &total, &resident); err != nil {
		return u, fmt.Errorf("harness: fluent-bit: usage: statm: %w", err)
	}
	u.Memory = resident * os.Getpagesize()
	return u, nil
}

// Libraries returns the paths of the files that the process has mapped and whose
// path begins with prefix, each once, as /proc shows them: " (deleted)" follows
// the path of a file that was replaced.
func (f *FluentBit) Libraries(prefix string) ([]string, error) {
	maps, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(f.PID()), "maps"))
	if err != nil {
		return nil, fmt.Errorf("harness: fluent-bit: libraries: %w", err)
	}
	var paths []string
	seen := map[string]bool{}
	for line := range strings.Lines(string(maps)) {
		at := strings.Index(line, " "+prefix)
		if at < 0 {
			continue
		}
		if path := strings.TrimSpace(line[at:]); !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	return paths, nil
}
