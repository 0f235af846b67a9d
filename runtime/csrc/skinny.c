/* skinny.c - plans that may take an operand packed: whether packing pays, and running them.
 *
 * The estimate is a roofline: a product takes the longer of its arithmetic and its traffic with memory, packing what it
 * reads and writes. Rates are of a core and cautious; a plan says what it reckoned with tw_gemm_plan_blocks. */
#include <stdlib.h>

#include "blocked.h"

/* Multiply-adds of one real a second, and bytes a second: from memory, and copied from memory to memory. */
static const double adds = 40e9, read = 25e9, copied = 6e9;

typedef struct estimate {
    double plain, packed, packing; /* seconds: a product either way, and packing once */
} estimate;

/* Packing the operand of `lines` lines, where the other has `others`. */
static estimate reckon(const tw_form *form, int64_t lines, int64_t others)
{
    double element = (double)tw_element_bytes(form->dtype), k = (double)form->k;
    double reals = tw_is_complex(form->dtype) ? 4 : 1, wide = tw_is_complex(form->dtype) ? element / 2 : element;
    double work = (double)lines * (double)others * k * reals * wide / 4 / adds;
    double bytes = (double)lines * k * element;
    double once = bytes / (bytes > (double)tw_caches_here().last / 2 ? copied : 3 * copied);
    double floor = bytes > (double)tw_caches_here().last / 2 ? bytes / read : 0;
    estimate e = {.packed = work > floor ? work : floor, .packing = once};
    /* Unpacked, a long operand with few partners is read where it lies, as fast as its panels; one with very many is packed
     * on the way at little cost. Between them panels save about a twentieth (measured: docs/skinny.md). */
    e.plain = others >= 48 && others <= 128 ? 1.05 * e.packed : e.packed;
    return e;
}

static double payback_of(const estimate *e)
{
    double saved = e->plain - e->packed;
    return saved > e->packed * 0.01 ? e->packing / saved : -1;
}

static int64_t lines_of(const tw_form *form, bool exchanged, int operand)
{
    return (operand == 'A') != exchanged ? form->m : form->n;
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
        int64_t lines = lines_of(&form, row, pack), others = lines_of(&form, row, pack == 'A' ? 'B' : 'A');
        estimate e = reckon(&form, lines, others);
        double payback = payback_of(&e);
        bool small = (double)m * (double)n * (double)k < 96. * 96. * 96.;
        if (small || payback < 0 || (double)reuse < payback) {
            pack = 'N';
        }
    }
    tw_wish wish = {.given = pack == 'N'            ? 0
                             : (pack == 'A') != row ? 'A'
                                                    : 'B',
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
    estimate e = reckon(form, lines_of(form, plan->exchanged, operand),
                        lines_of(form, plan->exchanged, operand == 'A' ? 'B' : 'A'));
    blocks->seconds = plan->packed ? e.packed : e.plain;
    blocks->packing = e.packing;
    blocks->payback = payback_of(&e);
    if (!plan->blocked) {
        return;
    }
    tw_blocked shared = *tw_blocked_of(plan);
    tw_blocked_share(&shared);
    bool swapped = plan->exchanged != shared.turned; /* the vector side is the caller's B */
    blocks->kc = shared.kc;
    blocks->chunk = shared.chunk;
    blocks->memory = tw_blocked_memory(&shared);
    blocks->threads = shared.threads;
    blocks->parts = shared.parts;
    blocks->split = (shared.split == TW_VECTOR_SIDE) != swapped ? 'A' : 'B';
    blocks->format_a = "gpcd"[shared.stand[swapped].format];
    blocks->format_b = "gpcd"[shared.stand[!swapped].format];
}
