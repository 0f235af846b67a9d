/* epilogue.c - C finished where a product ends: a bias for each row, then an activation, while the tile is in the first
 * cache.
 *
 * One exponential of a number that is 0 or less serves all of them, so that nothing overflows:
 *
 *     silu(x)       x s(x)                 s(z) = 1 / (1 + exp(-z)); for z < 0 exp(z) / (1 + exp(z))
 *     gelu_tanh(x)  x s(2 u)               u = sqrt(2 / pi) (x + 0.044715 x^3): (1 + tanh u) / 2 = s(2 u)
 *     gelu(x)       x (1 - Q(x))           Q(x) = erfc(x / sqrt 2) / 2; for x < 0 x Q(-x)
 *
 * tilewright.h states the errors, tests/runtime/test_linear.py holds them to that. Polynomials: near to least in relative
 * error, by least squares with weights at Chebyshev nodes, made for these ranges.
 *
 * Vectors of 32 bytes in locals, never passed: without AVX compilers make two of 16, and there is no ABI to differ in. */
#include "blocked.h"

#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };

typedef float reals __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* Of each lane x where the mask is all ones, else y. */
#define SELECT(mask, x, y) ((reals)(((words)(mask) & (words)(x)) | (~(words)(mask) & (words)(y))))
#define ALL(number) ((reals){0} + (number))

/* e = exp(-a), a >= 0; 0 from 87 on, where it is near the smallest normal number. a may be changed. */
INLINE void decay(reals *a, reals *e)
{
    const float ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f, shift = 0x1.8p23f;
    words far = *a > 87.0f;
    *a = SELECT(far, ALL(87.0f), *a);
    reals moved = *a * -0x1.715476p0f + shift; /* its last bits hold a / ln 2 rounded, with the sign */
    reals n = moved - shift;
    reals r = -*a - n * ln2_high;
    r = r - n * ln2_low;
    reals q = ALL(0x1.6a23a8p-10f);
    q = q * r + 0x1.123a36p-7f;
    q = q * r + 0x1.5558f4p-5f;
    q = q * r + 0x1.55549p-3f;
    q = q * r + 0x1.fffffcp-2f;
    q = q * (r * r) + r + 1.0f;
    words power = ((words)moved << 23) + (127 << 23);
    *e = SELECT(far, ALL(0.0f), q * (reals)power);
}

/* x s(z), by one division. */
INLINE void gate(reals *x, const reals *z)
{
    words below = *z < 0.0f;
    reals a = (reals)((words)*z & 0x7fffffff), e;
    decay(&a, &e);
    *x = *x * SELECT(below, e, ALL(1.0f)) / (1.0f + e);
}

INLINE void gelu(reals *x)
{
    words below = *x < 0.0f;
    reals t = (reals)((words)*x & 0x7fffffff), a = t * t * 0.5f, e;
    decay(&a, &e);
    reals w = 1.0f / (1.0f + 0.3f * t);
    reals q = ALL(-0x1.514248p-6f);
    q = q * w + 0x1.cba424p-4f;
    q = q * w + -0x1.d2499ap-3f;
    q = q * w + 0x1.8740fcp-3f;
    q = q * w + -0x1.42ac58p-4f;
    q = q * w + 0x1.885e76p-4f;
    q = q * w + 0x1.41a02ap-4f;
    q = q * w + 0x1.c366e4p-4f;
    q = q * w + 0x1.e9c82p-4f;
    q = q * w + 0x1.ea3c6p-4f;
    q = q * w * e;
    *x = *x * SELECT(below, q, 1.0f - q);
}

/* LANES elements of a column of C. */
INLINE void finish(float *at, const float *bias, int activation)
{
    reals x = *(const reals *)at;
    if (bias != NULL) {
        x += *(const reals *)bias;
    }
    if (activation == TW_RELU) {
        x = (reals)((words)x & ~(x <= 0.0f)); /* NaN stays */
    } else if (activation == TW_SILU) {
        reals z = x;
        gate(&x, &z);
    } else if (activation == TW_GELU) {
        gelu(&x);
    } else if (activation == TW_GELU_TANH) {
        reals z = x * (1.5957691216f + 0.0713548163f * (x * x)); /* 2 sqrt(2 / pi) and that times 0.044715 */
        gate(&x, &z);
    }
    *(reals *)at = x;
}

INLINE void finish_column(float *c, const float *bias, int64_t m, int activation)
{
    int64_t done = 0;
    for (; done + LANES <= m; done += LANES) {
        finish(c + done, bias ? bias + done : NULL, activation);
    }
    if (done < m) {
        float last[LANES] = {0}, last_bias[LANES] = {0};
        size_t bytes = (size_t)(m - done) * sizeof(float);
        memcpy(last, c + done, bytes);
        if (bias != NULL) {
            memcpy(last_bias, bias + done, bytes);
        }
        finish(last, bias ? last_bias : NULL, activation);
        memcpy(c + done, last, bytes);
    }
}

/* A loop for each activation, so that none of them asks which. */
INLINE void finish_tile(const tw_epilogue *epilogue, int64_t row, int64_t m, int64_t n, char *c, int64_t ldc)
{
    const float *bias = epilogue->bias ? epilogue->bias + row : NULL;
    for (int64_t j = 0; j < n; j++, c += ldc) {
        float *column = (float *)(void *)c;
        switch (epilogue->activation) {
        case TW_RELU:
            finish_column(column, bias, m, TW_RELU);
            break;
        case TW_SILU:
            finish_column(column, bias, m, TW_SILU);
            break;
        case TW_GELU:
            finish_column(column, bias, m, TW_GELU);
            break;
        case TW_GELU_TANH:
            finish_column(column, bias, m, TW_GELU_TANH);
            break;
        default:
            finish_column(column, bias, m, TW_NO_ACTIVATION);
        }
    }
}

static void finish_anywhere(const tw_epilogue *epilogue, int64_t row, int64_t m, int64_t n, char *c, int64_t ldc)
{
    finish_tile(epilogue, row, m, n, c, ldc);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void finish_avx2(const tw_epilogue *epilogue, int64_t row, int64_t m, int64_t n,
                                                        char *c, int64_t ldc)
{
    finish_tile(epilogue, row, m, n, c, ldc);
}
#endif

typedef void (*finish_fn)(const tw_epilogue *epilogue, int64_t row, int64_t m, int64_t n, char *c, int64_t ldc);

void tw_epilogue_run(const tw_epilogue *epilogue, int64_t row, int64_t m, int64_t n, void *c, int64_t ldc)
{
    static _Atomic(finish_fn) found; /* CPUID is slow, so it is asked once */
    finish_fn here = atomic_load_explicit(&found, memory_order_relaxed);
    if (here == NULL) {
        here = finish_anywhere;
#if defined(__x86_64__)
        if (tw_cpu_isas() >> TW_ISA_AVX2 & 1) {
            here = finish_avx2;
        }
#endif
        atomic_store_explicit(&found, here, memory_order_relaxed);
    }
    here(epilogue, row, m, n, c, ldc);
}
