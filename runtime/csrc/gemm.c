/* gemm.c - products of BLAS shape: check, see column-major, choose the kernels, run the tiles. */
#include "internal.h"

enum { /* numbers of the arguments, as cblas counts */
       LAYOUT = 1,
       TRANSA,
       TRANSB,
       M,
       N,
       K,
       ALPHA,
       A,
       LDA,
       B,
       LDB,
       BETA,
       C,
       LDC
};

static const char letters[] = "sdcz";

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
static int select_from(int isa, int dtype, tw_operation a, tw_operation b, const tw_tiles **tiles, int *mode)
{
    *mode = mode_of(a, b, true);
    int status = tw_tiles_find(isa, dtype, *mode, tiles);
    if (status != TW_OK || *tiles == NULL || a.conj == b.conj || tw_tiles_paired(*tiles)) {
        return status;
    }
    *mode = mode_of(a, b, false);
    *tiles = NULL;
    return *mode < 0 ? TW_OK : tw_tiles_find(isa, dtype, *mode, tiles);
}

int tw_select(int isa, int dtype, tw_operation a, tw_operation b, const tw_tiles **tiles, int *mode, int *served_by)
{
    *served_by = isa;
    int status = select_from(isa, dtype, a, b, tiles, mode);
    if (status == TW_OK && *tiles == NULL && isa != TW_ISA_SCALAR) {
        *served_by = TW_ISA_SCALAR;
        status = select_from(TW_ISA_SCALAR, dtype, a, b, tiles, mode);
    }
    if (status == TW_OK && *tiles == NULL) {
        return tw_fail(
            TW_ERROR_KERNEL,
            "tw_%cgemm: %s has no kernels for transa '%c', transb '%c' (column-major), and no scalar ones stand "
            "in; build all of them, or in place of 'R' pass a conjugated copy.",
            letters[dtype], tw_isa_name(isa), letter_of(a), letter_of(b));
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
                               letters[dtype], name, (long long)ld, (long long)most)
                     : tw_fail(argument,
                               "tw_%cgemm: %s is %lld but a %s as stored has %lld elements; %s must be at least %lld.",
                               letters[dtype], name, (long long)ld, unit, (long long)length, name, (long long)least);
}

static int check(int dtype, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, int64_t lda,
                 int64_t ldb, int64_t ldc, tw_operation *op_a, tw_operation *op_b)
{
    char letter = letters[dtype];
    if (layout != TW_ROW_MAJOR && layout != TW_COL_MAJOR) {
        return tw_fail(LAYOUT, "tw_%cgemm: layout is %d; it must be TW_ROW_MAJOR (101) or TW_COL_MAJOR (102).", letter,
                       layout);
    }
    if (!tw_operation_of(transa, dtype, op_a)) {
        return tw_fail(TRANSA, "tw_%cgemm: transa is %d; it must be 'N', 'T', 'C' or 'R'.", letter, transa);
    }
    if (!tw_operation_of(transb, dtype, op_b)) {
        return tw_fail(TRANSB, "tw_%cgemm: transb is %d; it must be 'N', 'T', 'C' or 'R'.", letter, transb);
    }
    if ((m | n | k) < 0) {
        int argument = m < 0 ? M : n < 0 ? N : K;
        int64_t size = m < 0 ? m : n < 0 ? n : k;
        return tw_fail(argument, "tw_%cgemm: %c is %lld; it must be 0 or more.", letter, "mnk"[argument - M],
                       (long long)size);
    }
    bool row = layout == TW_ROW_MAJOR;
    int status = check_ld(dtype, LDA, "lda", lda, op_a->trans == row ? m : k, layout);
    status = status ? status : check_ld(dtype, LDB, "ldb", ldb, op_b->trans == row ? k : n, layout);
    return status ? status : check_ld(dtype, LDC, "ldc", ldc, row ? n : m, layout);
}

/* C^T = op(B)^T op(A)^T: a row-major matrix is its transpose, column-major. */
static tw_product transposed(tw_product p)
{
    tw_product t = p;
    t.m = p.n, t.n = p.m;
    t.a = p.b, t.trans_a = p.trans_b, t.conj_a = p.conj_b, t.lda = p.ldb;
    t.b = p.a, t.trans_b = p.trans_a, t.conj_b = p.conj_a, t.ldb = p.lda;
    return t;
}

int tw_gemm_on(int isa, int dtype, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, tw_scalar alpha,
               const void *a, int64_t lda, const void *b, int64_t ldb, tw_scalar beta, void *c, int64_t ldc)
{
    tw_operation op_a, op_b;
    int status = check(dtype, layout, transa, transb, m, n, k, lda, ldb, ldc, &op_a, &op_b);
    if (status != TW_OK) {
        return status;
    }
    bool nothing = k == 0 || tw_scalar_is(dtype, &alpha, 0); /* A and B are not read */
    if (m == 0 || n == 0 || (nothing && tw_scalar_is(dtype, &beta, 1))) {
        return TW_OK;
    }
    int null = c == NULL ? C : nothing ? 0 : a == NULL ? A : b == NULL ? B : 0;
    if (null) {
        char name = null == A ? 'a' : null == B ? 'b' : 'c';
        return tw_fail(null, "tw_%cgemm: %c is NULL but would be used.", letters[dtype], name);
    }
    if (nothing) { /* whatever they are, no arithmetic on them either */
        a = b = c;
        lda = ldb = 0;
        op_a.conj = op_b.conj = false;
    }
    int64_t element = tw_element_bytes(dtype);
    tw_product product = {.dtype = dtype, .m = m, .n = n, .k = k, .alpha = alpha, .beta = beta};
    product.a = a, product.trans_a = op_a.trans, product.conj_a = op_a.conj, product.lda = lda * element;
    product.b = b, product.trans_b = op_b.trans, product.conj_b = op_b.conj, product.ldb = ldb * element;
    product.c = c, product.ldc = ldc * element;
    if (layout == TW_ROW_MAJOR) {
        product = transposed(product);
    }
    const tw_tiles *tiles;
    int served_by;
    status = tw_select(isa, dtype, (tw_operation){product.trans_a, product.conj_a},
                       (tw_operation){product.trans_b, product.conj_b}, &tiles, &product.mode, &served_by);
    if (status != TW_OK) {
        return status;
    }
    tw_args args = tw_args_of(&product);
    tw_walk walk = tw_walk_begin(tiles, product.m, product.n);
    tw_tile tile;
    while (tw_walk_next(&walk, &tile)) {
        tw_run_tile(&product, &tile, &args);
    }
    return TW_OK;
}

/* The same on the current ISA. */
static int gemm(int dtype, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, tw_scalar alpha,
                const void *a, int64_t lda, const void *b, int64_t ldb, tw_scalar beta, void *c, int64_t ldc)
{
    int isa = tw_isa_current();
    if (isa < 0) {
        return TW_ERROR_ISA;
    }
    return tw_gemm_on(isa, dtype, layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int tw_sgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
             int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc)
{
    return gemm(TW_S, layout, transa, transb, m, n, k, (tw_scalar){.s = alpha}, a, lda, b, ldb, (tw_scalar){.s = beta},
                c, ldc);
}

int tw_dgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
             int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc)
{
    return gemm(TW_D, layout, transa, transb, m, n, k, (tw_scalar){.d = alpha}, a, lda, b, ldb, (tw_scalar){.d = beta},
                c, ldc);
}

static int complex_gemm(int dtype, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k,
                        const void *alpha, const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta,
                        void *c, int64_t ldc)
{
    if (alpha == NULL || beta == NULL) {
        return tw_fail(alpha ? BETA : ALPHA, "tw_%cgemm: %s is NULL; it must point at two reals.", letters[dtype],
                       alpha ? "beta" : "alpha");
    }
    return gemm(dtype, layout, transa, transb, m, n, k, tw_scalar_at(dtype, alpha), a, lda, b, ldb,
                tw_scalar_at(dtype, beta), c, ldc);
}

int tw_cgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *a,
             int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    return complex_gemm(TW_C, layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int tw_zgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *a,
             int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc)
{
    return complex_gemm(TW_Z, layout, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}

int tw_isa_serving(int dtype, int transa, int transb)
{
    int type = 0;
    while (type < TW_DTYPES && letters[type] != dtype) {
        type++;
    }
    tw_operation op_a, op_b;
    if (type == TW_DTYPES || !tw_operation_of(transa, type, &op_a) || !tw_operation_of(transb, type, &op_b)) {
        tw_fail(TW_ERROR_KERNEL,
                "tw_isa_serving: dtype must be 's', 'd', 'c' or 'z', transa and transb 'N', 'T', 'C' or 'R'.");
        return -1;
    }
    const tw_tiles *tiles;
    int mode, served_by, isa = tw_isa_current();
    return isa >= 0 && tw_select(isa, type, op_a, op_b, &tiles, &mode, &served_by) == TW_OK ? served_by : -1;
}
