#include <stdint.h>
#include <sys/time.h>

#include "metrics.h"
#include "symbols.h"

/* Returns the metrics of an instance, or NULL. An engine that is built without
 * metrics does not set the member of the api table, so the symbol is checked. */
static void *context(struct kinesis_agg_api *api, void *output)
{
    if (kinesis_agg_symbols()->flb_output_get_cmt_instance == NULL) {
        return NULL;
    }
    return api->output_get_cmt_instance(output);
}

void *kinesis_agg_counter(struct kinesis_agg_api *api, void *output,
                          char *name, char *help, char *label)
{
    char *keys[KINESIS_AGG_MAX_LABELS] = {"name", label};
    const struct kinesis_agg_symbols *engine = kinesis_agg_symbols();
    void *cmt = context(api, output);

    if (engine->cmt_counter_create == NULL || engine->cmt_counter_add == NULL || cmt == NULL) {
        return NULL;
    }
    return engine->cmt_counter_create(cmt, "fluentbit", "kinesis_agg", name, help, label == NULL ? 1 : 2, keys);
}

/* In nanoseconds, as the engine's cfl_time_now(). */
static uint64_t now(void)
{
    struct timeval t;

    gettimeofday(&t, NULL);
    return ((uint64_t) t.tv_sec * 1000000 + (uint64_t) t.tv_usec) * 1000;
}

void *kinesis_agg_histogram(struct kinesis_agg_api *api, void *output, char *name, char *help,
                            double *bounds, size_t count, char *instance)
{
    char *keys[KINESIS_AGG_MAX_LABELS] = {"name", NULL};
    char *values[KINESIS_AGG_MAX_LABELS] = {instance, NULL};
    uint64_t zeros[KINESIS_AGG_MAX_BOUNDS + 1] = {0};
    const struct kinesis_agg_symbols *engine = kinesis_agg_symbols();
    void *cmt = context(api, output);
    void *buckets, *histogram;

    if (engine->cmt_histogram_buckets_create_size == NULL || engine->cmt_histogram_create == NULL
        || engine->cmt_histogram_set_default == NULL || engine->cmt_histogram_observe == NULL
        || cmt == NULL || count > KINESIS_AGG_MAX_BOUNDS) {
        return NULL;
    }
    buckets = engine->cmt_histogram_buckets_create_size(bounds, count);
    if (buckets == NULL) {
        return NULL;
    }
    histogram = engine->cmt_histogram_create(cmt, "fluentbit", "kinesis_agg", name, help, buckets, 1, keys);
    if (histogram != NULL) {
        engine->cmt_histogram_set_default(histogram, now(), zeros, 0, 0, 1, values);
    }
    return histogram;
}

void kinesis_agg_add(void *counter, double n, char *instance, char *value)
{
    char *values[KINESIS_AGG_MAX_LABELS] = {instance, value};

    kinesis_agg_symbols()->cmt_counter_add(counter, now(), n, value == NULL ? 1 : 2, values);
}

void kinesis_agg_observe(void *histogram, double v, char *instance)
{
    char *values[KINESIS_AGG_MAX_LABELS] = {instance, NULL};

    kinesis_agg_symbols()->cmt_histogram_observe(histogram, now(), v, 1, values);
}
