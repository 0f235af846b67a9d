/* call_cost.c - what cblas_sgemm costs a C program: square products that come again and again, or take turns. */
#include <stdint.h>
#include <time.h>

typedef void cblas_sgemm_fn(int layout, int transa, int transb, int m, int n, int k, float alpha, const float *a,
                            int lda, const float *b, int ldb, float beta, float *c, int ldc);

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The least nanoseconds a call over `chunks` chunks of `calls` calls; call i has the size i modulo `count` of `sizes`. */
double bench_call(cblas_sgemm_fn *sgemm, int count, const int *sizes, int64_t calls, int chunks)
{
    static float a[64 * 64], b[64 * 64], c[64 * 64];
    double best = 1e300;
    for (int chunk = 0; chunk < chunks; chunk++) {
        double begun = now();
        int next = 0;
        for (int64_t i = 0; i < calls; i++) {
            int n = sizes[next];
            sgemm(101, 111, 111, n, n, n, 1, a, n, b, n, 0, c, n);
            next = next + 1 == count ? 0 : next + 1;
        }
        double took = (now() - begun) / (double)calls;
        best = took < best ? took : best;
    }
    return best;
}
