package engine

// #include "stop.h"
import "C"

import (
	"sync/atomic"
	"time"
	"unsafe"
)

// stopSign is where the engine notes that it is stopping. Its fields are nil if the
// engine does not have them.
type stopSign struct{ signal, grace *int32 }

func findStopSign() stopSign {
	return stopSign{(*int32)(unsafe.Pointer(C.kinesis_agg_exit_signal())), (*int32)(unsafe.Pointer(C.kinesis_agg_grace()))}
}

// Stopping reports whether the engine has got a signal to stop and waits for flushes
// only for the time grace from then on. It must not be called after the instance's
// exit.
func (o *Output) Stopping() (grace time.Duration, stopping bool) {
	s := o.stop
	if s.signal == nil || s.grace == nil || atomic.LoadInt32(s.signal) == 0 {
		return 0, false
	}
	seconds := atomic.LoadInt32(s.grace)
	return time.Duration(seconds) * time.Second, seconds >= 0
}
