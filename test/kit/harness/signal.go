package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// PID returns the engine's process id, which it keeps until it ends.
func (f *FluentBit) PID() int { return f.process.cmd.Process.Pid }

// Signal sends a signal to the engine alone, not to its process group.
func (f *FluentBit) Signal(signal syscall.Signal) error {
	if err := f.process.cmd.Process.Signal(signal); err != nil {
		return fmt.Errorf("harness: fluent-bit: %s: %w", signal, err)
	}
	return nil
}

// PeakMemory returns the most resident memory that the engine has had since
// its start, in bytes (VmHWM). Pages of mapped files count as well.
func (f *FluentBit) PeakMemory() (int, error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(f.PID()), "status"))
	if err != nil {
		return 0, fmt.Errorf("harness: fluent-bit: peak memory: %w", err)
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	fields := strings.Fields(rest)
	if !found || len(fields) < 2 || fields[1] != "kB" {
		return 0, fmt.Errorf("harness: fluent-bit: peak memory: no VmHWM in kB in /proc/%d/status", f.PID())
	}
	kib, err := strconv.Atoi(fields[0])
	if err != nil {
		return 0, fmt.Errorf("harness: fluent-bit: peak memory: %w", err)
	}
	return kib << 10, nil
}
