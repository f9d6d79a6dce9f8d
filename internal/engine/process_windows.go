package engine

import "os"

// Spawn is nil: there is no signal mask that a process could inherit.
var Spawn func(command string, stdout *os.File) (pid int, err error)
