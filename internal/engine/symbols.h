/* The functions and variables of the engine and its allocator that the plugin finds by
 * name, because they are not in the api table. Each is NULL if the process does not have
 * it. */

#ifndef KINESIS_AGG_SYMBOLS_H
#define KINESIS_AGG_SYMBOLS_H

#include <stddef.h>
#include <stdint.h>

/* include/fluent-bit/flb_lib.h: what flb_context_get returns on the engine's thread.
 * The same in all releases from 1.8 to 5.1. */
struct kinesis_agg_lib_context {
    int status;
    void *event_loop;
    void *event_channel;
    void *config;
};

/* include/fluent-bit/flb_config.h: an option of [SERVICE]. The last has no key. */
struct kinesis_agg_service_config {
    char *key;
    int type;
    size_t offset; /* in struct flb_config */
};

struct kinesis_agg_option;

struct kinesis_agg_symbols {
    /* src/flb_output.c */
    const char *(*flb_output_name)(void *output);
    int (*flb_output_log_check)(void *output, int level);
    void *(*flb_output_get_cmt_instance)(void *output);
    int (*flb_output_enable_multi_threading)(void *output, void *config);
    int (*flb_output_set_property)(void *output, const char *key, const char *value);
    void *(*flb_output_thread_instance_get)(void);
    void (*flb_output_thread_instance_set)(void *thread);
    int (*flb_output_flush_id_get)(void *output);
    const struct kinesis_agg_option *output_global_properties;
    /* src/flb_plugin_proxy.c: only its address is used. */
    const void *flb_plugin_proxy_create;
    /* src/flb_lib.c, src/fluent-bit.c, src/flb_config.c */
    struct kinesis_agg_lib_context *(*flb_context_get)(void);
    const int *exit_signal;
    const struct kinesis_agg_service_config *service_configs;
    /* lib/cmetrics/include/cmetrics/cmt_counter.h and cmt_histogram.h */
    void *(*cmt_counter_create)(void *cmt, char *ns, char *subsystem, char *name, char *help, int labels, char **keys);
    int (*cmt_counter_add)(void *metric, uint64_t timestamp, double value, int labels, char **values);
    void *(*cmt_histogram_buckets_create_size)(double *bounds, size_t count);
    void *(*cmt_histogram_create)(void *cmt, char *ns, char *subsystem, char *name, char *help, void *buckets,
                                  int labels, char **keys);
    int (*cmt_histogram_set_default)(void *histogram, uint64_t timestamp, uint64_t *buckets, double sum,
                                     uint64_t count, int labels, char **values);
    int (*cmt_histogram_observe)(void *metric, uint64_t timestamp, double value, int labels, char **values);
    /* The allocator of the process, and jemalloc's with a prefix. Of two only the
     * address is used. */
    const void *calloc, *gnu_get_libc_version;
    size_t (*malloc_usable_size)(const void *);
    size_t (*je_malloc_usable_size)(const void *);
};

/* They are looked up when the library is loaded. */
const struct kinesis_agg_symbols *kinesis_agg_symbols(void);

#endif
