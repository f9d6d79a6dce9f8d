/* The functions that the engine calls. Each compares the process before it
 * enters Go: after a fork the child has a copy of the library, but of all
 * threads only the one that forked, and a Go runtime without its threads hangs
 * on the first call. `daemon on` makes the engine fork after it has loaded the
 * library, so everything from FLBPluginInit on runs in such a child.
 *
 * A child that forks in order to exec another program never gets here.
 *
 * While a Go function runs, the engine's signals are blocked on the thread. */

#include "internal/engine/engine.h"
#include "internal/engine/fork.h"
#include "internal/engine/signals.h"
#include "internal/engine/workers.h"
#include "_cgo_export.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT
#endif

/* Runs a statement that calls a Go function. */
#define IN_GO(statement)                \
    do {                                \
        kinesis_agg_mask before;        \
        kinesis_agg_enter_go(&before);  \
        statement;                      \
        kinesis_agg_leave_go(&before);  \
    } while (0)

EXPORT int FLBPluginRegister(void *def)
{
    int ret;

    if (kinesis_agg_forked()) {
        kinesis_agg_refuse(NULL);
        return KINESIS_AGG_ERROR;
    }
    IN_GO(ret = goPluginRegister(def));
    kinesis_agg_note_signals();
    return ret;
}

EXPORT int FLBPluginInit(void *plugin)
{
    int ret;

    if (kinesis_agg_forked()) {
        kinesis_agg_refuse(plugin);
        return KINESIS_AGG_ERROR;
    }
    kinesis_agg_note_own_thread();
    IN_GO(ret = goPluginInit(plugin));
    /* Not in Go: the workers inherit the signal mask of the thread. */
    return ret == KINESIS_AGG_OK ? kinesis_agg_start_workers(plugin) : ret;
}

EXPORT int FLBPluginFlushCtx(uintptr_t handle, void *data, size_t length, char *tag)
{
    int ret = KINESIS_AGG_RETRY;

    if (!kinesis_agg_forked()) {
        IN_GO(ret = goPluginFlushCtx(handle, data, length, tag));
    }
    return ret;
}

EXPORT int FLBPluginFlush(void *data, size_t length, char *tag)
{
    int ret = KINESIS_AGG_RETRY;

    if (!kinesis_agg_forked()) {
        IN_GO(ret = goPluginFlush(data, length, tag));
    }
    return ret;
}

EXPORT int FLBPluginExitCtx(uintptr_t handle)
{
    int ret = KINESIS_AGG_OK;

    if (!kinesis_agg_forked()) {
        IN_GO(ret = goPluginExitCtx(handle));
    }
    return ret;
}

EXPORT int FLBPluginExit(void)
{
    int ret = KINESIS_AGG_OK;

    if (!kinesis_agg_forked()) {
        IN_GO(ret = goPluginExit());
    }
    return ret;
}

EXPORT void FLBPluginUnregister(void *def)
{
    if (!kinesis_agg_forked()) {
        IN_GO(goPluginUnregister(def));
    }
}
