/* Detects a process that was forked after the library was loaded. The Go runtime
 * does not survive a fork, so these functions do not call Go. */

#ifndef KINESIS_AGG_FORK_H
#define KINESIS_AGG_FORK_H

/* include/fluent-bit/flb_output.h and flb_engine_macros.h */
enum { KINESIS_AGG_ERROR = 0, KINESIS_AGG_OK = 1, KINESIS_AGG_RETRY = 2 };

struct kinesis_agg_plugin;

int kinesis_agg_forked(void);

/* Logs why an instance cannot start in a forked child. plugin is the argument of
 * FLBPluginInit, or NULL if there is no instance. */
void kinesis_agg_refuse(struct kinesis_agg_plugin *plugin);

#endif
