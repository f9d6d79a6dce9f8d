/* The worker threads of an [OUTPUT].
 *
 * From 2.2.0 on, the engine creates the thread pool of a Go output twice: in
 * flb_proxy_output_cb_init (src/flb_plugin_proxy.c), right after FLBPluginInit,
 * and in flb_output_init_all (src/flb_output.c), where it overwrites the pointer
 * to the first pool. Nothing stops the threads of the first pool. Each has a
 * timer that uses the output every 1.5 s, also after a hot reload has freed it.
 *
 * The plugin prevents this by creating the pool itself, with the engine's own
 * function, and setting `workers` to 0 afterwards: the engine then creates no
 * pool. Dispatch and teardown look at the pool and not at `workers`, so they
 * work as with a pool of the engine. This needs no knowledge of the engine's
 * version: if a release creates the pool only once, or stops doing it for an
 * output that has a pool, there is still exactly one pool. */

#ifndef KINESIS_AGG_WORKERS_H
#define KINESIS_AGG_WORKERS_H

struct kinesis_agg_plugin;

/* Creates the worker threads of the instance that FLBPluginInit was called for:
 * as many as `workers` says, and one if that is 0 or not set, which the engine
 * does not tell apart. It has to be the last step of FLBPluginInit, on the
 * engine's thread, and only if all other steps succeeded: an instance whose Init
 * fails is freed, and nothing stops its threads.
 *
 * If the engine lacks one of the functions for it, or the environment variable
 * KINESIS_AGG_ENGINE_WORKERS is set to anything but an empty string or 0, it
 * does nothing, and the engine creates the threads as `workers` says. A line of
 * level debug says which of both happened.
 *
 * Returns what FLBPluginInit has to return. */
int kinesis_agg_start_workers(struct kinesis_agg_plugin *plugin);

#endif
