//go:build linux

package engine

// #include <stdlib.h>
// #include "process.h"
import "C"

import (
	"os"
	"syscall"
	"unsafe"
)

// Spawn starts a command with /bin/sh in a new process group, with its output to
// stdout, and returns its process ID. Unlike a process that package os starts, it does
// not inherit the signal mask, in which the engine's signals are blocked: a program
// that ends its children with SIGTERM would wait for them forever.
func Spawn(command string, stdout *os.File) (pid int, err error) {
	text := C.CString(command)
	defer C.free(unsafe.Pointer(text))
	var id C.pid_t
	if n := C.kinesis_agg_spawn(text, C.int(stdout.Fd()), &id); n != 0 {
		return 0, os.NewSyscallError("posix_spawn", syscall.Errno(n))
	}
	return int(id), nil
}
