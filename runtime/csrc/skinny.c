/* skinny.c - plans that may take an operand packed: whether packing pays, and running them.
 *
 * That is reckoned from what this machine was seen to take for packing, for products with an operand where it lies and for
 * products with it packed (tuning.c), by type, by how the operand lies and whether it fits the caches, and by how many
 * lines the other has, on one thread or on all. Where nobody measured, nothing is packed but on request. */
#include <stdlib.h>

#include "blocked.h"

enum {
    LEAST_LINES = 192, /* shorter operands were not measured */
    LEAST_K = 128,
    WIDEST = 1 << (TW_USES - 1),
    MEASURED_CACHED = 5 << 20, /* bytes: about what was measured in a cache */
    MOST_CACHED = 12 << 20,    /* from here on memory, however large the last cache is said to be */
    SURELY = 2 /* times as many uses as pay for packing: what was measured is another matrix's, on another day */
};

typedef struct estimate {
    bool known;
    double plain, packed, packing; /* seconds: a product either way, and packing once */
} estimate;

/* Between the numbers of lines that were measured times are drawn as straight lines; beyond the last they are in proportion. */
static double at_others(const double *times, double others)
{
    if (others >= WIDEST) {
        return times[TW_USES - 1] * others / WIDEST;
    }
    int i = 0;
    while (i < TW_USES - 2 && others >= (double)(2 << i)) {
        i++;
    }
    double from = (double)(1 << i);
    return times[i] + (times[i + 1] - times[i]) * (others - from) / from;
}

/* Packing that operand of a product of kernels for `isa`, as if it came from there. */
static estimate reckon_from(const tw_form *form, int isa, int operand, bool threads, int place)
{
    bool first = operand == 'A';
    int64_t lines = first ? form->m : form->n, others = first ? form->n : form->m;
    bool along_k = first ? form->trans_a : !form->trans_b;
    tw_use_cost cost;
    if (lines < LEAST_LINES || form->k < LEAST_K || others < 1 ||
        !tw_use_cost_of(isa, form->dtype, along_k, place, threads, &cost)) {
        return (estimate){.known = false};
    }
    double scale = (double)lines * (double)form->k * 1e-9;
    return (estimate){.known = true,
                      .plain = at_others(cost.lies, (double)others) * scale,
                      .packed = at_others(cost.packed, (double)others) * scale,
                      .packing = cost.packing * scale};
}

/* Products after which packing has paid; -1: never, or nobody knows. What saves less than a tenth is within the error. */
static double payback_of(const estimate *e)
{
    double saved = e->plain - e->packed;
    return e->known && saved > e->packed * 0.1 ? e->packing / saved : -1;
}

/* Where it comes from, by its size; between the two that were measured, the one where packing saves less. */
static estimate reckon(const tw_form *form, int isa, int operand, bool threads)
{
    double lines = (double)(operand == 'A' ? form->m : form->n), element = (double)tw_element_bytes(form->dtype);
    double bytes = lines * (double)form->k * element;
    estimate near = reckon_from(form, isa, operand, threads, TW_NEAR),
             far = reckon_from(form, isa, operand, threads, TW_FAR);
    if (bytes <= MEASURED_CACHED) {
        return near;
    }
    if (bytes > MOST_CACHED || bytes > (double)tw_caches_here().last / 2) {
        return far;
    }
    double soon = payback_of(&near), late = payback_of(&far);
    return soon < 0 || (late >= 0 && late < soon) ? near : far;
}

/* The kernels' name of the caller's operand. */
static int seen_as(int operand, bool exchanged)
{
    return (operand == 'A') != exchanged ? 'A' : 'B';
}

int tw_skinny_plan_create(tw_gemm_plan **plan, int dtype, int layout, int transa, int transb, int64_t m, int64_t n,
                          int64_t k, int64_t lda, int64_t ldb, int64_t ldc, int pack, int64_t reuse, int threads,
                          int flags)
{
    *plan = NULL;
    int32_t variant;
    int status = tw_variant_for("tw_skinny_plan_create", dtype, &variant);
    if (status != TW_OK) {
        return status;
    }
    if (pack != 'A' && pack != 'B' && pack != 'N' && pack != '?') {
        return tw_fail(TW_ERROR_PLAN, "tw_skinny_plan_create: pack is %d; it must be 'A', 'B', 'N' or '?'.", pack);
    }
    if (reuse < 1) {
        return tw_fail(TW_ERROR_PLAN, "tw_skinny_plan_create: reuse is %lld; it must be 1 or more.", (long long)reuse);
    }
    if (threads < 0 || threads > TW_MOST_THREADS) {
        return tw_fail(TW_ERROR_THREADS, "tw_skinny_plan_create: %d threads; it must be 1 to %d, or 0.", threads,
                       TW_MOST_THREADS);
    }
    if ((flags & ~TW_PLAN_REPRODUCIBLE) != 0) {
        return tw_fail(TW_ERROR_PLAN, "tw_skinny_plan_create: flags is %d; only TW_PLAN_REPRODUCIBLE is known.", flags);
    }
    variant |= flags & TW_PLAN_REPRODUCIBLE ? TW_REPRODUCIBLE << 16 : 0;
    bool row = layout == TW_ROW_MAJOR;
    if (pack == 'A') { /* not looked at, but a key is checked as a whole */
        lda = INT64_MAX / 16;
    } else if (pack == 'B') {
        ldb = INT64_MAX / 16;
    }
    tw_key key = {m, n, k, lda, ldb, ldc, layout, transa, transb, variant};
    tw_form form;
    int asked;
    status = tw_form_of(&key, &form, &asked);
    if (status != TW_OK) {
        return status;
    }
    if (pack == '?') {
        pack = m >= n ? 'A' : 'B';
        estimate e = reckon(&form, asked, seen_as(pack, row), (threads > 0 ? threads : tw_threads_allowed()) > 1);
        double payback = payback_of(&e);
        if (payback < 0 || (double)reuse < SURELY * payback) {
            pack = 'N';
        }
    }
    tw_wish wish = {.given = pack == 'N' ? 0 : seen_as(pack, row),
                    .threads = threads,
                    .reproducible = variant >> 16 & TW_REPRODUCIBLE};
    status = tw_plan_make("tw_skinny_plan_create", &key, &wish, plan);
    if (status == TW_OK) {
        (*plan)->packed = pack == 'N' ? 0 : (char)pack;
    }
    return status;
}

int tw_gemm_plan_packed(const tw_gemm_plan *plan)
{
    if (plan == NULL) {
        tw_refuse_plan("tw_gemm_plan_packed");
        return 0;
    }
    return plan->packed;
}

int tw_gemm_plan_execute_packed(const tw_gemm_plan *plan, const void *alpha, const void *a, const void *b,
                                const void *beta, void *c)
{
    if (plan == NULL) {
        return tw_refuse_plan("tw_gemm_plan_execute_packed");
    }
    if (plan->packed == 0) {
        return tw_gemm_plan_execute(plan, alpha, a, b, beta, c);
    }
    int dtype = plan->form.dtype;
    const void *packed = plan->packed == 'A' ? a : b;
    if (packed == NULL) {
        return tw_refuse_null(dtype, plan->packed == 'A' ? TW_ARGUMENT_A : TW_ARGUMENT_B);
    }
    int side = (plan->packed == 'A') != plan->exchanged ? TW_VECTOR_SIDE : TW_SCALAR_SIDE;
    int status = tw_packed_fits(packed, plan->packed == 'A' ? "a" : "b", plan->key.variant >> 8 & 0xff, dtype, side,
                                side == TW_VECTOR_SIDE ? plan->form.m : plan->form.n, plan->form.k);
    if (status != TW_OK || plan->count == 0) {
        return status;
    }
    tw_scalar first = tw_alpha_at(dtype, alpha), second = tw_beta_at(dtype, beta);
    const void *other = plan->packed == 'A' ? b : a;
    bool unread = plan->form.k == 0 || tw_scalar_is(dtype, &first, 0);
    if (c == NULL || (other == NULL && !unread)) {
        return tw_refuse_null(dtype, c == NULL ? TW_ARGUMENT_C : plan->packed == 'A' ? TW_ARGUMENT_B : TW_ARGUMENT_A);
    }
    packed = tw_panels_of(packed);
    int64_t begun = tw_verbose ? tw_trace_clock() : 0;
    status = tw_blocked_run(tw_blocked_of(plan), &first, side == TW_VECTOR_SIDE ? packed : other,
                            side == TW_VECTOR_SIDE ? other : packed, &second, c);
    if (tw_verbose) {
        tw_trace(plan, 1, tw_trace_clock() - begun);
    }
    return status;
}

void tw_gemm_plan_blocks(const tw_gemm_plan *plan, tw_plan_blocks *blocks)
{
    *blocks = (tw_plan_blocks){0};
    if (plan == NULL || plan->count == 0) {
        return;
    }
    const tw_form *form = &plan->form;
    int operand = plan->packed ? plan->packed : plan->key.m >= plan->key.n ? 'A' : 'B';
    tw_blocked shared = {.threads = 1};
    if (plan->blocked) {
        shared = *tw_blocked_of(plan);
        tw_blocked_share(&shared);
    }
    estimate e = reckon(form, plan->served_by, seen_as(operand, plan->exchanged), shared.threads > 1);
    blocks->known = e.known;
    blocks->seconds = plan->packed ? e.packed : e.plain;
    blocks->packing = e.packing;
    blocks->payback = payback_of(&e);
    if (!plan->blocked) {
        return;
    }
    bool swapped = plan->exchanged != shared.turned; /* the vector side is the caller's B */
    blocks->kc = shared.pairs ? shared.kc / 2 : shared.kc;
    blocks->chunk = shared.chunk;
    blocks->memory = tw_blocked_memory(&shared);
    blocks->threads = shared.threads;
    blocks->parts = shared.parts;
    blocks->split = (shared.split == TW_VECTOR_SIDE) != swapped ? 'A' : 'B';
    blocks->format_a = "gpcd"[shared.stand[swapped].format];
    blocks->format_b = "gpcd"[shared.stand[!swapped].format];
    const tw_kernel *kernel = tw_blocked_kernel(&shared);
    blocks->kernel = kernel ? kernel->name : NULL;
}
