/* The part of the engine's ABI for Go output plugins that the plugin uses. The
 * layouts are the same in every Fluent Bit from 1.x to 5.1; each names its source.
 * The functions need little stack: during a flush, C runs on the engine's coroutine
 * stack, which can be as small as 24 KiB. */

#ifndef KINESIS_AGG_ENGINE_H
#define KINESIS_AGG_ENGINE_H

#include <stdint.h>

/* include/fluent-bit/flb_api.h. Before 2.0 only the first slot exists. */
struct kinesis_agg_api {
    const char *(*output_get_property)(const char *name, void *output);
    const char *(*input_get_property)(const char *name, void *input);
    void *(*output_get_cmt_instance)(void *output);
    void *(*input_get_cmt_instance)(void *input);
    void (*log_print)(int level, const char *file, int line, const char *format, ...);
    int (*input_log_check)(void *input, int level);
    int (*output_log_check)(void *output, int level);
};

/* src/proxy/go/go.h: the argument of FLBPluginInit. All instances share one; api,
 * output and context belong to an instance only while its Init runs. */
struct kinesis_agg_plugin {
    char *name;
    struct kinesis_agg_api *api;
    void *output;
    struct kinesis_agg_context *context;
};

/* include/fluent-bit/flb_plugin_proxy.h: remote_context is the first argument of
 * FLBPluginFlushCtx and FLBPluginExitCtx. */
struct kinesis_agg_context {
    uintptr_t remote_context;
};

const char *kinesis_agg_property(struct kinesis_agg_plugin *plugin, const char *name);

/* The engine's name of an instance (its alias, or kinesis_agg.0), or NULL if the
 * engine does not have the function. */
const char *kinesis_agg_name(void *output);

/* Marks the calling thread as one on which the engine calls the plugin. */
void kinesis_agg_enter(void);
void kinesis_agg_leave(void);

/* Call it in FLBPluginInit, which the engine calls on its own thread. */
void kinesis_agg_note_own_thread(void);

/* Reports whether the calling thread is the engine thread. */
int kinesis_agg_on_own_thread(void);

/* The instance's log level, or 3 (info) if the engine does not provide it. It does
 * not change during the life of the instance. */
int kinesis_agg_level(struct kinesis_agg_api *api, void *output);

/* A line of the log: the name of the instance, and the text. */
#define KINESIS_AGG_LINE "[output:kinesis_agg:%s] %s"

/* Logs one line through the engine. Returns 0 if that is not possible, because the
 * engine is too old or did not call the plugin on this thread; the caller then
 * writes the line to stderr. */
int kinesis_agg_log(struct kinesis_agg_api *api, void *output, int level, const char *line);

/* Logs a message about an instance through the engine, on the thread that called the
 * plugin. Returns 0 if that is not possible. */
int kinesis_agg_say(struct kinesis_agg_plugin *plugin, int level, const char *text);

#endif
