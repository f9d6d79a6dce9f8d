/* Metrics of the engine (cmetrics). Its functions are found by symbol: every engine
 * since 2.0 exports them with the same signatures. If one is missing, metrics are
 * disabled. */

#ifndef KINESIS_AGG_METRICS_H
#define KINESIS_AGG_METRICS_H

#include <stddef.h>

#include "engine.h"

/* Every metric has the label "name", and may have a second label. */
#define KINESIS_AGG_MAX_LABELS 2

#define KINESIS_AGG_MAX_BOUNDS 32

/* Both return NULL if the engine has no metrics. label is the second label, or
 * NULL. A histogram has only one set of label values, which is created with it. */
void *kinesis_agg_counter(struct kinesis_agg_api *api, void *output,
                          char *name, char *help, char *label);
void *kinesis_agg_histogram(struct kinesis_agg_api *api, void *output, char *name, char *help,
                            double *bounds, size_t count, char *instance);

/* instance and value are the values of the labels. value is NULL if the metric has
 * no second label. */
void kinesis_agg_add(void *counter, double n, char *instance, char *value);
void kinesis_agg_observe(void *histogram, double v, char *instance);

#endif
