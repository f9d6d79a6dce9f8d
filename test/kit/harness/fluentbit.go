package harness

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// HowToGetFluentBit is the end of the message if Fluent Bit is not found.
const HowToGetFluentBit = "install it (https://docs.fluentbit.io/manual/installation) so that fluent-bit is on PATH, or set FLUENT_BIT to its path"

// FindFluentBit is the Fluent Bit to use: $FLUENT_BIT, else the one on PATH.
func FindFluentBit() (string, error) {
	name := os.Getenv("FLUENT_BIT")
	if name == "" {
		name = "fluent-bit"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("harness: Fluent Bit not found: %w: %s", err, HowToGetFluentBit)
	}
	return path, nil
}

// FluentBit is a running engine.
type FluentBit struct{ process *process }

// StartFluentBit writes a configuration into dir, as ConfigureFluentBit does, and
// starts the engine with it.
func StartFluentBit(path, dir, plugin, pipeline string, service ...string) (*FluentBit, error) {
	if err := ConfigureFluentBit(dir, plugin, pipeline, service...); err != nil {
		return nil, err
	}
	return StartFluentBitWith(path, dir, filepath.Join(dir, "fluent-bit.conf"))
}

// ConfigureFluentBit writes a configuration into dir, with a plugins file that
// loads plugin and a parsers file with a parser named json. pipeline is everything
// but the [SERVICE] section, to which lines of service are added. An engine that
// was started in dir reads it at its next reload.
func ConfigureFluentBit(dir, plugin, pipeline string, service ...string) error {
	files := map[string]string{
		"plugins.conf": "[PLUGINS]\n    Path " + plugin + "\n",
		"parsers.conf": "[PARSER]\n    Name   json\n    Format json\n",
		"fluent-bit.conf": `[SERVICE]
    Flush            0.2
    Grace            20
    Log_Level        info
    Plugins_File     plugins.conf
    Parsers_File     parsers.conf
    Scheduler.Base   1
    Scheduler.Cap    2
    Hot_Reload       On
    ` + strings.Join(service, "\n    ") + "\n\n" + pipeline,
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("harness: %w", err)
		}
	}
	return nil
}

// StartFluentBitWith starts the engine in dir with a configuration file.
func StartFluentBitWith(path, dir, file string) (*FluentBit, error) {
	p, err := startProcess(dir, nil, path, "-c", file)
	if err != nil {
		return nil, err
	}
	return &FluentBit{process: p}, nil
}

// Log returns its output so far.
func (f *FluentBit) Log() string { return f.process.log.String() }

// Ended reports whether it has ended.
func (f *FluentBit) Ended() bool { return f.process.ended() }

// Stop ends it with SIGTERM, as an operator does, and returns an error if it fails.
func (f *FluentBit) Stop() error {
	if err := f.process.terminate(); err != nil {
		return fmt.Errorf("harness: fluent-bit: %w\n%s", err, tail(f.Log()))
	}
	return nil
}

// Kill ends it at once.
func (f *FluentBit) Kill() { f.process.kill() }

// FreePort is a TCP port that was free a moment ago.
func FreePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("harness: no free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Wait returns when it has ended, with an error if it failed.
func (f *FluentBit) Wait(ctx context.Context) error {
	select {
	case <-f.process.done:
		return f.process.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Reload makes it load its configuration again, in the same process, and returns
// when that is done.
func (f *FluentBit) Reload(ctx context.Context) error {
	before, refused := f.Reloads(), -1
	err := Until(ctx, func() (bool, error) {
		// It logs the end of a reload a moment before it accepts the next.
		if n := strings.Count(f.Log(), "reloading in progress, aborting"); n != refused {
			refused = n
			if err := f.process.cmd.Process.Signal(syscall.SIGHUP); err != nil {
				return false, err
			}
		}
		if f.Ended() {
			return false, fmt.Errorf("it ended: %v", f.process.err)
		}
		return f.Reloads() > before, nil
	})
	if err != nil {
		return fmt.Errorf("harness: fluent-bit: reload: %w\n%s", err, tail(f.Log()))
	}
	return nil
}

// Reloads is the number of reloads that succeeded so far.
func (f *FluentBit) Reloads() int {
	log := f.Log()
	if !strings.Contains(log, "[fluent bit] version=2.") && !strings.Contains(log, "[fluent bit] version=3.") {
		return strings.Count(log, "successful reload done")
	}
	// Engines before 4.0.14 and 4.1.1 do not log the end of a reload. This is their
	// last line about the start of a pipeline.
	_, log, _ = strings.Cut(log, "[reload] start everything")
	return strings.Count(log, "stream processor started")
}

// Dump makes it log its state: SIGCONT.
func (f *FluentBit) Dump() { _ = f.process.cmd.Process.Signal(syscall.SIGCONT) }
