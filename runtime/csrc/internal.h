/* internal.h - what the runtime's C files share. Nothing here leaves the library. */
#ifndef TW_INTERNAL_H
#define TW_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "tilewright.h"
#include "tw_kernel.h"

enum { TW_ISAS = TW_ISA_COUNT, TW_DTYPES = TW_DTYPE_COUNT, TW_MODES = TW_MODE_COUNT };

/* ---- error.c ---- */

/* Note why for tw_error_message and return `status`. */
int tw_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- isa.c ---- */

/* tw_variant of each type, of what is chosen now; what calls compare. tw_choose brings it up to date. */
extern atomic_int tw_variant_now[TW_DTYPES] __attribute__((visibility("hidden")));
void tw_choose(atomic_int *choice, int value);

extern atomic_int tw_isa_now; /* what products use; -1: refused, and tw_isa_current says why */

/* Whose kernels compute this type where products use that ISA. */
int tw_isa_of_type(int isa, int dtype);

/* ---- cpu.c ---- */

/* A bit per ISA that CPU and operating system can run. */
unsigned tw_cpu_isas(void);
/* The CPU's name and what tells apart those that share it. */
const char *tw_cpu_signature(void);

/* ---- cores.c ---- */

/* Cores this process may use, by affinity and control group; at least 1. */
int tw_cores(void);

/* Some of the machine's cores; of those beyond TW_MOST_CORES nothing is known. */
enum { TW_MOST_CORES = 1024 };
typedef struct tw_core_set {
    atomic_ullong words[TW_MOST_CORES / 64];
} tw_core_set;

void tw_core_none(tw_core_set *set);
/* Add a core; false: it was there already. */
bool tw_core_take(tw_core_set *set, int core);
/* Move the calling thread to a core that is not in the set, of those that thread number `owner` may use; false: none is. */
bool tw_core_leave(const tw_core_set *taken, int owner);

/* ---- threads.c ---- */

enum { TW_MOST_THREADS = 1024 };

/* Threads that a call made now by this thread may use; 1 within a task. */
int tw_threads_allowed(void);

extern _Atomic double tw_least_share; /* nanoseconds that a thread must have to do */

/* How many of them work that takes one thread so many nanoseconds is worth. */
int tw_threads_worth_of(double nanoseconds, double share);

static inline int tw_threads_worth(double nanoseconds)
{
    double share = atomic_load_explicit(&tw_least_share, memory_order_relaxed);
    return nanoseconds < 2 * share ? 1 : tw_threads_worth_of(nanoseconds, share); /* most calls: nothing is called */
}

typedef void (*tw_task_fn)(void *context, int64_t task);

/* Run tasks 0 .. tasks - 1, each exactly once, in any order, on up to so many threads, this one among them; returns when
 * all are done. One after the other, here, where there is no more than one thread, the pool is another caller's or this is a
 * task itself. */
void tw_parallel(int threads, int64_t tasks, tw_task_fn run, void *context);

/* ---- tuning.c: what kernels cost ---- */

enum { TW_COST_STEPS = 4 }; /* values of k at which kernels are timed */

/* Nanoseconds of one call of the kernel, call + k step, for k near this one: as measured on this machine, or by default. */
tw_cost_line tw_cost_near(const tw_kernel *kernel, int64_t k);

/* Nanoseconds of 64 k steps of a kernel on panels, out of the second cache or from memory; as above. */
float tw_panel_cost(const tw_kernel *kernel, int place);

enum { TW_USES = 9 }; /* numbers of lines of the other operand at which packing is measured: 1, 2, 4 ... 256 */

/* What it takes to pack an operand, and to multiply it where it lies and packed: nanoseconds an element. */
typedef struct tw_use_cost {
    double packing, lies[TW_USES], packed[TW_USES];
} tw_use_cost;

/* As measured here with this ISA: an operand that lies along k or across, in a cache or in memory, on one thread or on all.
 * False: nobody measured. */
bool tw_use_cost_of(int isa, int dtype, bool along_k, int place, bool threads, tw_use_cost *cost);

/* ---- onpanels.c ---- */

/* Times have changed: choose kernels on panels anew. */
void tw_panel_kernels_forget(void);

/* ---- scalar.c: the four types ---- */

static inline int64_t tw_element_bytes(int dtype)
{
    return tw_dtype_bytes[dtype];
}

static inline bool tw_is_complex(int dtype)
{
    return tw_dtype_reals[dtype] == 2;
}

/* Is the scalar (real part, and imaginary part 0)? NaN is no number, -0 is 0. */
static inline bool tw_scalar_is(int dtype, const tw_scalar *value, double real)
{
    switch (dtype) {
    case TW_S:
        return value->s == (float)real;
    case TW_D:
        return value->d == real;
    case TW_C:
        return value->c[0] == (float)real && value->c[1] == 0;
    default:
        return value->z[0] == real && value->z[1] == 0;
    }
}

/* The scalar behind a pointer as the complex entries take it. */
static inline tw_scalar tw_scalar_at(int dtype, const void *value)
{
    tw_scalar scalar = {.z = {0, 0}};
    memcpy(&scalar, value, (size_t)tw_element_bytes(dtype));
    return scalar;
}

/* Where NULL stands for 1. */
static inline tw_scalar tw_alpha_at(int dtype, const void *value)
{
    if (value == NULL) {
        return dtype == TW_S || dtype == TW_C ? (tw_scalar){.c = {1, 0}} : (tw_scalar){.z = {1, 0}};
    }
    return tw_scalar_at(dtype, value);
}

/* Where NULL stands for 0. */
static inline tw_scalar tw_beta_at(int dtype, const void *value)
{
    return value == NULL ? (tw_scalar){.z = {0, 0}} : tw_scalar_at(dtype, value);
}

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

/* Which kernel is best at a size depends on how long k is; ORDERED: for any k, none that adds products of one element of C
 * in another order than k's. */
typedef enum tw_steps { TW_STEPS_SHORT, TW_STEPS_MIDDLE, TW_STEPS_LONG, TW_STEPS_ORDERED, TW_STEPS_COUNT } tw_steps;

tw_steps tw_steps_of(int64_t k, bool ordered);
/* Sets *found to NULL where the kernels cannot cover every shape. TW_OK or TW_ERROR_MEMORY. */
int tw_tiles_find(int isa, int dtype, int mode, tw_steps steps, const tw_tiles **found);
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

/* ---- tiler.c: the tiles of a plan ---- */

/* A strategy, a path of route.c that is forced, TW_REPRODUCIBLE, and whether products have one thread; -1: the one asked for is
 * unknown, and tw_tiler_current says so. In one word, for a call compares it with its plan's. */
extern atomic_int tw_tiler_now;
enum { TW_STRATEGY = 15, TW_PATH_SHIFT = 4, TW_REPRODUCIBLE = 256, TW_ONE_THREAD = 512 };

void tw_tiler_alone(bool one_thread);

enum { TW_PLAN_TILES = 256 }; /* a product of more is walked, not listed */

typedef struct tw_tile_list {
    tw_tile tiles[TW_PLAN_TILES];
} tw_tile_list;

/* The tiles of C[m x n] by that strategy, or by the walk where it would take too long; how many, or -1: more than the list
 * holds. */
int tw_tile_c(const tw_tiles *tiles, int strategy, int64_t m, int64_t n, int64_t k, tw_tile_list *list);

/* ---- call.c: one kernel on one tile ---- */

/* What a product is but for its pointers and scalars, as the kernels see it: column-major, leading dimensions in bytes. */
typedef struct tw_form {
    int dtype, mode;
    bool exchanged; /* the kernels' A is the caller's B */
    bool trans_a, trans_b, conj_a, conj_b;
    int64_t m, n, k, lda, ldb, ldc;
} tw_form;

/* One kernel call of a plan. */
typedef struct tw_command {
    tw_kernel_fn run;
    int64_t a, b, c; /* bytes from the first elements of the matrices to those of the tile */
    uint64_t mask;
    const void *lanes;
    uint64_t conj; /* TW_FLAG_CONJ or 0 */
    int64_t set;   /* its arguments in a ready plan: bytes from the first of plan->sets[0] or [1] */
} tw_command;

/* The arguments that are the same for every tile, for alpha = 1 and beta = 0. */
tw_args tw_args_of(const tw_form *form);
/* Put alpha and beta into them. */
void tw_args_scale(tw_args *args, int dtype, const tw_scalar *alpha, const tw_scalar *beta);
tw_command tw_command_of(const tw_form *form, const tw_tile *tile);

/* ---- turn.c: an operand turned round first ---- */

#ifdef __aarch64__
enum { TW_PANEL = 1 << 16 }; /* bytes on the stack for it */
#else
enum { TW_PANEL = 1 << 14 };
#endif

/* `lines` lines of `length` neighbours, `ld` bytes apart; element p of line i goes to place p lines + i. */
typedef struct tw_turn {
    char operand; /* 'A' or 'B' of the kernels; 0: neither */
    int64_t offset, lines, length, ld;
} tw_turn;

/* Is it worth while? Then the form becomes that of the product with it turned. `ordered`: sums keep k's order. */
void tw_turn_choose(tw_form *form, int isa, bool ordered, tw_turn *turn);
/* Or that of the last rows alone? Then the form becomes theirs; how many, or 0. */
int tw_turn_rows(tw_form *form, int isa, bool ordered, tw_turn *turn);
void tw_turn_into(const tw_turn *turn, int dtype, const void *matrix, void *panel);

static inline void tw_run_command(const tw_command *command, const void *a, const void *b, void *c, tw_args *args)
{
    args->mask = command->mask;
    args->lanes = command->lanes;
    args->flags = (args->flags & ~(uint64_t)TW_FLAG_CONJ) | command->conj;
    command->run((const char *)a + command->a, (const char *)b + command->b, (char *)c + command->c, args);
}

/* ---- special.c: kernels for one size ---- */

enum {
    TW_MOST_EXACT = 64, /* steps of such a kernel at most */
    TW_MANY = 4         /* fewer problems do not repay what a kernel across a batch needs to be told */
};

struct tw_gemm_plan;

/* The one that does all of C; false: there is none. */
bool tw_special_whole(const tw_form *form, int isa, tw_command *command);
/* What runs a batch of this product in one call; `run` is NULL where nothing does. */
typedef struct tw_many {
    tw_command each;   /* one problem after the other */
    tw_command across; /* so many at a time, a lane each */
    int64_t lanes;
} tw_many;

tw_many tw_special_many(const tw_form *form, int isa);
/* Run a batch so, strides in bytes, with arguments that hold the scalars; false: nothing was done. */
bool tw_run_many(const struct tw_gemm_plan *plan, const tw_args *args, int64_t count, const void *a, int64_t stride_a,
                 const void *b, int64_t stride_b, void *c, int64_t stride_c);
/* Of those that ship for batches and one column of C: the tallest of so many steps, A's lines along m; NULL: none. */
const tw_kernel *tw_special_column(int isa, int dtype, int64_t k);
/* The one with that function; NULL: none. */
const tw_kernel *tw_special_running(tw_kernel_fn run);
/* Changes when kernels are registered. */
int tw_special_epoch(void);
const struct tw_special *tw_special_at(int index);

/* ---- selftest.c ---- */

bool tw_special_is_right(const struct tw_special *special);

/* ---- kernels.c ---- */

/* The kernel of so many rows that asks ahead of time for lines of B, both operands lying along k, paced or not; NULL: there
 * is none. */
const tw_kernel *tw_kernel_ahead(int isa, int dtype, int rows, bool paced);
/* The widest that does so many rows by dot products, with at most so many columns; NULL: there is none. */
const tw_kernel *tw_kernel_dot(int isa, int dtype, int rows, int most);

static inline bool tw_mode_transposes_a(int mode)
{
    return mode == TW_TN || mode == TW_TT || mode == TW_CN || mode == TW_TC;
}

static inline bool tw_mode_transposes_b(int mode)
{
    return mode == TW_NT || mode == TW_TT || mode == TW_NC || mode == TW_TC;
}

/* Can this kernel, on its own mode, conjugate these operands? */
bool tw_kernel_conjugates(const tw_kernel *kernel, bool conj_a, bool conj_b);

/* What tw_run_kernel does, unchecked. */
void tw_run_alone(const tw_kernel *kernel, int64_t m, int64_t n, int64_t k, bool conj_a, bool conj_b, const void *alpha,
                  const void *a, int64_t lda, const void *b, int64_t ldb, const void *beta, void *c, int64_t ldc);

/* ---- plan.c: a product made ready ---- */

/* A call's arguments but for pointers and scalars, as they were passed: what plans are found by. Compared word by word. */
typedef struct tw_key {
    int64_t m, n, k, lda, ldb, ldc;
    int32_t layout, transa, transb;
    int32_t variant; /* dtype, and what else the choice of kernels depends on: tw_variant */
} tw_key;

/* Loads and exclusive ors that wait for nothing; one branch. `x` may be a plan's: see tw_cache_renew. */
static inline bool tw_key_same(const tw_key *x, const tw_key *y)
{
    int32_t variant = __atomic_load_n(&x->variant, __ATOMIC_RELAXED);
    return ((x->m ^ y->m) | (x->n ^ y->n) | (x->k ^ y->k) | (x->lda ^ y->lda) | (x->ldb ^ y->ldb) | (x->ldc ^ y->ldc) |
            (x->layout ^ y->layout) | (x->transa ^ y->transa) | (x->transb ^ y->transb) | (variant ^ y->variant)) == 0;
}

/* The last rows of C, on their own with A turned: commands from `first` on. */
typedef struct tw_strip {
    int rows, first; /* no rows: there is none */
    tw_form form;
    const tw_tiles *tiles;
} tw_strip;

enum { TW_PLAN_SETS = 6 }; /* tiles differ in their arguments only where C ends */

struct tw_gemm_plan {
    tw_key key;
    tw_kernel_fn run;              /* a product of one tile: its kernel, at the matrices' first elements; else NULL */
    tw_kernel_fn straight;         /* the same where operands are not exchanged; else NULL */
    int16_t ready;                 /* commands, if each has a set of arguments and nobody counts them; else 0 */
    int16_t count;                 /* commands; -1: more than are listed */
    bool exchanged;                /* the kernels' A is the caller's B: row-major, but for a row taken as a column */
    bool walked;                   /* cut by the walk, not by the tiler */
    tw_args args;                  /* for alpha = 1 and beta = 0 */
    tw_args sets[2][TW_PLAN_SETS]; /* with what tiles differ in, for beta = 0 and for beta = 1 */
    tw_form form;
    tw_form main; /* what most commands compute: the form, one operand turned if one is, without the strip's rows */
    const tw_tiles *tiles;
    tw_strip strip;
    tw_turn turn;
    int served_by;         /* ISA */
    tw_many many;          /* a batch in one call */
    char packed;           /* 'A' or 'B', of the caller's operands: comes packed; 0: neither */
    bool blocked;          /* goes through blocks: a tw_blocked lies where commands would */
    tw_command commands[]; /* at least one */
};

/* What a plan of this type depends on besides its arguments: `tiler` is tw_tiler_now, with all its bits. */
static inline int32_t tw_variant(int dtype, int isa, int tiler)
{
    return (int32_t)((uint32_t)dtype | (uint32_t)isa << 8 | (uint32_t)tiler << 16); /* negative where one of them is */
}

/* What the scalars ask of the kernels: alpha = 1 and beta = 0, alpha = beta = 1, anything else. */
typedef enum tw_plain { TW_GENERAL, TW_WRITTEN, TW_ADDED } tw_plain;

#define TW_PLAIN(alpha, beta)                                                                                          \
    ((alpha) != 1 ? TW_GENERAL : (beta) == 1 ? TW_ADDED : (beta) == 0 ? TW_WRITTEN : TW_GENERAL)

/* Of one number of that type each. Complex ones are compared bit by bit: an imaginary part of -0 takes the general way. */
static inline tw_plain tw_plain_at(int dtype, const void *alpha, const void *beta)
{
    static const union {
        tw_scalar scalar;
        uint64_t word[2];
    } one_c = {.scalar.c = {1, 0}}, one_z = {.scalar.z = {1, 0}};
    uint64_t first[2] = {0}, second[2] = {0}, one = dtype == TW_C ? one_c.word[0] : one_z.word[0];
    switch (dtype) {
    case TW_S:
        return TW_PLAIN(*(const float *)alpha, *(const float *)beta);
    case TW_D:
        return TW_PLAIN(*(const double *)alpha, *(const double *)beta);
    case TW_C:
        memcpy(first, alpha, 8);
        memcpy(second, beta, 8);
        break;
    default:
        memcpy(first, alpha, 16);
        memcpy(second, beta, 16);
    }
    if ((first[0] != one) | (first[1] != 0) | (second[1] != 0)) {
        return TW_GENERAL;
    }
    return second[0] == one ? TW_ADDED : second[0] == 0 ? TW_WRITTEN : TW_GENERAL;
}

/* What the caller of a plan asks for beyond its arguments. */
typedef struct tw_wish {
    int given;         /* 'A' or 'B' of the kernels: comes packed; 0: neither */
    int threads;       /* at most; 0: as many as are allowed at the time */
    bool blocked;      /* through blocks, whatever its size */
    bool reproducible; /* the same bits whatever the tiles, threads and neighbours */
    bool alone;        /* there will be one thread, as far as is known now; tw_plan_fill sees to it */
} tw_wish;

/* What it takes to keep a plan, and the most that any takes. */
size_t tw_plan_bytes(const tw_gemm_plan *plan);
size_t tw_plan_bytes_most(void);

/* The variant of that type's letter as things are set now; a status, whose words begin with the entry's name. */
int tw_variant_for(const char *entry, int dtype, int32_t *variant);
/* Make a plan that its caller keeps, in memory of its own. A status. */
int tw_plan_make(const char *entry, const tw_key *key, const tw_wish *wish, tw_gemm_plan **plan);

/* Fill a plan that has room for `room` commands from a key that was not checked yet. NULL: no wish but what the key says.
 * A status; what it says names tw_?gemm's arguments. */
int tw_plan_fill(tw_gemm_plan *plan, const tw_key *key, int room, const tw_wish *wish);
/* Run it, whatever the scalars; the pointers are checked. A status. */
int tw_plan_run(const tw_gemm_plan *plan, const tw_scalar *alpha, const void *a, const void *b, const tw_scalar *beta,
                void *c);
/* The same with arguments that hold the scalars, and pointers that may be added to. */
int tw_plan_run_tiles(const tw_gemm_plan *plan, const void *a, const void *b, void *c, tw_args *args);
/* Run a `ready` plan, `sets` being its arguments for beta = 0 or 1; the matrices as the kernels see them, none NULL. */
void tw_plan_run_ready(const tw_gemm_plan *plan, const void *a, const void *b, void *c, const tw_args *sets);
/* A plan without memory of its own: for what is not worth keeping, or cannot be kept. */
int tw_plan_run_once(const tw_key *key, const tw_scalar *alpha, const void *a, const void *b, const tw_scalar *beta,
                     void *c);

/* A caller passed no plan. */
int tw_refuse_plan(const char *function);

/* ---- cache.c: plans by key ---- */

/* The plan of that key, made if need be; lives as long as the process. *found = NULL: it is not kept, for C is
 * large, the cache full or memory short. A status. */
int tw_cache_find(const tw_key *key, const tw_gemm_plan **found);
/* Kernels were registered: make the plans that are kept once more. Who has one of those before may go on running it, but
 * no call finds it any more. */
void tw_cache_renew(void);

/* ---- trace.c ---- */

extern int tw_verbose; /* set at load; then plans have no `run`, so that every product passes tw_plan_run_tiles */

int64_t tw_trace_clock(void);
/* Count, and with 2 say, that this plan ran so often and took so long together. */
void tw_trace(const tw_gemm_plan *plan, int64_t calls, int64_t nanoseconds);

/* ---- gemm.c ---- */

extern const char tw_letters[]; /* of the types */

typedef struct tw_operation {
    bool trans, conj;
} tw_operation;

/* 'N' 'T' 'C' 'R', or lower case; false: none of them. */
bool tw_operation_of(int letter, int dtype, tw_operation *operation);
/* The type with that letter; -1: none. */
int tw_dtype_of(int letter);
/* The tiles that serve a column-major product on `isa`, else those of scalar, and the kernels' mode. A status. */
int tw_select(int isa, int dtype, tw_operation a, tw_operation b, tw_steps steps, const tw_tiles **tiles, int *mode,
              int *served_by);
/* Check a key and see it column-major; *isa is what it asks for. A status. */
int tw_form_of(const tw_key *key, tw_form *form, int *isa);
/* A row of C whose elements are neighbours is as well a column, which fills vectors; so where a row of A is, or A is
 * stored as a column. Complex products on x86 have no other kernels for it. The operands change places. */
void tw_row_as_column(tw_form *form, int isa);
/* Which pointer is NULL but would be used; `null` is its argument number. */
int tw_refuse_null(int dtype, int null);

enum { /* numbers of the arguments, as cblas counts */
       TW_ARGUMENT_LAYOUT = 1,
       TW_ARGUMENT_TRANSA,
       TW_ARGUMENT_TRANSB,
       TW_ARGUMENT_M,
       TW_ARGUMENT_N,
       TW_ARGUMENT_K,
       TW_ARGUMENT_ALPHA,
       TW_ARGUMENT_A,
       TW_ARGUMENT_LDA,
       TW_ARGUMENT_B,
       TW_ARGUMENT_LDB,
       TW_ARGUMENT_BETA,
       TW_ARGUMENT_C,
       TW_ARGUMENT_LDC
};

#endif
