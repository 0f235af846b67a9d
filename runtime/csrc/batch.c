/* batch.c - many products of one plan, and of several.
 *
 * What does not depend on the problem is done once: the arguments lie on the stack, and for one tile the loop is the
 * kernel's call and three additions. Batches that take long enough are cut into parts for threads; each product is
 * computed by one of them, as it would be alone, so the result does not depend on their number. */
#include "internal.h"

/* A plan and its scalars, ready for any pointers. */
typedef struct batch {
    const tw_gemm_plan *plan;
    tw_args args;
    bool nothing;       /* C = C */
    bool unread;        /* A and B are not read */
    atomic_int *failed; /* the status of a product that failed */
} batch;

static batch begin(const tw_gemm_plan *plan, const void *alpha, const void *beta, atomic_int *failed)
{
    int dtype = plan->form.dtype;
    tw_scalar first = tw_alpha_at(dtype, alpha), second = tw_beta_at(dtype, beta);
    batch all = {.plan = plan, .args = plan->args, .failed = failed};
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
        int status = tw_plan_run_tiles(plan, a, b, c, &all->args);
        if (__builtin_expect(status != TW_OK, 0)) {
            atomic_store(all->failed, status);
        }
    }
}

/* What a batch comes to, every product having been tried: only memory can be short, of those that go through blocks. */
static int end(const atomic_int *failed)
{
    int status = atomic_load(failed);
    return status == TW_OK ? TW_OK
                           : tw_fail(status, "tw_gemm_batch: %s; some products were not computed.",
                                     status == TW_ERROR_MEMORY ? "out of memory" : "no kernel for one of them");
}

/* A plan whose operand comes packed has no place for many. */
static int refuse_packed(const char *entry)
{
    return tw_fail(TW_ERROR_PLAN, "%s: the plan takes a packed operand; a batch takes plans of tw_gemm_plan_create.",
                   entry);
}

/* ---- Threads ---- */

enum { PARTS = 4 }; /* a thread: one that is held up leaves the rest to others */

/* Nanoseconds that a product takes where all is well: at nearly a core's peak on AVX-512, or as its matrices pass through
 * a core's second cache. Slower machines and memory are divided a little late. */
static double time_of(const tw_form *form)
{
    double m = (double)form->m, n = (double)form->n, k = (double)form->k;
    double element = (double)tw_element_bytes(form->dtype);
    double work = m * n * k * element / (tw_is_complex(form->dtype) ? 112 : 224);
    double moved = (m * k + k * n + m * n) * element / 96;
    return 2 + (work > moved ? work : moved);
}

/* Parts into which `count` products that take so long are cut. */
static int64_t parts_of(double nanoseconds, int64_t count, int *threads)
{
    *threads = tw_threads_worth(nanoseconds);
    int64_t parts = *threads > 1 ? (int64_t)*threads * PARTS : 1;
    return parts < count ? parts : count;
}

/* Where part `part` begins if there are so many of `whole`. */
static int64_t begin_of(int64_t whole, int64_t parts, int64_t part)
{
    return whole / parts * part + whole % parts * part / parts;
}

/* ---- Strided ---- */

typedef struct strided {
    const batch *all;
    const char *a, *b;
    char *c;
    int64_t stride_a, stride_b, stride_c; /* bytes */
    int64_t count, parts;
    int shift; /* 2^shift products stay together */
} strided;

/* Kernels across the batch take several products at once. Where these begin and end must not depend on the number of
 * threads, or the last bits might. */
static int shift_of(const tw_gemm_plan *plan)
{
    return plan->many.each.run != NULL ? 6 : 0;
}

/* Run so many products, at least one, from these pointers on. */
static inline __attribute__((always_inline)) void run_strided(const strided *s, batch *all, const char *a,
                                                              const char *b, char *c, int64_t count)
{
    if (tw_run_many(all->plan, &all->args, count, a, s->stride_a, b, s->stride_b, c, s->stride_c)) {
        return;
    }
    for (int64_t i = 0;; a += s->stride_a, b += s->stride_b, c += s->stride_c) {
        run(all, a, b, c);
        if (++i == count) { /* before the pointers move: there may be nothing beyond the last */
            return;
        }
    }
}

static void run_part(void *context, int64_t part)
{
    const strided *s = context;
    batch mine = *s->all; /* running changes the arguments */
    int64_t units = s->count >> s->shift, i = begin_of(units, s->parts, part) << s->shift;
    int64_t end = part + 1 < s->parts ? begin_of(units, s->parts, part + 1) << s->shift : s->count;
    run_strided(s, &mine, s->a + i * s->stride_a, s->b + i * s->stride_b, s->c + i * s->stride_c, end - i);
}

/* Do C's of `rows` runs of `length` bytes, `ld` from one run to the next, share any, each `stride` from the last? They may
 * lie between one another. */
static bool overlap(int64_t count, int64_t stride, int64_t rows, int64_t length, int64_t ld)
{
    stride = stride < 0 ? -stride : stride;
    int64_t extent = (rows - 1) * ld + length;
    for (int64_t i = 1; i < count && stride < extent && i <= (extent - 1) / stride; i++) {
        int64_t row = i * stride / ld, column = i * stride % ld; /* where the first C has the i-th's first byte */
        if ((row < rows && column < length) || (row + 1 < rows && ld - column < length)) {
            return true;
        }
    }
    return false;
}

int tw_gemm_batch_strided(const tw_gemm_plan *plan, int64_t count, const void *alpha, const void *a, int64_t stride_a,
                          const void *b, int64_t stride_b, const void *beta, void *c, int64_t stride_c)
{
    if (plan == NULL) {
        return tw_refuse_plan("tw_gemm_batch_strided");
    }
    if (plan->packed) {
        return refuse_packed("tw_gemm_batch_strided");
    }
    atomic_int failed = TW_OK;
    batch all = begin(plan, alpha, beta, &failed);
    const tw_form *form = &plan->form;
    if (count < 0) {
        return tw_fail(TW_ERROR_BATCH, "tw_gemm_batch_strided: count is %lld; it must be 0 or more.", (long long)count);
    }
    if (count == 0 || all.nothing) {
        return TW_OK;
    }
    if (c == NULL || (!all.unread && (a == NULL || b == NULL))) {
        return tw_refuse_null(form->dtype, c == NULL ? TW_ARGUMENT_C : a == NULL ? TW_ARGUMENT_A : TW_ARGUMENT_B);
    }
    if (stride_c == 0 && count > 1) {
        return tw_fail(TW_ERROR_BATCH,
                       "tw_gemm_batch_strided: stride_c is 0, so %lld products would be written to one C.",
                       (long long)count);
    }
    int64_t element = tw_element_bytes(form->dtype), most = INT64_MAX / 16;
    if (stride_a > most || stride_a < -most || stride_b > most || stride_b < -most || stride_c > most ||
        stride_c < -most) {
        return tw_fail(TW_ERROR_BATCH,
                       "tw_gemm_batch_strided: strides %lld, %lld and %lld: beyond %lld, what an address "
                       "can hold.",
                       (long long)stride_a, (long long)stride_b, (long long)stride_c, (long long)most);
    }
    strided each = {.stride_a = all.unread ? 0 : stride_a * element,
                    .stride_b = all.unread ? 0 : stride_b * element,
                    .stride_c = stride_c * element};
    if (overlap(count, each.stride_c, form->n, form->m * element, form->ldc)) {
        return tw_fail(TW_ERROR_BATCH,
                       "tw_gemm_batch_strided: stride_c is %lld but each C is %lld x %lld with ldc %lld, so that they "
                       "overlap; with %lld or more they lie behind one another.",
                       (long long)stride_c, (long long)plan->key.m, (long long)plan->key.n, (long long)plan->key.ldc,
                       (long long)((form->n - 1) * (form->ldc / element) + form->m));
    }
    int threads;
    each.shift = shift_of(plan);
    each.parts = parts_of(time_of(form) * (double)count, count >> each.shift, &threads);
    if (__builtin_expect(each.parts <= 1, 1)) {
        run_strided(&each, &all, a, b, c, count);
        return end(&failed);
    }
    each.all = &all, each.count = count;
    each.a = a, each.b = b, each.c = c;
    tw_parallel(threads, each.parts, run_part, &each);
    return end(&failed);
}

/* ---- Pointers ---- */

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

typedef struct grouped {
    int64_t groups;
    const tw_gemm_plan *const *plans;
    const int64_t *counts;
    const void *const *alpha, *const *a, *const *b, *const *beta;
    void *const *c;
    int64_t whole, parts; /* nanoseconds of all, parts of about as many each */
    atomic_int failed;
} grouped;

/* The products that begin within this part, counted in nanoseconds. */
static void run_part_of_groups(void *context, int64_t part)
{
    grouped *g = context;
    int64_t from = begin_of(g->whole, g->parts, part), to = begin_of(g->whole, g->parts, part + 1);
    int64_t passed = 0, first = 0; /* nanoseconds and pointers of the groups before */
    for (int64_t group = 0; group < g->groups && passed < to; group++) {
        int64_t count = g->counts[group], each = (int64_t)time_of(&g->plans[group]->form);
        int64_t low = from > passed ? (from - passed + each - 1) / each : 0;
        int64_t high = (to - passed + each - 1) / each;
        low = low < count ? low : count;
        high = high < count ? high : count;
        batch all =
            begin(g->plans[group], g->alpha ? g->alpha[group] : NULL, g->beta ? g->beta[group] : NULL, &g->failed);
        if (low < high && !all.nothing) {
            int64_t at = first + low;
            run_all(&all, high - low, all.unread ? NULL : g->a + at, all.unread ? NULL : g->b + at, g->c + at);
        }
        passed += count * each;
        first += count;
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
    if (groups < 0) {
        return tw_fail(TW_ERROR_BATCH, "tw_gemm_batch_groups: there are %lld groups; it must be 0 or more.",
                       (long long)groups);
    }
    grouped each = {groups, plans, counts, alpha, a, b, beta, c, 0, 1, TW_OK};
    int64_t first = 0;
    for (int64_t group = 0; group < groups; first += counts[group++]) { /* all is checked before anything is written */
        int64_t count = counts[group];
        if (count < 0) {
            return tw_fail(TW_ERROR_BATCH, "tw_gemm_batch: a count is %lld; it must be 0 or more.", (long long)count);
        }
        if (plans[group] == NULL) {
            return tw_refuse_plan("tw_gemm_batch");
        }
        if (plans[group]->packed) {
            return refuse_packed("tw_gemm_batch");
        }
        batch all = begin(plans[group], alpha ? alpha[group] : NULL, beta ? beta[group] : NULL, &each.failed);
        if (!all.nothing && count > 0) {
            int status = check(&all, count, all.unread ? NULL : a + first, all.unread ? NULL : b + first, c + first);
            if (status != TW_OK) {
                return status;
            }
        }
        each.whole += count * (int64_t)time_of(&plans[group]->form);
    }
    int threads;
    each.parts = parts_of((double)each.whole, first, &threads);
    if (each.parts > 0) {
        tw_parallel(threads, each.parts, run_part_of_groups, &each);
    }
    return end(&each.failed);
}
