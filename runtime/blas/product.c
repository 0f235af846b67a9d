/* product.c - one product, for calls that are not a repetition of one of the thread's last. */
#include <stdlib.h>

#include "blas.h"

_Atomic(const tw_slot *) tw_slots[1 << TW_SLOT_BITS];

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

/* Leave the plan where the next call of this shape looks. With TILEWRIGHT_VERBOSE no plan is a kernel alone, so that all
 * calls come here and are counted. */
static void keep(const tw_entry *entry, const tw_gemm_plan *plan, int settings, int layout, int transa, int transb,
                 int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc)
{
    int kind = entry->letter | (entry->fortran ? 256 : 0);
    uint32_t place = tw_place_of(kind, transa, transb, m, n, k);
    const tw_slot *there = tw_slot_at(place);
    if (there != NULL && there->settings == settings) {
        return; /* another shape's */
    }
    tw_slot slot = {m, n, k, lda, ldb, ldc, layout, transa, transb, kind, settings, NULL, NULL};
    tw_plan_kernel(plan, &slot.run, &slot.args);
    if (slot.run == NULL || !tw_slot_is_64(&slot, kind, layout, transa, transb, m, n, k, lda, ldb, ldc)) {
        return; /* more than a kernel, or a number beyond 32 bits */
    }
    tw_slot *made = malloc(sizeof *made);
    if (made != NULL) {
        *made = slot;
        if (!atomic_compare_exchange_strong_explicit(&tw_slots[place], &there, made, memory_order_release,
                                                     memory_order_relaxed)) {
            free(made); /* another thread was first */
        }
    }
}

void tw_blas_gemm(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                  const void *alpha, const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c,
                  int64_t ldc)
{
    int64_t begun = tw_blas_begin();
    int settings = atomic_load(&tw_settings); /* before the plan is looked for */
    int op_a = entry->fortran ? checked_letter(transa) : tw_letter_of(transa);
    int op_b = entry->fortran ? checked_letter(transb) : tw_letter_of(transb);
    const tw_gemm_plan *plan;
    int status = tw_plan_shared(&plan, entry->letter, layout, op_a, op_b, m, n, k, lda, ldb, ldc);
    if (plan != NULL) {
        status = tw_gemm_plan_execute(plan, alpha, a, b, beta, c);
        keep(entry, plan, settings, layout, transa, transb, m, n, k, lda, ldb, ldc);
    } else if (status == TW_OK) {
        status = run(entry->letter, layout, op_a, op_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
    }
    if (status != TW_OK) {
        tw_blas_failed(entry, status);
    }
    tw_blas_end(entry, begun);
}
