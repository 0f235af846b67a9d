/* tiling.c - a shape -> tiles, by the plainest rule that uses the kernels well.
 *
 * C is cut into bands of rows and each band into tiles from left to right. A band's height is the one whose widest tile
 * does most work per element loaded, m n / (m + n), for what is left of C; its tiles are as wide as kernels and columns
 * allow. Masked kernels and the small exact ones take what remains. Nothing is searched, stored or allocated for it: the
 * tables are made once per (isa, dtype, mode, length of k), and the walk is four numbers. Plans that list their tiles ask tiler.c
 * instead. */
#include <stdlib.h>

#include "internal.h"
#include "tiling.h"

tw_reach tw_kernel_reach(const tw_kernel *kernel)
{
    int slack = kernel->mask_span ? kernel->mask_span - 1 : 0;
    tw_reach reach = {kernel->mr, kernel->mr, kernel->nr, kernel->nr};
    if (kernel->vector_dim == 0) {
        reach.least_m -= slack;
    } else {
        reach.least_n -= slack;
    }
    return reach;
}

/* The k for which kernels of one size are compared, and how far it stands for others. */
static const int64_t steps_like[TW_STEPS_COUNT] = {3, 12, 64, 16};
enum { SHORT_MOST = 6, MIDDLE_MOST = 23 };

tw_steps tw_steps_of(int64_t k, bool ordered)
{
    return ordered            ? TW_STEPS_ORDERED
           : k <= SHORT_MOST  ? TW_STEPS_SHORT
           : k <= MIDDLE_MOST ? TW_STEPS_MIDDLE
                              : TW_STEPS_LONG;
}

static float cost_at(const tw_kernel *kernel, int64_t k)
{
    tw_cost_line line = tw_cost_near(kernel, k);
    return line.call + (float)k * line.step;
}

/* Is `a` the better kernel for a size that both do? The smaller tile wastes fewer lanes, so the other must take clearly less
 * time: costs are of whole tiles. Of tiles of one size the faster; exact beats masked. */
static bool better(const tw_kernel *a, const tw_kernel *b, int64_t k)
{
    int area_a = a->mr * a->nr, area_b = b->mr * b->nr;
    float cost_a = cost_at(a, k), cost_b = cost_at(b, k), clear = area_a == area_b ? 0.97f : 0.85f;
    if (cost_a < clear * cost_b || cost_b < clear * cost_a) {
        return cost_a < cost_b;
    }
    return area_a != area_b ? area_a < area_b : a->mask_span < b->mask_span;
}

static void add(tw_tiles *tiles, const tw_kernel *kernel, int64_t k)
{
    tw_reach reach = tw_kernel_reach(kernel);
    if (reach.most_m > TW_LARGEST || reach.most_n > TW_LARGEST) {
        return;
    }
    tiles->paired = tiles->paired && kernel->paired;
    for (int m = reach.least_m; m <= reach.most_m; m++) {
        for (int n = reach.least_n; n <= reach.most_n; n++) {
            const tw_kernel **place = &tiles->kernel[m][n];
            if (*place == NULL || (kernel->isa == (*place)->isa && better(kernel, *place, k))) {
                *place = kernel;
            }
        }
    }
}

/* Fill width and height from the kernels. False: some shape cannot be covered. */
static bool finish(tw_tiles *tiles)
{
    for (int m = 1; m <= TW_LARGEST; m++) {
        /* A height is of use only if every number of columns can be made up of its tiles. */
        for (int n = 1; n <= TW_LARGEST && tiles->kernel[m][1]; n++) {
            tiles->width[m][n] = tiles->kernel[m][n] ? (uint8_t)n : tiles->width[m][n - 1];
            if (tiles->kernel[m][n]) {
                tiles->most_rows = (uint8_t)m;
                tiles->most_columns = n > tiles->most_columns ? (uint8_t)n : tiles->most_columns;
            }
        }
        for (int n = 1; n <= TW_LARGEST; n++) {
            int before = tiles->height[m - 1][n], width_before = tiles->width[before][n], width = tiles->width[m][n];
            /* m w / (m + w) against the same of the best lower band, without the division; the taller wins a tie. */
            bool here = width > 0 && m * width * (before + width_before) >= before * width_before * (m + width);
            tiles->height[m][n] = (uint8_t)(here ? m : before);
        }
    }
    return tiles->width[1][1] == 1;
}

static void add_all(tw_tiles *tiles, int isa, int dtype, int mode, tw_steps steps)
{
    for (int i = 0; i < tw_kernel_count; i++) {
        const tw_kernel *kernel = &tw_kernels[i];
        bool usable = steps != TW_STEPS_ORDERED || !kernel->reassociates;
        if (usable && kernel->isa == isa && kernel->dtype == dtype && kernel->mode == mode &&
            kernel->family == TW_SMALL) {
            add(tiles, kernel, steps_like[steps]);
        }
    }
}

static _Atomic(tw_tiles *) made[TW_ISAS][TW_DTYPES][TW_MODES][TW_STEPS_COUNT];
static tw_tiles incomplete; /* what `made` points at where the kernels cannot cover every shape */

int tw_tiles_find(int isa, int dtype, int mode, tw_steps steps, const tw_tiles **found)
{
    _Atomic(tw_tiles *) *slot = &made[isa][dtype][mode][steps];
    tw_tiles *tiles = atomic_load_explicit(slot, memory_order_acquire);
    if (tiles == NULL) {
        tiles = calloc(1, sizeof *tiles);
        if (tiles == NULL) {
            return tw_fail(TW_ERROR_MEMORY, "out of memory: %zu bytes for the table of tiles.", sizeof *tiles);
        }
        tiles->paired = true;
        add_all(tiles, isa, dtype, mode, steps);
        if (steps == TW_STEPS_ORDERED && tiles->kernel[1][1] == NULL) {
            /* One row of complex64 by FCMLA: NEON's kernels add the same products in the same order. */
            add_all(tiles, tw_isa_bases[isa], dtype, mode, steps);
        }
        tw_tiles *mine = tiles, *other = NULL;
        if (!finish(mine)) {
            tiles = &incomplete;
        }
        /* Threads that come first together each make one, equal; one is kept. No lock that a fork could leave held. */
        if (!atomic_compare_exchange_strong(slot, &other, tiles)) {
            tiles = other;
        }
        if (tiles != mine) {
            free(mine);
        }
    }
    *found = tiles == &incomplete ? NULL : tiles;
    return TW_OK;
}

tw_tiles *tw_tiles_of_sizes(int count, const int *sizes)
{
    tw_tiles *tiles = calloc(1, sizeof *tiles + (size_t)count * sizeof(tw_kernel));
    if (tiles == NULL) {
        return NULL;
    }
    tw_kernel *kernels = (tw_kernel *)(void *)(tiles + 1);
    for (int i = 0; i < count; i++) {
        kernels[i] =
            (tw_kernel){.name = "", .isa = TW_ISA_NEON, .mr = (int16_t)sizes[2 * i], .nr = (int16_t)sizes[2 * i + 1]};
        add(tiles, &kernels[i], steps_like[TW_STEPS_LONG]);
    }
    if (!finish(tiles)) {
        free(tiles);
        return NULL;
    }
    return tiles;
}

bool tw_tiles_paired(const tw_tiles *tiles)
{
    return tiles->paired;
}

tw_walk tw_walk_begin(const tw_tiles *tiles, int64_t m, int64_t n)
{
    return (tw_walk){tiles, m, n, 0, 0, 0};
}

static int at_most(int64_t size, int limit)
{
    return size < limit ? (int)size : limit;
}

bool tw_walk_next(tw_walk *walk, tw_tile *tile)
{
    const tw_tiles *tiles = walk->tiles;
    if (walk->j == walk->n) { /* the band is done */
        walk->i += walk->rows;
        walk->j = 0;
        walk->rows = 0;
    }
    if (walk->i >= walk->m || walk->n == 0) {
        return false;
    }
    if (walk->rows == 0) {
        walk->rows = tiles->height[at_most(walk->m - walk->i, tiles->most_rows)][at_most(walk->n, tiles->most_columns)];
    }
    int columns = tiles->width[walk->rows][at_most(walk->n - walk->j, tiles->most_columns)];
    *tile = (tw_tile){tiles->kernel[walk->rows][columns], walk->i, walk->j, walk->rows, columns};
    walk->j += columns;
    return true;
}
