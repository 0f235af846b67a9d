/* chunks.c - how threads share a product: chunks of the operand that is cut, or parts of k; and the caches that blocks fill. */
#include <unistd.h>

#include "paths.h"

enum {
    LEAST_CHUNK = 10000 /* nanoseconds */
};

tw_caches tw_caches_here(void)
{
    static atomic_llong sizes[3];
    static const int names[3] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    static const int64_t usual[3] = {32 << 10, 512 << 10, 8 << 20};
    tw_caches caches;
    int64_t *all[3] = {&caches.first, &caches.second, &caches.last};
    for (int i = 0; i < 3; i++) {
        int64_t size = atomic_load_explicit(&sizes[i], memory_order_relaxed);
        if (size == 0) {
            long told = sysconf(names[i]);
            size = told > 0 ? told : usual[i];
            atomic_store_explicit(&sizes[i], size, memory_order_relaxed);
        }
        *all[i] = size;
    }
    return caches;
}

/* The chunk of whole panels, at most `most` lines and at least half of that, with which threads end soonest. */
static int64_t even_chunk(int64_t most, int64_t width, int64_t size, int threads)
{
    int64_t best = most, least = INT64_MAX, step = tw_at_least(most / 16 / width, 1) * width;
    for (int64_t chunk = most; threads > 1 && chunk >= tw_at_least(most / 2, width); chunk -= step) {
        int64_t whole = size / chunk, rest = size % chunk;
        int64_t longest = whole % threads ? (whole / threads + 1) * chunk : whole / threads * chunk + rest;
        if (longest < least) {
            least = longest;
            best = chunk;
        }
    }
    return best;
}

/* A chunk is of whole panels and near to plan->lines; there are enough for all threads. */
void tw_blocked_share(tw_blocked *plan)
{
    plan->threads = (int)tw_at_least(tw_at_most(plan->threads, tw_threads_worth(plan->nanoseconds)), 1);
    if (plan->inner) {
        plan->chunk = tw_at_least(plan->size[plan->split], 1);
        plan->parts = (int)tw_at_most(plan->threads, (plan->k + plan->kc - 1) / plan->kc);
        return;
    }
    int64_t width = plan->stand[plan->split].width, lines = tw_at_least(plan->lines, 1);
    if (plan->threads > 1 && plan->stand[plan->split].format != TW_PANELS && !plan->turned) {
        /* Nothing is kept for a chunk, and each costs threads a fight for the counter. */
        lines = tw_at_least(lines, (int64_t)(LEAST_CHUNK / plan->nanoseconds * (double)plan->size[plan->split]));
    }
    if (plan->turned || plan->pairs) { /* a chunk has C^T, or C, beside its block */
        int64_t block = plan->stand[plan->split].format == TW_PANELS ? plan->kc : 0;
        lines = tw_at_most(lines, TW_MOST_CHUNK / ((plan->size[!plan->split] + block) * tw_element_bytes(plan->dtype)));
        lines = tw_at_least(lines >= width ? lines / width * width : lines, 1);
    }
    int64_t each = (plan->size[plan->split] + plan->threads - 1) / plan->threads;
    int64_t count = tw_at_least((each + lines - 1) / lines, 1);
    plan->chunk = even_chunk(tw_at_least(tw_round_up((each + count - 1) / count, width), width), width,
                             plan->size[plan->split], plan->threads);
}
