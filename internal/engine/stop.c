#include <stddef.h>
#include <strings.h>

#include "stop.h"
#include "symbols.h"

enum { TYPE_INT = 0 }; /* include/fluent-bit/flb_config.h */

const int *kinesis_agg_exit_signal(void)
{
    return kinesis_agg_symbols()->exit_signal;
}

const int *kinesis_agg_grace(void)
{
    const struct kinesis_agg_symbols *engine = kinesis_agg_symbols();
    const struct kinesis_agg_service_config *option = engine->service_configs;
    const struct kinesis_agg_lib_context *context = engine->flb_context_get == NULL ? NULL : engine->flb_context_get();

    if (option == NULL || context == NULL || context->config == NULL) {
        return NULL;
    }
    for (; option->key != NULL; option++) {
        if (strcasecmp(option->key, "grace") == 0 && option->type == TYPE_INT) {
            return (const int *) ((const char *) context->config + option->offset);
        }
    }
    return NULL;
}
