/* packing.c - cblas_?gemm_pack_get_size, _pack and _compute, as MKL has them, over libtilewright's packed operands. */
#include "blas.h"

enum { PACKED = 151, A_MATRIX = 161, B_MATRIX = 162 }; /* CBLAS_STORAGE, CBLAS_IDENTIFIER */

static int operand_of(int identifier)
{
    return identifier == A_MATRIX ? 'A' : identifier == B_MATRIX ? 'B' : 0;
}

/* Report a status of tw_pack or tw_pack_size; `numbers`: where their arguments stand in the entry's list. */
static void refuse(const tw_entry *entry, int status, const uint8_t *numbers, int count)
{
    if (status >= 1 && status < count) {
        tw_blas_wrong(entry, numbers[status], tw_error_message());
    } else {
        tw_blas_failed(entry, status);
    }
}

size_t tw_blas_pack_size(tw_entry *entry, int identifier, int64_t m, int64_t n, int64_t k)
{
    int64_t bytes = 0;
    int operand = operand_of(identifier);
    static const uint8_t for_a[] = {0, 0, 0, 1, 0, 2, 4}, for_b[] = {0, 0, 0, 1, 0, 4, 3};
    /* Neither the layout nor the operation changes it. */
    int status =
        tw_pack_size(entry->letter, TW_COL_MAJOR, operand, 'N', operand == 'B' ? k : m, operand == 'B' ? n : k, &bytes);
    if (status != TW_OK) {
        refuse(entry, status, operand == 'B' ? for_b : for_a, sizeof for_a);
    }
    return (size_t)bytes;
}

void tw_blas_pack(tw_entry *entry, int layout, int identifier, int trans, int64_t m, int64_t n, int64_t k,
                  const void *alpha, const void *x, int64_t ld, void *packed)
{
    int64_t begun = tw_blas_begin();
    int operand = operand_of(identifier);
    static const uint8_t for_a[] = {0, 0, 1, 2, 3, 4, 6, 7, 8, 9, 10}, for_b[] = {0, 0, 1, 2, 3, 6, 5, 7, 8, 9, 10};
    int status = tw_pack(entry->letter, layout, operand, tw_letter_of(trans), operand == 'B' ? k : m,
                         operand == 'B' ? n : k, alpha, x, ld, packed);
    if (status != TW_OK) {
        refuse(entry, status, operand == 'B' ? for_b : for_a, sizeof for_a);
    }
    tw_blas_end(entry, begun);
}

/* The product of a packed operand and a plain one. A status of tw_?gemm. */
static int run(const tw_entry *entry, int pack, int layout, int op_a, int op_b, int64_t m, int64_t n, int64_t k,
               const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    tw_gemm_plan *plan;
    int status = tw_skinny_plan_create(&plan, entry->letter, layout, op_a, op_b, m, n, k, lda, ldb, ldc, pack, 1, 0, 0);
    if (status == TW_OK) {
        status = pack == 'N' ? tw_gemm_plan_execute(plan, NULL, a, b, beta, c)
                             : tw_gemm_plan_execute_packed(plan, NULL, a, b, beta, c);
        tw_gemm_plan_destroy(plan);
    }
    return status;
}

void tw_blas_compute(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                     const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    enum { ALPHA = 7, BOTH = 3 };
    int64_t begun = tw_blas_begin();
    if (transa == PACKED && transb == PACKED) {
        tw_blas_wrong(entry, BOTH, "a and b are both packed; one of them may be.");
    } else {
        int pack = transa == PACKED ? 'A' : transb == PACKED ? 'B' : 'N';
        /* What is packed is op of a matrix already. */
        int op_a = pack == 'A' ? 'N' : tw_letter_of(transa), op_b = pack == 'B' ? 'N' : tw_letter_of(transb);
        int status = run(entry, pack, layout, op_a, op_b, m, n, k, a, lda, b, ldb, beta, c, ldc);
        if (status == TW_ERROR_PACKED) {
            tw_blas_wrong(entry, pack == 'A' ? ALPHA : ALPHA + 2, tw_error_message());
        } else if (status > ALPHA && status <= TW_LAST_ARGUMENT) { /* alpha is in what was packed */
            tw_blas_wrong(entry, status - 1, tw_error_message());
        } else if (status != TW_OK) {
            tw_blas_failed(entry, status);
        }
    }
    tw_blas_end(entry, begun);
}
