#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"
#include "fork.h"
#include "workers.h"

/* The engine's functions; all return 0 or a pointer if they succeed. */
struct engine {
    struct kinesis_agg_lib_context *(*context_get)(void);
    int (*enable_multi_threading)(void *output, void *config);
    int (*set_property)(void *output, const char *key, const char *value);
};

enum { LOG_ERROR = 1, LOG_DEBUG = 4 };

static void say(struct kinesis_agg_plugin *plugin, int level, const char *text)
{
    const char *name = kinesis_agg_name(plugin->output);
    char line[256];

    snprintf(line, sizeof(line), "[output:kinesis_agg:%.64s] %s", name ? name : "kinesis_agg", text);
    /* An alias can hold any bytes. */
    for (char *c = line; *c != '\0'; c++) {
        if (*c < ' ' || *c > '~') {
            *c = '?';
        }
    }
    kinesis_agg_enter();
    kinesis_agg_log(plugin->api, plugin->output, level, line);
    kinesis_agg_leave();
}

static int switched_off(void)
{
    const char *value = getenv("KINESIS_AGG_ENGINE_WORKERS");

    return value != NULL && *value != '\0' && strcmp(value, "0") != 0;
}

/* Looks the functions up. Returns 0 if one is missing. */
static int find_engine(struct engine *e)
{
    *(void **) &e->context_get = dlsym(RTLD_DEFAULT, "flb_context_get");
    *(void **) &e->enable_multi_threading = dlsym(RTLD_DEFAULT, "flb_output_enable_multi_threading");
    *(void **) &e->set_property = dlsym(RTLD_DEFAULT, "flb_output_set_property");
    return e->context_get != NULL && e->enable_multi_threading != NULL && e->set_property != NULL;
}

/* The functions by which has_pool finds out what the engine does not tell. */
struct probe {
    void *(*instance_get)(void);
    void (*instance_set)(void *thread);
    int (*flush_id_get)(void *output);
};

static int find_probe(struct probe *p)
{
    *(void **) &p->instance_get = dlsym(RTLD_DEFAULT, "flb_output_thread_instance_get");
    *(void **) &p->instance_set = dlsym(RTLD_DEFAULT, "flb_output_thread_instance_set");
    *(void **) &p->flush_id_get = dlsym(RTLD_DEFAULT, "flb_output_flush_id_get");
    return p->instance_get != NULL && p->instance_set != NULL && p->flush_id_get != NULL;
}

/* Whether the output has a pool. Neither `workers` nor the pool can be read in a
 * way that is the same in all releases, but flb_output_flush_id_get depends on
 * it: it counts up a number in the output or, if the output has a pool, in the
 * worker that calls it. For the call, the engine's thread sets a
 * worker structure of zeros as its own, and checks afterwards whether it is still
 * zero. The
 * function is the same in all releases from 2.1 to 5.1, and uses nothing else of
 * the worker. The number only tells flushes apart. */
static int has_pool(const struct probe *p, void *output)
{
    static const unsigned char zero[4096]; /* struct flb_out_thread_instance has some 400 bytes */
    _Alignas(max_align_t) unsigned char worker[sizeof(zero)] = {0};
    void *before = p->instance_get();

    p->instance_set(worker);
    p->flush_id_get(output);
    p->instance_set(before);
    return memcmp(worker, zero, sizeof(zero)) != 0;
}

int kinesis_agg_start_workers(struct kinesis_agg_plugin *plugin)
{
    void *output = plugin->output;
    struct engine e;
    struct probe p;
    struct kinesis_agg_lib_context *context;
    const char *done = "the plugin has created the worker threads";

    if (switched_off()) {
        say(plugin, LOG_DEBUG, "KINESIS_AGG_ENGINE_WORKERS is set: the engine creates the worker threads");
        return KINESIS_AGG_OK;
    }
    if (!find_engine(&e) || (context = e.context_get()) == NULL || context->config == NULL) {
        say(plugin, LOG_DEBUG, "the engine creates the worker threads: it does not let the plugin create them");
        return KINESIS_AGG_OK;
    }
    if (e.enable_multi_threading(output, context->config) != 0) {
        /* The engine is out of memory, and has freed the output. */
        return KINESIS_AGG_ERROR;
    }
    if (find_probe(&p) && !has_pool(&p, output) && e.set_property(output, "workers", "1") == 0) {
        /* The engine's own outputs for AWS have one worker by default. Without a
         * worker, each flush blocks all inputs until Kinesis responds. */
        if (e.enable_multi_threading(output, context->config) != 0) {
            return KINESIS_AGG_ERROR;
        }
        done = "workers is 0 or not set: the plugin has created one worker thread";
    }
    if (e.set_property(output, "workers", "0") != 0) {
        say(plugin, LOG_ERROR, "workers cannot be set to 0: the engine creates the worker threads a second time, "
                               "and a hot reload can crash it");
        return KINESIS_AGG_OK;
    }
    say(plugin, LOG_DEBUG, done);
    return KINESIS_AGG_OK;
}
