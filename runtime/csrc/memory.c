/* memory.c - workspaces: a few are kept between calls, for fresh memory costs a page fault every 4 KB.
 *
 * Large ones ask for huge pages: pages of 4 KB lie anywhere in memory, so that some sets of the second cache get more of a
 * chunk than they hold, and the tables of pages are walked more often.
 *
 * Places are taken and filled by atomic exchange, so there is no lock that a fork could leave held. What is kept is
 * bounded: PLACES workspaces of at most LARGEST bytes. */
#define _DEFAULT_SOURCE /* madvise, posix_memalign */
#include <stdlib.h>
#include <sys/mman.h>

#include "blocked.h"

enum { PLACES = 4, LARGEST = 64 << 20, LINE = 64, HUGE_PAGE = 2 << 20 };

typedef struct kept {
    int64_t bytes;
} kept;

static _Atomic(kept *) places[PLACES];

void tw_huge_pages(void *memory, int64_t bytes)
{
#ifdef MADV_HUGEPAGE
    int64_t first = ((int64_t)(intptr_t)memory + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    int64_t end = ((int64_t)(intptr_t)memory + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (first < end) {
        madvise((void *)(intptr_t)first, (size_t)(end - first), MADV_HUGEPAGE); /* refused: as well */
    }
#else
    (void)memory, (void)bytes;
#endif
}

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
    int64_t whole = (bytes + 2 * LINE - 1) / LINE * LINE, alignment = LINE;
    if (whole > HUGE_PAGE / 2) {
        alignment = HUGE_PAGE;
        whole = whole < HUGE_PAGE ? HUGE_PAGE : whole;
    }
    kept *fresh = NULL;
    if (posix_memalign((void **)(void *)&fresh, (size_t)alignment, (size_t)whole) != 0) {
        return NULL;
    }
    if (alignment == HUGE_PAGE) {
        tw_huge_pages(fresh, whole);
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
