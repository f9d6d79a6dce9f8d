package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// errUnavailable is the error of a check that this account, region or emulator cannot
// show. It says nothing about the plugin.
var errUnavailable = errors.New("not available")

// check is one promise.
type check struct {
	name string
	// run returns what was seen, in one line.
	run func(ctx context.Context, a *account) (detail string, err error)
}

// checkLimit bounds one check.
const checkLimit = 10 * time.Minute

type report struct {
	out                         io.Writer
	rows                        []string
	title                       string
	passed, failed, unavailable int
}

func newReport(a *account, out io.Writer) *report {
	title := "account " + a.id + ", region " + a.region
	if a.local() {
		title = "an emulator, not AWS: " + a.endpoint
	}
	fmt.Fprintln(out)
	return &report{out: out, title: title}
}

// run runs one check and prints its line. A check that panics has failed. One that is
// interrupted shows nothing.
func (r *report) run(interrupted context.Context, a *account, c check) {
	ctx, cancel := context.WithTimeout(interrupted, checkLimit)
	defer cancel()
	began := time.Now()
	detail, err := guarded(ctx, a, c)
	if interrupted.Err() != nil {
		fmt.Fprintf(r.out, "%-13s  %s\n", "interrupted", c.name)
		return
	}
	result := "passed"
	switch {
	case err == nil:
		r.passed++
	case errors.Is(err, errUnavailable):
		r.unavailable++
		result, detail = "not available", ""
	default:
		r.failed++
		result = "failed"
		detail = strings.TrimSpace(detail + " " + err.Error())
	}
	detail = oneLine(detail)
	fmt.Fprintf(r.out, "%-13s  %-46s %6s  %s\n", result, c.name, roundDuration(time.Since(began)), detail)
	r.rows = append(r.rows, fmt.Sprintf("| %s | %s | %s |", c.name, result, strings.ReplaceAll(detail, "|", "\\|")))
}

func guarded(ctx context.Context, a *account, c check) (detail string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return c.run(ctx, a)
}

// oneLine is text as a cell of a table: without control characters, of at most 600
// bytes.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > 600 {
		text = strings.ToValidUTF8(text[:600], "") + "..."
	}
	return text
}

func (r *report) markdown() string {
	return fmt.Sprintf("# aws-check\n\nRun against %s, at %s.\n\n%d passed, %d failed, %d not available.\n\n| promise | result | seen |\n| --- | --- | --- |\n%s\n",
		r.title, time.Now().UTC().Format(time.RFC3339), r.passed, r.failed, r.unavailable, strings.Join(r.rows, "\n"))
}
