/* gemm.c - products of BLAS shape: find the plan, or check, see column-major and choose the kernels; run it. */
#include "internal.h"

const char tw_letters[] = "sdcz";

bool tw_operation_of(int letter, int dtype, tw_operation *operation)
{
    int upper = letter >= 'a' && letter <= 'z' ? letter - ('a' - 'A') : letter;
    operation->trans = upper == 'T' || upper == 'C';
    operation->conj = (upper == 'C' || upper == 'R') && tw_is_complex(dtype);
    return operation->trans || upper == 'N' || upper == 'R';
}

static char letter_of(tw_operation operation)
{
    return operation.trans ? (operation.conj ? 'C' : 'T') : (operation.conj ? 'R' : 'N');
}

/* The kernel mode that computes the product, up to the conjugate of the whole; -1: none, without paired kernels. */
static int mode_of(tw_operation a, tw_operation b, bool paired)
{
    int plain = a.trans ? (b.trans ? TW_TT : TW_TN) : (b.trans ? TW_NT : TW_NN);
    if (paired || a.conj == b.conj) {
        return plain;
    }
    return plain == TW_NT ? TW_NC : plain == TW_TN ? TW_CN : plain == TW_TT ? TW_TC : -1;
}

/* As tw_select, of one ISA only; *tiles is NULL where it has no kernels for this. */
static int select_from(int isa, int dtype, tw_operation a, tw_operation b, tw_steps steps, const tw_tiles **tiles,
                       int *mode)
{
    *mode = mode_of(a, b, true);
    int status = tw_tiles_find(isa, dtype, *mode, steps, tiles);
    if (status != TW_OK || *tiles == NULL || a.conj == b.conj || tw_tiles_paired(*tiles)) {
        return status;
    }
    *mode = mode_of(a, b, false);
    *tiles = NULL;
    return *mode < 0 ? TW_OK : tw_tiles_find(isa, dtype, *mode, steps, tiles);
}

int tw_select(int isa, int dtype, tw_operation a, tw_operation b, tw_steps steps, const tw_tiles **tiles, int *mode,
              int *served_by)
{
    *served_by = isa;
    int status = select_from(isa, dtype, a, b, steps, tiles, mode);
    if (status == TW_OK && *tiles == NULL && isa != TW_ISA_SCALAR) {
        *served_by = TW_ISA_SCALAR;
        status = select_from(TW_ISA_SCALAR, dtype, a, b, steps, tiles, mode);
    }
    if (status == TW_OK && *tiles == NULL) {
        return tw_fail(
            TW_ERROR_KERNEL,
            "tw_%cgemm: %s has no kernels for transa '%c', transb '%c' (column-major), and no scalar ones stand "
            "in; build all of them, or in place of 'R' pass a conjugated copy.",
            tw_letters[dtype], tw_isa_name(isa), letter_of(a), letter_of(b));
    }
    return status;
}

/* A leading dimension must hold a row (column) as stored, and times the element size must fit 64 bits. */
static int check_ld(int dtype, int argument, const char *name, int64_t ld, int64_t length, int layout)
{
    int64_t least = length > 1 ? length : 1, most = INT64_MAX / 16;
    if (ld >= least && ld <= most) {
        return TW_OK;
    }
    const char *unit = layout == TW_ROW_MAJOR ? "row" : "column";
    return ld > most ? tw_fail(argument, "tw_%cgemm: %s is %lld, beyond %lld, what an address can hold.",
                               tw_letters[dtype], name, (long long)ld, (long long)most)
                     : tw_fail(argument,
                               "tw_%cgemm: %s is %lld but a %s as stored has %lld elements; %s must be at least %lld.",
                               tw_letters[dtype], name, (long long)ld, unit, (long long)length, name, (long long)least);
}

int tw_dtype_of(int letter)
{
    for (int dtype = 0; dtype < TW_DTYPES; dtype++) {
        if (tw_letters[dtype] == letter) {
            return dtype;
        }
    }
    return -1;
}

static int check(const tw_key *key, int dtype, tw_operation *op_a, tw_operation *op_b)
{
    char letter = tw_letters[dtype];
    int layout = key->layout;
    int64_t m = key->m, n = key->n, k = key->k;
    if (layout != TW_ROW_MAJOR && layout != TW_COL_MAJOR) {
        return tw_fail(TW_ARGUMENT_LAYOUT,
                       "tw_%cgemm: layout is %d; it must be TW_ROW_MAJOR (101) or TW_COL_MAJOR (102).", letter, layout);
    }
    if (!tw_operation_of(key->transa, dtype, op_a)) {
        return tw_fail(TW_ARGUMENT_TRANSA, "tw_%cgemm: transa is %d; it must be 'N', 'T', 'C' or 'R'.", letter,
                       key->transa);
    }
    if (!tw_operation_of(key->transb, dtype, op_b)) {
        return tw_fail(TW_ARGUMENT_TRANSB, "tw_%cgemm: transb is %d; it must be 'N', 'T', 'C' or 'R'.", letter,
                       key->transb);
    }
    if ((m | n | k) < 0) {
        int argument = m < 0 ? TW_ARGUMENT_M : n < 0 ? TW_ARGUMENT_N : TW_ARGUMENT_K;
        int64_t size = m < 0 ? m : n < 0 ? n : k;
        return tw_fail(argument, "tw_%cgemm: %c is %lld; it must be 0 or more.", letter,
                       "mnk"[argument - TW_ARGUMENT_M], (long long)size);
    }
    bool row = layout == TW_ROW_MAJOR;
    int status = check_ld(dtype, TW_ARGUMENT_LDA, "lda", key->lda, op_a->trans == row ? m : k, layout);
    status = status ? status : check_ld(dtype, TW_ARGUMENT_LDB, "ldb", key->ldb, op_b->trans == row ? k : n, layout);
    return status ? status : check_ld(dtype, TW_ARGUMENT_LDC, "ldc", key->ldc, row ? n : m, layout);
}

/* C^T = op(B)^T op(A)^T: a row-major matrix is its transpose, column-major. */
static tw_form transposed(tw_form f)
{
    tw_form t = f;
    t.exchanged = !f.exchanged;
    t.m = f.n, t.n = f.m;
    t.trans_a = f.trans_b, t.conj_a = f.conj_b, t.lda = f.ldb;
    t.trans_b = f.trans_a, t.conj_b = f.conj_a, t.ldb = f.lda;
    return t;
}

int tw_form_of(const tw_key *key, tw_form *form, int *isa)
{
    int dtype = key->variant & 0xff;
    *isa = tw_isa_of_type(key->variant >> 8 & 0xff, dtype);
    tw_operation op_a, op_b;
    int status = check(key, dtype, &op_a, &op_b);
    if (status != TW_OK) {
        return status;
    }
    int64_t element = tw_element_bytes(dtype);
    *form = (tw_form){
        .dtype = dtype,
        .trans_a = op_a.trans,
        .trans_b = op_b.trans,
        .conj_a = op_a.conj,
        .conj_b = op_b.conj,
        .m = key->m,
        .n = key->n,
        .k = key->k,
        .lda = key->lda * element,
        .ldb = key->ldb * element,
        .ldc = key->ldc * element,
    };
    if (key->layout == TW_ROW_MAJOR) {
        *form = transposed(*form);
    }
    /* A single row of A whose elements are neighbours is as well a column: the modes that see A along k have kernels that
     * fill vectors with it, where the others would use one lane. */
    if (form->m == 1 && form->k > 1 && !form->trans_a && form->lda == element && !tw_is_complex(dtype)) {
        form->trans_a = true;
        form->lda = form->k * element;
    }
    return TW_OK;
}

void tw_row_as_column(tw_form *form, int isa)
{
    int64_t element = tw_element_bytes(form->dtype);
    bool along = form->trans_a || form->lda == element, x86 = isa == TW_ISA_AVX512 || isa == TW_ISA_AVX2;
    if (form->m == 1 && form->n > 1 && form->ldc == element && along && x86 && tw_is_complex(form->dtype)) {
        bool columns = form->trans_b; /* B as stored, whose transpose now comes first */
        *form = transposed(*form);
        form->trans_a = !columns;
        form->trans_b = false;
        form->ldb = form->k * element;
        form->ldc = form->m * element;
    }
}

int tw_refuse_null(int dtype, int null)
{
    char name = null == TW_ARGUMENT_A ? 'a' : null == TW_ARGUMENT_B ? 'b' : 'c';
    return tw_fail(null, "tw_%cgemm: %c is NULL but would be used.", tw_letters[dtype], name);
}

/* ---- The entries ---- */

/* The plan that this thread's last call found; one that no call can match until then. The only thread-local variable of
 * the library, so that it can be where the thread pointer points: one instruction to reach, and room for it is there
 * even where the library is loaded late. */
static const tw_gemm_plan none = {.key = {.layout = -1, .variant = -1}};
static _Thread_local const tw_gemm_plan *last __attribute__((tls_model("initial-exec"))) = &none;

/* Not what the last call was: found in the cache, or made, or not worth keeping. */
static int other(const tw_key *key, const tw_scalar *alpha, const void *a, const void *b, const tw_scalar *beta,
                 void *c)
{
    const tw_gemm_plan *plan;
    tw_key chosen = *key;
    if (key->variant < 0) { /* refused; or not chosen yet, in another library's constructor */
        int isa = tw_isa_current();
        if (isa < 0) {
            return TW_ERROR_ISA;
        }
        if (tw_tiler_current() == NULL) {
            return TW_ERROR_TILER;
        }
        chosen.variant = tw_variant(key->variant & 0xff, isa, atomic_load(&tw_tiler_now));
        key = &chosen;
    }
    if (tw_cache_find(key, &plan) != TW_OK || plan == NULL) {
        return tw_plan_run_once(key, alpha, a, b, beta, c);
    }
    last = plan;
    /* Shapes that take turns come this way each time. */
    tw_plain plain = tw_plain_at(key->variant & 0xff, alpha, beta);
    if (plain != TW_GENERAL && plan->ready != 0 && a != NULL && b != NULL && c != NULL) {
        const void *x = plan->exchanged ? b : a, *y = plan->exchanged ? a : b;
        tw_plan_run_ready(plan, x, y, c, plan->sets[plain == TW_ADDED]);
        return TW_OK;
    }
    return tw_plan_run(plan, alpha, a, b, beta, c);
}

/* Is it the thread's last call once more, with pointers to work on? One branch for all of the key. */
static inline __attribute__((always_inline)) bool again(int dtype, int layout, int transa, int transb, int64_t m,
                                                        int64_t n, int64_t k, const void *a, int64_t lda, const void *b,
                                                        int64_t ldb, const void *c, int64_t ldc, const void *alpha,
                                                        const void *beta)
{
    const tw_key *key = &last->key;
    int32_t variant = atomic_load_explicit(&tw_variant_now[dtype], memory_order_relaxed);
    bool same = (key->layout == layout) & (key->transa == transa) & (key->m == m) & (key->n == n) & (key->k == k) &
                (key->lda == lda) & (key->ldb == ldb) & (key->ldc == ldc) & (key->transb == transb) &
                (key->variant == variant);
    return __builtin_expect(same, 1) &&
           __builtin_expect((a != NULL) & (b != NULL) & (c != NULL) & (alpha != NULL) & (beta != NULL), 1);
}

/* Then run its plan, if the scalars ask no more of the kernels than to write or to add: done, and true. All that is rare,
 * and every error, is left to `general`. The whole way is 50 to 60 instructions on AArch64; nothing is written down. */
static inline __attribute__((always_inline)) bool run(const void *a, const void *b, void *c, tw_plain plain)
{
    const tw_gemm_plan *plan = last;
    const tw_args *sets = plan->sets[plain == TW_ADDED];
    if (plain == TW_GENERAL) {
        return false;
    }
    if (plan->straight != NULL) { /* each on its own: pointers go from register to register once */
        plan->straight(a, b, c, sets);
    } else if (plan->run != NULL) {
        plan->run(b, a, c, sets);
    } else if (plan->ready != 0) {
        tw_plan_run_ready(plan, plan->exchanged ? b : a, plan->exchanged ? a : b, c, sets);
    } else {
        return false;
    }
    return true;
}

static __attribute__((noinline)) int general(int dtype, int layout, int transa, int transb, int64_t m, int64_t n,
                                             int64_t k, const void *alpha, const void *a, int64_t lda, const void *b,
                                             int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    if (alpha == NULL || beta == NULL) {
        return tw_fail(alpha ? TW_ARGUMENT_BETA : TW_ARGUMENT_ALPHA,
                       "tw_%cgemm: %s is NULL; it must point at two reals.", tw_letters[dtype],
                       alpha ? "beta" : "alpha");
    }
    tw_scalar first = tw_scalar_at(dtype, alpha), second = tw_scalar_at(dtype, beta);
    int32_t variant = atomic_load_explicit(&tw_variant_now[dtype], memory_order_relaxed);
    tw_key key = {m, n, k, lda, ldb, ldc, layout, transa, transb, variant};
    const tw_gemm_plan *plan = last;
    return tw_key_same(&plan->key, &key) ? tw_plan_run(plan, &first, a, b, &second, c)
                                         : other(&key, &first, a, b, &second, c);
}

/* Apart from the entries, and with their arguments, so that those need no memory of their own. */
static __attribute__((noinline)) int general_s(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                                               float alpha, const float *a, int64_t lda, const float *b, int64_t ldb,
                                               float beta, float *c, int64_t ldc)
{
    return general(TW_S, layout, transa, transb, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc);
}

static __attribute__((noinline)) int general_d(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                                               double alpha, const double *a, int64_t lda, const double *b, int64_t ldb,
                                               double beta, double *c, int64_t ldc)
{
    return general(TW_D, layout, transa, transb, m, n, k, &alpha, a, lda, b, ldb, &beta, c, ldc);
}

int tw_sgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
             int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    if (again(TW_S, layout, transa, transb, m, n, k, a, lda, b, ldb, c, ldc, &alpha, &beta) &&
        run(a, b, c, TW_PLAIN(alpha, beta))) {
        return TW_OK;
    }
    return general_s(layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int tw_dgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
             int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc)
{
    if (again(TW_D, layout, transa, transb, m, n, k, a, lda, b, ldb, c, ldc, &alpha, &beta) &&
        run(a, b, c, TW_PLAIN(alpha, beta))) {
        return TW_OK;
    }
    return general_d(layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static __attribute__((noinline)) int general_c(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                                               const void *alpha, const void *a, int64_t lda, const void *b,
                                               int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    return general(TW_C, layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

static __attribute__((noinline)) int general_z(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                                               const void *alpha, const void *a, int64_t lda, const void *b,
                                               int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    return general(TW_Z, layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int tw_cgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *a,
             int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    if (again(TW_C, layout, transa, transb, m, n, k, a, lda, b, ldb, c, ldc, alpha, beta) &&
        run(a, b, c, tw_plain_at(TW_C, alpha, beta))) {
        return TW_OK;
    }
    return general_c(layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int tw_zgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *a,
             int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    if (again(TW_Z, layout, transa, transb, m, n, k, a, lda, b, ldb, c, ldc, alpha, beta) &&
        run(a, b, c, tw_plain_at(TW_Z, alpha, beta))) {
        return TW_OK;
    }
    return general_z(layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int tw_isa_serving(int dtype, int transa, int transb)
{
    int type = tw_dtype_of(dtype);
    tw_operation op_a, op_b;
    if (type < 0 || !tw_operation_of(transa, type, &op_a) || !tw_operation_of(transb, type, &op_b)) {
        tw_fail(TW_ERROR_KERNEL,
                "tw_isa_serving: dtype must be 's', 'd', 'c' or 'z', transa and transb 'N', 'T', 'C' or 'R'.");
        return -1;
    }
    const tw_tiles *tiles;
    int mode, served_by, isa = tw_isa_current();
    isa = isa >= 0 ? tw_isa_of_type(isa, type) : isa;
    if (isa >= 0 && select_from(isa, type, op_a, op_b, TW_STEPS_LONG, &tiles, &mode) == TW_OK && tiles == NULL) {
        op_a.conj = op_b.conj = false; /* packing conjugates */
    }
    return isa >= 0 && tw_select(isa, type, op_a, op_b, TW_STEPS_LONG, &tiles, &mode, &served_by) == TW_OK ? served_by
                                                                                                           : -1;
}
