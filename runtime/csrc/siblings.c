/* siblings.c - see siblings.h. */
#include "siblings.h"

#include "internal.h"

atomic_int tw_settings;

int tw_plan_shared(const tw_gemm_plan **plan, int dtype, int layout, int transa, int transb, int64_t m, int64_t n,
                   int64_t k, int64_t lda, int64_t ldb, int64_t ldc)
{
    *plan = NULL;
    int32_t variant;
    int status = tw_variant_for("tw_plan_shared", dtype, &variant);
    if (status != TW_OK) {
        return status;
    }
    tw_key key = {m, n, k, lda, ldb, ldc, layout, transa, transb, variant};
    return tw_cache_find(&key, plan);
}

/* Several tiles as if they were one: the plan is found by its arguments. */
static void run_ready(const void *a, const void *b, void *c, const tw_args *args)
{
    const tw_gemm_plan *plan = (const tw_gemm_plan *)((const char *)args - offsetof(tw_gemm_plan, sets));
    tw_plan_run_ready(plan, a, b, c, args);
}

void tw_plan_kernel(const tw_gemm_plan *plan, tw_kernel_fn *run, const tw_args **args)
{
    bool expected = plan->exchanged == (plan->key.layout == TW_ROW_MAJOR); /* a row taken as a column exchanges again */
    *run = !expected ? NULL : plan->run != NULL ? plan->run : plan->ready != 0 ? run_ready : NULL;
    *args = plan->sets[0];
}
