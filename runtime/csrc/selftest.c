/* selftest.c - every kernel this CPU can run, and gemm over them, on integers, compared exactly with plain C.
 *
 * The data are small integers, so that every sum is exact in float and the order of summation does not matter. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exact.h"
#include "internal.h"

enum { MOST_MN = 96, MOST_K = 24, PADDING = 3, ROOM = (MOST_MN + PADDING) * (MOST_MN + PADDING) };

typedef struct workspace {
    double a[2 * ROOM], b[2 * ROOM], c[2 * ROOM], before[2 * ROOM]; /* as the kernel sees them: room for any type */
    complex_number product[MOST_MN * MOST_MN];                      /* op(A) op(B), column-major */
    uint32_t random;
    int filled_for; /* a dtype, or -1 */
    tw_selftest_report report;
} workspace;

/* What is being multiplied, column-major or not: leading dimensions in elements. */
typedef struct sample {
    int dtype;
    tw_operation op_a, op_b;
    bool row_major;
    int m, n, k, lda, ldb, ldc;
    tw_scalar alpha, beta;
} sample;

static int draw(workspace *bench)
{
    bench->random = bench->random * 1664525 + 1013904223;
    return (int)(bench->random >> 24) % 9 - 4;
}

/* Fill the operands with small integers of this type, unless they are. */
static void prepare(workspace *bench, int dtype)
{
    double *const matrices[] = {bench->a, bench->b, bench->before};
    for (int matrix = 0; matrix < 3 && bench->filled_for != dtype; matrix++) {
        for (int i = 0; i < ROOM; i++) {
            int re = draw(bench), im = draw(bench);
            put(dtype, matrices[matrix], i, (complex_number){re, im});
        }
    }
    bench->filled_for = dtype;
}

/* Element (i, j) of op(matrix). */
static complex_number element(const sample *s, const void *matrix, tw_operation op, int ld, int i, int j)
{
    bool along = op.trans == s->row_major; /* is i the index that runs within a stored line? */
    complex_number value = get(s->dtype, matrix, along ? i + (int64_t)j * ld : j + (int64_t)i * ld);
    value.im = op.conj ? -value.im : value.im;
    return value;
}

/* Add steps `from` to k of the sum to what is there; from = 0: to nothing. */
static void multiply(workspace *bench, const sample *s, int from)
{
    if (from == 0) {
        memset(bench->product, 0, sizeof(complex_number) * MOST_MN * (size_t)s->n);
    }
    for (int p = from; p < s->k; p++) {
        complex_number column[MOST_MN];
        for (int i = 0; i < s->m; i++) {
            column[i] = element(s, bench->a, s->op_a, s->lda, i, p);
        }
        for (int j = 0; j < s->n; j++) {
            complex_number factor = element(s, bench->b, s->op_b, s->ldb, p, j);
            for (int i = 0; i < s->m; i++) {
                complex_number term = times(column[i], factor), *sum = &bench->product[i + j * MOST_MN];
                sum->re += term.re;
                sum->im += term.im;
            }
        }
    }
}

/* Is every element of C right, and what lies around C untouched? */
static bool right(const workspace *bench, const sample *s)
{
    complex_number alpha = get(s->dtype, &s->alpha, 0), beta = get(s->dtype, &s->beta, 0);
    int within = s->row_major ? s->n : s->m, lines = s->row_major ? s->m : s->n;
    for (int line = 0; line < lines + PADDING; line++) {
        for (int at = 0; at < s->ldc; at++) {
            int64_t index = at + (int64_t)line * s->ldc;
            complex_number old = get(s->dtype, bench->before, index), found = get(s->dtype, bench->c, index),
                           wanted = old;
            if (at < within && line < lines) {
                int i = s->row_major ? line : at, j = s->row_major ? at : line;
                complex_number x = times(alpha, bench->product[i + j * MOST_MN]), y = times(beta, old);
                wanted = (complex_number){x.re + y.re, x.im + y.im};
            }
            if (found.re != wanted.re || found.im != wanted.im) {
                return false;
            }
        }
    }
    return true;
}

/* alpha and beta: 1 0, 1 1, then both general. */
static void set_scalars(sample *s, int choice)
{
    memset(&s->alpha, 0, sizeof s->alpha);
    memset(&s->beta, 0, sizeof s->beta);
    bool complex = tw_is_complex(s->dtype);
    put(s->dtype, &s->alpha, 0, choice == 2 ? (complex_number){-2, complex} : (complex_number){1, 0});
    put(s->dtype, &s->beta, 0, choice == 2 ? (complex_number){3, complex ? -1 : 0} : (complex_number){choice, 0});
}

/* Count one product that has been run, and note it where it is the first wrong one. */
static bool judge(workspace *bench, const sample *s, const char *what)
{
    tw_selftest_report *report = &bench->report;
    report->products++;
    if (right(bench, s)) {
        return true;
    }
    if (report->mismatches++ == 0) {
        snprintf(report->failure, sizeof report->failure,
                 "%s: m %d, n %d, k %d, conj %d %d, lda %d, ldb %d, ldc %d, beta %s", what, s->m, s->n, s->k,
                 s->op_a.conj, s->op_b.conj, s->lda, s->ldb, s->ldc,
                 tw_scalar_is(s->dtype, &s->beta, 0)   ? "0"
                 : tw_scalar_is(s->dtype, &s->beta, 1) ? "1"
                                                       : "general");
    }
    return false;
}

/* Put back the old C and what lies around it. */
static void start(workspace *bench, const sample *s)
{
    int lines = (s->row_major ? s->m : s->n) + PADDING;
    memcpy(bench->c, bench->before, (size_t)(lines * s->ldc * tw_element_bytes(s->dtype)));
}

/* At these depths, in rising order from 0; `special` is what else the kernel knows, or NULL. */
static bool kernel_size_is_right(workspace *bench, const tw_kernel *kernel, int m, int n, const int *depths, int count,
                                 const tw_special *special)
{
    bool good = true;
    sample s = {.dtype = kernel->dtype, .m = m, .n = n};
    int most = depths[count - 1] > MOST_K ? depths[count - 1] : MOST_K;
    s.op_a.trans = tw_mode_transposes_a(kernel->mode);
    s.op_b.trans = tw_mode_transposes_b(kernel->mode);
    s.lda = special && special->lda ? special->lda : (s.op_a.trans ? most : m) + 2;
    s.ldb = special && special->ldb ? special->ldb : (s.op_b.trans ? n : most) + PADDING;
    s.ldc = special && special->ldc ? special->ldc : m + 1;
    if (kernel->family == TW_PACKED) {
        s.lda = m, s.ldb = n;
    }
    for (int conj = 0; conj < 4; conj++) {
        s.op_a.conj = conj & 1, s.op_b.conj = conj >> 1;
        if (!tw_kernel_conjugates(kernel, s.op_a.conj, s.op_b.conj)) {
            continue;
        }
        for (int depth = 0; depth < count; depth++) {
            int known = depth ? depths[depth - 1] : 0;
            s.k = depths[depth];
            multiply(bench, &s, known);
            for (int scalars = 0; scalars < 3; scalars++) {
                set_scalars(&s, scalars);
                start(bench, &s);
                tw_run_alone(kernel, m, n, s.k, s.op_a.conj, s.op_b.conj, &s.alpha, bench->a, s.lda, bench->b, s.ldb,
                             &s.beta, bench->c, s.ldc);
                good = judge(bench, &s, kernel->name) && good;
            }
        }
    }
    return good;
}

/* The smallest, the largest and a middle size in the masked direction. */
static bool kernel_is_right(workspace *bench, const tw_kernel *kernel)
{
    static const int depths[] = {0, 1, 2, 3, 5, 8, 17};
    bool good = true;
    tw_reach reach = tw_kernel_reach(kernel);
    if (reach.most_m > MOST_MN || reach.most_n > MOST_MN) {
        snprintf(bench->report.failure, sizeof bench->report.failure, "%s: larger than the self-test's %d",
                 kernel->name, MOST_MN);
        return false;
    }
    prepare(bench, kernel->dtype);
    int sizes = kernel->mask_span > 2 ? 3 : kernel->mask_span == 2 ? 2 : 1;
    for (int size = 0; size < sizes; size++) {
        int m = reach.most_m - (reach.most_m - reach.least_m) * size / (sizes > 1 ? sizes - 1 : 1);
        int n = reach.most_n - (reach.most_n - reach.least_n) * size / (sizes > 1 ? sizes - 1 : 1);
        good = kernel_size_is_right(bench, kernel, m, n, depths, sizeof depths / sizeof depths[0], NULL) && good;
    }
    return good;
}

/* A batch in one call, element by element as the same products one after the other by kernels for any size. */
static bool many_are_right(workspace *bench, const tw_special *special, int m, int n)
{
    const tw_kernel *kernel = &special->kernel;
    int count = special->lanes > 1 ? 2 * special->lanes : 5;
    bool trans_a = tw_mode_transposes_a(kernel->mode), trans_b = tw_mode_transposes_b(kernel->mode), good = true;
    int64_t element = tw_element_bytes(kernel->dtype);
    int64_t lda = special->lda ? special->lda : (trans_a ? special->k : m) + 2,
            ldb = special->ldb ? special->ldb : (trans_b ? n : special->k) + 1,
            ldc = special->ldc ? special->ldc : m + PADDING;
    int64_t stride_a = lda * (trans_a ? m : special->k) + 1, stride_b = ldb * (trans_b ? special->k : n) + 2,
            stride_c = ldc * n + 3, size = stride_c * count;
    if (stride_a * count > ROOM || stride_b * count > ROOM || size > MOST_MN * MOST_MN) {
        return false;
    }
    for (int choice = 0; choice < 3 * 4; choice++) {
        sample s = {.dtype = kernel->dtype};
        bool conj_a = choice / 3 & 1, conj_b = choice / 3 >> 1;
        if (!tw_kernel_conjugates(kernel, conj_a, conj_b)) {
            continue;
        }
        set_scalars(&s, choice % 3);
        char transa = "NTRC"[trans_a + 2 * conj_a], transb = "NTRC"[trans_b + 2 * conj_b];
        tw_key key = {
            m, n, special->k, lda, ldb, ldc, TW_COL_MAJOR, transa, transb, tw_variant(kernel->dtype, kernel->isa, 0)};
        tw_form form = {.dtype = kernel->dtype,
                        .mode = kernel->mode,
                        .trans_a = trans_a,
                        .trans_b = trans_b,
                        .conj_a = conj_a,
                        .conj_b = conj_b,
                        .m = m,
                        .n = n,
                        .k = special->k,
                        .lda = lda * element,
                        .ldb = ldb * element,
                        .ldc = ldc * element};
        tw_tile tile = {kernel, 0, 0, m, n};
        tw_command command = tw_command_of(&form, &tile);
        tw_batch_args all = {tw_args_of(&form), count, stride_a * element, stride_b * element, stride_c * element};
        tw_args_scale(&all.args, kernel->dtype, &s.alpha, &s.beta);
        memcpy(bench->c, bench->before, (size_t)(size * element));
        tw_run_command(&command, bench->a, bench->b, bench->c, &all.args);
        memcpy(bench->product, bench->c, (size_t)(size * element));
        memcpy(bench->c, bench->before, (size_t)(size * element));
        for (int i = 0; i < count; i++) {
            char *a = (char *)bench->a + i * stride_a * element, *b = (char *)bench->b + i * stride_b * element;
            tw_plan_run_once(&key, &s.alpha, a, b, &s.beta, (char *)bench->c + i * stride_c * element);
        }
        bench->report.products++;
        for (int64_t i = 0; i < size; i++) {
            complex_number found = get(kernel->dtype, bench->product, i), wanted = get(kernel->dtype, bench->c, i);
            if (found.re != wanted.re || found.im != wanted.im) {
                if (good && bench->report.mismatches++ == 0) {
                    snprintf(bench->report.failure, sizeof bench->report.failure, "%s: m %d, n %d", kernel->name, m, n);
                }
                good = false;
            }
        }
    }
    return good;
}

static bool special_is_right(workspace *bench, const tw_special *special)
{
    const tw_kernel *kernel = &special->kernel;
    const int depths[] = {0, special->k};
    bool trans_a = tw_mode_transposes_a(kernel->mode), trans_b = tw_mode_transposes_b(kernel->mode), good = true;
    tw_reach reach = tw_kernel_reach(kernel);
    prepare(bench, kernel->dtype);
    for (int m = reach.least_m; m <= reach.most_m; m++) {
        for (int n = reach.least_n; n <= reach.most_n; n++) {
            bool exists = (special->lda == 0 || special->lda >= (trans_a ? special->k : m)) &&
                          (special->ldb == 0 || special->ldb >= (trans_b ? n : special->k)) &&
                          (special->ldc == 0 || special->ldc >= m);
            if (exists && kernel->family == TW_BATCH) {
                good = many_are_right(bench, special, m, n) && good;
            } else if (exists) {
                good = kernel_size_is_right(bench, kernel, m, n, depths, 2, special) && good;
            }
        }
    }
    return good;
}

bool tw_special_is_right(const tw_special *special)
{
    workspace *bench = calloc(1, sizeof *bench);
    if (bench == NULL) {
        return false;
    }
    bench->filled_for = -1;
    bool good = special_is_right(bench, special);
    free(bench);
    return good;
}

/* Does the kernel table say that `isa` or scalar can do this, at every size: is there a kernel that does 1 x 1? */
static bool is_built(int isa, const sample *s)
{
    /* A row-major product is its transpose, column-major: the operands change places, and what is transposed stays so. */
    tw_operation a = s->row_major ? s->op_b : s->op_a, b = s->row_major ? s->op_a : s->op_b;
    isa = tw_isa_of_type(isa, s->dtype);
    for (int i = 0; i < tw_kernel_count; i++) {
        const tw_kernel *kernel = &tw_kernels[i];
        tw_reach reach = tw_kernel_reach(kernel);
        if ((kernel->isa == isa || kernel->isa == TW_ISA_SCALAR) && kernel->dtype == s->dtype && reach.least_m == 1 &&
            reach.least_n == 1 && tw_mode_transposes_a(kernel->mode) == a.trans &&
            tw_mode_transposes_b(kernel->mode) == b.trans && tw_kernel_conjugates(kernel, a.conj, b.conj)) {
            return true;
        }
    }
    return false;
}

/* Products through gemm's own path: layouts, operations and the cutting into tiles. */
static void check_products(workspace *bench, int isa, int dtype)
{
    static const int shapes[][3] = {{1, 1, 1}, {5, 7, 3}, {33, 29, 17}, {71, 13, 20}};
    static const char operations[] = "NTCR";
    prepare(bench, dtype);
    for (int choice = 0; choice < 2 * 4 * 4 * 4; choice++) {
        const int *shape = shapes[choice & 3];
        char transa = operations[choice >> 2 & 3], transb = operations[choice >> 4 & 3];
        sample s = {.dtype = dtype, .row_major = choice >> 6, .m = shape[0], .n = shape[1], .k = shape[2]};
        tw_operation_of(transa, dtype, &s.op_a);
        tw_operation_of(transb, dtype, &s.op_b);
        s.lda = (s.op_a.trans == s.row_major ? s.m : s.k) + 1;
        s.ldb = (s.op_b.trans == s.row_major ? s.k : s.n) + 2;
        s.ldc = (s.row_major ? s.n : s.m) + PADDING;
        set_scalars(&s, choice % 3);
        multiply(bench, &s, 0);
        start(bench, &s);
        char what[64];
        snprintf(what, sizeof what, "%s %cgemm %s %c%c", tw_isa_name(isa), tw_dtype_letters[dtype],
                 s.row_major ? "row-major" : "column-major", transa, transb);
        tw_key key = {s.m,
                      s.n,
                      s.k,
                      s.lda,
                      s.ldb,
                      s.ldc,
                      s.row_major ? TW_ROW_MAJOR : TW_COL_MAJOR,
                      transa,
                      transb,
                      tw_variant(dtype, isa, 0)};
        int status = tw_plan_run_once(&key, &s.alpha, bench->a, bench->b, &s.beta, bench->c);
        if (status != TW_ERROR_KERNEL || is_built(isa, &s)) { /* else it was not built, and to say so is right */
            judge(bench, &s, what);
        }
    }
}

int64_t tw_selftest(tw_selftest_report *report)
{
    _Static_assert(TW_ISAS <= sizeof report->listed / sizeof report->listed[0], "a place for every ISA");
    workspace *bench = calloc(1, sizeof *bench);
    if (bench == NULL) {
        tw_fail(TW_ERROR_MEMORY, "tw_selftest: out of memory for %zu bytes.", sizeof *bench);
        return -1;
    }
    bench->filled_for = -1;
    unsigned isas = tw_cpu_isas();
    for (int i = 0; i < tw_kernel_count; i++) {
        const tw_kernel *kernel = &tw_kernels[i];
        bench->report.listed[kernel->isa]++;
        if (isas >> kernel->isa & 1) {
            bench->report.run[kernel->isa]++;
            bench->report.failed[kernel->isa] += !kernel_is_right(bench, kernel);
        }
    }
    for (int i = 0; i < tw_special_total(); i++) { /* also those registered since */
        const tw_special *special = tw_special_at(i);
        int isa = special->kernel.isa;
        if (isas >> isa & 1) {
            bench->report.failed[isa] += !special_is_right(bench, special);
        }
    }
    for (int isa = 0; isa < TW_ISAS; isa++) {
        for (int dtype = 0; dtype < TW_DTYPES && bench->report.run[isa] > 0; dtype++) {
            check_products(bench, isa, dtype);
        }
    }
    int64_t wrong = bench->report.mismatches;
    for (int isa = 0; isa < TW_ISAS && wrong == 0; isa++) {
        wrong += bench->report.failed[isa]; /* kernels that could not even be compared */
    }
    if (report) {
        *report = bench->report;
    }
    free(bench);
    return wrong;
}
