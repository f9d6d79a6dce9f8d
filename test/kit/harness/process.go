// Package harness starts the processes that the tests and the demo need:
// kinesis-local, the ABI host, Fluent Bit, and a reader of aggregated records that
// shares no code with this project.
//
// Each runs in a process group of its own, which is killed when this process ends,
// however it ends.
package harness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// pollEvery is the interval at which Until checks its condition.
const pollEvery = 20 * time.Millisecond

// stopGrace is how long a process may take to end after SIGTERM.
const stopGrace = 30 * time.Second

// ModuleRoot is the folder of go.mod, from the working directory upwards.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("harness: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("harness: go.mod not found in the working directory or above it")
		}
		dir = parent
	}
}

// ReadersDir is test/kit/readers of the module, checked to be installed.
func ReadersDir(moduleRoot string) (string, error) {
	dir := filepath.Join(moduleRoot, "test", "kit", "readers")
	for _, needed := range []string{"kinesis-local/main.js", "aws-kinesis-agg/index.js"} {
		if _, err := os.Stat(filepath.Join(dir, "node_modules", needed)); err != nil {
			return "", errors.New("harness: kinesis-local or aws-kinesis-agg is not installed: run `npm ci` in test/kit/readers (it needs Node.js 18 or later)")
		}
	}
	return dir, nil
}

// process is a command in its own process group.
type process struct {
	cmd   *exec.Cmd
	stdin io.Closer
	log   *lockedBuffer
	done  chan struct{} // closed when the process has ended
	err   error         // of Wait; read after done
}

// supervise runs the command and a reader of standard input, and kills the group at
// the end of the input, which is when the process that started it has ended.
const supervise = `exec 3<&0
(read _ <&3; kill -KILL -$$) >/dev/null 2>&1 &
exec 3<&- </dev/null "$@"`

// startProcess runs a command and collects its output in a buffer.
func startProcess(dir string, env []string, name string, args ...string) (*process, error) {
	p := &process{log: new(lockedBuffer), done: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", supervise, "sh", name}, args...)...)
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("harness: %s: %w", name, err)
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("harness: %s: %w", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// ended reports whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the group at once.
func (p *process) kill() {
	if !p.ended() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	_ = p.stdin.Close()
	<-p.done
}

// terminate asks the process to end, and kills the group if it does not.
func (p *process) terminate() error {
	if !p.ended() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-p.done:
	case <-time.After(stopGrace):
		p.kill()
		return fmt.Errorf("harness: %s did not end %s after SIGTERM", p.cmd.Args[4], stopGrace)
	}
	p.kill()
	return p.err
}

// Until calls done every 20 ms until it returns true or an error, or ctx ends.
func Until(ctx context.Context, done func() (bool, error)) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// lockedBuffer is a buffer that is safe for concurrent use.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// tail returns the end of a log, for an error message.
func tail(text string) string {
	const most = 4000
	text = strings.TrimSpace(text)
	if len(text) > most {
		text = "..." + text[len(text)-most:]
	}
	return text
}
