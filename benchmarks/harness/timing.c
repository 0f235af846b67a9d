/* timing.c - run one matrix product, ours or anybody's, many times in a loop of C and say how long a call took.
 *
 * Compiled and loaded by harness/timing.py, which fills in `bench_task`. Every library is called by pointer in the same
 * process; a task with `count` > 1 is a batch, and what has no batched entry of its own is called in a loop.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

enum {
    EXECUTE,       /* tw_gemm_execute(plan, a, b, c) */
    GEMM,          /* tw_?gemm: as cblas_?gemm, 64-bit sizes, letters for the operations */
    CBLAS,         /* cblas_?gemm */
    KERNEL,        /* kernel(a, b, c), as LIBXSMM dispatches */
    TURN_KERNEL,   /* libxsmm_otrans of b, then kernel(b, a, c): LIBXSMM where its kernel wants b transposed */
    SIZED,         /* function(a, b, c, m, n, k), dense: Eigen's */
    DNNL,          /* dnnl_sgemm */
    TW_BATCH,      /* tw_gemm_batch_strided */
    CBLAS_BATCH,   /* cblas_?gemm_batch_strided */
    CBLAS_COMPUTE, /* cblas_?gemm_compute: MKL's, a or b packed ('P') */
    DNNL_COMPUTE,  /* oneDNN's sgemm_compute: as Fortran, b packed or a */
    TW_PACKED      /* tw_gemm_plan_execute_packed(plan, alpha, a, b, beta, c) */
};

typedef struct {
    int32_t kind, type; /* type is 's', 'd', 'c' or 'z' */
    int32_t m, n, k, lda, ldb, ldc;
    char transa, transb; /* 'N', 'T' or 'P', packed; everything is row-major */
    void *run, *plan, *turn;
    const char *a, *b;
    char *c, *room; /* room for b turned */
    int64_t count;
    int64_t stride_a, stride_b, stride_c; /* in elements */
} bench_task;

typedef void (*kernel)(const void *, const void *, void *);
typedef void (*sized)(const void *, const void *, void *, int, int, int);
typedef void (*turn)(void *, const void *, unsigned, int, int, int, int);
typedef int (*execute)(const void *, const void *, const void *, void *);
typedef int (*tw_batch)(const void *, int64_t, const void *, const void *, int64_t, const void *, int64_t, const void *,
                        void *, int64_t);
typedef int (*dnnl)(char, char, int64_t, int64_t, int64_t, float, const void *, int64_t, const void *, int64_t, float,
                    void *, int64_t);
#define GEMM_TYPE(name, scalar)                                                                                        \
    typedef int (*name)(int, int, int, int64_t, int64_t, int64_t, scalar, const void *, int64_t, const void *,         \
                        int64_t, scalar, void *, int64_t);                                                             \
    typedef void (*name##_cblas)(int, int, int, int, int, int, scalar, const void *, int, const void *, int, scalar,   \
                                 void *, int);                                                                         \
    typedef void (*name##_batch)(int, int, int, int, int, int, scalar, const void *, int, int, const void *, int, int, \
                                 scalar, void *, int, int, int);                                                       \
    typedef void (*name##_compute)(int, int, int, int, int, int, const void *, int, const void *, int, scalar, void *, \
                                   int);
typedef int (*dnnl_compute)(const char *, const char *, const int64_t *, const int64_t *, const int64_t *, const void *,
                            const int64_t *, const void *, const int64_t *, const float *, void *, const int64_t *);
typedef int (*tw_packed)(const void *, const void *, const void *, const void *, const void *, void *);
GEMM_TYPE(gemm_s, float)
GEMM_TYPE(gemm_d, double)
GEMM_TYPE(gemm_x, const void *)

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* `calls` times CALL for every product of the batch. */
#define LOOP(CALL)                                                                                                     \
    if (t.count == 1) {                                                                                                \
        const char *a = t.a, *b = t.b;                                                                                 \
        char *c = t.c;                                                                                                 \
        for (int64_t call = 0; call < calls; call++)                                                                   \
            CALL;                                                                                                      \
    } else {                                                                                                           \
        for (int64_t call = 0; call < calls; call++) {                                                                 \
            const char *a = t.a, *b = t.b;                                                                             \
            char *c = t.c;                                                                                             \
            for (int64_t item = 0; item < t.count; item++) {                                                           \
                CALL;                                                                                                  \
                a += t.stride_a * size;                                                                                \
                b += t.stride_b * size;                                                                                \
                c += t.stride_c * size;                                                                                \
            }                                                                                                          \
        }                                                                                                              \
    }
#define EACH_TYPE(DO)                                                                                                  \
    if (t.type == 's')                                                                                                 \
        DO(gemm_s, 1.0F, 0.0F)                                                                                         \
    else if (t.type == 'd')                                                                                            \
        DO(gemm_d, 1.0, 0.0)                                                                                           \
    else if (t.type == 'c')                                                                                            \
        DO(gemm_x, one_c, zero_c)                                                                                      \
    else                                                                                                               \
        DO(gemm_x, one_z, zero_z)

static void run(const bench_task *task, int64_t calls)
{
    static const float one_c[2] = {1, 0}, zero_c[2] = {0, 0};
    static const double one_z[2] = {1, 0}, zero_z[2] = {0, 0};
    const bench_task t = *task; /* nobody writes to this one: what it holds may stay in registers */
    const int64_t size = t.type == 's' ? 4 : t.type == 'z' ? 16 : 8;
    const int order = 101, ta = t.transa == 'N' ? 111 : 112, tb = t.transb == 'N' ? 111 : 112;
    switch (t.kind) {
    case EXECUTE: {
        execute f = (execute)t.run;
        LOOP(f(t.plan, a, b, c))
        break;
    }
    case GEMM:
#define RUN_GEMM(name, one, zero)                                                                                      \
    {                                                                                                                  \
        name f = (name)t.run;                                                                                          \
        LOOP(f(order, t.transa, t.transb, t.m, t.n, t.k, one, a, t.lda, b, t.ldb, zero, c, t.ldc))                     \
    }
        EACH_TYPE(RUN_GEMM)
        break;
    case CBLAS:
#define RUN_CBLAS(name, one, zero)                                                                                     \
    {                                                                                                                  \
        name##_cblas f = (name##_cblas)t.run;                                                                          \
        LOOP(f(order, ta, tb, t.m, t.n, t.k, one, a, t.lda, b, t.ldb, zero, c, t.ldc))                                 \
    }
        EACH_TYPE(RUN_CBLAS)
        break;
    case KERNEL: {
        kernel f = (kernel)t.run;
        LOOP(f(b, a, c))
        break;
    }
    case TURN_KERNEL: { /* column-major: the user's b as stored is k x n with leading dimension k; n x k is wanted */
        kernel f = (kernel)t.run;
        turn g = (turn)t.turn;
        LOOP((g(t.room, b, (unsigned)size, t.k, t.n, t.k, t.n), f(t.room, a, c)))
        break;
    }
    case SIZED: {
        sized f = (sized)t.run;
        LOOP(f(a, b, c, t.m, t.n, t.k))
        break;
    }
    case DNNL: {
        dnnl f = (dnnl)t.run;
        LOOP(f(t.transa, t.transb, t.m, t.n, t.k, 1.0F, a, t.lda, b, t.ldb, 0.0F, c, t.ldc))
        break;
    }
    case TW_BATCH: {
        tw_batch f = (tw_batch)t.run;
        for (int64_t call = 0; call < calls; call++)
            f(t.plan, t.count, 0, t.a, t.stride_a, t.b, t.stride_b, 0, t.c, t.stride_c);
        break;
    }
    case CBLAS_BATCH:
#define RUN_BATCH(name, one, zero)                                                                                     \
    {                                                                                                                  \
        name##_batch f = (name##_batch)t.run;                                                                          \
        for (int64_t call = 0; call < calls; call++)                                                                   \
            f(order, ta, tb, t.m, t.n, t.k, one, t.a, t.lda, (int)t.stride_a, t.b, t.ldb, (int)t.stride_b, zero, t.c,  \
              t.ldc, (int)t.stride_c, (int)t.count);                                                                   \
    }
        EACH_TYPE(RUN_BATCH)
        break;
    case CBLAS_COMPUTE: {
        const int pa = t.transa == 'P' ? 151 : ta, pb = t.transb == 'P' ? 151 : tb;
        if (t.type == 's') {
            gemm_s_compute f = (gemm_s_compute)t.run;
            LOOP(f(order, pa, pb, t.m, t.n, t.k, a, t.lda, b, t.ldb, 0.0F, c, t.ldc))
        } else {
            gemm_d_compute f = (gemm_d_compute)t.run;
            LOOP(f(order, pa, pb, t.m, t.n, t.k, a, t.lda, b, t.ldb, 0.0, c, t.ldc))
        }
        break;
    }
    case DNNL_COMPUTE: { /* column-major, so the operands change places */
        dnnl_compute f = (dnnl_compute)t.run;
        const int64_t m = t.m, n = t.n, k = t.k, lda = t.lda, ldb = t.ldb, ldc = t.ldc;
        const float zero = 0;
        LOOP(f(&t.transb, &t.transa, &n, &m, &k, b, &ldb, a, &lda, &zero, c, &ldc))
        break;
    }
    case TW_PACKED: {
        tw_packed f = (tw_packed)t.run;
        LOOP(f(t.plan, 0, a, b, 0, c))
        break;
    }
    default:
        break;
    }
}

/* Run it `calls` times. */
void bench_run(const bench_task *task, int64_t calls)
{
    run(task, calls);
}

/* Least nanoseconds a call: `chunks` times `calls` calls between two readings of the clock. */
double bench_time(const bench_task *task, int64_t calls, int chunks)
{
    double best = 1e300;
    for (int chunk = 0; chunk < chunks; chunk++) {
        double start = now();
        run(task, calls);
        double passed = now() - start;
        if (passed < best)
            best = passed;
    }
    return best / (double)calls;
}

/* Peak: independent multiply-adds on registers alone, as many chains as hide their latency. */
#if defined(__x86_64__)
#define CHAIN(op, r, n) op " %%" r "0, %%" r "0, %%" r n "\n"
#define TURN(op, r)                                                                                                    \
    "1:\n" CHAIN(op, r, "1") CHAIN(op, r, "2") CHAIN(op, r, "3") CHAIN(op, r, "4") CHAIN(op, r, "5") CHAIN(op, r, "6") \
        CHAIN(op, r, "7") CHAIN(op, r, "8") CHAIN(op, r, "9") CHAIN(op, r, "10") CHAIN(op, r, "11")                    \
            CHAIN(op, r, "12") "sub $1, %0\njnz 1b\nvzeroupper\n"
#define CLOBBERS                                                                                                       \
    "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12"
#define LOOP_512(op) __asm__ volatile(TURN(op, "zmm") : "+r"(count) : : CLOBBERS)
#define LOOP_256(op) __asm__ volatile(TURN(op, "ymm") : "+r"(count) : : CLOBBERS)

#define LOAD_512 "vmovups (%0), %%zmm0\nvmovups 64(%0), %%zmm1\nvmovups 128(%0), %%zmm2\nvmovups 192(%0), %%zmm3\n"
#define LOAD_256 "vmovups (%0), %%ymm0\nvmovups 32(%0), %%ymm1\nvmovups 64(%0), %%ymm2\nvmovups 96(%0), %%ymm3\n"
#define READ(load, step)                                                                                               \
    __asm__ volatile("1:\n" load "add $" step ", %0\ncmp %1, %0\njb 1b\nvzeroupper\n"                                  \
                     : "+r"(from)                                                                                      \
                     : "r"(to)                                                                                         \
                     : CLOBBERS, "memory")

/* Load everything between, which is a multiple of 256 bytes. */
static void read_all(const char *from, const char *to)
{
    if (__builtin_cpu_supports("avx512f"))
        READ(LOAD_512, "256");
    else
        READ(LOAD_256, "128");
}

static double flops_a_turn(int type)
{
    int bytes = type == 's' || type == 'c' ? 4 : 8;
    return 12.0 * 2 * (__builtin_cpu_supports("avx512f") ? 64 : 32) / bytes;
}

static void turns(int type, long count)
{
    int single = type == 's' || type == 'c';
    if (__builtin_cpu_supports("avx512f")) {
        if (single)
            LOOP_512("vfmadd231ps");
        else
            LOOP_512("vfmadd231pd");
    } else if (single) {
        LOOP_256("vfmadd231ps");
    } else {
        LOOP_256("vfmadd231pd");
    }
}
#elif defined(__aarch64__)
#define CHAIN(n, s) "fmla v" n "." s ", v0." s ", v0." s "\n"
#define TURN(s)                                                                                                        \
    "1:\n" CHAIN("1", s) CHAIN("2", s) CHAIN("3", s) CHAIN("4", s) CHAIN("5", s) CHAIN("6", s) CHAIN("7", s)           \
        CHAIN("16", s) CHAIN("17", s) CHAIN("18", s) CHAIN("19", s) CHAIN("20", s) "subs %0, %0, #1\nb.ne 1b\n"
#define CLOBBERS "cc", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v16", "v17", "v18", "v19", "v20"

static void read_all(const char *from, const char *to)
{
    __asm__ volatile("1:\nldp q0, q1, [%0]\nldp q2, q3, [%0, #32]\nadd %0, %0, #64\ncmp %0, %1\nb.lo 1b\n"
                     : "+r"(from)
                     : "r"(to)
                     : CLOBBERS, "memory");
}

static double flops_a_turn(int type)
{
    return 12.0 * 2 * (type == 's' || type == 'c' ? 4 : 2);
}

static void turns(int type, long count)
{
    if (type == 's' || type == 'c')
        __asm__ volatile(TURN("4s") : "+r"(count) : : CLOBBERS);
    else
        __asm__ volatile(TURN("2d") : "+r"(count) : : CLOBBERS);
}
#else
#error "a loop that reaches this processor's peak is wanted here"
#endif

/* GFLOP/s of one core, the best of `chunks` short runs. */
double bench_peak(int type, int chunks)
{
    const long count = 4000;
    double best = 1e300;
    for (int chunk = 0; chunk < chunks; chunk++) {
        double start = now();
        turns(type, count);
        double passed = now() - start;
        if (passed < best)
            best = passed;
    }
    return flops_a_turn(type) * (double)count / best;
}

/* ---- How fast memory is read: what a product that reads its operands once cannot beat ---- */

enum { MOST_READERS = 64 };

typedef struct {
    const char *from, *to;
    int repeats;
    atomic_int *turn, *done; /* readings begun, readers that are through */
} reader;

static void *read_on(void *argument)
{
    const reader *r = argument;
    for (int repeat = 1; repeat <= r->repeats; repeat++) {
        while (atomic_load(r->turn) < repeat)
            sched_yield();
        read_all(r->from, r->to);
        atomic_fetch_add(r->done, 1);
    }
    return 0;
}

/* Bytes a nanosecond, the best of `repeats` readings of `bytes` bytes by so many threads, each its own part. */
double bench_read(const char *memory, int64_t bytes, int threads, int repeats)
{
    reader readers[MOST_READERS];
    pthread_t ids[MOST_READERS];
    atomic_int turn = 0, done = 0;
    threads = threads < 1 ? 1 : threads > MOST_READERS ? MOST_READERS : threads;
    int64_t part = bytes / threads / 256 * 256;
    if (part == 0)
        return 0;
    int others = 0;
    for (int i = 0; i < threads; i++)
        readers[i] = (reader){memory + i * part, memory + (i + 1) * part, repeats, &turn, &done};
    while (others < threads - 1 && pthread_create(&ids[others], 0, read_on, &readers[others + 1]) == 0)
        others++;
    double best = 1e300;
    for (int repeat = 1; repeat <= repeats; repeat++) {
        double start = now();
        atomic_store(&turn, repeat);
        read_all(readers[0].from, readers[0].to);
        while (atomic_load(&done) < repeat * others)
            sched_yield();
        double passed = now() - start;
        best = passed < best ? passed : best;
    }
    for (int i = 0; i < others; i++)
        pthread_join(ids[i], 0);
    return (double)(part * (others + 1)) / best;
}
