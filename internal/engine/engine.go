// Package engine connects the plugin to Fluent Bit: the options, the name, the log
// and the metrics of an [OUTPUT] section, through the engine's functions.
package engine

/*
#cgo linux LDFLAGS: -ldl
#cgo windows LDFLAGS: -static-libgcc
#include <stdlib.h>
#include "engine.h"
*/
import "C"

import (
	"fmt"
	"os"
	"time"
	"unsafe"

	"out_kinesis_agg/internal/escape"
)

// Level is a level of the engine's log.
type Level int

// The engine's levels. Source: include/fluent-bit/flb_log.h.
const (
	Error Level = 1
	Warn  Level = 2
	Info  Level = 3
	Debug Level = 4
)

// String is the level as the engine prints it.
func (l Level) String() string {
	return [...]string{"", "error", " warn", " info", "debug"}[l]
}

// Enter marks the calling thread as one on which the engine calls the plugin, until
// the returned function is called on the same thread. Lines that are logged on other
// threads do not reach the engine's log file.
func Enter() (leave func()) {
	C.kinesis_agg_enter()
	return func() { C.kinesis_agg_leave() }
}

// OnOwnThread reports whether the calling thread is the engine thread, where a flush
// blocks all inputs, and not a worker of an output.
func OnOwnThread() bool { return C.kinesis_agg_on_own_thread() != 0 }

// Output is one [OUTPUT] section. Its log is safe for concurrent use.
type Output struct {
	api    *C.struct_kinesis_agg_api
	output unsafe.Pointer
	name   string
	level  Level // of the engine's log, for lines that are written to stderr
	stop   stopSign

	strings []unsafe.Pointer // in C memory, of the metrics
}

// Attach returns the [OUTPUT] section of a call of FLBPluginInit; plugin is the
// argument of that call. fallback is its name on engines that do not provide one.
func Attach(plugin unsafe.Pointer, fallback string) *Output {
	p := (*C.struct_kinesis_agg_plugin)(plugin)
	o := &Output{api: p.api, output: p.output, name: fallback, level: Level(C.kinesis_agg_level(p.api, p.output)), stop: findStopSign()}
	if name := C.kinesis_agg_name(p.output); name != nil {
		o.name = C.GoString(name)
	}
	return o
}

// Property returns the option of that name, or an empty string if it is not set.
// plugin is only valid during the instance's Init.
func Property(plugin unsafe.Pointer, name string) string {
	c := C.CString(name)
	defer C.free(unsafe.Pointer(c))
	return C.GoString(C.kinesis_agg_property((*C.struct_kinesis_agg_plugin)(plugin), c))
}

// SetHandle makes the engine pass handle to this instance's FLBPluginFlushCtx
// and FLBPluginExitCtx. It is right only during the instance's Init.
func SetHandle(plugin unsafe.Pointer, handle uintptr) {
	(*C.struct_kinesis_agg_plugin)(plugin).context.remote_context = C.uintptr_t(handle)
}

// Log writes one line. It escapes control characters, so that no message can begin
// another line. The line goes to the engine's log if the engine provides one to plugins
// (since 2.0) and is calling the plugin on this thread, otherwise to stderr in the
// engine's format. Lines above log_level are dropped. The engine truncates a line at
// about 4 KB.
func (o *Output) Log(level Level, text string) {
	c := C.CString(line(o.name, text))
	defer C.free(unsafe.Pointer(c))
	if C.kinesis_agg_log(o.api, o.output, C.int(level), c) == 0 && level <= o.level {
		Stderr(level, o.name, text)
	}
}

// Stderr writes one line of an instance to stderr in the engine's format, escaped
// as Log does.
func Stderr(level Level, name, text string) {
	stamp := time.Now().Format("2006/01/02 15:04:05")
	fmt.Fprintf(os.Stderr, "[%s] [%s] %s\n", stamp, level, line(name, text))
}

func line(name, text string) string {
	return escape.Line(fmt.Sprintf(C.KINESIS_AGG_LINE, name, text))
}
