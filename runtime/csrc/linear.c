/* linear.c - linear layers: a product with a packed weight, its bias and activation in the epilogue.
 *
 * Row-major y = x W^T is column-major y^T = W x^T: the weight fills vectors, a token is a column. How such a product is
 * blocked is decided at each call, in memory on the stack: that takes a fraction of a microsecond, so there is nothing to
 * keep for each number of tokens. */
#include "blocked.h"
#include "panels.h"

enum { /* numbers of the arguments */
       TOKENS = 1,
       OUT,
       IN,
       X,
       LDX,
       PACKED,
       ACTIVATION = 8,
       THREADS,
       Y,
       LDY
};

static int refuse_size(int argument, const char *name, int64_t size, int64_t least)
{
    return tw_fail(argument, "tw_slinear: %s is %lld; it must be %lld or more.", name, (long long)size,
                   (long long)least);
}

/* What can be checked without reading an array. A status. */
static int check(int64_t tokens, int64_t out, int64_t in, int64_t ldx, int activation, int threads, int64_t ldy)
{
    const struct {
        int argument;
        const char *name;
        int64_t size, least;
    } sizes[] = {{TOKENS, "tokens", tokens, 0},
                 {OUT, "out", out, 0},
                 {IN, "in", in, 0},
                 {LDX, "ldx", ldx, in > 1 ? in : 1},
                 {LDY, "ldy", ldy, out > 1 ? out : 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i].size < sizes[i].least) {
            return refuse_size(sizes[i].argument, sizes[i].name, sizes[i].size, sizes[i].least);
        }
        if (sizes[i].size > INT64_MAX / 16) {
            return tw_fail(sizes[i].argument, "tw_slinear: %s is %lld, beyond what an address can hold.", sizes[i].name,
                           (long long)sizes[i].size);
        }
    }
    if (activation < TW_NO_ACTIVATION || activation > TW_GELU_TANH) {
        return tw_fail(ACTIVATION,
                       "tw_slinear: activation is %d; it must be TW_NO_ACTIVATION (0) to TW_GELU_TANH (%d).",
                       activation, TW_GELU_TANH);
    }
    if (threads < 0 || threads > TW_MOST_THREADS) {
        return tw_fail(TW_ERROR_THREADS, "tw_slinear: %d threads; it must be 1 to %d, or 0.", threads, TW_MOST_THREADS);
    }
    return TW_OK;
}

static int refuse_null(int argument, const char *name)
{
    return tw_fail(argument, "tw_slinear: %s is NULL but would be used.", name);
}

int tw_slinear(int64_t tokens, int64_t out, int64_t in, const float *x, int64_t ldx, const void *packed,
               const float *bias, int activation, int threads, float *y, int64_t ldy)
{
    int32_t variant;
    int status = check(tokens, out, in, ldx, activation, threads, ldy);
    if (status == TW_OK) {
        status = tw_variant_for("tw_slinear", 's', &variant);
    }
    if (status != TW_OK) {
        return status;
    }
    if (packed == NULL) {
        return refuse_null(PACKED, "packed");
    }
    status = tw_packed_fits(packed, "packed", variant >> 8 & 0xff, TW_S, TW_VECTOR_SIDE, out, in);
    if (status != TW_OK || tokens == 0 || out == 0) {
        return status;
    }
    if (y == NULL || (x == NULL && in > 0)) {
        return y == NULL ? refuse_null(Y, "y") : refuse_null(X, "x");
    }
    tw_key key = {tokens, out, in, ldx, in > 1 ? in : 1, ldy, TW_ROW_MAJOR, 'N', 'T', variant};
    tw_wish wish = {.given = 'A', .threads = threads, .reproducible = variant >> 16 & TW_REPRODUCIBLE};
    tw_form form;
    tw_blocked blocked;
    int isa;
    bool found;
    status = tw_form_of(&key, &form, &isa);
    if (status == TW_OK) {
        status = tw_route(&form, isa, TW_PATH_AUTO, &wish, &blocked, &found);
    }
    if (status != TW_OK) {
        return status;
    }
    tw_scalar one = tw_alpha_at(TW_S, NULL), none = tw_beta_at(TW_S, NULL);
    tw_epilogue epilogue = {bias, activation};
    bool any = bias != NULL || activation != TW_NO_ACTIVATION;
    int64_t begun = tw_verbose ? tw_trace_clock() : 0;
    status = tw_blocked_finish(&blocked, &one, tw_panels_of(packed), x, &none, y, any ? &epilogue : NULL);
    tw_gemm_plan *plan;
    if (tw_verbose && tw_plan_make("tw_slinear", &key, &wish, &plan) == TW_OK) { /* counted by its plan */
        plan->packed = 'B';
        tw_trace(plan, 1, tw_trace_clock() - begun);
        tw_gemm_plan_destroy(plan);
    }
    return status;
}
