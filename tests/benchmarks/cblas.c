/* cblas.c - a slow CBLAS for tests of the benchmarks. NAME(sgemm) makes names; ERROR is added to the last element of C. */
#include <complex.h>

#define AT(x, trans, i, j, ld) ((trans) == 111 ? (x)[(i) * (ld) + (j)] : (x)[(j) * (ld) + (i)])
#define GEMM(name, type, scalar, value)                                                                                \
    void NAME(name)(int layout, int ta, int tb, int m, int n, int k, scalar alpha, const void *va, int lda,            \
                    const void *vb, int ldb, scalar beta, void *vc, int ldc);                                          \
    void NAME(name)(int layout, int ta, int tb, int m, int n, int k, scalar alpha, const void *va, int lda,            \
                    const void *vb, int ldb, scalar beta, void *vc, int ldc)                                           \
    {                                                                                                                  \
        const type *a = va, *b = vb;                                                                                   \
        type *c = vc;                                                                                                  \
        (void)layout, (void)beta;                                                                                      \
        for (int i = 0; i < m; i++)                                                                                    \
            for (int j = 0; j < n; j++) {                                                                              \
                type sum = i == m - 1 && j == n - 1 ? ERROR : 0;                                                       \
                for (int p = 0; p < k; p++)                                                                            \
                    sum += AT(a, ta, i, p, lda) * AT(b, tb, p, j, ldb);                                                \
                c[i * ldc + j] = (value) * sum;                                                                        \
            }                                                                                                          \
    }
GEMM(sgemm, float, float, alpha)
GEMM(dgemm, double, double, alpha)
GEMM(cgemm, float complex, const void *, *(const float complex *)alpha)
GEMM(zgemm, double complex, const void *, *(const double complex *)alpha)
