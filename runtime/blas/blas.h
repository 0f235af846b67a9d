/* blas.h - what the BLAS library's generated entries (templates/blas/entries.c.j2) and its C files share. */
#ifndef TW_BLAS_H
#define TW_BLAS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* ---- A thread's last plans ----
 *
 * Few, so that what is thread-local stays small: it must be where the thread pointer points, even where this library is
 * loaded late. What has no place here is found in libtilewright's own table, 10 ns later. */

enum { TW_SLOTS = 4 };

typedef struct tw_slot {
    int32_t m, n, k, lda, ldb, ldc, layout, transa, transb;
    int32_t kind; /* of entry, never 0: letter, and 256 where ops are letters, which have the values of CBLAS's */
    int32_t settings;
    const tw_gemm_plan *plan;
} tw_slot;

extern _Thread_local tw_slot tw_slots[TW_SLOTS] __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* A shape's place: few instructions, and what differs by little goes elsewhere. */
static inline tw_slot *tw_slot_of(int64_t m, int64_t n, int64_t k, int64_t lda)
{
    uint32_t mixed = (uint32_t)m + (uint32_t)n * 3 + (uint32_t)k * 5 + (uint32_t)lda * 7;
    return &tw_slots[(mixed ^ mixed >> 2) % TW_SLOTS];
}

/* Is that what the slot holds? Loads and exclusive ors that wait for nothing; one branch. */
#define TW_SLOT_IS(integer)                                                                                            \
    {                                                                                                                  \
        integer sizes =                                                                                                \
            (slot->m ^ m) | (slot->n ^ n) | (slot->k ^ k) | (slot->lda ^ lda) | (slot->ldb ^ ldb) | (slot->ldc ^ ldc); \
        int32_t rest = (slot->layout ^ layout) | (slot->transa ^ transa) | (slot->transb ^ transb) |                   \
                       (slot->kind ^ kind) |                                                                           \
                       (slot->settings ^ atomic_load_explicit(&tw_settings, memory_order_relaxed));                    \
        return (sizes | rest) == 0;                                                                                    \
    }
static inline bool tw_slot_is_32(const tw_slot *slot, int kind, int layout, int transa, int transb, int32_t m,
                                 int32_t n, int32_t k, int32_t lda, int32_t ldb, int32_t ldc)
    TW_SLOT_IS(int32_t) static inline bool tw_slot_is_64(const tw_slot *slot, int kind, int layout, int transa,
                                                         int transb, int64_t m, int64_t n, int64_t k, int64_t lda,
                                                         int64_t ldb, int64_t ldc) TW_SLOT_IS(int64_t)
#undef TW_SLOT_IS

    /* ---- product.c ---- */

    /* The whole of a product, or the report of what is wrong with it. ops are as the entry takes them: CBLAS's values, or for
 * Fortran letters. alpha and beta point at one number of the type. */
    void tw_blas_gemm(tw_entry *entry, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                      const void *alpha, const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta,
                      void *c, int64_t ldc);

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
