//go:build linux

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "declare.h"
#include "symbols.h"

/* include/fluent-bit/flb_plugin_proxy.h: 32 bytes up to 4.2.2, event_type since
 * 4.2.3, config_map since 5.1.1. */
struct proxy_def {
    int type, proxy, flags;
    char *name, *description;
    int event_type;
    struct kinesis_agg_option *config_map;
};

/* The address at which the file that contains address was loaded, or NULL. */
static void *file_of(const void *address)
{
    Dl_info info;

    return address != NULL && dladdr(address, &info) ? info.dli_fbase : NULL;
}

static int is_mapped(uintptr_t address)
{
    uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);
    unsigned char resident;

    return mincore((void *) (address & ~(page - 1)), 1, &resident) == 0;
}

/* Reports whether the words around a small block are those of glibc's malloc: the size of
 * its chunk before it, and a next chunk whose flag says that this one is in use. */
static int is_glibc_block(const void *block)
{
    uintptr_t chunk = (uintptr_t) block - 2 * sizeof(size_t), next;
    size_t size;

    if ((uintptr_t) block % 16 != 0 || !is_mapped(chunk)) {
        return 0;
    }
    size = ((size_t *) chunk)[1] & ~(size_t) 7;
    next = chunk + size;
    return size >= 32 && size <= 128 && size % 16 == 0 && is_mapped(next) && is_mapped(next + 15)
           && (((size_t *) next)[1] & 1) != 0;
}

/* The room in a block that the engine allocated, or 0 if its allocator cannot be
 * determined. A block of one allocator must not be passed to the functions of
 * another. The engine calls calloc, which is glibc's, or that of another allocator
 * that replaces it (jemalloc as the engine's build configures it, or a preloaded
 * library), or je_calloc, if jemalloc was configured with a prefix. */
static size_t room(const void *block)
{
    const struct kinesis_agg_symbols *process = kinesis_agg_symbols();
    size_t (*usable)(const void *) = process->malloc_usable_size;
    void *allocator = file_of(process->calloc);
    int is_glibc = allocator != NULL && allocator == file_of(process->gnu_get_libc_version);

    if (allocator == NULL || allocator != file_of(*(void **) &usable)) {
        usable = NULL;
    }
    if (is_glibc && !is_glibc_block(block)) {
        usable = process->je_malloc_usable_size;
        if (file_of(*(void **) &usable) != file_of(process->flb_plugin_proxy_create)) {
            usable = NULL;
        }
    }
    return usable == NULL ? 0 : usable(block);
}

/* Reports whether the engine's options have the layout of struct kinesis_agg_option, which
 * changed in the past: a list of the engine's own ends where it should, and its
 * strings are the engine's. */
static int same_layout(void)
{
    const struct kinesis_agg_option *own = kinesis_agg_symbols()->output_global_properties;
    void *engine = file_of(own);
    int n;

    if (engine == NULL) {
        return 0;
    }
    for (n = 0; n < 64 && own[n].name != NULL; n++) {
        if (file_of(own[n].name) != engine || file_of(own[n].desc) != engine) {
            return 0;
        }
    }
    return n >= 4 && n < 64;
}

/* A reference that leak checkers find, since they do not look into the memory of Go. */
static struct kinesis_agg_option *volatile declared;

int kinesis_agg_declare(void *def, struct kinesis_agg_option *options)
{
    declared = options;
    /* The layout first: other programs than the engine may not have allocated def. */
    if (!same_layout() || room(def) < sizeof(struct proxy_def)) {
        return 0;
    }
    ((struct proxy_def *) def)->config_map = options;
    return 1;
}
