/* route.c - which way a product goes: tiles alone, or blocks, and which.
 *
 * What decides is how often an element of an operand is used and how it lies. Of a product with a short dimension s the
 * long operand is read from memory once, at s multiply-adds an element:
 *
 *     path      long operand    lies             the short one
 *     stream    where it is     along its lines  panels           few k steps at a time, so that C stays near
 *     dot       where it is     along k          lines            real types, and complex ones as real: vectors along k, some
 *                                                                 long lines at a time
 *     direct    where it is     along k          panels           elements of the long one, one at a time
 *     blocked   panels          either           panels           everything else
 *     inner     where it is     either           where it is      m and n small, k huge; k is split among threads
 *
 * Direct also serves what has no short dimension: an operand that lies along k and is the scalar side need not be packed.
 * How each of them goes is in paths.c. */
#include "paths.h"

enum {
    WIDEST_STREAM = 256, /* where k is of many blocks */
    MANY_STEPS = 1024,
    FEW_STEPS = 400, /* with which turning much of C takes too long */
    VECTOR = 64,     /* bytes */
    FAR_LINES = 4096 /* bytes of a line that comes from memory, for `direct` */
};

/* The plan but for formats and blocks. */
static tw_blocked begin(const tw_form *form, int isa)
{
    int64_t element = tw_element_bytes(form->dtype);
    return (tw_blocked){
        .dtype = form->dtype,
        .isa = isa,
        .threads = 1,
        .parts = 1,
        .size = {form->m, form->n},
        .m = form->m,
        .n = form->n,
        .scalars = form->dtype,
        .k = form->k,
        .ldc = form->ldc,
        .stand = {{.line = form->trans_a ? form->lda : element,
                   .step = form->trans_a ? element : form->lda,
                   .conj = form->conj_a},
                  {.line = form->trans_b ? element : form->ldb,
                   .step = form->trans_b ? form->ldb : element,
                   .conj = form->conj_b}},
    };
}

/* Is a panel's share of C^T more than a thread may have? */
static bool is_wide(const tw_blocked *plan)
{
    int64_t line = plan->size[!plan->split] * tw_element_bytes(plan->dtype);
    return plan->turned && !plan->inner && plan->stand[plan->split].width * line > TW_MOST_CHUNK;
}

static const struct {
    const char *name;
    tw_path make;
} paths[] = {{"auto", NULL},
             {"tiles", NULL},
             {"blocked", tw_path_blocked},
             {"stream", tw_path_stream},
             {"dot", tw_path_dot},
             {"direct", tw_path_direct},
             {"inner", tw_path_inner}};

int tw_path_set(const char *name)
{
    for (int path = 0; path < TW_PATHS; path++) {
        if (strcmp(paths[path].name, name ? name : "auto") == 0) {
            int now = atomic_load(&tw_tiler_now);
            if (now >= 0) {
                tw_choose(&tw_tiler_now, (now & ~(15 << TW_PATH_SHIFT)) | path << TW_PATH_SHIFT);
            }
            return TW_OK;
        }
    }
    return tw_fail(TW_ERROR_TILER,
                   "tw_path_set: %.40s: there is no such path; there are auto, tiles, blocked, stream, dot, "
                   "direct, inner.",
                   name);
}

/* Nanoseconds on one core: its arithmetic at three quarters of a common peak, or reading the operands from memory. */
static double nanoseconds_of(const tw_form *form)
{
    double m = (double)form->m, n = (double)form->n, k = (double)form->k;
    double element = (double)tw_element_bytes(form->dtype);
    double work = m * n * k * element / (tw_is_complex(form->dtype) ? 96 : 192);
    double read = element * (k * (m + n) + m * n) / 25;
    return work > read ? work : read;
}

/* Do tiles where they lie do without blocks? On one thread they are 4 to 25 % faster (docs/packed.md) as long as all three
 * matrices stay in or near the second cache; for more threads up to where two are worth while. Not of short and long. */
static bool tiles_do(const tw_form *form, const tw_wish *wish, const tw_caches *caches)
{
    int64_t m = form->m, n = form->n, k = form->k, element = tw_element_bytes(form->dtype);
    double inputs = (double)element * (double)k * (double)(m + n),
           all = inputs + (double)element * (double)m * (double)n;
    bool regular = tw_at_least(m, n) < TW_TALL * tw_at_most(m, n) && k < 16 * tw_at_least(m, n),
         near = inputs <= (double)caches->second / 2;
    if ((double)m * (double)n * (double)k <= 96. * 96. * 96.) {
        return near;
    }
    if (wish->alone && regular && all <= 1.75 * (double)caches->second) {
        return !tw_crowded(form->lda) && !tw_crowded(form->ldb) && !tw_crowded(form->ldc);
    }
    return near && regular && nanoseconds_of(form) < 2 * tw_thread_share(-1);
}

/* Do real kernels do a complex product along k faster than complex ones, whose vectors so few short lines do not fill? AVX2's
 * have few registers; NEON's have tiles for that. The copies of the lines, twice as long, must be within what a product may
 * have beside its matrices. */
static bool pairs_do(int isa, int dtype, int64_t s, int64_t k)
{
    int64_t element = tw_element_bytes(dtype);
    int64_t most = isa == TW_ISA_AVX512 ? VECTOR / element - 1 : isa == TW_ISA_AVX2;
    return s <= most && (double)s * (double)k * (double)element <= TW_MOST_PAIRS;
}

/* Is `direct` faster than `dot`, of real numbers? Where s elements fill vectors. Kernels of dot that ask ahead (AVX-512, not for
 * the shortest lines) are better from memory unless lines are long and there is more than a vector; where no such kernels are,
 * dot is for one line or two. */
static bool fills(const tw_form *form, int isa, int64_t s, int64_t l)
{
    int64_t element = tw_element_bytes(form->dtype), bytes = s * element, line = form->k * element;
    bool far = (double)l * (double)line > TW_FROM_MEMORY;
    if (isa != TW_ISA_AVX512) {
        return s > 2 && !tw_jams(isa, form->m >= form->n ? form->lda : form->ldb);
    }
    if (line < TW_LEAST_AHEAD) {
        return bytes > VECTOR / 2;
    }
    return (!far || line >= FAR_LINES) && bytes >= (far ? VECTOR + 1 : VECTOR) &&
           10 * bytes >= 6 * tw_round_up(bytes, VECTOR);
}

static int choose(const tw_form *form, int isa, const tw_wish *wish)
{
    tw_caches caches = tw_caches_here();
    int64_t m = form->m, n = form->n, k = form->k;
    int64_t s = tw_at_most(m, n), l = tw_at_least(m, n);
    if (tiles_do(form, wish, &caches)) {
        return wish->reproducible ? TW_PATH_BLOCKED : TW_PATH_TILES;
    }
    if (l <= 128 && k >= 16 * l) {
        return TW_PATH_INNER;
    }
    bool vector_long = m >= n;
    bool along = vector_long ? form->trans_a : !form->trans_b;
    if (l < TW_TALL * s) {
        return (form->trans_b && k >= TW_TURNING_STEPS) || form->dtype == TW_Z ? TW_PATH_BLOCKED : TW_PATH_DIRECT;
    }
    if (!along) {
        if (!vector_long && s > 1 && k < (s > 8 ? TW_TURNING_STEPS : TW_TURNING_STEPS / 4)) {
            return TW_PATH_DIRECT; /* stream would turn all of C for little work */
        }
        return s <= (k >= MANY_STEPS ? WIDEST_STREAM : TW_WIDE_STREAM) ? TW_PATH_STREAM : TW_PATH_BLOCKED;
    }
    if (vector_long && (k <= TW_SHORT_LINES || (s >= 8 && k < (s > TW_LONGEST_DOT ? FEW_STEPS : TW_TURNING_STEPS)))) {
        return TW_PATH_BLOCKED; /* others turn all of C */
    }
    bool dots =
        tw_is_complex(form->dtype) ? pairs_do(isa, form->dtype, s, k) : s <= TW_LONGEST_DOT && !fills(form, isa, s, l);
    return dots && k > 8 ? TW_PATH_DOT : TW_PATH_DIRECT;
}

int tw_route(const tw_form *form, int isa, int path, const tw_wish *wish, tw_blocked *plan, bool *found)
{
    int status = TW_OK;
    if (path == TW_PATH_AUTO) {
        path = choose(form, isa, wish);
    }
    *found = false;
    if (wish->given != 0) {
        *plan = begin(form, isa);
        plan->threads = wish->threads > 0 ? wish->threads : TW_MOST_THREADS;
        plan->nanoseconds = nanoseconds_of(form);
        plan->path = "packed";
        *found = tw_path_given(plan, wish, &status);
        return status == TW_OK && !*found ? tw_fail(TW_ERROR_KERNEL,
                                                    "tw_skinny_plan_create: %s has no kernels for packed "
                                                    "operands of type '%c'; build all of them.",
                                                    tw_isa_name(isa), tw_letters[form->dtype])
                                          : status;
    }
    if (wish->blocked && path == TW_PATH_TILES) {
        path = TW_PATH_BLOCKED;
    }
    for (int attempt = 0; attempt < 2 && path != TW_PATH_TILES; attempt++, path = TW_PATH_BLOCKED) {
        *plan = begin(form, isa);
        plan->threads = wish->threads > 0 ? wish->threads : TW_MOST_THREADS;
        plan->nanoseconds = nanoseconds_of(form);
        if (paths[path].make(plan, wish, &status) && !is_wide(plan)) {
            plan->path = paths[path].name;
            tw_choose_around(plan);
            *found = true;
            return TW_OK;
        }
        if (status != TW_OK) {
            return status;
        }
    }
    return TW_OK;
}
