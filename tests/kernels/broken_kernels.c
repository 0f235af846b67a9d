/* broken_kernels.c - kernels with one mistake each: the tests of the harness see every check fail once.
 *
 * All are d, nn, 2x3; `broken_nothing` is right. The name says the mistake. */
#include <unistd.h>

#include "tw_kernel.h"

enum { MR = 2, NR = 3 };

static const double *column(const void *base, int64_t ld, int64_t j)
{
    return (const double *)((const char *)base + ld * j);
}

/* The right product, with hooks for the mistakes. */
static void product(const void *a, const void *b, void *c, const tw_args *args, int read_c)
{
    for (int j = 0; j < NR; j++) {
        double *cj = (double *)((char *)c + args->ldc * j);
        for (int i = 0; i < MR; i++) {
            double sum = 0;
            for (int64_t p = 0; p < args->k; p++) {
                sum += column(a, args->lda, p)[i] * column(b, args->ldb, j)[p];
            }
            if (args->flags & TW_FLAG_ALPHA) {
                sum *= args->alpha.d;
            }
            if (args->flags & TW_FLAG_BETA) {
                sum += args->beta.d * cj[i];
            } else if (read_c) {
                sum += 0 * cj[i];
            }
            cj[i] = sum;
        }
    }
}

static volatile double sink;

#define BROKEN(name) static void name(const void *a, const void *b, void *c, const tw_args *args)

BROKEN(nothing)
{
    product(a, b, c, args, 0);
}

BROKEN(reads_past_a)
{
    product(a, b, c, args, 0);
    sink = column(a, args->lda, args->k ? args->k - 1 : 0)[MR];
}

BROKEN(reads_before_b)
{
    product(a, b, c, args, 0);
    sink = column(b, 0, 0)[-1];
}

BROKEN(writes_past_c)
{
    product(a, b, c, args, 0);
    ((double *)((char *)c + args->ldc * (NR - 1)))[MR] = 0;
}

BROKEN(writes_before_c)
{
    product(a, b, c, args, 0);
    ((double *)c)[-1] = 0;
}

BROKEN(writes_a)
{
    product(a, b, c, args, 0);
    *(double *)(uintptr_t)a = 0;
}

BROKEN(writes_padding_of_c)
{
    product(a, b, c, args, 0);
    if (args->ldc > MR * (int64_t)sizeof(double)) {
        ((double *)c)[MR] = 0;
    }
}

BROKEN(reads_padding_of_a)
{
    product(a, b, c, args, 0);
    if (args->lda > MR * (int64_t)sizeof(double) && args->k > 1) {
        *(double *)c += 0 * column(a, args->lda, 0)[MR];
    }
}

BROKEN(reads_c_with_beta_zero)
{
    product(a, b, c, args, 1);
}

BROKEN(reads_a_with_k_zero)
{
    sink = *(const double *)a;
    product(a, b, c, args, 0);
}

BROKEN(reads_past_args)
{
    product(a, b, c, args, 0);
    sink = *(const double *)(args + 1);
}

BROKEN(ignores_alpha)
{
    tw_args plain = *args;
    plain.flags &= ~(uint64_t)TW_FLAG_ALPHA;
    product(a, b, c, &plain, 0);
}

BROKEN(multiplies_by_unset_alpha)
{
    tw_args plain = *args;
    plain.flags |= TW_FLAG_ALPHA;
    product(a, b, c, &plain, 0);
}

BROKEN(drops_last_odd_k)
{
    tw_args even = *args;
    even.k &= ~INT64_C(1);
    product(a, b, c, &even, 0);
}

BROKEN(rounds_to_float)
{
    product(a, b, c, args, 0);
    for (int j = 0; j < NR; j++) {
        double *cj = (double *)((char *)c + args->ldc * j);
        cj[0] = (float)cj[0];
    }
}

BROKEN(flushes_denormals)
{
    product(a, b, c, args, 0);
    double *first = c;
    if (*first < 0x1p-1022 && *first > -0x1p-1022) {
        *first = 0;
    }
}

BROKEN(mixes_rows)
{
    product(a, b, c, args, 0);
    double *first = c;
    first[1] += 0 * first[0];
}

BROKEN(narrows_ld)
{
    tw_args narrow = *args;
    narrow.ldc = (int32_t)narrow.ldc;
    product(a, b, c, &narrow, 0);
}

BROKEN(changes_vector_register)
{
    product(a, b, c, args, 0);
#if defined(__aarch64__)
    __asm__ volatile("fmov d8, xzr"); /* not in a clobber list: that is the mistake */
#else
    __asm__ volatile("vcmpps $15, %ymm0, %ymm0, %ymm0"); /* all ones, and no vzeroupper after it */
#endif
}

BROKEN(changes_general_register)
{
    product(a, b, c, args, 0);
#if defined(__aarch64__)
    __asm__ volatile("mov x19, xzr");
#else
    __asm__ volatile("xorl %r12d, %r12d");
#endif
}

BROKEN(changes_rounding)
{
    product(a, b, c, args, 0);
#if defined(__aarch64__)
    __asm__ volatile("mrs x9, fpcr\n\torr x9, x9, #0x1000000\n\tmsr fpcr, x9" ::: "x9"); /* flush to zero */
#else
    unsigned int control;
    __asm__ volatile("stmxcsr %0" : "=m"(control));
    control |= 0x8000; /* flush to zero */
    __asm__ volatile("ldmxcsr %0" : : "m"(control));
#endif
}

BROKEN(illegal_instruction)
{
    product(a, b, c, args, 0);
#if defined(__aarch64__)
    __asm__ volatile(".inst 0x04a00000"); /* an SVE add: no ARMv8.0 core has it */
#else
    __asm__ volatile("ud2");
#endif
}

BROKEN(never_returns)
{
    product(a, b, c, args, 0);
    for (volatile int forever = 1; forever;) {
    }
}

BROKEN(ends_the_process)
{
    (void)a, (void)b, (void)c, (void)args;
    _exit(3);
}

#define ENTRY(what)                                                                                                    \
    {.name = "broken_" #what,                                                                                          \
     .run = what,                                                                                                      \
     .isa = TW_ISA_SCALAR,                                                                                             \
     .dtype = TW_D,                                                                                                    \
     .mode = TW_NN,                                                                                                    \
     .family = TW_SMALL,                                                                                               \
     .mr = MR,                                                                                                         \
     .nr = NR}

#pragma GCC visibility push(default)
extern const tw_kernel tw_kernels[];
extern const int tw_kernel_count;
const tw_kernel tw_kernels[] = {
    ENTRY(nothing),
    ENTRY(reads_past_a),
    ENTRY(reads_before_b),
    ENTRY(writes_past_c),
    ENTRY(writes_before_c),
    ENTRY(writes_a),
    ENTRY(writes_padding_of_c),
    ENTRY(reads_padding_of_a),
    ENTRY(reads_c_with_beta_zero),
    ENTRY(reads_a_with_k_zero),
    ENTRY(reads_past_args),
    ENTRY(ignores_alpha),
    ENTRY(multiplies_by_unset_alpha),
    ENTRY(drops_last_odd_k),
    ENTRY(rounds_to_float),
    ENTRY(flushes_denormals),
    ENTRY(mixes_rows),
    ENTRY(narrows_ld),
    ENTRY(changes_vector_register),
    ENTRY(changes_general_register),
    ENTRY(changes_rounding),
    ENTRY(illegal_instruction),
    ENTRY(never_returns),
    ENTRY(ends_the_process),
};
const int tw_kernel_count = sizeof tw_kernels / sizeof *tw_kernels;
