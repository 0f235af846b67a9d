/* kernels.c - the kernel table by name, and single kernels for tests. */
#include <string.h>

#include "internal.h"

int tw_kernel_total(void)
{
    return tw_kernel_count;
}

const char *tw_kernel_name(int index)
{
    return index >= 0 && index < tw_kernel_count ? tw_kernels[index].name : NULL;
}

const struct tw_kernel *tw_find_kernel(const char *name)
{
    for (int i = 0; i < tw_kernel_count; i++) {
        if (strcmp(tw_kernels[i].name, name) == 0) {
            return &tw_kernels[i];
        }
    }
    return NULL;
}

bool tw_kernel_conjugates(const tw_kernel *kernel, bool conj_a, bool conj_b)
{
    if (!tw_is_complex(kernel->dtype)) {
        return !conj_a && !conj_b;
    }
    return kernel->paired || (conj_a != conj_b) == (kernel->mode >= TW_NC);
}

void tw_run_alone(const tw_kernel *kernel, int64_t m, int64_t n, int64_t k, bool conj_a, bool conj_b, const void *alpha,
                  const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    int64_t element = tw_element_bytes(kernel->dtype);
    int mode = kernel->mode;
    tw_form form = {
        .dtype = kernel->dtype,
        .mode = mode,
        .trans_a = mode == TW_TN || mode == TW_TT || mode == TW_CN || mode == TW_TC,
        .trans_b = mode == TW_NT || mode == TW_TT || mode == TW_NC || mode == TW_TC,
        .conj_a = conj_a,
        .conj_b = conj_b,
        .m = m,
        .n = n,
        .k = k,
        .lda = lda * element,
        .ldb = ldb * element,
        .ldc = ldc * element,
    };
    tw_tile tile = {kernel, 0, 0, (int)m, (int)n};
    tw_scalar first = tw_scalar_at(kernel->dtype, alpha), second = tw_scalar_at(kernel->dtype, beta);
    tw_args args = tw_args_of(&form);
    tw_args_scale(&args, kernel->dtype, &first, &second);
    tw_command command = tw_command_of(&form, &tile);
    tw_run_command(&command, a, b, c, &args);
}

int tw_run_kernel(const char *name, int64_t m, int64_t n, int64_t k, int conj_a, int conj_b, const void *alpha,
                  const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    const tw_kernel *kernel = tw_find_kernel(name);
    if (kernel == NULL) {
        return tw_fail(TW_ERROR_KERNEL, "tw_run_kernel: no kernel is called %.80s.", name);
    }
    if (!tw_isa_supported(kernel->isa)) {
        return tw_fail(TW_ERROR_ISA, "tw_run_kernel: this CPU cannot run %s.", name);
    }
    tw_reach reach = tw_kernel_reach(kernel);
    if (m < reach.least_m || m > reach.most_m || n < reach.least_n || n > reach.most_n || k < 0) {
        return tw_fail(TW_ERROR_KERNEL,
                       "tw_run_kernel: %s does m = %d to %d, n = %d to %d, any k >= 0, not %lld x %lld, k = %lld.",
                       name, reach.least_m, reach.most_m, reach.least_n, reach.most_n, (long long)m, (long long)n,
                       (long long)k);
    }
    if (!tw_kernel_conjugates(kernel, conj_a, conj_b)) {
        return tw_fail(TW_ERROR_KERNEL, "tw_run_kernel: %s cannot conjugate %s.", name,
                       conj_a && conj_b ? "both"
                       : conj_a         ? "A alone"
                       : conj_b         ? "B alone"
                                        : "neither");
    }
    tw_run_alone(kernel, m, n, k, conj_a, conj_b, alpha, a, lda, b, ldb, beta, c, ldc);
    return TW_OK;
}
