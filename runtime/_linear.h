/* _linear.h - linear layers for cffi, by address: to make a pointer of each number takes longer than a small layer. */
#ifndef TW_LINEAR_H
#define TW_LINEAR_H

#include "tilewright.h"

/* tw_slinear of rows without gaps, on the threads of the team at that address, 0: the library's. */
static int tw_slinear_at(int64_t tokens, int64_t out, int64_t in, intptr_t x, intptr_t packed, intptr_t bias,
                         int activation, int threads, intptr_t y, intptr_t team)
{
    tw_team_fn before = tw_set_team((tw_team_fn)team);
    int status = tw_slinear(tokens, out, in, (const float *)x, in > 1 ? in : 1, (const void *)packed,
                            (const float *)bias, activation, threads, (float *)y, out > 1 ? out : 1);
    tw_set_team(before);
    return status;
}

/* Pack a weight, out x in, without gaps: by rows, or by columns; on a team's threads likewise. */
static int tw_pack_at(int64_t out, int64_t in, intptr_t weight, int by_rows, intptr_t packed, intptr_t team)
{
    int64_t ld = by_rows ? in : out;
    tw_team_fn before = tw_set_team((tw_team_fn)team);
    int status = tw_pack('s', TW_ROW_MAJOR, 'B', by_rows ? 'T' : 'N', in, out, NULL, (const void *)weight,
                         ld > 1 ? ld : 1, (void *)packed);
    tw_set_team(before);
    return status;
}

static int tw_unpack_at(intptr_t packed, int64_t bytes, intptr_t weight)
{
    return tw_unpack((const void *)packed, bytes, (void *)weight);
}

#endif
