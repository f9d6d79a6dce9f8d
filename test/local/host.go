package local

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
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
		panic(fmt.Sprintf("local: host event %v: %s is no number", e, field))
	}
	return n
}

// HostRun is what a run of the ABI host left.
type HostRun struct {
	Events   []Event
	Stderr   string // the plugin's log
	ExitCode int
}

// All are the events with that word.
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

// RunHost runs the ABI host to its end. A host that did not do its work (exit
// code 2 or 3, a signal, a report that cannot be read) is an error, with its
// standard error.
func RunHost(ctx context.Context, host string, env []string, args ...string) (HostRun, error) {
	var out, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, host, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err := cmd.Run()
	run := HostRun{Stderr: stderr.String(), ExitCode: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || run.ExitCode != 1) {
		return run, fmt.Errorf("local: abihost: %w\n%s", err, tail(run.Stderr))
	}
	for line := range strings.Lines(out.String()) {
		event, err := parseEvent(line)
		if err != nil {
			return run, err
		}
		run.Events = append(run.Events, event)
	}
	if run.End().Word == "" {
		return run, fmt.Errorf("local: abihost: the report has no end\n%s", tail(out.String()))
	}
	return run, nil
}

func parseEvent(line string) (Event, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return Event{}, errors.New("local: abihost: an empty line in the report")
	}
	event := Event{Word: words[0], Fields: map[string]string{}}
	for _, word := range words[1:] {
		key, value, ok := strings.Cut(word, "=")
		text, err := url.PathUnescape(value)
		if !ok || err != nil {
			return Event{}, fmt.Errorf("local: abihost: cannot read %q in its report", line)
		}
		event.Fields[key] = text
	}
	return event, nil
}
