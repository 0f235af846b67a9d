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
    for (int i = 0; i < tw_kernel_count && name != NULL; i++) {
        if (strcmp(tw_kernels[i].name, name) == 0) {
            return &tw_kernels[i];
        }
    }
    return NULL;
}

const tw_kernel *tw_kernel_ahead(int isa, int dtype, int rows, bool paced)
{
    int family = paced ? TW_PACED : TW_AHEAD;
    for (int i = tw_kernel_count - 1; i >= 0 && tw_kernels[i].family >= TW_AHEAD; i--) { /* they are the last */
        const tw_kernel *kernel = &tw_kernels[i];
        if (kernel->isa == isa && kernel->dtype == dtype && kernel->mr == rows && kernel->family == family &&
            kernel->mode == TW_TN) {
            return kernel;
        }
    }
    return NULL;
}

const tw_kernel *tw_kernel_dot(int isa, int dtype, int rows, int most)
{
    const tw_kernel *widest = NULL;
    for (int i = 0; i < tw_kernel_count; i++) {
        const tw_kernel *kernel = &tw_kernels[i];
        if (kernel->isa == isa && kernel->dtype == dtype && kernel->mr == rows && kernel->nr <= most &&
            kernel->family == TW_SMALL && kernel->mode == TW_TN && kernel->reassociates && kernel->mask_span == 0 &&
            (widest == NULL || kernel->nr > widest->nr)) {
            widest = kernel;
        }
    }
    return widest;
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
        .trans_a = tw_mode_transposes_a(mode),
        .trans_b = tw_mode_transposes_b(mode),
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

/* A status. */
static int check_pointers(const tw_kernel *kernel, const void *alpha, const void *a, const void *b, const void *beta,
                          const void *c, int64_t k)
{
    if (alpha == NULL || beta == NULL) {
        return tw_fail(alpha ? TW_ARGUMENT_BETA : TW_ARGUMENT_ALPHA,
                       "tw_run_kernel: %s is NULL; it must point at one number.", alpha ? "beta" : "alpha");
    }
    tw_scalar scale = tw_scalar_at(kernel->dtype, alpha);
    bool unread = k == 0 || tw_scalar_is(kernel->dtype, &scale, 0);
    if (c != NULL && (unread || (a != NULL && b != NULL))) {
        return TW_OK;
    }
    int null = c == NULL ? TW_ARGUMENT_C : a == NULL ? TW_ARGUMENT_A : TW_ARGUMENT_B;
    const char *name = c == NULL ? "c" : a == NULL ? "a" : "b";
    return tw_fail(null, "tw_run_kernel: %s is NULL but would be used.", name);
}

static int check_ld(int argument, const char *name, int64_t ld, int64_t length)
{
    long long least = length > 1 ? length : 1, most = INT64_MAX / 16;
    if (ld >= least && ld <= most) {
        return TW_OK;
    }
    return tw_fail(argument, "tw_run_kernel: %s is %lld; it must be %lld to %lld.", name, (long long)ld, least, most);
}

int tw_run_kernel(const char *name, int64_t m, int64_t n, int64_t k, int conj_a, int conj_b, const void *alpha,
                  const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    const tw_kernel *kernel = tw_find_kernel(name);
    if (name == NULL) {
        return tw_fail(TW_ERROR_KERNEL, "tw_run_kernel: name is NULL.");
    }
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
    int mode = kernel->mode, status = check_pointers(kernel, alpha, a, b, beta, c, k);
    status = status ? status : check_ld(TW_ARGUMENT_LDA, "lda", lda, tw_mode_transposes_a(mode) ? k : m);
    status = status ? status : check_ld(TW_ARGUMENT_LDB, "ldb", ldb, tw_mode_transposes_b(mode) ? n : k);
    status = status ? status : check_ld(TW_ARGUMENT_LDC, "ldc", ldc, m);
    if (status == TW_OK && kernel->family == TW_PACKED && (lda != m || ldb != n)) {
        return tw_fail(lda != m ? TW_ARGUMENT_LDA : TW_ARGUMENT_LDB,
                       "tw_run_kernel: %s takes panels: lda must be %lld and ldb %lld, not %lld and %lld.", name,
                       (long long)m, (long long)n, (long long)lda, (long long)ldb);
    }
    if (status == TW_OK) {
        tw_run_alone(kernel, m, n, k, conj_a, conj_b, alpha, a ? a : c, lda, b ? b : c, ldb, beta, c, ldc);
    }
    return status;
}
