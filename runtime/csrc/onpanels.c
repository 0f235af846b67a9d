/* onpanels.c - which kernel of family packed serves a tile: there are several, alike but for unroll, order of loads and how
 * far ahead they ask for memory, and the fastest here is taken (tuning.c; unmeasured: the fewest cycles as reckoned).
 *
 * The table is made when it is first needed, and again after times have changed; who uses an older one meanwhile computes
 * the same. */
#include <stdlib.h>

#include "blocked.h"

enum { MOST_LINES = 16 };

typedef struct choice {
    const tw_kernel *best[TW_ISAS][TW_DTYPES][2][MOST_LINES + 1][TW_PLACES];
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
    if (lines > MOST_LINES || width != tw_panel_width(kernel->isa, kernel->dtype, TW_VECTOR_SIDE)) {
        return;
    }
    for (int place = 0; place < TW_PLACES; place++) {
        const tw_kernel **best = &all->best[kernel->isa][kernel->dtype][filling][lines][place];
        if (*best == NULL || tw_panel_cost(kernel, place) < tw_panel_cost(*best, place)) {
            *best = kernel;
        }
    }
}

const tw_kernel *tw_panel_kernel(int isa, int dtype, int filling, int64_t lines, int place)
{
    choice *all = atomic_load_explicit(&made, memory_order_acquire);
    if (all == NULL) {
        all = calloc(1, sizeof *all);
        if (all == NULL) {
            return NULL; /* the small family's will do */
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
    return lines <= MOST_LINES ? all->best[isa][dtype][filling][lines][place] : NULL;
}
