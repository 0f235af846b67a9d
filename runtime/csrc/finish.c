/* finish.c - C put right where no kernel writes it: scaled, or added up from parts. */
#include "blocked.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* old * beta + value, by the plain formula; old is not read without beta. */
static inline void put(int dtype, char *to, const tw_scalar *value, const tw_scalar *beta, bool zero)
{
    switch (dtype) {
    case TW_S: {
        float *c = (float *)(void *)to;
        *c = zero ? value->s : value->s + beta->s * *c;
        break;
    }
    case TW_D: {
        double *c = (double *)(void *)to;
        *c = zero ? value->d : value->d + beta->d * *c;
        break;
    }
    case TW_C: {
        float *c = (float *)(void *)to, re = zero ? 0 : c[0] * beta->c[0] - c[1] * beta->c[1];
        float im = zero ? 0 : c[0] * beta->c[1] + c[1] * beta->c[0];
        c[0] = zero ? value->c[0] : value->c[0] + re;
        c[1] = zero ? value->c[1] : value->c[1] + im;
        break;
    }
    default: {
        double *c = (double *)(void *)to, re = zero ? 0 : c[0] * beta->z[0] - c[1] * beta->z[1];
        double im = zero ? 0 : c[0] * beta->z[1] + c[1] * beta->z[0];
        c[0] = zero ? value->z[0] : value->z[0] + re;
        c[1] = zero ? value->z[1] : value->z[1] + im;
    }
    }
}

static inline void accumulate(int dtype, tw_scalar *sum, const char *from)
{
    if (dtype == TW_S || dtype == TW_C) {
        const float *x = (const float *)(const void *)from;
        sum->c[0] += x[0];
        if (dtype == TW_C) {
            sum->c[1] += x[1];
        }
    } else {
        const double *x = (const double *)(const void *)from;
        sum->z[0] += x[0];
        if (dtype == TW_Z) {
            sum->z[1] += x[1];
        }
    }
}

void tw_scale_c(int dtype, int64_t m, int64_t n, const tw_scalar *beta, void *c, int64_t ldc)
{
    if (tw_scalar_is(dtype, beta, 1)) {
        return;
    }
    bool zero = tw_scalar_is(dtype, beta, 0);
    int64_t element = tw_element_bytes(dtype);
    /* No product is added, only zero: -0 becomes 0, as it does in kernels. */
    for (int64_t j = 0; j < n; j++) {
        char *column = (char *)c + j * ldc;
        for (int64_t i = 0; i < m; i++) {
            tw_scalar nothing = {.z = {0, 0}};
            put(dtype, column + i * element, &nothing, beta, zero);
        }
    }
}

static inline __attribute__((always_inline)) void add_up(int dtype, int64_t m, int64_t n, const char *parts, int64_t ld,
                                                         int count, int64_t apart, bool turned, const tw_scalar *beta,
                                                         char *c, int64_t ldc)
{
    int64_t element = tw_element_bytes(dtype);
    bool zero = tw_scalar_is(dtype, beta, 0);
    int64_t along = turned ? ld : element, across = turned ? element : ld;
    for (int64_t j = 0; j < n; j++) {
        for (int64_t i = 0; i < m; i++) {
            const char *from = parts + i * along + j * across;
            tw_scalar sum = {.z = {0, 0}};
            memcpy(&sum, from, (size_t)element);
            for (int part = 1; part < count; part++) {
                accumulate(dtype, &sum, from + part * apart);
            }
            put(dtype, c + j * ldc + i * element, &sum, beta, zero);
        }
    }
}

void tw_add_up(int dtype, int64_t m, int64_t n, const void *parts, int64_t ld, int count, int64_t apart, bool turned,
               const tw_scalar *beta, void *c, int64_t ldc)
{
    switch (dtype) { /* a loop for each type: this one is read as often as C */
    case TW_S:
        add_up(TW_S, m, n, parts, ld, count, apart, turned, beta, c, ldc);
        break;
    case TW_D:
        add_up(TW_D, m, n, parts, ld, count, apart, turned, beta, c, ldc);
        break;
    case TW_C:
        add_up(TW_C, m, n, parts, ld, count, apart, turned, beta, c, ldc);
        break;
    default:
        add_up(TW_Z, m, n, parts, ld, count, apart, turned, beta, c, ldc);
    }
}

/* ---- Around the caches ---- */

#if defined(__x86_64__)

enum { LINE = 64 };

bool tw_writes_around(void)
{
    return true;
}

static void write_lines(char *to, const char *from, int64_t lines)
{
    for (; lines > 0; lines--, to += LINE, from += LINE) {
        for (int part = 0; part < LINE; part += 16) {
            __m128i some = _mm_loadu_si128((const __m128i *)(const void *)(from + part));
            _mm_stream_si128((__m128i *)(void *)(to + part), some);
        }
    }
}

/* A line at once takes a quarter of the core's queue. */
__attribute__((target("avx512f"))) static void write_lines_wide(char *to, const char *from, int64_t lines)
{
    for (; lines > 0; lines--, to += LINE, from += LINE) {
        _mm512_stream_si512((void *)to, _mm512_loadu_si512(from));
    }
}

void tw_write_around(char *to, const char *from, int64_t bytes)
{
    int64_t head = tw_at_most(-(int64_t)(uintptr_t)to & (LINE - 1), bytes), lines = (bytes - head) / LINE;
    bool wide = atomic_load_explicit(&tw_isa_now, memory_order_relaxed) == TW_ISA_AVX512;
    memcpy(to, from, (size_t)head); /* around the caches go whole lines only: parts of one are other chunks' */
    (wide ? write_lines_wide : write_lines)(to + head, from + head, lines);
    int64_t done = head + lines * LINE;
    memcpy(to + done, from + done, (size_t)(bytes - done));
}

void tw_written_around(void)
{
    _mm_sfence();
}

#else

bool tw_writes_around(void)
{
    return false;
}

void tw_write_around(char *to, const char *from, int64_t bytes)
{
    memcpy(to, from, (size_t)bytes);
}

void tw_written_around(void)
{
}

#endif
