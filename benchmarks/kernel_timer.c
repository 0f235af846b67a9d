/* kernel_timer.c - time kernels and the core's multiply-add peak, in the same process and in turns.
 *
 * Compiled by benchmarks/kernels.py. Times are the least of many repetitions, in nanoseconds of CLOCK_MONOTONIC.
 */
#include <stdint.h>
#include <time.h>

#include "tw_kernel.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* Least nanoseconds a call, over `rounds` rounds of `calls` calls. */
double time_kernel(const tw_kernel *kernel, const void *a, const void *b, void *c, const tw_args *args, int calls,
                   int rounds)
{
    double best = 1e300;
    for (int round = 0; round < rounds; round++) {
        double start = now();
        for (int call = 0; call < calls; call++)
            kernel->run(a, b, c, args);
        double passed = now() - start;
        if (passed < best)
            best = passed;
    }
    return best / calls;
}

#if defined(__x86_64__)
#define REPEAT(op, r)                                                                                                  \
    op " %%" r "0, %%" r "0, %%" r "1\n" op " %%" r "0, %%" r "0, %%" r "2\n" op " %%" r "0, %%" r "0, %%" r "3\n" op  \
       " %%" r "0, %%" r "0, %%" r "4\n" op " %%" r "0, %%" r "0, %%" r "5\n" op " %%" r "0, %%" r "0, %%" r "6\n" op  \
       " %%" r "0, %%" r "0, %%" r "7\n" op " %%" r "0, %%" r "0, %%" r "8\n" op " %%" r "0, %%" r "0, %%" r "9\n" op  \
       " %%" r "0, %%" r "0, %%" r "10\n" op " %%" r "0, %%" r "0, %%" r "11\n" op " %%" r "0, %%" r "0, %%" r "12\n"

/* Least nanoseconds for one multiply-add on registers alone: 12 independent sums. `wide` chooses 512 bits. */
double time_multiply_add(int wide, int turns, int rounds)
{
    double best = 1e300;
    for (int round = 0; round < rounds; round++) {
        long count = turns;
        double start = now();
        if (wide)
            __asm__ volatile("1:\n" REPEAT("vfmadd231ps", "zmm") "sub $1, %0\njnz 1b\nvzeroupper\n"
                             : "+r"(count)::"cc");
        else
            __asm__ volatile("1:\n" REPEAT("vfmadd231ps", "ymm") "sub $1, %0\njnz 1b\nvzeroupper\n"
                             : "+r"(count)::"cc");
        double passed = now() - start;
        if (passed < best)
            best = passed;
    }
    return best / turns / 12;
}
#endif
