/* The Go runtime installs signal handlers that turn a fault in Go code, such as the
 * use of a nil pointer, into a panic. They pass faults in C to the handlers that
 * were installed before. On each SIGHUP and SIGCONT, the engine installs its own
 * handlers again (src/fluent-bit.c, flb_signal_handler). After that, a fault that Go
 * would recover from ends the engine, and a handler without SA_ONSTACK can run on the
 * stack of a goroutine, which is too small. */

#ifndef KINESIS_AGG_SIGNALS_H
#define KINESIS_AGG_SIGNALS_H

/* Stores the handlers of the Go runtime. Call it after the Go runtime has started,
 * in FLBPluginRegister. Further calls have no effect. */
void kinesis_agg_note_signals(void);

/* Restores the handlers of the Go runtime that the engine has replaced. It does not
 * replace the handlers of others, such as a second Go library. */
void kinesis_agg_keep_signals(void);

#endif
