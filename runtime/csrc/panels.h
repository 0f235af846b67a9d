/* panels.h - operands in panels: how they lie, how they are made, and the header of one that a caller keeps. */
#ifndef TW_PANELS_H
#define TW_PANELS_H

#include "internal.h"

/* The two sides of a kernel: columns of A fill vectors, elements of B are taken one at a time. */
enum { TW_VECTOR_SIDE, TW_SCALAR_SIDE };

/* Lines of a panel that fills vectors, or of the other: the tile of family packed (specs/packed.yaml). Of ISA and type
 * alone, so that an operand packed once serves every product; its panels always are those that fill vectors. */
int tw_panel_width(int isa, int dtype, int side);

/* A part of an operand, seen as `lines` lines (its dimension in C) of k steps. */
typedef struct tw_lines {
    int dtype;
    bool conj;
    const char *at;     /* the first element */
    int64_t line, step; /* bytes to the next line, to the next k step */
    int64_t lines, k;
    const tw_scalar *alpha; /* what it is multiplied by; NULL: 1 */
} tw_lines;

/* Panels of `width` lines, the last one of what is left: the elements of all lines at one k step beside each other, then
 * those of the next. `around`: what is written had better go around the caches. */
void tw_pack_some(const tw_lines *source, int64_t width, void *panels, bool around);
/* The same on so many threads. */
void tw_pack_panels(const tw_lines *source, int64_t width, int threads, void *panels);

/* Panels in the making, by the threads that will read them: whoever joins packs pieces, until all are packed. */
typedef struct tw_packing {
    tw_lines whole;
    int64_t width, together, steps; /* of a piece: panels, and k steps of a single one */
    int64_t pieces, cuts;           /* how many; into how many k is cut */
    bool around;                    /* the caches */
    char *panels;
    atomic_llong next, done;
} tw_packing;

void tw_packing_begin(tw_packing *all, const tw_lines *source, int64_t width, void *panels);
void tw_packing_join(tw_packing *all);
/* The lines as they are, `pitch` bytes from one to the next; source->step is one element. */
void tw_pack_lines(const tw_lines *source, void *lines, int64_t pitch);
/* A complex line x as two real ones, which give the real and the imaginary part of x's dot product with a line as it lies: the
 * pairs (re, -im) and (im, re). `conj`: of the dot product's conjugate, (-im, -re) in the second. */
void tw_pack_pairs(const tw_lines *source, bool conj, void *lines, int64_t pitch);

#define UNROLL _Pragma("GCC unroll 16") /* a loop over registers, or they would be an array in memory */

/* ---- panels_wide.c: AVX-512 ---- */

/* One panel of lines along k, whatever its width. */
void tw_turn_wide(const tw_lines *source, char *to, bool around);
/* Several whole panels of neighbours, around the caches; false: they do not lie so that this can be done. */
bool tw_spread_wide(const tw_lines *source, int64_t width, char *to);

/* What stands before the panels of a packed operand that a caller keeps. Panel p begins p * width * k elements behind it;
 * the last panel is as narrow as what is left. */
typedef struct tw_packed_header {
    char magic[8];
    uint32_t version;
    uint8_t dtype, side; /* letter; TW_VECTOR_SIDE or TW_SCALAR_SIDE */
    uint16_t width;
    char isa[8];
    int64_t lines, k, bytes; /* bytes: of all, with this header */
    uint64_t reserved[9];
    uint64_t sum; /* of the words before it */
} tw_packed_header;

_Static_assert(sizeof(tw_packed_header) == 128, "panels begin at a multiple of the cache line");

/* The panels of an operand that tw_pack made. */
static inline const char *tw_panels_of(const void *packed)
{
    return (const char *)packed + sizeof(tw_packed_header);
}

/* Is it what this product takes there? `name` is the argument's. A status. */
int tw_packed_fits(const void *packed, const char *name, int isa, int dtype, int side, int64_t lines, int64_t k);

#endif
