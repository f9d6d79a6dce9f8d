#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <time.h>

#include "metrics.h"

/* lib/cmetrics/include/cmetrics/cmt_counter.h and cmt_histogram.h */
typedef void *create_counter(void *cmt, char *ns, char *subsystem, char *name, char *help,
                             int labels, char **keys);
typedef void *create_buckets(double *bounds, size_t count);
typedef void *create_histogram(void *cmt, char *ns, char *subsystem, char *name, char *help,
                               void *buckets, int labels, char **keys);
typedef int set_default(void *histogram, uint64_t timestamp, uint64_t *buckets, double sum,
                        uint64_t count, int labels, char **values);
typedef int update(void *metric, uint64_t timestamp, double value, int labels, char **values);

static void *find(const char *symbol)
{
    return dlsym(RTLD_DEFAULT, symbol);
}

/* Returns the metrics of an instance, or NULL. An engine that is built without
 * metrics does not set the member of the api table, so the symbol is checked. */
static void *context(struct kinesis_agg_api *api, void *output)
{
    if (find("flb_output_get_cmt_instance") == NULL) {
        return NULL;
    }
    return api->output_get_cmt_instance(output);
}

void *kinesis_agg_counter(struct kinesis_agg_api *api, void *output,
                          char *name, char *help, char *label)
{
    char *keys[KINESIS_AGG_MAX_LABELS] = {"name", label};
    create_counter *create = (create_counter *) find("cmt_counter_create");
    void *cmt = context(api, output);

    if (create == NULL || find("cmt_counter_add") == NULL || cmt == NULL) {
        return NULL;
    }
    return create(cmt, "fluentbit", "kinesis_agg", name, help, label == NULL ? 1 : 2, keys);
}

/* The same as the engine's cfl_time_now(). */
static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

void *kinesis_agg_histogram(struct kinesis_agg_api *api, void *output, char *name, char *help,
                            double *bounds, size_t count, char *instance)
{
    char *keys[KINESIS_AGG_MAX_LABELS] = {"name", NULL};
    char *values[KINESIS_AGG_MAX_LABELS] = {instance, NULL};
    uint64_t zeros[KINESIS_AGG_MAX_BOUNDS + 1] = {0};
    create_buckets *buckets = (create_buckets *) find("cmt_histogram_buckets_create_size");
    create_histogram *create = (create_histogram *) find("cmt_histogram_create");
    set_default *set = (set_default *) find("cmt_histogram_set_default");
    void *cmt = context(api, output);
    void *b, *histogram;

    if (buckets == NULL || create == NULL || set == NULL || find("cmt_histogram_observe") == NULL ||
        cmt == NULL || count > KINESIS_AGG_MAX_BOUNDS) {
        return NULL;
    }
    b = buckets(bounds, count);
    if (b == NULL) {
        return NULL;
    }
    histogram = create(cmt, "fluentbit", "kinesis_agg", name, help, b, 1, keys);
    if (histogram != NULL) {
        set(histogram, now(), zeros, 0, 0, 1, values);
    }
    return histogram;
}

void kinesis_agg_add(void *counter, double n, char *instance, char *value)
{
    char *values[KINESIS_AGG_MAX_LABELS] = {instance, value};

    ((update *) find("cmt_counter_add"))(counter, now(), n, value == NULL ? 1 : 2, values);
}

void kinesis_agg_observe(void *histogram, double v, char *instance)
{
    char *values[KINESIS_AGG_MAX_LABELS] = {instance, NULL};

    ((update *) find("cmt_histogram_observe"))(histogram, now(), v, 1, values);
}
