/* exact.h - elements of any type as complex numbers, for comparing products of small integers exactly. */
#ifndef TW_EXACT_H
#define TW_EXACT_H

#include "internal.h"

typedef struct complex_number {
    double re, im;
} complex_number;

static inline void put(int dtype, void *matrix, int64_t index, complex_number value)
{
    switch (dtype) {
    case TW_S:
        ((float *)matrix)[index] = (float)value.re;
        break;
    case TW_D:
        ((double *)matrix)[index] = value.re;
        break;
    case TW_C:
        ((float *)matrix)[2 * index] = (float)value.re;
        ((float *)matrix)[2 * index + 1] = (float)value.im;
        break;
    default:
        ((double *)matrix)[2 * index] = value.re;
        ((double *)matrix)[2 * index + 1] = value.im;
    }
}

static inline complex_number get(int dtype, const void *matrix, int64_t index)
{
    switch (dtype) {
    case TW_S:
        return (complex_number){((const float *)matrix)[index], 0};
    case TW_D:
        return (complex_number){((const double *)matrix)[index], 0};
    case TW_C:
        return (complex_number){((const float *)matrix)[2 * index], ((const float *)matrix)[2 * index + 1]};
    default:
        return (complex_number){((const double *)matrix)[2 * index], ((const double *)matrix)[2 * index + 1]};
    }
}

static inline complex_number times(complex_number x, complex_number y)
{
    return (complex_number){x.re * y.re - x.im * y.im, x.re * y.im + x.im * y.re};
}

#endif
