/* The functions that the engine calls. Each compares the process before it
 * enters Go: after a fork the child has a copy of the library, but of all
 * threads only the one that forked, and a Go runtime without its threads hangs
 * on the first call. `daemon on` makes the engine fork after it has loaded the
 * library, so everything from FLBPluginInit on runs in such a child.
 *
 * A child that forks in order to exec another program never gets here.
 *
 * While a Go function runs, the engine's signals are blocked on the thread. */

#include "internal/engine/fork.h"
#include "internal/engine/signals.h"
#include "internal/engine/workers.h"
#include "_cgo_export.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

EXPORT int FLBPluginRegister(void *def)
{
    kinesis_agg_mask before;
    int ret;

    if (kinesis_agg_forked()) {
        kinesis_agg_refuse(NULL);
        return KINESIS_AGG_ERROR;
    }
    kinesis_agg_enter_go(&before);
    ret = goPluginRegister(def);
    kinesis_agg_leave_go(&before);
    kinesis_agg_note_signals();
    return ret;
}

EXPORT int FLBPluginInit(void *plugin)
{
    kinesis_agg_mask before;
    int ret;

    if (kinesis_agg_forked()) {
        kinesis_agg_refuse(plugin);
        return KINESIS_AGG_ERROR;
    }
    kinesis_agg_enter_go(&before);
    ret = goPluginInit(plugin);
    kinesis_agg_leave_go(&before);
    /* Not below goPluginInit: the workers inherit the signal mask of the thread. */
    return ret == KINESIS_AGG_OK ? kinesis_agg_start_workers(plugin) : ret;
}

EXPORT int FLBPluginFlushCtx(uintptr_t handle, void *data, size_t length, char *tag)
{
    kinesis_agg_mask before;
    int ret;

    if (kinesis_agg_forked()) {
        return KINESIS_AGG_RETRY;
    }
    kinesis_agg_enter_go(&before);
    ret = goPluginFlushCtx(handle, data, length, tag);
    kinesis_agg_leave_go(&before);
    return ret;
}

EXPORT int FLBPluginFlush(void *data, size_t length, char *tag)
{
    kinesis_agg_mask before;
    int ret;

    if (kinesis_agg_forked()) {
        return KINESIS_AGG_RETRY;
    }
    kinesis_agg_enter_go(&before);
    ret = goPluginFlush(data, length, tag);
    kinesis_agg_leave_go(&before);
    return ret;
}

EXPORT int FLBPluginExitCtx(uintptr_t handle)
{
    kinesis_agg_mask before;
    int ret;

    if (kinesis_agg_forked()) {
        return KINESIS_AGG_OK;
    }
    kinesis_agg_enter_go(&before);
    ret = goPluginExitCtx(handle);
    kinesis_agg_leave_go(&before);
    return ret;
}

EXPORT int FLBPluginExit(void)
{
    kinesis_agg_mask before;
    int ret;

    if (kinesis_agg_forked()) {
        return KINESIS_AGG_OK;
    }
    kinesis_agg_enter_go(&before);
    ret = goPluginExit();
    kinesis_agg_leave_go(&before);
    return ret;
}

EXPORT void FLBPluginUnregister(void *def)
{
    kinesis_agg_mask before;

    if (kinesis_agg_forked()) {
        return;
    }
    kinesis_agg_enter_go(&before);
    goPluginUnregister(def);
    kinesis_agg_leave_go(&before);
}
