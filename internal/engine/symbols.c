#include "platform.h"
#include "symbols.h"

static struct kinesis_agg_symbols symbols;

/* C does not convert the pointer to a function pointer. */
#define FIND(name) (*(void **) &symbols.name = kinesis_agg_symbol(#name))

__attribute__((constructor)) static void find_all(void)
{
    FIND(flb_output_name);
    FIND(flb_output_log_check);
    FIND(flb_output_get_cmt_instance);
    FIND(flb_output_enable_multi_threading);
    FIND(flb_output_set_property);
    FIND(flb_output_thread_instance_get);
    FIND(flb_output_thread_instance_set);
    FIND(flb_output_flush_id_get);
    FIND(output_global_properties);
    FIND(flb_plugin_proxy_create);
    FIND(flb_context_get);
    FIND(exit_signal);
    FIND(service_configs);
    FIND(cmt_counter_create);
    FIND(cmt_counter_add);
    FIND(cmt_histogram_buckets_create_size);
    FIND(cmt_histogram_create);
    FIND(cmt_histogram_set_default);
    FIND(cmt_histogram_observe);
    FIND(calloc);
    FIND(gnu_get_libc_version);
    FIND(malloc_usable_size);
    FIND(je_malloc_usable_size);
}

const struct kinesis_agg_symbols *kinesis_agg_symbols(void)
{
    return &symbols;
}
