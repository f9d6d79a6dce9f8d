/* What the plugin needs of the engine's ABI for Go output plugins. The layouts
 * are the same in every Fluent Bit from 1.x to 5.1; sources are named beside
 * them. Everything here is static and shallow: below a flush, C runs on the
 * engine's coroutine stack, which can be as small as 24 KiB. */

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

/* src/proxy/go/go.h: what FLBPluginInit gets. One for all instances; api,
 * output and context are an instance's own only while its Init runs. */
struct kinesis_agg_plugin {
    char *name;
    struct kinesis_agg_api *api;
    void *output;
    struct kinesis_agg_context *context;
};

/* include/fluent-bit/flb_plugin_proxy.h: what is set here comes back as the
 * first argument of FLBPluginFlushCtx and FLBPluginExitCtx. */
struct kinesis_agg_context {
    uintptr_t remote_context;
};

const char *kinesis_agg_property(struct kinesis_agg_plugin *plugin, const char *name);

/* The engine's own name of an instance (its alias, or kinesis_agg.0), or NULL
 * where the engine has no such function. */
const char *kinesis_agg_name(void *output);

/* Marks the calling thread as one that the engine is calling us on. */
void kinesis_agg_enter(void);
void kinesis_agg_leave(void);

/* Whether the calling thread is the engine's own, by its name. */
int kinesis_agg_on_own_thread(void);

/* The instance's log level, or 3 (info) where the engine does not tell. It is
 * the same for as long as the instance lives. */
int kinesis_agg_level(struct kinesis_agg_api *api, void *output);

/* Logs one line through the engine. Returns 0 if that is not possible, since
 * the engine is too old or did not call us on this thread; the caller then
 * writes it to stderr. */
int kinesis_agg_log(struct kinesis_agg_api *api, void *output, int level, const char *line);

#endif
