/* The engine's metrics (cmetrics), found by symbol: the functions are exported
 * by every engine since 2.0, with the same signatures, and where one is missing
 * there is no metric. */

#ifndef KINESIS_AGG_METRICS_H
#define KINESIS_AGG_METRICS_H

#include <stddef.h>

#include "engine.h"

/* The label "name" is on every metric; a second one may follow. */
#define KINESIS_AGG_MAX_LABELS 2

#define KINESIS_AGG_MAX_BOUNDS 32

/* Both return NULL where the engine has no metrics. label is NULL for none.
 * A histogram gets its one set of labels at once. */
void *kinesis_agg_counter(struct kinesis_agg_api *api, void *output,
                          char *name, char *help, char *label);
void *kinesis_agg_histogram(struct kinesis_agg_api *api, void *output, char *name, char *help,
                            double *bounds, size_t count, char *instance);

/* instance and value are the values of the labels; value is NULL for none. */
void kinesis_agg_add(void *counter, double n, char *instance, char *value);
void kinesis_agg_observe(void *histogram, double v, char *instance);

#endif
