/* siblings.h - what libtilewright_blas.so takes from libtilewright.so besides tilewright.h. Exported, but for nobody
 * else: both are made and installed together. */
#ifndef TW_SIBLINGS_H
#define TW_SIBLINGS_H

#include <stdatomic.h>

#include "tilewright.h"
#include "tw_kernel.h"

/* Changes whenever something changes that plans found before do not know: ISA, tiler. Read before looking for a plan,
 * compared before running it. */
TW_API extern atomic_int tw_settings;

/* The plan that tw_?gemm would run with these arguments: the library's own, for the life of the process. *plan is NULL
 * where it keeps none (C is large, its table is full). The errors are those of tw_?gemm. */
TW_API int tw_plan_shared(const tw_gemm_plan **plan, int dtype, int layout, int transa, int transb, int64_t m,
                          int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc);

/* What does a plan's whole product where alpha = 1 and beta = 0, called as a kernel is, with these arguments; A and B change
 * places where the layout is row-major. *run is NULL where the plan has nothing so simple. */
TW_API void tw_plan_kernel(const tw_gemm_plan *plan, tw_kernel_fn *run, const tw_args **args);

/* TILEWRIGHT_VERBOSE: 0, 1 or 2. Set before any constructor of a library that links this one. */
TW_API int tw_verbosity(void);
/* Nanoseconds of a clock that only goes forward. */
TW_API int64_t tw_trace_clock(void);

#endif
