/* memory.c - workspaces: a few are kept between calls, for fresh memory costs a page fault every 4 KB.
 *
 * Places are taken and filled by atomic exchange, so there is no lock that a fork could leave held. What is kept is
 * bounded: PLACES workspaces of at most LARGEST bytes. */
#include <stdlib.h>

#include "blocked.h"

enum { PLACES = 4, LARGEST = 16 << 20, LINE = 64 };

typedef struct kept {
    int64_t bytes;
} kept;

static _Atomic(kept *) places[PLACES];

void *tw_workspace_take(int64_t bytes)
{
    for (int i = 0; i < PLACES; i++) {
        kept *found = atomic_exchange_explicit(&places[i], NULL, memory_order_acq_rel);
        if (found != NULL) {
            if (found->bytes >= bytes && found->bytes / 4 <= bytes + (1 << 20)) {
                return (char *)found + LINE;
            }
            free(found);
        }
    }
    if (bytes > INT64_MAX - 4 * LINE) {
        return NULL;
    }
    int64_t whole = (bytes + 2 * LINE - 1) / LINE * LINE;
    kept *fresh = aligned_alloc(LINE, (size_t)whole);
    if (fresh == NULL) {
        return NULL;
    }
    fresh->bytes = whole - LINE;
    return (char *)fresh + LINE;
}

void tw_workspace_give(void *workspace)
{
    kept *mine = (kept *)(void *)((char *)workspace - LINE);
    for (int i = 0; mine->bytes <= LARGEST && i < PLACES; i++) {
        kept *empty = NULL;
        if (atomic_compare_exchange_strong_explicit(&places[i], &empty, mine, memory_order_acq_rel,
                                                    memory_order_relaxed)) {
            return;
        }
    }
    free(mine);
}
