/* internal.h - what the runtime's C files share. Nothing here leaves the library. */
#ifndef TW_INTERNAL_H
#define TW_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tilewright.h"
#include "tw_kernel.h"

enum { TW_ISAS = TW_ISA_AVX512 + 1, TW_DTYPES = TW_Z + 1, TW_MODES = TW_TC + 1 };

/* ---- error.c ---- */

/* Note why for tw_error_message and return `status`. */
int tw_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- cpu.c ---- */

/* A bit per ISA that CPU and operating system can run. */
unsigned tw_cpu_isas(void);

/* ---- scalar.c: the four types ---- */

static inline int64_t tw_element_bytes(int dtype)
{
    static const int8_t bytes[] = {[TW_S] = 4, [TW_D] = 8, [TW_C] = 8, [TW_Z] = 16};
    return bytes[dtype];
}

static inline bool tw_is_complex(int dtype)
{
    return dtype >= TW_C;
}

/* Is the scalar (real part, and imaginary part 0)? NaN is no number, -0 is 0. */
bool tw_scalar_is(int dtype, const tw_scalar *value, double real);
/* The scalar behind a pointer as the complex entries take it. */
tw_scalar tw_scalar_at(int dtype, const void *value);

/* ---- tiling.c: a shape -> tiles ---- */

/* What the kernels of one (isa, dtype, mode) can cover; immutable once made. */
typedef struct tw_tiles tw_tiles;

typedef struct tw_tile {
    const tw_kernel *kernel;
    int64_t i, j; /* first row and column in C */
    int m, n;     /* rows and columns */
} tw_tile;

/* A walk over the tiles of C[m x n]; each element lies in exactly one. */
typedef struct tw_walk {
    const tw_tiles *tiles;
    int64_t m, n, i, j;
    int rows; /* height of the band being walked; 0: a new one begins */
} tw_walk;

/* Sets *found to NULL where the kernels cannot cover every shape. TW_OK or TW_ERROR_MEMORY. */
int tw_tiles_find(int isa, int dtype, int mode, const tw_tiles **found);
/* Do all of these kernels conjugate through `pair`? */
bool tw_tiles_paired(const tw_tiles *tiles);
tw_walk tw_walk_begin(const tw_tiles *tiles, int64_t m, int64_t n);
/* The next tile; false: there is none left. */
bool tw_walk_next(tw_walk *walk, tw_tile *tile);

/* Rows a kernel can do are least..most; the same for columns. */
typedef struct tw_reach {
    int least_m, most_m, least_n, most_n;
} tw_reach;

tw_reach tw_kernel_reach(const tw_kernel *kernel);

/* ---- call.c: one kernel on one tile ---- */

/* A product of one kernel mode as gemm.c hands it to the kernels: column-major, leading dimensions in bytes. */
typedef struct tw_product {
    int dtype, mode;
    bool trans_a, trans_b, conj_a, conj_b;
    int64_t m, n, k, lda, ldb, ldc;
    const char *a, *b;
    char *c;
    tw_scalar alpha, beta;
} tw_product;

/* The arguments that are the same for every tile. */
tw_args tw_args_of(const tw_product *product);
/* Run the tile's kernel on its part of the product; sets what depends on the tile in `args`. */
void tw_run_tile(const tw_product *product, const tw_tile *tile, tw_args *args);

/* ---- kernels.c ---- */

/* Can this kernel, on its own mode, conjugate these operands? */
bool tw_kernel_conjugates(const tw_kernel *kernel, bool conj_a, bool conj_b);

/* What tw_run_kernel does, unchecked. */
void tw_run_alone(const tw_kernel *kernel, int64_t m, int64_t n, int64_t k, bool conj_a, bool conj_b, const void *alpha,
                  const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc);

/* ---- gemm.c ---- */

typedef struct tw_operation {
    bool trans, conj;
} tw_operation;

/* 'N' 'T' 'C' 'R', or lower case; false: none of them. */
bool tw_operation_of(int letter, int dtype, tw_operation *operation);
/* The tiles that serve a column-major product on `isa`, else those of scalar, and the kernels' mode. A status. */
int tw_select(int isa, int dtype, tw_operation a, tw_operation b, const tw_tiles **tiles, int *mode, int *served_by);
/* What tw_?gemm does, on the given ISA. */
int tw_gemm_on(int isa, int dtype, int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, tw_scalar alpha,
               const void *a, int64_t lda, const void *b, int64_t ldb, tw_scalar beta, void *c, int64_t ldc);

#endif
