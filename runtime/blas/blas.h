/* blas.h - what the BLAS library's generated entries (templates/blas/entries.c.j2) and its C files share. */
#ifndef TW_BLAS_H
#define TW_BLAS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "siblings.h"

/* An entry: the function that a program called. */
typedef struct tw_entry {
    const char *symbol;              /* its name */
    const char *routine;             /* what error handlers are told; Fortran's in capitals, as xerbla_ wants it */
    char letter;                     /* of its type */
    bool fortran;                    /* letters for op, arguments numbered without the layout, xerbla_ */
    atomic_llong calls, nanoseconds; /* counted with TILEWRIGHT_VERBOSE */
} tw_entry;

/* ---- entries.c, generated ---- */

extern tw_entry tw_entries[];
extern const int tw_entry_count;

/* ---- Kernels by shape ----
 *
 * One table for the process, read without locks. What it points at is not changed and not given back, so a thread may be
 * reading it at any time; a place is filled once, and once more where settings changed since. Shapes that find theirs
 * taken go through libtilewright's own table, tens of nanoseconds more. */

enum { TW_SLOT_BITS = 10 };

typedef struct tw_slot {
    int32_t m, n, k, lda, ldb, ldc, layout, transa, transb;
    int32_t kind; /* of entry: letter, and 256 where ops are letters, which have the values of CBLAS's */
    int32_t settings;
    tw_kernel_fn run; /* does the product, where alpha = 1 and beta = 0 */
    const tw_args *args;
} tw_slot;

extern _Atomic(const tw_slot *) tw_slots[1 << TW_SLOT_BITS] __attribute__((visibility("hidden")));

/* The place of a shape: multiplications that do not wait for each other. */
static inline uint32_t tw_place_of(int kind, int transa, int transb, int64_t m, int64_t n, int64_t k)
{
    uint32_t mixed = (uint32_t)m * UINT32_C(0x9e3779b1) + (uint32_t)n * UINT32_C(0x85ebca77) +
                     (uint32_t)k * UINT32_C(0xc2b2ae3d) +
                     (uint32_t)(transa + transb * 8 + kind * 64) * UINT32_C(0x27d4eb2f);
    return mixed >> (32 - TW_SLOT_BITS);
}

static inline const tw_slot *tw_slot_at(uint32_t place)
{
    return atomic_load_explicit(&tw_slots[place], memory_order_acquire);
}

/* Is that what the slot, if there is one, holds? One comparison after the other keeps few arguments in registers. */
#define TW_SLOT_IS                                                                                                     \
    {                                                                                                                  \
        return slot != NULL && slot->m == m && slot->n == n && slot->k == k && slot->lda == lda && slot->ldb == ldb && \
               slot->ldc == ldc && slot->layout == layout && slot->transa == transa && slot->transb == transb &&       \
               slot->kind == kind && slot->settings == atomic_load_explicit(&tw_settings, memory_order_relaxed);       \
    }
static inline bool tw_slot_is_32(const tw_slot *slot, int kind, int layout, int transa, int transb, int32_t m,
                                 int32_t n, int32_t k, int32_t lda, int32_t ldb, int32_t ldc) TW_SLOT_IS
    static inline bool tw_slot_is_64(const tw_slot *slot, int kind, int layout, int transa, int transb, int64_t m,
                                     int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc) TW_SLOT_IS
#undef TW_SLOT_IS

    /* alpha = 1 and beta = 0, what kernels do without being told: compared as bits, which takes a third of the instructions.
 * A beta of -0 goes the long way. */
    static inline bool tw_plain_s(const float *alpha, const float *beta)
{
    int32_t first, second;
    memcpy(&first, alpha, sizeof first);
    memcpy(&second, beta, sizeof second);
    return first == INT32_C(0x3f800000) && second == 0;
}

static inline bool tw_plain_d(const double *alpha, const double *beta)
{
    int64_t first, second;
    memcpy(&first, alpha, sizeof first);
    memcpy(&second, beta, sizeof second);
    return first == INT64_C(0x3ff0000000000000) && second == 0;
}

static inline bool tw_plain_c(const float *alpha, const float *beta)
{
    return tw_plain_s(alpha, beta) && alpha[1] == 0 && beta[1] == 0;
}

static inline bool tw_plain_z(const double *alpha, const double *beta)
{
    return tw_plain_d(alpha, beta) && alpha[1] == 0 && beta[1] == 0;
}

/* ---- product.c ---- */

/* The whole of a product, or the report of what is wrong with it. ops are as the entry takes them: CBLAS's values, or for
 * Fortran letters. alpha and beta point at one number of the type. */
void tw_blas_gemm(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                  const void *alpha, const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c,
                  int64_t ldc);

/* The letter of an operation of CBLAS; 0: there is no such operation. */
int tw_letter_of(int operation);

/* ---- batches.c ---- */

void tw_blas_batch_strided(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                           const void *alpha, const void *a, int64_t lda, int64_t stride_a, const void *b, int64_t ldb,
                           int64_t stride_b, const void *beta, void *c, int64_t ldc, int64_t stride_c, int64_t count);

/* The arrays of a batch in groups; its integers are of `width` bits. */
typedef struct tw_groups {
    int layout, width;
    const int32_t *transa, *transb; /* CBLAS's values: enumerations are 32 bits wide */
    const void *m, *n, *k, *alpha, *lda, *ldb, *beta, *ldc;
    const void *const *a, *const *b;
    void *const *c;
    int64_t groups;
    const void *counts;
} tw_groups;

void tw_blas_batch(tw_entry *entry, const tw_groups *all);

/* ---- packing.c ---- */

size_t tw_blas_pack_size(tw_entry *entry, int identifier, int64_t m, int64_t n, int64_t k);
void tw_blas_pack(tw_entry *entry, int layout, int identifier, int trans, int64_t m, int64_t n, int64_t k,
                  const void *alpha, const void *x, int64_t ld, void *packed);
void tw_blas_compute(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                     const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc);

/* ---- report.c ---- */

enum { TW_LAST_ARGUMENT = 14 }; /* of a single product; a status up to it is an argument's number */

/* Tell the program's error handler, or stderr, that this argument of the entry is wrong and why: as BLAS does, and go on. */
void tw_blas_wrong(const tw_entry *entry, int argument, const char *why);
/* What a status says of the entry: an argument, counted as tw_?gemm counts them, or what no argument can help; that stops
 * the process, since BLAS has no way to say that nothing was computed. */
void tw_blas_failed(const tw_entry *entry, int status);
/* With TILEWRIGHT_VERBOSE: nanoseconds now; otherwise 0. */
int64_t tw_blas_begin(void);
/* With TILEWRIGHT_VERBOSE: count a call. */
void tw_blas_end(tw_entry *entry, int64_t begun);

#endif
