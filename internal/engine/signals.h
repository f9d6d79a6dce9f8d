/* A Go runtime turns a fault in Go code, such as the use of a nil pointer, into
 * a panic by means of signal handlers of its own, which hand faults in C on to
 * the handlers that were there before it. The engine installs its handlers once
 * more on each SIGHUP and SIGCONT (src/fluent-bit.c, flb_signal_handler). That
 * undoes it: a panic that would be recovered then ends the engine, and a handler
 * without SA_ONSTACK can run on a goroutine's stack, which is too small. */

#ifndef KINESIS_AGG_SIGNALS_H
#define KINESIS_AGG_SIGNALS_H

/* Remembers the handlers of the Go runtime. Call it once it has started, at
 * FLBPluginRegister; from the second call on it does nothing. */
void kinesis_agg_note_signals(void);

/* Puts the handlers of the Go runtime back where the engine has replaced them.
 * Those of others, such as a second Go library, stay. */
void kinesis_agg_keep_signals(void);

#endif
