// Package engine is Fluent Bit as the plugin sees it: options, names and the
// log of an [OUTPUT] section, through the engine's table of functions.
package engine

/*
#cgo LDFLAGS: -ldl
#include <stdlib.h>
#include "engine.h"
*/
import "C"

import (
	"fmt"
	"os"
	"time"
	"unsafe"
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

// Enter marks the calling thread as one that the engine is calling us on, until
// the function that it returns is called on the same thread. Only on such a
// thread does the engine's log go where it is configured to go.
func Enter() (leave func()) {
	C.kinesis_agg_enter()
	return func() { C.kinesis_agg_leave() }
}

// OnOwnThread reports whether the calling thread is the engine's own, on which
// everything waits for a flush, and not one of an output's workers.
func OnOwnThread() bool { return C.kinesis_agg_on_own_thread() != 0 }

// Output is one [OUTPUT] section. Its log is safe for concurrent use.
type Output struct {
	api    *C.struct_kinesis_agg_api
	output unsafe.Pointer
	name   string
	level  Level // of the engine's log, for the lines that do not go there

	strings []unsafe.Pointer // in C memory, of the metrics
}

// Attach returns the [OUTPUT] section that FLBPluginInit was called for; plugin
// is what it was called with. Fallback names it on engines that do not tell.
func Attach(plugin unsafe.Pointer, fallback string) *Output {
	p := (*C.struct_kinesis_agg_plugin)(plugin)
	o := &Output{api: p.api, output: p.output, name: fallback, level: Level(C.kinesis_agg_level(p.api, p.output))}
	if name := C.kinesis_agg_name(p.output); name != nil {
		o.name = C.GoString(name)
	}
	return o
}

// Property returns the option of that name, or an empty text if it is not set.
// It reads through plugin, which is right only during the instance's Init.
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

// Log writes one line, escaped so that nothing in it can begin another: through the engine where it has a log for plugins (since
// 2.0) and is calling us on this thread, else to stderr in the engine's format.
// What is above the log_level is dropped; the engine cuts a line at about 4 KB.
func (o *Output) Log(level Level, line string) {
	c := C.CString(escape(fmt.Sprintf("[output:kinesis_agg:%s] %s", o.name, line)))
	defer C.free(unsafe.Pointer(c))
	if C.kinesis_agg_log(o.api, o.output, C.int(level), c) == 0 && level <= o.level {
		Stderr(level, o.name, line)
	}
}

// Stderr writes one line of an instance to stderr in the engine's format, escaped
// as Log does.
func Stderr(level Level, name, line string) {
	stamp := time.Now().Format("2006/01/02 15:04:05")
	fmt.Fprintf(os.Stderr, "[%s] [%s] %s\n", stamp, level, escape(fmt.Sprintf("[output:kinesis_agg:%s] %s", name, line)))
}
