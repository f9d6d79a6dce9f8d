#include <sys/types.h>

#include "declare.h"
#include "platform.h"

/* Follows the list of options whose head (struct mk_list: prev, next) is at head. */
static int follow(uintptr_t head, uintptr_t node, const char *known, struct kinesis_agg_pair *pairs, int max)
{
    const size_t link = offsetof(struct kinesis_agg_pair, prev);
    uintptr_t before = head;
    int n, found = 0;

    for (n = 0; node != head; n++) {
        struct kinesis_agg_pair *p = &pairs[n];

        if (n == max || node % sizeof(node) != 0 || node < link
            || kinesis_agg_peek(node - link, p, sizeof(*p)) != sizeof(*p) || p->prev != before || p->key == NULL) {
            return -1;
        }
        found |= p->value == known;
        before = node;
        node = p->next;
    }
    return found ? n : -1;
}

int kinesis_agg_pairs(const void *output, const char *known, struct kinesis_agg_pair *pairs, int max)
{
    uintptr_t words[512]; /* struct flb_output_instance has some 1,000 bytes */
    ssize_t length = kinesis_agg_peek((uintptr_t) output, words, sizeof(words));
    int n;

    /* Where the list is differs between releases. It is the one that contains the
     * known value. */
    for (size_t i = 0; length > 0 && i + 1 < (size_t) length / sizeof(words[0]); i++) {
        uintptr_t head = (uintptr_t) output + i * sizeof(words[0]);

        if (words[i] != 0 && words[i + 1] != 0 && (n = follow(head, words[i + 1], known, pairs, max)) >= 0) {
            return n;
        }
    }
    return -1;
}
