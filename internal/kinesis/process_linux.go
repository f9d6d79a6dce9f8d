package kinesis

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func startShell(command string, stdout *os.File) (pid int, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer func() { _ = null.Close() }()
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", command}, &os.ProcAttr{
		Files: []*os.File{null, stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, err
	}
	defer func() { _ = p.Release() }()
	return p.Pid, nil
}

// run returns the output of the process. No process of its group is left when it
// returns.
func (p *process) run(ctx context.Context) ([]byte, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }()
	pid, err := p.start(p.command, w)
	_ = w.Close()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	kill := func() { _ = syscall.Kill(-pid, syscall.SIGKILL) }
	stop := context.AfterFunc(ctx, kill)

	var output []byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		output = readOutput(r, cancel)
	}()
	// The group is killed before its leader is reaped, so that its ID cannot belong to
	// another group yet.
	for err = syscall.EINTR; errors.Is(err, syscall.EINTR); {
		err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
	stop()
	kill()
	_ = r.SetReadDeadline(time.Now().Add(pipeDelay))
	<-done
	leader, _ := os.FindProcess(pid) // does not fail on Unix
	state, err := leader.Wait()
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, err
	case !state.Success():
		return nil, errors.New(state.String())
	}
	return output, nil
}
