/* timing.c - how long one kernel takes, once it is known to compute the right thing.
 *
 * What tuning (runtime/tuning.py) calls. The least of many rounds is taken: whatever else the machine does can only make
 * a round longer. Rounds are long enough that the clock's own 20 to 50 ns do not show. */
#define _GNU_SOURCE /* clock_gettime */
#include <stdlib.h>
#include <time.h>

#include "exact.h"
#include "internal.h"

enum {
    PADDING = 5,   /* leading dimensions are this much longer: columns start at all alignments, as in real matrices */
    OFFSET = 16,   /* bytes past a cache line at which operands begin, as malloc and numpy leave them */
    MOST_K = 4096, /* sums of products of -4 to 4 stay exact in float up to 2^20 */
    ROUND = 4000,  /* nanoseconds a round lasts at least */
    LEAST_ROUNDS = 5,
    MOST_CALLS = 1 << 20
};

typedef struct timed {
    const tw_kernel *kernel;
    int m, n, k;
    bool trans_a, trans_b;
    int64_t lda, ldb, ldc; /* elements */
    char *memory, *a, *b, *c;
} timed;

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void fill(int dtype, void *matrix, int64_t count, uint32_t random)
{
    for (int64_t i = 0; i < count; i++) {
        random = random * 1664525 + 1013904223;
        int re = (int)(random >> 24) % 9 - 4, im = (int)(random >> 16 & 0xff) % 9 - 4;
        put(dtype, matrix, i, (complex_number){re, im});
    }
}

/* Operands of integers, and NaN where C will be. False: no memory. */
static bool prepare(timed *t)
{
    int64_t element = tw_element_bytes(t->kernel->dtype);
    int64_t columns_a = t->trans_a ? t->m : t->k, columns_b = t->trans_b ? t->k : t->n;
    int gap = t->kernel->family == TW_PACKED ? 0 : PADDING;
    t->lda = (t->trans_a ? t->k : t->m) + gap;
    t->ldb = (t->trans_b ? t->n : t->k) + gap;
    t->ldc = t->m + PADDING;
    int64_t size_a = t->lda * columns_a, size_b = t->ldb * columns_b, size_c = t->ldc * t->n;
    int64_t room_a = (size_a * element / 64 + 2) * 64, room_b = (size_b * element / 64 + 2) * 64,
            room_c = (size_c * element / 64 + 2) * 64;
    t->memory = aligned_alloc(64, (size_t)(room_a + room_b + room_c));
    if (t->memory == NULL) {
        return false;
    }
    t->a = t->memory + OFFSET;
    t->b = t->a + room_a;
    t->c = t->b + room_b;
    fill(t->kernel->dtype, t->a, size_a, 1);
    fill(t->kernel->dtype, t->b, size_b, 2);
    memset(t->c, 0xff, (size_t)(size_c * element)); /* NaN */
    return true;
}

/* Is C what plain C makes of A and B, and NaN between its columns? */
static bool right(const timed *t)
{
    int dtype = t->kernel->dtype, mode = t->kernel->mode;
    double sign_a = mode == TW_CN ? -1 : 1, sign_b = mode == TW_NC || mode == TW_TC ? -1 : 1;
    for (int j = 0; j < t->n; j++) {
        for (int i = 0; i < t->m; i++) {
            double re = 0, im = 0;
            for (int p = 0; p < t->k; p++) {
                complex_number x = get(dtype, t->a, t->trans_a ? p + i * t->lda : i + p * t->lda);
                complex_number y = get(dtype, t->b, t->trans_b ? j + p * t->ldb : p + j * t->ldb);
                x.im *= sign_a, y.im *= sign_b;
                re += x.re * y.re - x.im * y.im;
                im += x.re * y.im + x.im * y.re;
            }
            complex_number found = get(dtype, t->c, i + j * t->ldc);
            if (found.re != re || found.im != im) {
                return false;
            }
        }
        for (int64_t i = t->m; i < t->ldc; i++) {
            complex_number between = get(dtype, t->c, i + j * t->ldc);
            if (between.re == between.re) {
                return false;
            }
        }
    }
    return true;
}

/* Nanoseconds of `calls` calls. */
static int64_t round_of(const timed *t, const tw_args *args, int calls)
{
    tw_kernel_fn run = t->kernel->run;
    int64_t begin = now();
    for (int i = 0; i < calls; i++) {
        run(t->a, t->b, t->c, args);
    }
    return now() - begin;
}

static double least_time(const timed *t, const tw_args *args, double seconds)
{
    int64_t end = now() + (int64_t)(seconds * 1e9);
    int calls = 1;
    while (calls < MOST_CALLS && round_of(t, args, calls) < ROUND) {
        calls *= 2;
    }
    int64_t least = INT64_MAX;
    for (int rounds = 0; rounds < LEAST_ROUNDS || now() < end; rounds++) {
        int64_t passed = round_of(t, args, calls);
        least = passed < least ? passed : least;
    }
    return (double)least / calls;
}

int tw_time_kernel(const struct tw_kernel *kernel, int64_t m, int64_t n, int64_t k, double seconds, double *nanoseconds)
{
    *nanoseconds = 0;
    if (!tw_isa_supported(kernel->isa)) {
        return tw_fail(TW_ERROR_ISA, "tw_kernel_time: this CPU cannot run %s.", kernel->name);
    }
    tw_reach reach = tw_kernel_reach(kernel);
    m = m == 0 ? reach.most_m : m;
    n = n == 0 ? reach.most_n : n;
    if (m < reach.least_m || m > reach.most_m || n < reach.least_n || n > reach.most_n || k < 0 || k > MOST_K) {
        return tw_fail(
            TW_ERROR_KERNEL,
            "tw_kernel_time: %s is timed for m = %d to %d, n = %d to %d, k = 0 to %d, not %lld x %lld, k = %lld.",
            kernel->name, reach.least_m, reach.most_m, reach.least_n, reach.most_n, MOST_K, (long long)m, (long long)n,
            (long long)k);
    }
    if (!(seconds >= 0 && seconds <= 60)) {
        return tw_fail(TW_ERROR_KERNEL, "tw_kernel_time: seconds is %g; it must be 0 to 60.", seconds);
    }
    int mode = kernel->mode;
    timed t = {.kernel = kernel, .m = (int)m, .n = (int)n, .k = (int)k};
    t.trans_a = mode == TW_TN || mode == TW_TT || mode == TW_CN || mode == TW_TC;
    t.trans_b = mode == TW_NT || mode == TW_TT || mode == TW_NC || mode == TW_TC;
    if (!prepare(&t)) {
        return tw_fail(TW_ERROR_MEMORY, "tw_kernel_time: out of memory.");
    }
    int64_t element = tw_element_bytes(kernel->dtype);
    tw_form form = {
        .dtype = kernel->dtype,
        .mode = mode,
        .trans_a = t.trans_a,
        .trans_b = t.trans_b,
        .conj_a = mode == TW_CN,
        .conj_b = mode == TW_NC || mode == TW_TC,
        .m = m,
        .n = n,
        .k = k,
        .lda = t.lda * element,
        .ldb = t.ldb * element,
        .ldc = t.ldc * element,
    };
    tw_tile tile = {kernel, 0, 0, t.m, t.n};
    tw_scalar one = tw_alpha_at(kernel->dtype, NULL), zero = tw_beta_at(kernel->dtype, NULL);
    tw_args args = tw_args_of(&form);
    tw_args_scale(&args, kernel->dtype, &one, &zero);
    tw_command command = tw_command_of(&form, &tile);
    tw_run_command(&command, t.a, t.b, t.c, &args); /* leaves in args what this tile needs */
    double least = 0;
    bool good = right(&t);
    if (good) {
        least = least_time(&t, &args, seconds);
        good = right(&t);
    }
    free(t.memory);
    if (!good) {
        return tw_fail(TW_ERROR_WRONG,
                       "tw_kernel_time: %s computes a wrong product for m = %d, n = %d, k = %d; not timed.",
                       kernel->name, t.m, t.n, t.k);
    }
    *nanoseconds = least;
    return TW_OK;
}

int tw_panel_kernel_time(const char *name, const void *panels, int64_t bytes, int64_t k, double *nanoseconds)
{
    double exact;
    *nanoseconds = 0;
    const tw_kernel *kernel = tw_find_kernel(name);
    if (kernel == NULL || kernel->family != TW_PACKED) {
        return tw_fail(TW_ERROR_KERNEL, "tw_panel_kernel_time: no kernel on panels is called %.80s.", name);
    }
    int status = tw_time_kernel(kernel, 0, 0, 17, 0, &exact); /* is it right? */
    if (status != TW_OK) {
        return status;
    }
    bool turned = kernel->vector_dim != 0;
    int64_t element = tw_element_bytes(kernel->dtype), width = turned ? kernel->nr : kernel->mr;
    int64_t lines = turned ? kernel->mr : kernel->nr, panel = width * k * element, count = k > 0 ? bytes / panel : 0;
    int64_t one = panel / kernel->panels, apart = count * one; /* two panels at once are from the two halves of all */
    if (count < 1) {
        return tw_fail(TW_ERROR_KERNEL, "tw_panel_kernel_time: %lld bytes are no panel of %lld steps.",
                       (long long)bytes, (long long)k);
    }
    int64_t ldc = (turned ? lines : width) + PADDING, other_bytes = (lines * k * element / 64 + 1) * 64,
            c_bytes = (ldc * (turned ? width : lines) * element / 64 + 1) * 64;
    char *other = aligned_alloc(64, (size_t)(other_bytes + c_bytes));
    if (other == NULL) {
        return tw_fail(TW_ERROR_MEMORY, "tw_panel_kernel_time: out of memory.");
    }
    fill(kernel->dtype, other, lines * k, 2);
    tw_form form = {.dtype = kernel->dtype, .mode = kernel->mode, .k = k, .ldc = ldc * element};
    tw_scalar alpha = tw_alpha_at(kernel->dtype, NULL), zero = tw_beta_at(kernel->dtype, NULL);
    tw_args args = tw_args_of(&form);
    tw_args_scale(&args, kernel->dtype, &alpha, &zero);
    args.lda = width / kernel->panels * element;
    args.far = kernel->panels == 2 ? apart - args.lda : 0;
    int64_t begin = now();
    for (int64_t i = 0; i < count; i++) {
        const char *at = (const char *)panels + i * one;
        kernel->run(turned ? other : at, turned ? at : other, other + other_bytes, &args);
    }
    *nanoseconds = (double)(now() - begin) / (double)count;
    free(other);
    return TW_OK;
}

int tw_kernel_time(const char *name, int64_t m, int64_t n, int64_t k, double seconds, double *nanoseconds)
{
    *nanoseconds = 0;
    const tw_kernel *kernel = tw_find_kernel(name);
    if (kernel == NULL) {
        return tw_fail(TW_ERROR_KERNEL, "tw_kernel_time: no kernel is called %.80s.", name);
    }
    return tw_time_kernel(kernel, m, n, k, seconds, nanoseconds);
}
