/* product.c - one product, for calls that are not a repetition of one of the thread's last. */
#include "blas.h"

_Thread_local tw_slot tw_slots[TW_SLOTS] __attribute__((aligned(64)));

int tw_letter_of(int operation)
{
    enum { NO_TRANS = 111, TRANS = 112, CONJ_TRANS = 113 }; /* CBLAS_TRANSPOSE */
    return operation == NO_TRANS ? 'N' : operation == TRANS ? 'T' : operation == CONJ_TRANS ? 'C' : 0;
}

/* Fortran's: 'R' means something to tw_?gemm, but nothing to BLAS. */
static int checked_letter(int letter)
{
    return letter == 'R' || letter == 'r' ? 0 : letter;
}

static int run(char letter, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, const void *alpha,
               const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    switch (letter) {
    case 's':
        return tw_sgemm(layout, transa, transb, m, n, k, *(const float *)alpha, a, lda, b, ldb, *(const float *)beta, c,
                        ldc);
    case 'd':
        return tw_dgemm(layout, transa, transb, m, n, k, *(const double *)alpha, a, lda, b, ldb, *(const double *)beta,
                        c, ldc);
    case 'c':
        return tw_cgemm(layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    default:
        return tw_zgemm(layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    }
}

void tw_blas_gemm(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                  const void *alpha, const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c,
                  int64_t ldc)
{
    int64_t begun = tw_blas_begin();
    int kind = entry->letter | (entry->fortran ? 256 : 0);
    tw_slot *slot = tw_slot_of(m, n, k, lda);
    int settings = atomic_load(&tw_settings), status = TW_OK;
    const tw_gemm_plan *plan = NULL;
    if (tw_slot_is_64(slot, kind, layout, transa, transb, m, n, k, lda, ldb, ldc)) {
        plan = slot->plan;
    } else {
        int op_a = entry->fortran ? checked_letter(transa) : tw_letter_of(transa);
        int op_b = entry->fortran ? checked_letter(transb) : tw_letter_of(transb);
        status = tw_plan_shared(&plan, entry->letter, layout, op_a, op_b, m, n, k, lda, ldb, ldc);
        if (plan == NULL && status == TW_OK) {
            status = run(entry->letter, layout, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
        } else if (plan != NULL && begun == 0) { /* counted calls all come this way */
            tw_slot filled = {m, n, k, lda, ldb, ldc, layout, transa, transb, kind, settings, plan};
            if (tw_slot_is_64(&filled, kind, layout, transa, transb, m, n, k, lda, ldb, ldc)) { /* all fit 32 bits */
                *slot = filled;
            }
        }
    }
    if (plan != NULL) {
        status = tw_gemm_plan_execute(plan, alpha, a, b, beta, c);
    }
    if (status != TW_OK) {
        tw_blas_failed(entry, status);
    }
    tw_blas_end(entry, begun);
}
