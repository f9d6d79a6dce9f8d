#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <strings.h>

#include "engine.h"
#include "stop.h"

/* include/fluent-bit/flb_config.h */
struct service_config {
    char *key;
    int type;
    size_t offset;
};
enum { TYPE_INT = 0 };

const int *kinesis_agg_exit_signal(void)
{
    return dlsym(RTLD_DEFAULT, "exit_signal");
}

const int *kinesis_agg_grace(void)
{
    const struct service_config *option = dlsym(RTLD_DEFAULT, "service_configs");
    struct kinesis_agg_lib_context *(*context_get)(void);
    struct kinesis_agg_lib_context *context;

    *(void **) &context_get = dlsym(RTLD_DEFAULT, "flb_context_get");
    if (option == NULL || context_get == NULL || (context = context_get()) == NULL || context->config == NULL) {
        return NULL;
    }
    for (; option->key != NULL; option++) {
        if (strcasecmp(option->key, "grace") == 0 && option->type == TYPE_INT) {
            return (const int *) ((const char *) context->config + option->offset);
        }
    }
    return NULL;
}
