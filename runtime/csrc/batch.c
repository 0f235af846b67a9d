/* batch.c - many products of one plan, and of several. One after the other; threads come with the pool.
 *
 * What does not depend on the problem is done once: the arguments lie on the stack, and for one tile the loop is the
 * kernel's call and three additions. */
#include "internal.h"

/* A plan and its scalars, ready for any pointers. */
typedef struct batch {
    const tw_gemm_plan *plan;
    tw_args args;
    bool nothing; /* C = C */
    bool unread;  /* A and B are not read */
} batch;

static batch begin(const tw_gemm_plan *plan, const void *alpha, const void *beta)
{
    int dtype = plan->form.dtype;
    tw_scalar first = tw_alpha_at(dtype, alpha), second = tw_beta_at(dtype, beta);
    batch all = {.plan = plan, .args = plan->args};
    tw_args_scale(&all.args, dtype, &first, &second);
    all.unread = all.args.k == 0;
    all.nothing = plan->count == 0 || (all.unread && tw_scalar_is(dtype, &second, 1));
    return all;
}

static inline void run(batch *all, const void *a, const void *b, void *c)
{
    const tw_gemm_plan *plan = all->plan;
    if (__builtin_expect(all->unread, 0)) {
        a = b = c;
    }
    if (plan->run != NULL) {
        plan->run(plan->exchanged ? b : a, plan->exchanged ? a : b, c, &all->args);
    } else {
        tw_plan_run_tiles(plan, a, b, c, &all->args);
    }
}

int tw_gemm_batch_strided(const tw_gemm_plan *plan, int64_t count, const void *alpha, const void *a, int64_t stride_a,
                          const void *b, int64_t stride_b, const void *beta, void *c, int64_t stride_c)
{
    batch all = begin(plan, alpha, beta);
    if (count < 0) {
        return tw_fail(TW_ERROR_BATCH, "tw_gemm_batch_strided: count is %lld; it must be 0 or more.", (long long)count);
    }
    if (count == 0 || all.nothing) {
        return TW_OK;
    }
    if (c == NULL || (!all.unread && (a == NULL || b == NULL))) {
        return tw_refuse_null(plan->form.dtype, c == NULL ? TW_ARGUMENT_C : a == NULL ? TW_ARGUMENT_A : TW_ARGUMENT_B);
    }
    if (stride_c == 0 && count > 1) {
        return tw_fail(TW_ERROR_BATCH,
                       "tw_gemm_batch_strided: stride_c is 0, so %lld products would be written to one C.",
                       (long long)count);
    }
    int64_t element = tw_element_bytes(plan->form.dtype);
    stride_a *= element, stride_b *= element, stride_c *= element;
    if (all.unread) {
        stride_a = stride_b = 0;
    }
    const char *x = a, *y = b;
    char *z = c;
    for (int64_t i = 0;; x += stride_a, y += stride_b, z += stride_c) {
        run(&all, x, y, z);
        if (++i == count) { /* before the pointers move: there may be nothing beyond the last */
            return TW_OK;
        }
    }
}

/* Is every pointer there that will be used? A status. */
static int check(const batch *all, int64_t count, const void *const *a, const void *const *b, void *const *c)
{
    int dtype = all->plan->form.dtype;
    for (int64_t i = 0; i < count; i++) {
        if (c[i] == NULL || (!all->unread && (a[i] == NULL || b[i] == NULL))) {
            int null = c[i] == NULL ? TW_ARGUMENT_C : a[i] == NULL ? TW_ARGUMENT_A : TW_ARGUMENT_B;
            return tw_fail(null, "tw_gemm_batch (%cgemm): %c[%lld] is NULL but would be used.", tw_letters[dtype],
                           null == TW_ARGUMENT_A   ? 'a'
                           : null == TW_ARGUMENT_B ? 'b'
                                                   : 'c',
                           (long long)i);
        }
    }
    return TW_OK;
}

/* ---- Pointers lead anywhere, so no hardware prefetcher sees the next problem coming ---- */

enum {
    LINE = 64,      /* bytes of a cache line; larger ones are asked for twice, which is harmless */
    KEPT = 1 << 19, /* bytes: a batch that small stays in a core's second cache */
    AHEAD = 6,      /* problems of up to NEAR bytes; of more, FEW */
    NEAR = 1 << 11,
    FEW = 2,
    MOST = 1 << 13 /* bytes of one matrix; beyond it, hardware follows by itself */
};

/* How a matrix lies: so many runs of so many bytes, `step` bytes from one to the next. */
typedef struct extent {
    int64_t runs, bytes, step;
} extent;

static extent extent_of(int64_t lines, int64_t length, int64_t ld, int64_t element)
{
    extent e = {lines, length * element, ld};
    if (e.bytes == ld || lines == 1) { /* without gaps */
        e = (extent){1, e.bytes * lines, 0};
    }
    return e;
}

/* Always inlined: GCC (12 at least) takes a function that only prefetches for one without effect and drops its calls. */
static inline __attribute__((always_inline)) void prefetch(const char *at, const extent *e, bool write)
{
    int64_t left = MOST;
    for (int64_t run = 0; run < e->runs && left > 0; run++, at += e->step, left -= e->bytes) {
        int64_t bytes = e->bytes < left ? e->bytes : left;
        for (int64_t byte = 0; byte < bytes; byte += LINE) {
            if (write) {
                __builtin_prefetch(at + byte, 1);
            } else {
                __builtin_prefetch(at + byte);
            }
        }
    }
}

static void run_all(batch *all, int64_t count, const void *const *a, const void *const *b, void *const *c)
{
    const tw_form *form = &all->plan->form;
    int64_t element = tw_element_bytes(form->dtype);
    extent x = form->trans_a ? extent_of(form->m, form->k, form->lda, element)
                             : extent_of(form->k, form->m, form->lda, element);
    extent y = form->trans_b ? extent_of(form->k, form->n, form->ldb, element)
                             : extent_of(form->n, form->k, form->ldb, element);
    extent z = extent_of(form->n, form->m, form->ldc, element);
    int64_t bytes = x.runs * x.bytes + y.runs * y.bytes + z.runs * z.bytes;
    int64_t ahead = bytes > NEAR ? FEW : AHEAD;
    bool fetch = !all->unread && count > ahead && bytes > KEPT / count;
    for (int64_t i = 0; i < count; i++) {
        if (fetch && i + ahead < count) {
            prefetch(all->plan->exchanged ? b[i + ahead] : a[i + ahead], &x, false);
            prefetch(all->plan->exchanged ? a[i + ahead] : b[i + ahead], &y, false);
            prefetch(c[i + ahead], &z, true);
        }
        run(all, all->unread ? NULL : a[i], all->unread ? NULL : b[i], c[i]);
    }
}

int tw_gemm_batch(const tw_gemm_plan *plan, int64_t count, const void *alpha, const void *const *a,
                  const void *const *b, const void *beta, void *const *c)
{
    return tw_gemm_batch_groups(1, &plan, &count, &alpha, a, b, &beta, c);
}

int tw_gemm_batch_groups(int64_t groups, const tw_gemm_plan *const *plans, const int64_t *counts,
                         const void *const *alpha, const void *const *a, const void *const *b, const void *const *beta,
                         void *const *c)
{
    for (int pass = 0; pass < 2; pass++) { /* everything is checked before anything is written */
        int64_t first = 0;
        for (int64_t group = 0; group < groups; first += counts[group++]) {
            int64_t count = counts[group];
            batch all = begin(plans[group], alpha ? alpha[group] : NULL, beta ? beta[group] : NULL);
            if (count < 0) {
                return tw_fail(TW_ERROR_BATCH, "tw_gemm_batch: a count is %lld; it must be 0 or more.",
                               (long long)count);
            }
            if (all.nothing || count == 0) {
                continue;
            }
            const void *const *x = all.unread ? NULL : a + first, *const *y = all.unread ? NULL : b + first;
            if (pass == 0) {
                int status = check(&all, count, x, y, c + first);
                if (status != TW_OK) {
                    return status;
                }
            } else {
                run_all(&all, count, x, y, c + first);
            }
        }
    }
    return TW_OK;
}
