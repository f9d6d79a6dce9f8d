/* The options of the plugin, for the engine: what it is told of them when the plugin
 * registers, and which of them an [OUTPUT] section sets. */

#ifndef KINESIS_AGG_DECLARE_H
#define KINESIS_AGG_DECLARE_H

#include <stddef.h>
#include <stdint.h>

/* include/fluent-bit/flb_config_map.h, as in 5.1.1. */
struct kinesis_agg_option {
    int type; /* 0: a string */
    const char *name;
    const char *def_value;
    int flags;
    int set_property;
    uintptr_t offset;
    const char *desc;
    void *value[5];
    void *head[2];
};

/* include/fluent-bit/flb_kv.h */
struct kinesis_agg_pair {
    const char *key;
    const char *value;
    uintptr_t prev;
    uintptr_t next;
};

/* Declares the options to the engine: it then refuses unknown and repeated ones, and
 * prints them for `fluent-bit -o kinesis_agg -h`. def is the argument of
 * FLBPluginRegister. The options end with one whose name is NULL, and have to stay
 * in memory for the life of the process. Returns 0 if the engine does not take
 * options from plugins (before 5.1.1), or if that cannot be determined. */
int kinesis_agg_declare(void *def, struct kinesis_agg_option *options);

/* Finds the options that an [OUTPUT] section sets, in order, repeated ones included.
 * The engine has no function for this. known is the value of one of them, as
 * output_get_property returned it. Writes up to max of them to pairs, whose strings
 * belong to the engine; returns their number, or -1 if they were not found. */
int kinesis_agg_pairs(const void *output, const char *known, struct kinesis_agg_pair *pairs, int max);

#endif
