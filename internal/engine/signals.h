/* Signals while Go code runs.
 *
 * On each SIGHUP and SIGCONT, the engine installs its signal handlers again, without
 * SA_ONSTACK (src/fluent-bit.c, flb_signal_handler). A handler that interrupts Go code
 * then runs on the stack of a goroutine, which is too small, and overwrites memory. So
 * the engine's signals are blocked on every thread while it runs Go code, and always on
 * the threads of the Go runtime. The engine's own threads take them.
 *
 * The Go runtime also installs handlers that turn a fault in Go code, such as the use
 * of a nil pointer, into a panic. They pass faults in C to the handlers that were
 * installed before. The engine replaces them in the same way, and then a fault that Go
 * would recover from ends the engine. */

#ifndef KINESIS_AGG_SIGNALS_H
#define KINESIS_AGG_SIGNALS_H

#ifdef _WIN32
typedef int kinesis_agg_mask; /* unused */
#else
#include <signal.h>
typedef sigset_t kinesis_agg_mask;
#endif

/* Stores the handlers of the Go runtime. Call it after the Go runtime has started,
 * in FLBPluginRegister. Further calls have no effect. */
void kinesis_agg_note_signals(void);

/* Call these around each call of a Go function. The first blocks the engine's signals
 * on this thread, stores the mask in *before, and restores those handlers of the Go
 * runtime that the engine has replaced. The second restores the mask. */
void kinesis_agg_enter_go(kinesis_agg_mask *before);
void kinesis_agg_leave_go(const kinesis_agg_mask *before);

#endif
