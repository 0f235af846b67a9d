/* batches.c - cblas_?gemm_batch and cblas_?gemm_batch_strided, as MKL and OpenBLAS have them. */
#include <stdlib.h>

#include "blas.h"

/* ---- Strided ---- */

/* Numbers of its arguments: three strides stand between those of a single product. */
enum { STRIDE_A = 10, STRIDE_B = 13, STRIDE_C = 17, COUNT = 18 };

static int strided_argument(int argument)
{
    return argument < STRIDE_A ? argument : argument < STRIDE_B - 1 ? argument + 1 : argument + 2;
}

void tw_blas_batch_strided(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                           const void *alpha, const void *a, int64_t lda, int64_t stride_a, const void *b, int64_t ldb,
                           int64_t stride_b, const void *beta, void *c, int64_t ldc, int64_t stride_c, int64_t count)
{
    int64_t begun = tw_blas_begin();
    tw_gemm_plan *plan;
    int status = tw_gemm_plan_create(&plan, entry->letter, layout, tw_letter_of(transa), tw_letter_of(transb), m, n, k,
                                     lda, ldb, ldc);
    if (status == TW_OK) {
        status = tw_gemm_batch_strided(plan, count, alpha, a, stride_a, b, stride_b, beta, c, stride_c);
        tw_gemm_plan_destroy(plan);
    }
    if (status == TW_ERROR_BATCH) {
        tw_blas_wrong(entry, count < 0 ? COUNT : STRIDE_C, tw_error_message());
    } else if (status >= 1 && status <= TW_LAST_ARGUMENT) {
        tw_blas_wrong(entry, strided_argument(status), tw_error_message());
    } else if (status != TW_OK) {
        tw_blas_failed(entry, status);
    }
    tw_blas_end(entry, begun);
}

/* ---- In groups ---- */

enum { GROUPS = 15, SIZES = 16 };

static int64_t integer(const tw_groups *all, const void *array, int64_t group)
{
    return all->width == 32 ? ((const int32_t *)array)[group] : ((const int64_t *)array)[group];
}

/* What tw_gemm_batch_groups wants of each group, in one piece of memory. */
typedef struct workspace {
    tw_gemm_plan **plans;
    int64_t *counts;
    const void **alpha, **beta;
    int64_t made; /* plans */
} workspace;

static bool begin(workspace *work, int64_t groups)
{
    size_t each = sizeof *work->plans + sizeof *work->counts + sizeof *work->alpha + sizeof *work->beta;
    work->plans = (size_t)groups < SIZE_MAX / each ? malloc((size_t)groups * each) : NULL;
    work->counts = (int64_t *)(work->plans + groups);
    work->alpha = (const void **)(work->counts + groups);
    work->beta = work->alpha + groups;
    work->made = 0;
    return work->plans != NULL;
}

static void end(workspace *work)
{
    for (int64_t group = 0; group < work->made; group++) {
        tw_gemm_plan_destroy(work->plans[group]);
    }
    free(work->plans);
}

/* Plans of all groups. A status, SIZES among them. */
static int plan_all(workspace *work, char letter, const tw_groups *all)
{
    size_t element = (letter == 's' || letter == 'd' ? 1 : 2) * (letter == 's' || letter == 'c' ? 4 : 8);
    for (int64_t g = 0; g < all->groups; g++) {
        work->counts[g] = integer(all, all->counts, g);
        work->alpha[g] = (const char *)all->alpha + (size_t)g * element;
        work->beta[g] = (const char *)all->beta + (size_t)g * element;
        if (work->counts[g] < 0) {
            return SIZES;
        }
        int status = tw_gemm_plan_create(&work->plans[g], letter, all->layout, tw_letter_of(all->transa[g]),
                                         tw_letter_of(all->transb[g]), integer(all, all->m, g), integer(all, all->n, g),
                                         integer(all, all->k, g), integer(all, all->lda, g), integer(all, all->ldb, g),
                                         integer(all, all->ldc, g));
        if (status != TW_OK) {
            return status;
        }
        work->made++;
    }
    return TW_OK;
}

void tw_blas_batch(tw_entry *entry, const tw_groups *all)
{
    int64_t begun = tw_blas_begin();
    workspace work;
    if (all->groups < 0) {
        tw_blas_wrong(entry, GROUPS, "group_count is negative; it must be 0 or more.");
    } else if (all->groups > 0 && !begin(&work, all->groups)) {
        tw_blas_failed(entry, TW_ERROR_MEMORY);
    } else if (all->groups > 0) {
        int status = plan_all(&work, entry->letter, all);
        if (status == TW_OK) {
            const tw_gemm_plan *const *plans = (const tw_gemm_plan *const *)work.plans;
            status =
                tw_gemm_batch_groups(all->groups, plans, work.counts, work.alpha, all->a, all->b, work.beta, all->c);
        }
        if (status == SIZES) {
            tw_blas_wrong(entry, SIZES, "a group_size is negative; it must be 0 or more.");
        } else if (status != TW_OK) {
            tw_blas_failed(entry, status);
        }
        end(&work);
    }
    tw_blas_end(entry, begun);
}
