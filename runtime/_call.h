/* _call.h - a product as Python asks for it and as C takes it: what the extension and the cffi module share.
 *
 * Mirrors `gemm` in product.py for arrays that are used where they lie. No Python in here.
 */
#ifndef TW_CALL_H
#define TW_CALL_H

#include <stdbool.h>

#include "tilewright.h"

/* A matrix as C takes it. */
typedef struct {
    char *start, *end; /* between these lie all elements; equal where there are none */
    int64_t rows, columns, ld;
    bool row_major;
} tw_matrix;

typedef struct {
    int kind;       /* 's', 'd', 'c' or 'z' */
    int op_a, op_b; /* 'N', 'T' or 'C', of the arrays as passed */
    int layout, transa, transb;
    int64_t m, n, k;
    double alpha[2], beta[2]; /* real, imaginary */
    tw_matrix a, b, c;
} tw_call;

/* As runtime.arrays.seen: false where that is None, and C cannot use the strides. */
static inline bool tw_see(tw_matrix *seen, void *data, const intptr_t shape[2], const intptr_t strides[2], int64_t size)
{
    int64_t rows = shape[0], columns = shape[1], down = strides[0], along = strides[1];
    seen->rows = rows;
    seen->columns = columns;
    seen->start = seen->end = data;
    seen->row_major = true;
    if (rows == 0 || columns == 0) {
        seen->ld = columns ? columns : 1;
        return true;
    }
    if ((along == size || columns == 1) && (rows == 1 || (down >= columns * size && down % size == 0))) {
        seen->ld = rows > 1 ? down / size : columns;
        seen->end += ((rows - 1) * seen->ld + columns) * size;
        return true;
    }
    if ((down == size || rows == 1) && (columns == 1 || (along >= rows * size && along % size == 0))) {
        seen->row_major = false;
        seen->ld = columns > 1 ? along / size : rows;
        seen->end += ((columns - 1) * seen->ld + rows) * size;
        return true;
    }
    return false;
}

/* False also for two that share no element but lie between each other: Python looks closer. */
static inline bool tw_apart(const tw_matrix *x, const tw_matrix *y)
{
    return x->end <= y->start || y->end <= x->start;
}

/* What to ask of C for an operand that is stored as C's layout says, or the other way; 0: a conjugate that is not
 * transposed, which not all kernels can do. */
static inline int tw_operation_for(int op, bool as_layout, bool is_complex)
{
    op = op == 'C' && !is_complex ? 'T' : op;
    return as_layout ? op : op == 'N' ? 'T' : op == 'T' ? 'N' : 0;
}

/* Fill in what follows from operations and matrices; false where shapes do not fit or Python must prepare an operand. */
static inline bool tw_arrange(tw_call *p)
{
    bool is_complex = p->kind == 'c' || p->kind == 'z';
    p->m = p->op_a == 'N' ? p->a.rows : p->a.columns;
    p->k = p->op_a == 'N' ? p->a.columns : p->a.rows;
    p->n = p->op_b == 'N' ? p->b.columns : p->b.rows;
    p->layout = p->c.row_major ? TW_ROW_MAJOR : TW_COL_MAJOR;
    p->transa = tw_operation_for(p->op_a, p->a.row_major == p->c.row_major, is_complex);
    p->transb = tw_operation_for(p->op_b, p->b.row_major == p->c.row_major, is_complex);
    return (p->op_b == 'N' ? p->b.rows : p->b.columns) == p->k && p->c.rows == p->m && p->c.columns == p->n &&
           p->transa && p->transb;
}

/* From here on Python's lock is released. To take it back costs some 40 ns, and up to 5 ms where another thread has it;
 * this product takes 5 us. */
static inline bool tw_is_large(const tw_call *p)
{
    return (double)p->m * (double)p->n * (double)p->k > 64.0 * 64 * 64;
}

static inline int tw_multiply(const tw_call *p)
{
    const void *a = p->a.start, *b = p->b.start;
    void *c = p->c.start;
    switch (p->kind) {
    case 's':
        return tw_sgemm(p->layout, p->transa, p->transb, p->m, p->n, p->k, (float)p->alpha[0], a, p->a.ld, b, p->b.ld,
                        (float)p->beta[0], c, p->c.ld);
    case 'd':
        return tw_dgemm(p->layout, p->transa, p->transb, p->m, p->n, p->k, p->alpha[0], a, p->a.ld, b, p->b.ld,
                        p->beta[0], c, p->c.ld);
    case 'c': {
        float alpha[2] = {(float)p->alpha[0], (float)p->alpha[1]}, beta[2] = {(float)p->beta[0], (float)p->beta[1]};
        return tw_cgemm(p->layout, p->transa, p->transb, p->m, p->n, p->k, alpha, a, p->a.ld, b, p->b.ld, beta, c,
                        p->c.ld);
    }
    default:
        return tw_zgemm(p->layout, p->transa, p->transb, p->m, p->n, p->k, p->alpha, a, p->a.ld, b, p->b.ld, p->beta, c,
                        p->c.ld);
    }
}

#endif
