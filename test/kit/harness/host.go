package harness

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Event is a line of the ABI host's report: a word and its fields.
type Event struct {
	Word   string
	Fields map[string]string
}

// Int is a field as a number.
func (e Event) Int(field string) int {
	n, err := strconv.Atoi(e.Fields[field])
	if err != nil {
		panic(fmt.Sprintf("harness: host event %v: %s is not a number", e, field))
	}
	return n
}

// HostRun is the result of a run of the ABI host.
type HostRun struct {
	Events   []Event
	Stderr   string // the plugin's log
	ExitCode int
}

// All returns the events with that word.
func (r HostRun) All(word string) []Event {
	var events []Event
	for _, e := range r.Events {
		if e.Word == word {
			events = append(events, e)
		}
	}
	return events
}

// End is the last line of the report.
func (r HostRun) End() Event {
	if ends := r.All("end"); len(ends) == 1 {
		return ends[0]
	}
	return Event{}
}

// Host configures a run of the ABI host.
type Host struct {
	Path string
	Args []string
	// Env is added to Environ.
	Env   []string
	Stdin io.Reader
	// OnStart, unless nil, gets the host's process id.
	OnStart func(pid int)
	// OnEvent, unless nil, is called with each event, and returns whether HostRun
	// keeps it.
	OnEvent func(Event) (keep bool)
}

// RunHost runs the ABI host to its end. A host that did not do its work (exit
// code 2 or 3, a signal, a report that cannot be read) is an error, with its
// standard error.
func RunHost(ctx context.Context, host string, env []string, args ...string) (HostRun, error) {
	return Host{Path: host, Args: args, Env: env}.Run(ctx)
}

// Run is RunHost.
func (h Host) Run(ctx context.Context) (HostRun, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Path, h.Args...)
	cmd.Env = append(Environ(), h.Env...)
	cmd.Stdin, cmd.Stderr = h.Stdin, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A Stdin that does not end does not prevent Wait from returning.
	cmd.WaitDelay = stopGrace
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return HostRun{}, fmt.Errorf("harness: abihost: %w", err)
	}
	if h.OnStart != nil {
		h.OnStart(cmd.Process.Pid)
	}
	run := HostRun{}
	unread := h.readReport(out, &run)
	if unread != nil {
		_, _ = io.Copy(io.Discard, out)
	}
	err = cmd.Wait()
	run.Stderr, run.ExitCode = stderr.String(), cmd.ProcessState.ExitCode()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || run.ExitCode != 1) {
		return run, fmt.Errorf("harness: abihost: %w\n%s", err, tail(run.Stderr))
	}
	if unread != nil {
		return run, unread
	}
	if run.End().Word == "" {
		return run, errors.New("harness: abihost: the report has no end")
	}
	return run, nil
}

func (h Host) readReport(out io.Reader, run *HostRun) error {
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if line == "" && err != nil {
			return nil // Wait knows more.
		}
		event, err := parseEvent(line)
		if err != nil {
			return err
		}
		if h.OnEvent == nil || h.OnEvent(event) {
			run.Events = append(run.Events, event)
		}
	}
}

// Environ is the environment without this machine's settings for AWS and for
// proxies: no region, no credentials, no shared files, no metadata service.
func Environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(strings.ToUpper(e), "=")
		return strings.HasPrefix(name, "AWS_") || strings.HasSuffix(name, "_PROXY")
	})
	return append(env, "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true")
}

func parseEvent(line string) (Event, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return Event{}, errors.New("harness: abihost: an empty line in the report")
	}
	event := Event{Word: words[0], Fields: map[string]string{}}
	for _, word := range words[1:] {
		key, value, ok := strings.Cut(word, "=")
		text, err := url.PathUnescape(value)
		if !ok || err != nil {
			return Event{}, fmt.Errorf("harness: abihost: cannot read %q in its report", line)
		}
		event.Fields[key] = text
	}
	return event, nil
}
