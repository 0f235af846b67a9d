/* tilewright.h - matrix products for small and tall-and-skinny shapes.
 *
 *     #include <tilewright.h>                          cc program.c -ltilewright
 *
 *     float a[2 * 3] = {1, 2, 3, 4, 5, 6}, b[3 * 2] = {1, 0, 0, 1, 1, 1}, c[2 * 2];
 *     if (tw_sgemm(TW_ROW_MAJOR, 'N', 'N', 2, 2, 3, 1, a, 3, b, 2, 0, c, 2) != TW_OK)
 *         puts(tw_error_message());
 *
 * Usable from C99 and C++. Every function may be called from any thread at any time, and after fork. Memory is allocated
 * by the first product of each type and transposition (a table of 76 KB), by the first of each shape whose C has up to 65536
 * elements (a plan of 2 to 18 KB, at most 4096 of them) and by the first failing call of a thread; what is allocated so
 * is kept for the life of the process (the thread). Plans and tw_selftest's workspace are given back. A small product of a shape
 * seen before allocates nothing, takes no lock and makes no system call; one that goes through blocks may take memory for
 * panels, at most the packed operand and 2 MB a thread, and wakes threads.
 *
 * Environment, read when the library is loaded:
 *     TILEWRIGHT_ISA    force one instruction set: "avx512", "avx2", "fcma", "neon" or "scalar". Where it cannot be used every
 *     product
 *                       fails with TW_ERROR_ISA; it is never replaced by another.
 *     TILEWRIGHT_NUM_THREADS  how many threads a large call may use, see tw_set_num_threads. Where it is no number from 1 to
 *                       1024 every product fails with TW_ERROR_THREADS.
 *     TILEWRIGHT_TUNING the folder with this machine's tuning file; "off": none is used.
 *     TILEWRIGHT_VERBOSE  1: when the process ends, say on stderr which products ran how often; 2: also each as it runs,
 *                       with its kernels. Products are slower then. Otherwise nothing is printed.
 *     TILEWRIGHT_SPECIAL  "off": products go without kernels for one size.
 *     TILEWRIGHT_TILER  how C is cut into tiles: see tw_tiler_set.
 */
#ifndef TILEWRIGHT_H
#define TILEWRIGHT_H

#include <stdint.h>

#if defined(__GNUC__)
#define TW_API __attribute__((visibility("default")))
#else
#define TW_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The Python module's declarations are read from here to the closing mark: plain C, no preprocessor. */
/* cffi: begin */

/* Values of CBLAS_LAYOUT, so that either may be passed. */
enum { TW_ROW_MAJOR = 101, TW_COL_MAJOR = 102 };

/* What functions return. 1 to 14 is the number of the argument that was wrong, counted as cblas_sgemm counts them. */
enum {
    TW_OK = 0,
    TW_ERROR_ISA = 100,     /* the ISA asked for cannot be used, or none that was built can run here */
    TW_ERROR_KERNEL = 101,  /* no kernel for what was asked */
    TW_ERROR_MEMORY = 102,  /* out of memory; nothing was computed */
    TW_ERROR_TYPE = 103,    /* no such element type */
    TW_ERROR_BATCH = 104,   /* a batch of fewer than none, or one that writes all its products to one place */
    TW_ERROR_WRONG = 106,   /* a kernel computes a wrong product */
    TW_ERROR_TUNING = 107,  /* a tuning file is corrupt, stale or another machine's */
    TW_ERROR_PACKED = 108,  /* not a packed operand, or not the one that the plan takes */
    TW_ERROR_PLAN = 109,    /* NULL where a plan is wanted; or sizes, `pack`, `reuse` or `flags` that cannot be */
    TW_ERROR_THREADS = 110, /* a number of threads that cannot be */
    TW_ERROR_SPECIAL = 111, /* a library of kernels for one size is damaged, foreign or wrong */
    TW_ERROR_TILER = 105    /* TILEWRIGHT_TILER, or what tw_tiler_set was given, is none of those there are */
};

/* Why the calling thread's last failing call failed: what was asked, what is wrong with it, what would be right. Never
 * NULL; valid until that thread's next failing call. */
TW_API const char *tw_error_message(void);

/* ---- Products: C = alpha op(A) op(B) + beta C ----
 *
 * layout            TW_ROW_MAJOR or TW_COL_MAJOR, of all three matrices.
 * transa, transb    op of A and of B: 'N' the matrix, 'T' its transpose, 'C' its conjugate transpose ('T' for real
 *                   types), 'R' its conjugate, not transposed ('N' for real types). Lower case as well.
 * m, n, k           op(A) is m x k, op(B) is k x n, C is m x n. Each >= 0, in elements.
 * lda, ldb, ldc     elements from one row to the next (row-major) or one column to the next (column-major); at least
 *                   the length of a row (column) as stored, and at least 1.
 * alpha, beta       scalars; complex types take pointers to two reals, (real, imaginary).
 * a, b, c           elements; complex types are pairs of reals, (real, imaginary), as C99's _Complex and std::complex
 *                   are. A and B may overlap each other; C must overlap neither.
 *
 * beta = 0: C is written and not read, so what it held does not matter. alpha = 0 or k = 0: C = beta C, A and B are not
 * read and may be NULL. m = 0 or n = 0: nothing is touched. Nothing is read or written beyond the elements of the three
 * matrices.
 *
 * Complex products use the plain component formula; alpha = 1 (exactly) is not multiplied by. Returns TW_OK or says
 * what is wrong, before anything was written.
 */
TW_API int tw_sgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                    int64_t lda, const float *b, int64_t ldb, float beta, float *c, int64_t ldc);
TW_API int tw_dgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, double alpha, const double *a,
                    int64_t lda, const double *b, int64_t ldb, double beta, double *c, int64_t ldc);
TW_API int tw_cgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, const void *alpha,
                    const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc);
TW_API int tw_zgemm(int layout, int transa, int transb, int64_t m, int64_t n, int64_t k, const void *alpha,
                    const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc);

/* ---- Plans: a shape made ready once, run many times ----
 *
 * tw_?gemm finds its plan by its arguments; who keeps one spares that. A plan fixes type, layout, operations, sizes,
 * leading dimensions and the ISA that was current when it was made; it is not changed by running, so any number of
 * threads may run it at once.
 *
 *     tw_gemm_plan *plan;
 *     if (tw_gemm_plan_create(&plan, 's', TW_ROW_MAJOR, 'N', 'N', 8, 8, 8, 8, 8, 8) != TW_OK)
 *         puts(tw_error_message());
 *     for (...)
 *         tw_gemm_execute(plan, a, b, c);
 *     tw_gemm_plan_destroy(plan);
 */
typedef struct tw_gemm_plan tw_gemm_plan;

/* Make a plan; dtype is 's', 'd', 'c' or 'z', the rest is as for tw_?gemm, as are the errors. *plan is NULL then. */
TW_API int tw_gemm_plan_create(tw_gemm_plan **plan, int dtype, int layout, int transa, int transb, int64_t m, int64_t n,
                               int64_t k, int64_t lda, int64_t ldb, int64_t ldc);
/* Give it back; nobody may be running it. NULL is fine. */
TW_API void tw_gemm_plan_destroy(tw_gemm_plan *plan);
/* C = op(A) op(B). */
TW_API int tw_gemm_execute(const tw_gemm_plan *plan, const void *a, const void *b, void *c);
/* C = alpha op(A) op(B) + beta C. alpha and beta point at one number of the plan's type; NULL is 1 for alpha, 0 for
 * beta. */
TW_API int tw_gemm_plan_execute(const tw_gemm_plan *plan, const void *alpha, const void *a, const void *b,
                                const void *beta, void *c);

/* A product with everything it takes, for languages in which a call costs more the more arguments it has. */
typedef struct tw_gemm_bound {
    const tw_gemm_plan *plan;
    const void *alpha, *a, *b, *beta;
    void *c;
} tw_gemm_bound;

TW_API int tw_gemm_bound_run(const tw_gemm_bound *bound);

/* One tile of a plan, as its kernel sees it: column-major, so that of a row-major product i runs along n and j along m. */
typedef struct tw_gemm_tile {
    const char *kernel;
    int64_t i, j;
    int32_t m, n;
    double nanoseconds; /* predicted */
} tw_gemm_tile;

/* Write the first `most` tiles of a plan to `tiles`; returns how many there are, or less than 0: it failed. */
TW_API int64_t tw_gemm_plan_tiles(const tw_gemm_plan *plan, int64_t most, tw_gemm_tile *tiles);
/* The ISA whose kernels it runs, and how: "nothing to do", "one kernel", "tiles" or "walk". */
TW_API int tw_gemm_plan_isa(const tw_gemm_plan *plan);
TW_API const char *tw_gemm_plan_path(const tw_gemm_plan *plan);

/* The kernel that runs a strided batch of this plan's product in one call, for alpha and beta as they come; NULL: none. */
TW_API const char *tw_gemm_plan_many(const tw_gemm_plan *plan);
/* The product as kernels see it, column-major: m, n, lda, ldb, ldc in elements, and for A and B 1 if it is transposed, plus
 * 2 if it is conjugated. */
TW_API void tw_gemm_plan_seen(const tw_gemm_plan *plan, int64_t seen[7]);

/* ---- Kernels for one size ----
 *
 * Some ship; Python's tilewright.runtime.specialize() makes more. Plans use them from then on: those that tw_?gemm finds
 * are made anew, those of tw_gemm_plan_create stay as they were made. */

/* Load a library of them. Each is compared with plain C first, exactly. TW_ERROR_SPECIAL, and nothing changed, where the file
 * is damaged or another version's, this CPU cannot run a kernel, or its product is wrong. What is there already is no
 * error. */
TW_API int tw_special_load(const char *path);
/* Shall plans made from now on use them? Returns what held before. */
TW_API int tw_special_use(int use);
/* How many there are, and the name of one, first those that ship; NULL beyond the last. */
TW_API int tw_special_total(void);
TW_API const char *tw_special_name(int index);
/* ---- Packed operands: one matrix made ready, for many products ----
 *
 * An operand in panels, the order in which kernels read it, behind a header that says what it is. It depends on the
 * matrix, its type and the ISA, not on the other matrix nor on threads, and holds no pointer: it may be copied, written to a
 * file and used by another process with this version and ISA. Kept at an address that is a multiple of 64 it is read
 * fastest; any multiple of 16 will do.
 *
 * dtype       's', 'd', 'c' or 'z'
 * layout      of x and of the products, TW_ROW_MAJOR or TW_COL_MAJOR
 * operand     'A' or 'B': which side of the product it will stand on
 * trans       op: 'N', 'T', 'C' or 'R'
 * rows, columns   of op(x); x is stored columns x rows with 'T' and 'C'
 * alpha       one number, multiplied into what is packed, 0 too (NaN stays NaN then); NULL: 1
 * ld          elements from one row (column-major: column) of x as stored to the next
 *
 * Errors: 1 to 9, the number of the argument that is wrong; TW_ERROR_TYPE, TW_ERROR_ISA. */

/* How many bytes tw_pack writes. */
TW_API int tw_pack_size(int dtype, int layout, int operand, int trans, int64_t rows, int64_t columns, int64_t *bytes);
TW_API int tw_pack(int dtype, int layout, int operand, int trans, int64_t rows, int64_t columns, const void *alpha,
                   const void *x, int64_t ld, void *packed);
/* Is there a whole packed operand that can be used here? TW_OK, or TW_ERROR_PACKED and tw_error_message says what is
 * wrong: cut off, edited (of the header only; keep a checksum beside it if it travels), another version's or ISA's. */
TW_API int tw_packed_check(const void *packed, int64_t bytes);

/* The lines of a packed operand, one after the other: rows of op(A), columns of op(B), as they were packed. x has room for
 * bytes - 128 bytes; it may be packed + 128, in its own place, which then is no packed operand any more. */
TW_API int tw_unpack(const void *packed, int64_t bytes, void *x);

/* Flags of tw_skinny_plan_create. TW_PLAN_REPRODUCIBLE: an element of C gets the same bits whatever tile computes it, on
 * however many threads, and whatever other rows and columns there are: k is summed in order, in blocks of 256 steps. As
 * TILEWRIGHT_REPRODUCIBLE=1 does for every product. Not across instruction sets; nor, of complex numbers on ARM and by portable
 * kernels, across layouts. */
enum { TW_PLAN_REPRODUCIBLE = 1 };

/* Make a plan that may take one operand packed.
 *
 * pack      'A' or 'B': that operand will come packed, by tw_pack with this layout and operation; 'N': neither; '?': the
 *           larger one if packing it once pays within `reuse` products, as far as is known beforehand
 * reuse     products that one packed operand will serve, at least 1
 * threads   at most so many, 1 to 1024; 0: as many as are allowed at the time
 * The rest is as for tw_gemm_plan_create; the leading dimension of a packed operand is not looked at. */
TW_API int tw_skinny_plan_create(tw_gemm_plan **plan, int dtype, int layout, int transa, int transb, int64_t m,
                                 int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc, int pack, int64_t reuse,
                                 int threads, int flags);
/* Which operand a plan takes packed: 'A', 'B' or 0. */
TW_API int tw_gemm_plan_packed(const tw_gemm_plan *plan);
/* As tw_gemm_plan_execute; the operand that the plan takes packed is what tw_pack wrote. TW_ERROR_PACKED, and nothing
 * changed, where it is another one. */
TW_API int tw_gemm_plan_execute_packed(const tw_gemm_plan *plan, const void *alpha, const void *a, const void *b,
                                       const void *beta, void *c);

/* How a plan goes through blocks; all zero where it does not. */
typedef struct tw_plan_blocks {
    int64_t kc, chunk, memory; /* k steps of a block; lines of a chunk; bytes needed beside the operands */
    int32_t threads, parts;    /* as they would be now; parts of k that are summed apart */
    int32_t split;             /* 'A' or 'B': the operand that is cut into chunks */
    char format_a, format_b; /* 'g' packed by the caller, 'p' packed at each call, 'c' lines copied, 'd' where it is */
    double seconds, packing; /* what a product, and packing the operand that may be packed, is thought to take */
    double payback;          /* products after which packing has paid; -1: never */
    int known;               /* 0: nobody measured here what packing takes, and those three are 0, 0 and -1 */
    const char *kernel;      /* of a tile of whole panels; NULL: several kernels, or no panels */
} tw_plan_blocks;

TW_API void tw_gemm_plan_blocks(const tw_gemm_plan *plan, tw_plan_blocks *blocks);

/* ---- Linear layers: y = act(x W^T + b) ----
 *
 * float32 and row-major: x is tokens x in, W is out x in, b has out elements, y is tokens x out. W comes packed once, for any
 * number of tokens and threads, by tw_pack('s', TW_ROW_MAJOR, 'B', 'T', in, out, NULL, w, ldw, packed). Bias and activation
 * are applied to each tile of y as it is finished, while it is in the first cache.
 *
 *     TW_RELU       max(z, 0)                    TW_GELU       z (1 + erf(z / sqrt 2)) / 2
 *     TW_SILU       z / (1 + exp(-z))            TW_GELU_TANH  z (1 + tanh(sqrt(2 / pi) (z + 0.044715 z^3))) / 2
 *
 * The activation's own error is at most c 2^-24 |y| + 2^-110, with c = 0 for RELU, 4 for SILU, 8 + z^2 for GELU and
 * 4 + 4 w for GELU_TANH, w = sqrt(8 / pi) (|z| + 0.044715 |z|^3). NaN stays NaN; -Inf gives NaN (0 Inf) but for RELU.
 *
 * bias NULL: none. threads: at most so many, 0: as many as are allowed at the time. y must overlap nothing else. in = 0: y
 * is act(b). Errors, before anything is written: 1 to 11, the number of the argument that is wrong; TW_ERROR_PACKED,
 * TW_ERROR_THREADS, TW_ERROR_MEMORY, TW_ERROR_ISA. */
enum { TW_NO_ACTIVATION, TW_RELU, TW_SILU, TW_GELU, TW_GELU_TANH };

TW_API int tw_slinear(int64_t tokens, int64_t out, int64_t in, const float *x, int64_t ldx, const void *packed,
                      const float *bias, int activation, int threads, float *y, int64_t ldy);

/* ---- Batches: many products of one shape, or of several ----
 *
 * The products must not depend on each other: no C overlaps another, nor any A or B. Everything is checked before
 * anything is written. alpha and beta are one number for the whole batch (group), or NULL as for tw_gemm_plan_execute. */

/* Product i multiplies what lies i times the stride, in elements, behind A and B; a stride of 0 uses one matrix for all. */
TW_API int tw_gemm_batch_strided(const tw_gemm_plan *plan, int64_t count, const void *alpha, const void *a,
                                 int64_t stride_a, const void *b, int64_t stride_b, const void *beta, void *c,
                                 int64_t stride_c);
/* Product i multiplies a[i] by b[i] into c[i]. */
TW_API int tw_gemm_batch(const tw_gemm_plan *plan, int64_t count, const void *alpha, const void *const *a,
                         const void *const *b, const void *beta, void *const *c);
/* Groups of counts[g] products of plans[g] each; the pointers of all groups stand one behind the other. alpha and beta
 * hold a pointer for each group, or are NULL. */
TW_API int tw_gemm_batch_groups(int64_t groups, const tw_gemm_plan *const *plans, const int64_t *counts,
                                const void *const *alpha, const void *const *a, const void *const *b,
                                const void *const *beta, void *const *c);

/* ---- Threads ----
 *
 * Batches and large products are divided among threads: the caller and those of a pool that is started when first needed
 * and sleeps between calls. Small ones never are. A call that finds the pool at work for another uses its own thread
 * alone, so calls may come from many threads at once. A process made by fork starts a pool of its own. */

/* Use up to so many threads a call from now on, in all threads that call: 1 to 1024; 0: as many as the process may use
 * cores, by its affinity and its control group at the next call, which is also what holds at the beginning.
 * TW_ERROR_THREADS, and no change, for any other. Where the system refuses to make that many, there are fewer. */
TW_API int tw_set_num_threads(int threads);
/* How many that is; -1: TILEWRIGHT_NUM_THREADS is no such number, and tw_error_message says so. */
TW_API int tw_get_num_threads(void);
/* For measurements: how long, in nanoseconds as foreseen, each thread of a call must have to do for there to be several; a
 * call of less than twice that uses one. Sets it and returns what it was; negative: returns it. */
TW_API double tw_thread_share(double nanoseconds);

/* Threads of another runtime, in place of the pool's: in a program that computes with OpenMP between our calls its threads
 * still spin on the cores on which ours would want to work. A team runs work(context) on as many threads as it has, the caller
 * among them, and returns when all are done; threads and flags are 0. libgomp's GOMP_parallel is one, and so is LLVM's and
 * Intel's. */
typedef void (*tw_team_fn)(void (*work)(void *), void *context, unsigned threads, unsigned flags);
/* Use them for what the calling thread calls from now on; NULL: the pool's again. Returns what was set. How many are asked
 * for stays as it is, and no more of a team than that do work. A process made by fork uses its own pool, whatever is set. */
TW_API tw_team_fn tw_set_team(tw_team_fn team);

/* ---- Instruction sets ----
 *
 * They are numbered from 0 in order of preference, the last being best; the numbers may change with the version, names
 * do not. */

/* How many this version knows, whether built or not. */
TW_API int tw_isa_count(void);
/* "scalar", "neon", "avx2", "avx512", "fcma"; NULL beyond the last. */
TW_API const char *tw_isa_name(int isa);
/* The number of kernels of this ISA in the library; 0: it was not built. */
TW_API int tw_isa_kernels(int isa);
/* 1 if this CPU and operating system can run it, else 0. Says nothing about whether it was built. */
TW_API int tw_isa_supported(int isa);
/* The best ISA that was built and can run here; -1: none. */
TW_API int tw_isa_best(void);
/* The ISA that products use now; -1: none, and tw_error_message says why. */
TW_API int tw_isa_current(void);
/* Why: "best of those built", "TILEWRIGHT_ISA" or "tw_isa_set". */
TW_API const char *tw_isa_reason(void);
/* Use the named ISA from now on, in all threads; products already running end as they began. NULL: the best.
 * TW_ERROR_ISA, and no change, where it was not built or this CPU lacks it. */
TW_API int tw_isa_set(const char *name);
/* The ISA whose kernels a product runs, with dtype 's', 'd', 'c' or 'z' and the operations as seen column-major: the
 * current one, the one that it extends (fcma: neon) or scalar where it has no kernels for that; -1: none, and tw_error_message says why. */
TW_API int tw_isa_serving(int dtype, int transa, int transb);

/* ---- How C is cut into tiles ---- */

/* Cut C from now on so that, as far as is known beforehand: "measured" (what NULL means), the tiles' costs add up to
 * least; "paper", the sum of their m + n is least (IrGEMM, IEEE TPDS 2024, Algorithm 2); "greedy", each tile does most work
 * for what it loads; "rebalance", they are near to equal (after autoGEMM, SC 2024). Plans that there are stay as they are.
 * TW_ERROR_TILER, and no change, where there is none of that name. */
TW_API int tw_tiler_set(const char *name);
/* The name; NULL: TILEWRIGHT_TILER is none of them, and tw_error_message says so. */
TW_API const char *tw_tiler_current(void);
/* For tests: send products that are new from now on through one path, where it can serve them: "tiles", "blocked", "stream",
 * "dot", "direct" or "inner". NULL, "auto": whichever is thought fastest. */
TW_API int tw_path_set(const char *name);
/* For tests: cut C[m x n] with kernels of these sizes, `count` pairs (m, n), into (i, j, m, n) at `tiles`, which has room
 * for 256. Returns how many; -1: more than 256; else minus an error. */
TW_API int tw_tile_sizes(const char *tiler, int count, const int *sizes, int64_t m, int64_t n, int64_t k, int *tiles);

/* ---- What this library is ---- */

TW_API const char *tw_version(void);
/* The compiler that made it, for example "GCC 12.2.0". */
TW_API const char *tw_compiler(void);
/* The file it was loaded from; "" if it cannot be told. */
TW_API const char *tw_library_path(void);
/* The CPU's name as it gives it itself, or "unknown". */
TW_API const char *tw_cpu_name(void);

/* What tw_selftest did, per ISA in the numbering of tw_isa_name. */
typedef struct tw_selftest_report {
    int64_t listed[8];  /* kernels in the library */
    int64_t run[8];     /* of these, run here: all, or none where this CPU lacks the ISA */
    int64_t failed[8];  /* of these, wrong */
    int64_t products;   /* products compared, kernel by kernel and through tw_?gemm */
    int64_t mismatches; /* of these, not exactly right */
    char failure[256];  /* the first one, with its kernel and sizes; "" if there was none */
} tw_selftest_report;

/* Run every kernel this CPU can execute (and those for one size, which the numbers above leave out), at several sizes and k, with the scalars and conjugations it takes, and
 * products of every type, layout and transposition through every ISA, on integers, and compare each element exactly
 * with plain C. Elements around C must keep their value. Takes about a second. Returns the number of mismatches, or -1
 * for TW_ERROR_MEMORY. `report` may be NULL. */
TW_API int64_t tw_selftest(tw_selftest_report *report);

/* ---- Tuning: what kernels cost on this machine ----
 *
 * Measured by `build.py tune` or Python's tilewright.runtime.tune(), read from a file when the first plan is made. A file that
 * is corrupt, another machine's or other kernels' is refused and what the library was built with stands in. */

/* "measured: ..." or "defaults: " and why: the file, and what is wrong with it. */
TW_API const char *tw_tuning_status(void);
/* Where this process looks for its file, below TILEWRIGHT_TUNING or the user's data folder; "": nowhere. */
TW_API const char *tw_tuning_path(void);
/* This machine: its CPU and caches. */
TW_API const char *tw_machine(void);
/* A digest of the kernels in this library. */
TW_API const char *tw_kernels_digest(void);
/* Would a file of this content be used here? TW_OK, or TW_ERROR_TUNING and tw_error_message says why not. */
TW_API int tw_tuning_check(const void *text, int64_t length);
/* Nanoseconds that a call of this kernel is thought to take; -1: there is no such kernel. */
TW_API double tw_kernel_cost(const char *name, int64_t k);
/* Nanoseconds that a call of this kernel takes, its operands in L1 and beta = 0: the least of what fits into `seconds`, at
 * least a few microseconds. m = 0 or n = 0: the largest it does. TW_ERROR_WRONG, and no time, where its product is not
 * exactly right before and after. */
TW_API int tw_kernel_time(const char *name, int64_t m, int64_t n, int64_t k, double seconds, double *nanoseconds);
/* Nanoseconds that a call of a kernel on panels takes for k steps, the panels that fill its vectors being read one after the
 * other from so many bytes, once: from memory, or whatever cache holds them. Any finite numbers there. */
TW_API int tw_panel_kernel_time(const char *name, const void *panels, int64_t bytes, int64_t k, double *nanoseconds);
/* Read the file again: plans made from now on go by it. */
TW_API void tw_tuning_renew(void);

/* ---- Single kernels, for tests ---- */

/* The number of kernels, and the name of one; NULL beyond the last. */
TW_API int tw_kernel_total(void);
TW_API const char *tw_kernel_name(int index);
/* Run one kernel on one tile, column-major: C[m x n] = alpha P + beta C where P is the product of the kernel's own mode
 * with A and B conjugated as asked. Leading dimensions in elements. TW_ERROR_KERNEL where there is no such kernel or it
 * does not do this size or conjugation, TW_ERROR_ISA where this CPU cannot run it. */
TW_API int tw_run_kernel(const char *name, int64_t m, int64_t n, int64_t k, int conj_a, int conj_b, const void *alpha,
                         const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c,
                         int64_t ldc);

/* cffi: end */

/* The kernel of that name; NULL if there is none. The struct is in tw_kernel.h. */
TW_API const struct tw_kernel *tw_find_kernel(const char *name);
/* tw_kernel_time of a kernel that is not in the table. */
TW_API int tw_time_kernel(const struct tw_kernel *kernel, int64_t m, int64_t n, int64_t k, double seconds,
                          double *nanoseconds);

#ifdef __cplusplus
}
#endif
#endif
