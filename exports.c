/* The functions that the engine calls. Each compares the process before it
 * enters Go: after a fork the child has a copy of the library, but of all
 * threads only the one that forked, and a Go runtime without its threads hangs
 * on the first call. `daemon on` makes the engine fork after it has loaded the
 * library, so that everything from FLBPluginInit on runs in such a child.
 *
 * A child that forks in order to exec another program never gets here. */

#include "internal/engine/fork.h"
#include "internal/engine/signals.h"
#include "internal/engine/workers.h"
#include "_cgo_export.h"

int FLBPluginRegister(void *def)
{
    int ret;

    if (kinesis_agg_forked()) {
        kinesis_agg_refuse(NULL);
        return KINESIS_AGG_ERROR;
    }
    ret = goPluginRegister(def);
    kinesis_agg_note_signals();
    return ret;
}

int FLBPluginInit(void *plugin)
{
    int ret;

    if (kinesis_agg_forked()) {
        kinesis_agg_refuse(plugin);
        return KINESIS_AGG_ERROR;
    }
    kinesis_agg_keep_signals();
    ret = goPluginInit(plugin);
    /* In C and not below goPluginInit, since the Go runtime changes the signal mask
     * of the thread, which the workers would inherit. */
    return ret == KINESIS_AGG_OK ? kinesis_agg_start_workers(plugin) : ret;
}

int FLBPluginFlushCtx(uintptr_t handle, void *data, size_t length, char *tag)
{
    if (kinesis_agg_forked()) {
        return KINESIS_AGG_RETRY;
    }
    kinesis_agg_keep_signals();
    return goPluginFlushCtx(handle, data, length, tag);
}

int FLBPluginFlush(void *data, size_t length, char *tag)
{
    if (kinesis_agg_forked()) {
        return KINESIS_AGG_RETRY;
    }
    kinesis_agg_keep_signals();
    return goPluginFlush(data, length, tag);
}

int FLBPluginExitCtx(uintptr_t handle)
{
    return kinesis_agg_forked() ? KINESIS_AGG_OK : goPluginExitCtx(handle);
}

int FLBPluginExit(void)
{
    return kinesis_agg_forked() ? KINESIS_AGG_OK : goPluginExit();
}

void FLBPluginUnregister(void *def)
{
    if (!kinesis_agg_forked()) {
        goPluginUnregister(def);
    }
}
