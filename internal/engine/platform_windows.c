#include <windows.h>

#include "declare.h"
#include "engine.h"
#include "fork.h"
#include "platform.h"
#include "signals.h"

/* The engine frees the library when it stops, but a Go runtime cannot be unloaded: its
 * threads go on. On Linux, the Go linker sees to this. */
__attribute__((constructor)) static void stay_loaded(void)
{
    HMODULE self;

    GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_PIN,
                       (const char *) stay_loaded, &self);
}

/* The engine is a program, or a library that a program uses. */
void *kinesis_agg_symbol(const char *name)
{
    void *found = (void *) GetProcAddress(GetModuleHandle(NULL), name);
    HMODULE library = GetModuleHandleA("fluent-bit.dll");

    return found != NULL || library == NULL ? found : (void *) GetProcAddress(library, name);
}

/* The engine does not name its threads on Windows. */
static volatile LONG own_thread;

void kinesis_agg_note_own_thread(void)
{
    own_thread = (LONG) GetCurrentThreadId();
}

int kinesis_agg_on_own_thread(void)
{
    return own_thread == (LONG) GetCurrentThreadId();
}

/* The engine allocates the table with malloc, and malloc of every C library of
 * Microsoft uses the heap of the process, which knows the size of a block. */
int kinesis_agg_has_log(const struct kinesis_agg_api *api)
{
    HANDLE heap = GetProcessHeap();
    SIZE_T size;

    if (!HeapValidate(heap, 0, api)) {
        return 0;
    }
    size = HeapSize(heap, 0, api);
    return size != (SIZE_T) -1 && size >= sizeof(*api);
}

ssize_t kinesis_agg_peek(uintptr_t from, void *to, size_t length)
{
    MEMORY_BASIC_INFORMATION region;
    SIZE_T n = 0;

    /* ReadProcessMemory copies all or nothing. */
    if (VirtualQuery((void *) from, &region, sizeof(region)) == 0) {
        return -1;
    }
    if (length > (uintptr_t) region.BaseAddress + region.RegionSize - from) {
        length = (uintptr_t) region.BaseAddress + region.RegionSize - from;
    }
    return ReadProcessMemory(GetCurrentProcess(), (void *) from, to, length, &n) ? (ssize_t) n : -1;
}

/* The engine does not export output_global_properties, which shows the layout of its
 * options, so the plugin checks names itself, as on engines before 5.1.1. */
int kinesis_agg_declare(void *def, struct kinesis_agg_option *options)
{
    (void) def;
    (void) options;
    return 0;
}

/* Windows has neither fork nor signals that interrupt a thread. */
int kinesis_agg_forked(void)
{
    return 0;
}

void kinesis_agg_refuse(struct kinesis_agg_plugin *plugin)
{
    (void) plugin;
}

void kinesis_agg_note_signals(void)
{
}

void kinesis_agg_enter_go(kinesis_agg_mask *before)
{
    (void) before;
}

void kinesis_agg_leave_go(const kinesis_agg_mask *before)
{
    (void) before;
}
