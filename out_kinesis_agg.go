// Command out_kinesis_agg is a Fluent Bit output plugin, built as a C shared
// library. The engine calls the functions of exports.c, which enter Go here. This
// file holds these functions and nothing else: each converts its arguments, calls
// package plugin, maps the outcome, and recovers from panics.
package main

// #include <stddef.h>
// #include <stdint.h>
import "C"

import (
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/fluent/fluent-bit-go/output"

	"out_kinesis_agg/internal/engine"
	"out_kinesis_agg/internal/option"
	"out_kinesis_agg/internal/plugin"
)

// instances survives a hot reload: the engine unloads the library, but a Go library
// stays in memory.
var instances plugin.Registry

// ordinal numbers the instances of a configuration from 0, as the engine does. It is
// part of their names on engines that do not provide names.
var ordinal atomic.Int64

//export goPluginRegister
func goPluginRegister(def unsafe.Pointer) (ret C.int) {
	defer recovered(nil, &ret, output.FLB_ERROR)
	ordinal.Store(0)
	ret = C.int(output.FLBPluginRegister(def, "kinesis_agg", "Sends each chunk to Amazon Kinesis Data Streams as one KPL aggregated record"))
	if ret == 0 {
		declaration().Declare(def)
	}
	return ret
}

// declaration is made once, because the engine keeps references to it.
var declaration = sync.OnceValue(func() engine.Declaration {
	help := slices.ContainsFunc(os.Args, func(arg string) bool { return arg == "-h" || arg == "--help" })
	var options []engine.Option
	for _, e := range option.Entries(help) {
		options = append(options, engine.Option(e))
	}
	return engine.NewDeclaration(options)
})

//export goPluginInit
func goPluginInit(p unsafe.Pointer) (ret C.int) {
	log := plugin.Log(stderr)
	defer recovered(&log, &ret, output.FLB_ERROR)
	defer engine.Enter()()

	// The engine calls ExitCtx with this handle if Init fails.
	engine.SetHandle(p, 0)
	section := engine.Attach(p, fmt.Sprintf("kinesis_agg.%d", ordinal.Add(1)-1))
	log = section.Log
	in, err := plugin.Start(options(p), log, section, section.Stopping)
	if err != nil {
		for _, line := range plugin.Lines(err) {
			log(engine.Error, line)
		}
		return output.FLB_ERROR
	}
	engine.SetHandle(p, instances.Add(in))
	return output.FLB_OK
}

// options are those of the section whose Init runs.
func options(p unsafe.Pointer) option.Source {
	s := option.Source{Get: func(name string) string { return engine.Property(p, name) }}
	for _, name := range []string{"stream", "stream_name"} {
		if s.Names == nil {
			s.Names = engine.Names(p, name)
		}
	}
	return s
}

//export goPluginFlushCtx
func goPluginFlushCtx(handle C.uintptr_t, data unsafe.Pointer, length C.size_t, tag *C.char) C.int {
	return flush(func() *plugin.Instance { return instances.Find(uintptr(handle)) }, data, length, tag)
}

// goPluginFlush is for engines without contexts, which have only one instance.
//
//export goPluginFlush
func goPluginFlush(data unsafe.Pointer, length C.size_t, tag *C.char) C.int {
	return flush(instances.Only, data, length, tag)
}

func flush(find func() *plugin.Instance, data unsafe.Pointer, length C.size_t, tag *C.char) (ret C.int) {
	log := plugin.Log(stderr)
	defer recovered(&log, &ret, output.FLB_RETRY)
	defer engine.Enter()()
	in := find()
	if in == nil {
		log(engine.Error, "flush of an instance that was not started or has exited")
		return output.FLB_RETRY
	}
	log = in.Log
	if engine.OnOwnThread() {
		in.WithoutWorkers()
	}
	switch in.Flush(C.GoString(tag), unsafe.Slice((*byte)(data), int(length))) {
	case plugin.Delivered:
		return output.FLB_OK
	case plugin.Undeliverable:
		return output.FLB_ERROR
	default:
		return output.FLB_RETRY
	}
}

//export goPluginExitCtx
func goPluginExitCtx(handle C.uintptr_t) (ret C.int) {
	defer recovered(nil, &ret, output.FLB_ERROR)
	defer engine.Enter()()
	// There is none after a failed Init, and on a dry run.
	if in := instances.Remove(uintptr(handle)); in != nil {
		in.Stop()
	}
	return output.FLB_OK
}

// goPluginExit is for engines without contexts.
//
//export goPluginExit
func goPluginExit() (ret C.int) {
	defer recovered(nil, &ret, output.FLB_ERROR)
	defer engine.Enter()()
	for _, in := range instances.RemoveAll() {
		in.Stop()
	}
	return output.FLB_OK
}

//export goPluginUnregister
func goPluginUnregister(def unsafe.Pointer) {
	var ret C.int
	defer recovered(nil, &ret, output.FLB_ERROR)
	output.FLBPluginUnregister(def)
}

// recovered is deferred. It turns a panic, which would end the engine, into log lines
// and a return code. log points to the log that is in use at the time of the panic;
// nil is stderr.
func recovered(log *plugin.Log, ret *C.int, code C.int) {
	p := recover()
	if p == nil {
		return
	}
	*ret = code
	write := plugin.Log(stderr)
	if log != nil {
		write = *log
	}
	write(engine.Error, fmt.Sprintf("panic: %v", p))
	// The stack contains names and numbers only. Each of its lines is a line of the
	// log, with spaces instead of tabs.
	for frame := range strings.Lines(string(debug.Stack())) {
		write(engine.Error, "  "+strings.ReplaceAll(strings.TrimSuffix(frame, "\n"), "\t", "    "))
	}
}

// stderr logs if there is no instance.
func stderr(level engine.Level, line string) {
	engine.Stderr(level, "kinesis_agg", line)
}

func main() {}
