/* product.h - a product that is under way, as the loops around its tiles see it (blocked.c, given.c). */
#ifndef TW_PRODUCT_H
#define TW_PRODUCT_H

#include "blocked.h"

enum { TW_MOST_TILES = 64 };

/* The kernels of one tile of panels, whole ones or those at the end. */
typedef struct tw_tile_calls {
    int count;
    int64_t ld[2];
    tw_command calls[TW_MOST_TILES];
} tw_tile_calls;

/* The kernels for panels that come from memory; of a kind that is not to be used the function is NULL. */
typedef struct tw_far_calls {
    tw_command first[2]; /* [other: last panel?] one panel, read for the first time */
    tw_command twin;     /* two of them at once, times all there is of the other operand */
    tw_command share;    /* one that is near, asking for a part of the next ones */
    int asks;            /* bytes that it asks for in four k steps */
} tw_far_calls;

typedef struct tw_product {
    const tw_blocked *plan;
    const char *operand[2]; /* by side, as stored or given */
    const char *panels;     /* of the other operand */
    tw_packing packing;     /* which makes them, unless they were given */
    char *c;
    const tw_scalar *beta;
    const tw_epilogue *epilogue;
    tw_args args;              /* with alpha, without beta */
    tw_scalar alpha;           /* of pairs: the copied lines are multiplied by it, or by its conjugate */
    tw_tile_calls tiles[2][2]; /* [split: last panel?][other: last panel?] */
    tw_far_calls far;          /* of an operand that is cut and came packed */
    tw_command column;         /* for pieces of the one column of C; no function: none */
    char *buffers;             /* for each task: the chunk's block, then the chunk of C^T or the part of C */
    int64_t block_bytes, buffer_bytes;
    bool around;       /* chunks of C go around the caches */
    bool direct;       /* kernels write C, unless it is turned */
    atomic_llong next; /* chunk to take */
} tw_product;

/* A chunk's block of k: where its tiles are. */
typedef struct tw_block {
    int64_t first, lines; /* of the split side */
    int64_t step, steps;  /* of k */
    char *c;              /* the chunk's first element, at line 0 of the other side */
    int64_t ldc;
} tw_block;

/* ---- given.c ---- */

/* The kernels for panels from memory. */
tw_far_calls tw_far_calls_of(const tw_blocked *plan);

/* All tiles of a block whose panels on the split side came packed. `next` is where the panels begin that this thread reads
 * after these, NULL: there are none; `near`: these were asked for. Returns whether those were. */
bool tw_multiply_given(const tw_product *all, const tw_block *block, const char *next, bool near, tw_args *args);

/* Where the panel of the split side is that begins with this line, at this k step of all. */
static inline const char *tw_given_at(const tw_product *all, int64_t line, int64_t step)
{
    const tw_blocked *plan = all->plan;
    int64_t left = plan->size[plan->split] - line, width = plan->stand[plan->split].width;
    return all->operand[plan->split] +
           (line * plan->k + step * (width < left ? width : left)) * tw_element_bytes(plan->dtype);
}

/* Ask for the tile of C, `columns` of so many bytes. Always inlined: GCC takes a function that only prefetches for one without
 * effect. */
static inline __attribute__((always_inline)) void tw_fetch(const char *at, int64_t step, int64_t columns, int64_t bytes)
{
    for (; columns > 0; columns--, at += step) {
        for (int64_t byte = 0; byte < bytes; byte += 64) {
            __builtin_prefetch(at + byte);
        }
    }
}

#endif
