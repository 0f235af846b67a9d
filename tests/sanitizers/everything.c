/* everything.c - much of both libraries in one process, for tools that watch it: exits with the number of what is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tilewright.h>
#include <tilewright_cblas.h>

/* Exactly as large as the matrices, so that one element beyond is beyond the block. */
static double *numbers(long count)
{
    double *x = malloc((size_t)(count > 0 ? count : 1) * sizeof *x);
    for (long i = 0; i < count; i++) {
        x[i] = (double)((i * 7 + count) % 11 - 5);
    }
    return x;
}

static int most(int x, int y)
{
    return x > y ? x : y;
}

static long product(int m, int n, int k, int row, double beta)
{
    double *a = numbers((long)m * k), *b = numbers((long)k * n), *c = numbers((long)m * n), *old = numbers((long)m * n);
    int lda = most(1, row ? k : m), ldb = most(1, row ? n : k), ldc = most(1, row ? n : m);
    for (int repeat = 0; repeat < 2; repeat++) {
        memcpy(c, old, (size_t)m * (size_t)n * sizeof *c);
        cblas_dgemm(row ? CblasRowMajor : CblasColMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1, a, lda, b, ldb, beta,
                    c, ldc);
    }
    long wrong = 0;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            double sum = beta * old[row ? i * n + j : j * m + i];
            for (int p = 0; p < k; p++) {
                sum += a[row ? i * k + p : p * m + i] * b[row ? p * n + j : j * k + p];
            }
            wrong += sum != c[row ? i * n + j : j * m + i];
        }
    }
    free(a), free(b), free(c), free(old);
    return wrong;
}

static long batches(void)
{
    enum { M = 3, N = 5, K = 4, COUNT = 9 };
    double *a = numbers(M * K * COUNT), *b = numbers(K * N), *c = numbers(M * N * COUNT);
    cblas_dgemm_batch_strided(CblasRowMajor, CblasNoTrans, CblasNoTrans, M, N, K, 1, a, K, M * K, b, N, 0, 0, c, N,
                              M * N, COUNT);
    const double *as[COUNT], *bs[COUNT];
    double *cs[COUNT], *again = numbers(M * N * COUNT);
    for (int i = 0; i < COUNT; i++) {
        as[i] = a + i * M * K, bs[i] = b, cs[i] = again + i * M * N;
    }
    CBLAS_TRANSPOSE none[2] = {CblasNoTrans, CblasNoTrans};
    int m[2] = {M, M}, n[2] = {N, N}, k[2] = {K, K}, counts[2] = {COUNT - 2, 2};
    double one[2] = {1, 1}, zero[2] = {0, 0};
    cblas_dgemm_batch(CblasRowMajor, none, none, m, n, k, one, as, k, bs, n, zero, cs, n, 2, counts);
    long wrong = memcmp(c, again, M * N * COUNT * sizeof *c) != 0;
    free(a), free(b), free(c), free(again);
    return wrong;
}

int main(int count, char **arguments)
{
    long wrong = batches();
    for (int m = 0; m < 40; m += 3) {
        for (int n = 0; n < 40; n += 7) {
            for (int k = 0; k < 20; k += 6) {
                wrong += product(m, n, k, m % 2, k % 4 == 0 ? 0 : 2);
            }
        }
    }
    wrong += product(300, 2, 120, 1, 0) + product(2, 300, 120, 0, 1) + product(130, 120, 110, 1, 0);
    tw_gemm_plan *plan;
    wrong += tw_gemm_plan_create(&plan, 'd', TW_ROW_MAJOR, 'N', 'N', -1, 1, 1, 1, 1, 1) == TW_OK;
    if (count > 1 && strcmp(arguments[1], "selftest") == 0) {
        wrong += tw_selftest(NULL);
    }
    printf("%s: %ld wrong\n", tw_isa_name(tw_isa_current()), wrong);
    return wrong != 0;
}
