/* _linear.h - linear layers for cffi, by address: to make a pointer of each number takes longer than a small layer. */
#ifndef TW_LINEAR_H
#define TW_LINEAR_H

#include "tilewright.h"

/* tw_slinear of rows without gaps. */
static int tw_slinear_at(int64_t tokens, int64_t out, int64_t in, intptr_t x, intptr_t packed, intptr_t bias,
                         int activation, int threads, intptr_t y)
{
    return tw_slinear(tokens, out, in, (const float *)x, in > 1 ? in : 1, (const void *)packed, (const float *)bias,
                      activation, threads, (float *)y, out > 1 ? out : 1);
}

/* Pack a weight, out x in, without gaps: by rows, or by columns. */
static int tw_pack_at(int64_t out, int64_t in, intptr_t weight, int by_rows, intptr_t packed)
{
    int64_t ld = by_rows ? in : out;
    return tw_pack('s', TW_ROW_MAJOR, 'B', by_rows ? 'T' : 'N', in, out, NULL, (const void *)weight, ld > 1 ? ld : 1,
                   (void *)packed);
}

static int tw_unpack_at(intptr_t packed, int64_t bytes, intptr_t weight)
{
    return tw_unpack((const void *)packed, bytes, (void *)weight);
}

#endif
