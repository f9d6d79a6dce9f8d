/* An engine in small: it allocates a definition of SIZE bytes, of glibc or of an
 * allocator of its own, and prints whether the plugin wrote its options into it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../declare.h"

/* As the engine's: the layout of a list of its own options, with STRIDE bytes for each. */
struct entry { struct kinesis_agg_option option; char more[STRIDE - sizeof(struct kinesis_agg_option) + 1]; };
#define ENTRY(n) {{.name = n, .desc = "help"}, ""}
struct entry entries[] = {ENTRY("match"), ENTRY("alias"), ENTRY("log_level"), ENTRY("retry_limit"), {{0}, ""}};
char output_global_properties[5 * STRIDE] __attribute__((aligned(8)));

#ifdef OWN_ALLOCATOR
static size_t own_size;
size_t je_malloc_usable_size(const void *block) { return block == NULL ? 0 : own_size; }
#endif

void flb_plugin_proxy_create(void) { }

int main(void)
{
    static struct kinesis_agg_option options[2] = {{.name = "stream"}};
    char *def;

    for (int i = 0; i < 5; i++) {
        memcpy(output_global_properties + i * STRIDE, &entries[i].option, sizeof(entries[i].option));
    }
#if defined(OWN_ALLOCATOR) || defined(UNKNOWN_ALLOCATOR)
    /* At the start of a mapping: nothing can be read before it. */
    def = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (def == MAP_FAILED) {
        return 1;
    }
#ifdef OWN_ALLOCATOR
    own_size = SIZE;
#endif
#else
    def = calloc(1, SIZE);
#endif
    int declared = kinesis_agg_declare(def, options);
    printf("%d %d\n", declared, SIZE >= 48 && *(void **) (def + 40) == options);
    return 0;
}
