/* paths.h - what the choice of a path (route.c), the paths (paths.c) and the cutting into chunks (chunks.c) share. */
#ifndef TW_PATHS_H
#define TW_PATHS_H

#include "blocked.h"

enum {
    TW_TALL = 4, /* times as long as wide */
    TW_LONGEST_DOT = 64,
    TW_SHORT_LINES = 8,        /* k steps */
    TW_LEAST_AHEAD = 512,      /* bytes of a line, else other kernels are as good */
    TW_FROM_MEMORY = 12 << 20, /* bytes; not by the last cache's size, which hypervisors tell wrong */
    TW_WIDE_STREAM = 128,      /* columns of C */
    TW_TURNING_STEPS = 128,    /* k, below which turning a large C takes too long */
    TW_MOST_PAIRS = 7 << 16,   /* bytes of complex lines that are copied as real ones, twice as long */
    TW_MOST_CHUNK = 3 << 19    /* bytes of a thread's own memory */
};

/* Lines of an operand of which many fall into the same sets of the first cache. */
static inline bool tw_crowded(int64_t ld)
{
    return ld % 2048 == 0;
}

/* So many that a tile's push one another out? ARM's first caches are of four ways, others of eight. */
static inline bool tw_jams(int isa, int64_t ld)
{
    return (isa == TW_ISA_NEON || isa == TW_ISA_FCMA) && tw_crowded(ld);
}

/* ---- paths.c ---- */

/* Formats, blocks and kernels of a plan that knows its operands. False: the path does not serve this product, or *status is not
 * TW_OK. */
typedef bool (*tw_path)(tw_blocked *plan, const tw_wish *wish, int *status);

bool tw_path_blocked(tw_blocked *plan, const tw_wish *wish, int *status);
bool tw_path_stream(tw_blocked *plan, const tw_wish *wish, int *status);
bool tw_path_dot(tw_blocked *plan, const tw_wish *wish, int *status);
bool tw_path_direct(tw_blocked *plan, const tw_wish *wish, int *status);
bool tw_path_inner(tw_blocked *plan, const tw_wish *wish, int *status);
/* An operand came packed. */
bool tw_path_given(tw_blocked *plan, const tw_wish *wish, int *status);

/* Shall C, where such a plan writes it, be written around the caches? */
void tw_choose_around(tw_blocked *plan);

#endif
