/* blocked.h - products too large for tiles alone: one operand cut into chunks, the other held in panels. */
#ifndef TW_BLOCKED_H
#define TW_BLOCKED_H

#include "panels.h"

/* How an operand lies while it is multiplied. */
enum {
    TW_GIVEN,  /* panels of all k steps that the caller keeps */
    TW_PANELS, /* panels made for this product */
    TW_COPIED, /* its lines, copied so that they lie apart as suits the caches; never the one that is cut */
    TW_DIRECT  /* where it is */
};

typedef struct tw_stand {
    int format;
    int width;          /* lines of a panel, or of what stands in for one */
    int64_t line, step; /* bytes to the next line and k step, as the caller stores it */
    bool conj;
} tw_stand;

/* How a product is blocked; of its form, never of pointers. The product may be `turned`: what is computed is C^T, a
 * chunk at a time in memory of its own, so that the long operand is the one that fills vectors. */
typedef struct tw_blocked {
    const char *path;
    int dtype, isa, mode; /* of the tiles: as formats make it, not the caller's */
    int scalars;          /* alpha's, beta's and C's type: the caller's */
    bool pairs; /* it is complex, and computed as a real product of twice as many steps and lines, the copied ones */
    bool turned, flip, inner; /* flip: the kernels' product is conjugated at the end */
    bool asks;                /* inner: for the blocks of the long, wide operand ahead of time */
    bool near;                /* the long operand comes from a cache: nothing need be asked for */
    bool around;              /* without beta, C is computed elsewhere and written around the caches */
    int split;                /* the side that is cut: TW_VECTOR_SIDE or TW_SCALAR_SIDE */
    int filling;              /* of two sides in panels, the one whose lines fill vectors */
    int threads, parts;       /* parts of k, each summed by itself and added up: 1 unless C is small and k huge */
    double nanoseconds;       /* on one core, about */
    int64_t size[2], k;       /* lines of both sides */
    int64_t m, n;             /* C's, as the caller has it */
    int64_t kc, chunk;        /* k steps of a block, lines of a chunk */
    int64_t lines;            /* of a chunk, near to which it is chosen */
    int64_t piece;            /* of those that are written around the caches at a time */
    int64_t ahead; /* bytes of a line to ask for, two tiles before its turn; lines along k that lie where they are */
    int64_t ldc;
    tw_stand stand[2];
    const tw_tiles *tiles;
    const tw_kernel *column; /* of one column of C and kc steps: its pieces across a batch; NULL: as `tiles` has it */
    const tw_kernel *main;   /* for tiles of its size, one under the other; NULL: as `tiles` has it */
} tw_blocked;

/* ---- epilogue.c: what is done to C where a product ends ---- */

typedef struct tw_epilogue {
    const float *bias; /* one for each row of C, column-major; NULL: none */
    int activation;    /* TW_NO_ACTIVATION and its like */
} tw_epilogue;

/* C[m x n] = act(C + bias), its first row being this one of bias; ldc in bytes. */
void tw_epilogue_run(const tw_epilogue *epilogue, int64_t row, int64_t m, int64_t n, void *c, int64_t ldc);

static inline int64_t tw_at_most(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

static inline int64_t tw_at_least(int64_t x, int64_t y)
{
    return x > y ? x : y;
}

static inline int64_t tw_round_up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

/* ---- blocked.c ---- */

/* C = alpha op(A) op(B) + beta C; x and y are what stands on the vector and on the scalar side before turning: elements, or
 * TW_GIVEN's panels. A status; TW_ERROR_MEMORY before anything is written. */
int tw_blocked_run(const tw_blocked *plan, const tw_scalar *alpha, const void *x, const void *y, const tw_scalar *beta,
                   void *c);

/* The same, and then the epilogue, tile by tile; NULL: none. A plan that turns nothing, real and of type s. */
int tw_blocked_finish(const tw_blocked *plan, const tw_scalar *alpha, const void *x, const void *y,
                      const tw_scalar *beta, void *c, const tw_epilogue *epilogue);

/* The same blocks, read by those who report them: bytes beside the matrices, and the kernel of a tile of whole panels (NULL:
 * several, or operands are not in panels). */
int64_t tw_blocked_memory(const tw_blocked *plan);
const tw_kernel *tw_blocked_kernel(const tw_blocked *plan);

/* ---- route.c ---- */

enum {
    TW_PATH_AUTO,
    TW_PATH_TILES,
    TW_PATH_BLOCKED,
    TW_PATH_STREAM,
    TW_PATH_DOT,
    TW_PATH_DIRECT,
    TW_PATH_INNER,
    TW_PATHS
};

/* Does this product go through blocks, and how? A status; *blocked says whether. */
int tw_route(const tw_form *form, int isa, int path, const tw_wish *wish, tw_blocked *plan, bool *blocked);

/* ---- chunks.c ---- */

/* Chunks and parts for the threads that the product may use now. */
void tw_blocked_share(tw_blocked *plan);

static inline const tw_blocked *tw_blocked_of(const tw_gemm_plan *plan)
{
    return (const tw_blocked *)(const void *)plan->commands;
}

/* ---- onpanels.c: kernels of family packed ---- */

/* Where the panel that fills vectors comes from. */
enum { TW_NEAR, TW_FAR, TW_PLACES }; /* the second cache; memory */

/* The best kernel for a whole panel on the side `filling` and so many lines of the other, at most a panel of those too; NULL:
 * there is none. */
const tw_kernel *tw_panel_kernel(int isa, int dtype, int filling, int64_t lines, int place);
/* The kernel for two panels from memory at once, where that is the faster; NULL: it is not, or there is none. */
const tw_kernel *tw_twin_kernel(int isa, int dtype, int64_t lines);
/* The kernel that asks for other panels, as little as does if so many of its tiles shall ask for as much as they read; NULL:
 * there is none, or none that asks for enough. */
const tw_kernel *tw_sharing_kernel(int isa, int dtype, int64_t lines, int64_t tiles);

/* ---- cpu caches ---- */

typedef struct tw_caches {
    int64_t first, second, last; /* bytes */
} tw_caches;

tw_caches tw_caches_here(void);

/* ---- memory.c: workspaces, kept between calls up to a bound ---- */

void *tw_workspace_take(int64_t bytes);
void tw_workspace_give(void *workspace);
/* Ask for huge pages wherever whole ones fit into this memory; before it is first written to. */
void tw_huge_pages(void *memory, int64_t bytes);

/* ---- finish.c: C put right where kernels do not write it ---- */

/* C = beta C. */
void tw_scale_c(int dtype, int64_t m, int64_t n, const tw_scalar *beta, void *c, int64_t ldc);
/* C[m x n] = beta C + the sum of `count` matrices, each `apart` bytes behind the one before; `turned`: they are n x m.
 * ld and ldc in bytes. */
void tw_add_up(int dtype, int64_t m, int64_t n, const void *parts, int64_t ld, int count, int64_t apart, bool turned,
               const tw_scalar *beta, void *c, int64_t ldc);

/* Copy to memory that nobody will read soon, without reading it first, as plain stores do. Others see it after
 * tw_written_around. */
void tw_write_around(char *to, const char *from, int64_t bytes);
void tw_written_around(void);
/* Is there a way to? */
bool tw_writes_around(void);

#endif
