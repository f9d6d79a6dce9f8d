#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "fork.h"
#include "symbols.h"
#include "workers.h"

enum { LOG_ERROR = 1, LOG_DEBUG = 4 };

static int switched_off(void)
{
    const char *value = getenv("KINESIS_AGG_ENGINE_WORKERS");

    return value != NULL && *value != '\0' && strcmp(value, "0") != 0;
}

/* Reports whether the output has a pool. Neither `workers` nor the pool can be read
 * in a way that is the same in all releases, but flb_output_flush_id_get depends on
 * the pool: it counts up a number in the output or, if the output has a pool, in the
 * worker that calls it. For the call, the engine's thread sets a worker structure of
 * zeros as its own, and checks afterwards whether it is still zero. The function is
 * the same in all releases from 2.1 to 5.1, and uses nothing else of the worker. The
 * number only tells flushes apart. */
static int has_pool(const struct kinesis_agg_symbols *engine, void *output)
{
    static const unsigned char zero[4096]; /* struct flb_out_thread_instance has some 400 bytes */
    _Alignas(max_align_t) unsigned char worker[sizeof(zero)] = {0};
    void *before = engine->flb_output_thread_instance_get();

    engine->flb_output_thread_instance_set(worker);
    engine->flb_output_flush_id_get(output);
    engine->flb_output_thread_instance_set(before);
    return memcmp(worker, zero, sizeof(zero)) != 0;
}

int kinesis_agg_start_workers(struct kinesis_agg_plugin *plugin)
{
    void *output = plugin->output;
    const struct kinesis_agg_symbols *engine = kinesis_agg_symbols();
    struct kinesis_agg_lib_context *context;
    const char *done = "the plugin has created the worker threads";

    if (switched_off()) {
        kinesis_agg_say(plugin, LOG_DEBUG, "KINESIS_AGG_ENGINE_WORKERS is set: the engine creates the worker threads");
        return KINESIS_AGG_OK;
    }
    if (engine->flb_context_get == NULL || engine->flb_output_enable_multi_threading == NULL
        || engine->flb_output_set_property == NULL || (context = engine->flb_context_get()) == NULL
        || context->config == NULL) {
        kinesis_agg_say(plugin, LOG_DEBUG, "the engine creates the worker threads: it does not let the plugin create them");
        return KINESIS_AGG_OK;
    }
    if (engine->flb_output_enable_multi_threading(output, context->config) != 0) {
        /* The engine is out of memory, and has freed the output. */
        return KINESIS_AGG_ERROR;
    }
    if (engine->flb_output_thread_instance_get != NULL && engine->flb_output_thread_instance_set != NULL
        && engine->flb_output_flush_id_get != NULL && !has_pool(engine, output)
        && engine->flb_output_set_property(output, "workers", "1") == 0) {
        /* The engine's own outputs for AWS have one worker by default. Without a
         * worker, each flush blocks all inputs until Kinesis responds. */
        if (engine->flb_output_enable_multi_threading(output, context->config) != 0) {
            return KINESIS_AGG_ERROR;
        }
        done = "workers is 0 or not set: the plugin has created one worker thread";
    }
    if (engine->flb_output_set_property(output, "workers", "0") != 0) {
        kinesis_agg_say(plugin, LOG_ERROR, "workers cannot be set to 0: the engine creates the worker threads a second time, "
                               "and a hot reload can crash it");
        return KINESIS_AGG_OK;
    }
    kinesis_agg_say(plugin, LOG_DEBUG, done);
    return KINESIS_AGG_OK;
}
