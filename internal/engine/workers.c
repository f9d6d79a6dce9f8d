#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "engine.h"
#include "fork.h"
#include "workers.h"

/* include/fluent-bit/flb_lib.h: the same in all releases from 1.8 to 5.1. */
struct lib_context {
    int status;
    void *event_loop;
    void *event_channel;
    void *config;
};

/* The engine's functions; all return 0 or a pointer if they succeed. */
struct engine {
    struct lib_context *(*context_get)(void);
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

/* A list of the process's threads. */
struct threads {
    pid_t *ids;
    size_t count;
};

/* Lists all threads. Returns 0 if that is not possible. */
static int list_threads(struct threads *all)
{
    DIR *dir = opendir("/proc/self/task");
    struct dirent *entry;
    size_t capacity = 0;

    all->ids = NULL;
    all->count = 0;
    if (dir == NULL) {
        return 0;
    }
    while ((entry = readdir(dir)) != NULL) {
        const pid_t id = (pid_t) atoi(entry->d_name); /* 0 for . and .. */

        if (id <= 0) {
            continue;
        }
        if (all->count == capacity) {
            pid_t *more;

            capacity = capacity * 2 + 64;
            more = realloc(all->ids, capacity * sizeof(*more));
            if (more == NULL) {
                closedir(dir);
                free(all->ids);
                all->ids = NULL;
                return 0;
            }
            all->ids = more;
        }
        all->ids[all->count++] = id;
    }
    closedir(dir);
    return all->count > 0;
}

static int contains(const struct threads *all, pid_t id)
{
    for (size_t i = 0; i < all->count; i++) {
        if (all->ids[i] == id) {
            return 1;
        }
    }
    return 0;
}

/* The beginning of a worker's name: src/flb_output_thread.c, output_thread. */
static const char worker[] = "flb-out-";

static int is_worker(pid_t id)
{
    char path[64];
    char name[16] = "";
    int file;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int) id);
    file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) {
        return 0; /* It has ended, and workers do not end here. */
    }
    n = read(file, name, sizeof(name) - 1);
    close(file);
    return n > 0 && strncmp(name, worker, sizeof(worker) - 1) == 0;
}

enum pool { POOL_FAILED, POOL_NONE, POOL_CREATED, POOL_UNKNOWN };

/* Lets the engine create a pool of as many threads as the instance's `workers`
 * says, and finds out whether there is one. Neither the number nor the pool can
 * be read in a way that is the same in all releases, but threads can: on Linux a
 * thread starts with the name of the thread that created it. So every thread that
 * begins during the call, and whose name begins as a worker's does, is a worker of
 * this instance, whether it has come to naming itself or not. */
static enum pool create_pool(const struct engine *e, void *output, void *config)
{
    struct threads before;
    struct threads after;
    char name[16] = "";
    enum pool pool = POOL_NONE;
    int known = list_threads(&before) && prctl(PR_GET_NAME, name) == 0
                && prctl(PR_SET_NAME, worker) == 0;
    int failed = e->enable_multi_threading(output, config);

    if (known) {
        prctl(PR_SET_NAME, name);
    }
    if (failed) {
        free(before.ids);
        return POOL_FAILED;
    }
    known = known && list_threads(&after);
    if (!known) {
        free(before.ids);
        return POOL_UNKNOWN;
    }
    for (size_t i = 0; i < after.count && pool == POOL_NONE; i++) {
        if (!contains(&before, after.ids[i]) && is_worker(after.ids[i])) {
            pool = POOL_CREATED;
        }
    }
    free(before.ids);
    free(after.ids);
    return pool;
}

int kinesis_agg_start_workers(struct kinesis_agg_plugin *plugin)
{
    /* FLBPluginInit of the next instance overwrites the plugin's fields. */
    void *output = plugin->output;
    struct engine e;
    struct lib_context *context;
    enum pool pool;

    if (switched_off()) {
        say(plugin, LOG_DEBUG, "KINESIS_AGG_ENGINE_WORKERS is set: the engine creates the worker threads");
        return KINESIS_AGG_OK;
    }
    if (!find_engine(&e) || (context = e.context_get()) == NULL || context->config == NULL) {
        say(plugin, LOG_DEBUG, "the engine creates the worker threads: it does not let the plugin create them");
        return KINESIS_AGG_OK;
    }
    pool = create_pool(&e, output, context->config);
    if (pool == POOL_NONE) {
        /* The engine's own outputs for AWS have one worker by default. Without a
         * worker, each flush blocks all inputs until Kinesis responds. */
        if (e.set_property(output, "workers", "1") == 0) {
            pool = e.enable_multi_threading(output, context->config) == 0 ? POOL_CREATED : POOL_FAILED;
        }
        if (pool == POOL_CREATED) {
            say(plugin, LOG_DEBUG, "workers is 0 or not set: the plugin has created one worker thread");
        }
    }
    else if (pool == POOL_CREATED) {
        say(plugin, LOG_DEBUG, "the plugin has created the worker threads");
    }
    if (pool == POOL_FAILED) {
        /* The engine is out of memory, and has freed the instance. */
        return KINESIS_AGG_ERROR;
    }
    if (e.set_property(output, "workers", "0") != 0) {
        say(plugin, LOG_ERROR, "workers cannot be set to 0: the engine creates its worker threads a second time, "
                               "and a hot reload can crash it");
    }
    return KINESIS_AGG_OK;
}
