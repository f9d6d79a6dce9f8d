/* What depends on the operating system and is not in a file of its own. */

#ifndef KINESIS_AGG_PLATFORM_H
#define KINESIS_AGG_PLATFORM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct kinesis_agg_api;

/* A function or variable of the engine, or NULL if the engine does not export it. */
void *kinesis_agg_symbol(const char *name);

/* Reports whether the api table has the slots for logging. It does not contain its length. */
int kinesis_agg_has_log(const struct kinesis_agg_api *api);

/* Reads memory of this process that may not be mapped. Returns the number of bytes,
 * or less than 0. */
ssize_t kinesis_agg_peek(uintptr_t from, void *to, size_t length);

#endif
