/* onpanels.c - which kernel of family packed serves a tile: there are several, alike but for unroll, order of loads and how
 * far ahead they ask for memory, and the fastest here is taken (tuning.c; unmeasured: the fewest cycles as reckoned). Two
 * more kinds do what these do not: they read two panels at once, or ask for memory that others will read.
 *
 * The table is made when it is first needed, and again after times have changed; who uses an older one meanwhile computes
 * the same. */
#include <stdlib.h>

#include "blocked.h"

enum { MOST_LINES = 16, MOST_TILES = 8, TURN = 4 /* k steps */ };

typedef struct choice {
    const tw_kernel *best[TW_ISAS][TW_DTYPES][2][MOST_LINES + 1][TW_PLACES];
    const tw_kernel *twin[TW_ISAS][TW_DTYPES][MOST_LINES + 1];
    const tw_kernel *sharing[TW_ISAS][TW_DTYPES][MOST_LINES + 1][MOST_TILES + 1];
} choice;

static _Atomic(choice *) made;

void tw_panel_kernels_forget(void)
{
    atomic_store(&made, NULL); /* the old one may be in use: it stays */
}

static void consider(choice *all, const tw_kernel *kernel)
{
    int filling = kernel->vector_dim == 0 ? TW_VECTOR_SIDE : TW_SCALAR_SIDE;
    int lines = filling == TW_VECTOR_SIDE ? kernel->nr : kernel->mr;
    int width = filling == TW_VECTOR_SIDE ? kernel->mr : kernel->nr;
    if (lines > MOST_LINES || width != kernel->panels * tw_panel_width(kernel->isa, kernel->dtype, TW_VECTOR_SIDE)) {
        return;
    }
    if (kernel->panels == 2) {
        all->twin[kernel->isa][kernel->dtype][lines] = kernel;
        return;
    }
    if (kernel->asks > 0) {
        int64_t reads = TURN * width * tw_element_bytes(kernel->dtype),
                tiles = (reads + kernel->asks - 1) / kernel->asks;
        for (; tiles <= MOST_TILES; tiles++) {
            const tw_kernel **best = &all->sharing[kernel->isa][kernel->dtype][lines][tiles];
            *best = *best == NULL || kernel->asks < (*best)->asks ? kernel : *best;
        }
        return;
    }
    for (int place = 0; place < TW_PLACES; place++) {
        const tw_kernel **best = &all->best[kernel->isa][kernel->dtype][filling][lines][place];
        if (*best == NULL || tw_panel_cost(kernel, place) < tw_panel_cost(*best, place)) {
            *best = kernel;
        }
    }
}

/* NULL: there is no memory for it; the small family's will do. */
static const choice *chosen(void)
{
    choice *all = atomic_load_explicit(&made, memory_order_acquire);
    if (all == NULL) {
        all = calloc(1, sizeof *all);
        if (all == NULL) {
            return NULL;
        }
        for (int i = 0; i < tw_kernel_count; i++) {
            if (tw_kernels[i].family == TW_PACKED) {
                consider(all, &tw_kernels[i]);
            }
        }
        choice *other = NULL; /* threads that come first together each make one, equal; one is kept */
        if (!atomic_compare_exchange_strong(&made, &other, all)) {
            free(all);
            all = other;
        }
    }
    return all;
}

const tw_kernel *tw_panel_kernel(int isa, int dtype, int filling, int64_t lines, int place)
{
    const choice *all = chosen();
    return all != NULL && lines <= MOST_LINES ? all->best[isa][dtype][filling][lines][place] : NULL;
}

const tw_kernel *tw_twin_kernel(int isa, int dtype, int64_t lines)
{
    const choice *all = chosen();
    const tw_kernel *twin = all != NULL && lines <= MOST_LINES ? all->twin[isa][dtype][lines] : NULL;
    const tw_kernel *one = twin != NULL ? all->best[isa][dtype][TW_VECTOR_SIDE][lines][TW_FAR] : NULL;
    return one == NULL || tw_panel_cost(twin, TW_FAR) < 2 * tw_panel_cost(one, TW_FAR) ? twin : NULL;
}

const tw_kernel *tw_sharing_kernel(int isa, int dtype, int64_t lines, int64_t tiles)
{
    const choice *all = chosen();
    return all != NULL && lines <= MOST_LINES ? all->sharing[isa][dtype][lines][tiles < MOST_TILES ? tiles : MOST_TILES]
                                              : NULL;
}
