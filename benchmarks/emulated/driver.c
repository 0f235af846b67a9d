/* driver.c - runs products one by one, warm, each between the marks that counter.c waits for.
 *
 * Reads lines from standard input; answers each product with "ok", "wrong" or why it could not run:
 *
 *     library WAY PATH SYMBOL     load a library; SYMBOL is its sgemm with '?' for the type's letter
 *     WAY TYPE TRANS_A TRANS_B M N K
 *
 * WAY is one of the libraries (through the Fortran interface, or cblas's where the symbol says so), or of ours: "call"
 * tw_?gemm, "plan" tw_gemm_plan_execute. All of it column-major, alpha = beta = 1. What is computed is checked: the
 * operands are integers, and C x must be exactly A (B x) + C0 x for a vector x. */
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tilewright.h"
#include "tw_kernel.h"

#define BEGIN __asm__ volatile("hint #100" ::: "memory")
#define END __asm__ volatile("hint #101" ::: "memory")

typedef void (*fortran_gemm)(const char *, const char *, const int *, const int *, const int *, const void *,
                             const void *, const int *, const void *, const int *, const void *, void *, const int *);
typedef void (*cblas_sgemm)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                            int);
typedef void (*cblas_dgemm)(int, int, int, int, int, int, double, const double *, int, const double *, int, double,
                            double *, int);
typedef void (*cblas_xgemm)(int, int, int, int, int, int, const void *, const void *, int, const void *, int,
                            const void *, void *, int);

typedef struct library {
    char way[32], symbol[64];
    void *handle;
} library;

static library libraries[16];
static int library_count;

typedef struct problem {
    char type, trans_a, trans_b;
    int m, n, k, lda, ldb, ldc;
    void *a, *b, *c;
} problem;

static int reals_of(char type)
{
    return type == 'c' || type == 'z' ? 2 : 1;
}

static bool single(char type)
{
    return type == 's' || type == 'c';
}

static double get(const problem *p, const void *x, int64_t index)
{
    return single(p->type) ? (double)((const float *)x)[index] : ((const double *)x)[index];
}

static void *filled(const problem *p, int64_t elements, uint32_t seed)
{
    int64_t count = elements * reals_of(p->type);
    void *x = malloc((size_t)count * (single(p->type) ? 4 : 8) + 64);
    for (int64_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        double value = (double)(seed >> 24) / 32 - 4;
        value = (double)(int)value;
        if (single(p->type)) {
            ((float *)x)[i] = (float)value;
        } else {
            ((double *)x)[i] = value;
        }
    }
    return x;
}

/* y = op(X) x, where op(X) has so many rows and columns; all numbers as (real, imaginary). */
static void times(const problem *p, const void *matrix, int ld, bool trans, int rows, int columns, const double *x,
                  double *y)
{
    int reals = reals_of(p->type);
    for (int i = 0; i < rows; i++) {
        double re = 0, im = 0;
        for (int j = 0; j < columns; j++) {
            int64_t at = (trans ? (int64_t)i * ld + j : (int64_t)j * ld + i) * reals;
            double r = get(p, matrix, at), s = reals == 2 ? get(p, matrix, at + 1) : 0;
            re += r * x[2 * j] - s * x[2 * j + 1];
            im += r * x[2 * j + 1] + s * x[2 * j];
        }
        y[2 * i] = re;
        y[2 * i + 1] = im;
    }
}

typedef union scalar {
    float s;
    double d;
    float c[2];
    double z[2];
} scalar;

static scalar one_of(char type)
{
    return type == 's'   ? (scalar){.s = 1}
           : type == 'd' ? (scalar){.d = 1}
           : type == 'c' ? (scalar){.c = {1, 0}}
                         : (scalar){.z = {1, 0}};
}

/* How our entries are called; through pointers, as what dlsym finds is. */
static typeof(&tw_sgemm) volatile call_s = tw_sgemm;
static typeof(&tw_dgemm) volatile call_d = tw_dgemm;
static typeof(&tw_cgemm) volatile call_c = tw_cgemm;
static typeof(&tw_zgemm) volatile call_z = tw_zgemm;
static typeof(&tw_gemm_plan_execute) volatile execute = tw_gemm_plan_execute;

static void run_call(const problem *p)
{
    scalar one = one_of(p->type);
    int64_t m = p->m, n = p->n, k = p->k, lda = p->lda, ldb = p->ldb, ldc = p->ldc;
    int ta = p->trans_a, tb = p->trans_b;
    const void *a = p->a, *b = p->b;
    void *c = p->c;
    if (p->type == 's') {
        typeof(&tw_sgemm) call = call_s;
        BEGIN;
        call(TW_COL_MAJOR, ta, tb, m, n, k, 1, a, lda, b, ldb, 1, c, ldc);
        END;
    } else if (p->type == 'd') {
        typeof(&tw_dgemm) call = call_d;
        BEGIN;
        call(TW_COL_MAJOR, ta, tb, m, n, k, 1, a, lda, b, ldb, 1, c, ldc);
        END;
    } else {
        typeof(&tw_cgemm) call = p->type == 'c' ? call_c : call_z;
        BEGIN;
        call(TW_COL_MAJOR, ta, tb, m, n, k, &one, a, lda, b, ldb, &one, c, ldc);
        END;
    }
}

static void run_plan(const problem *p, const tw_gemm_plan *plan)
{
    scalar one = one_of(p->type);
    typeof(&tw_gemm_plan_execute) call = execute;
    const void *a = p->a, *b = p->b;
    void *c = p->c;
    BEGIN;
    call(plan, &one, a, b, &one, c);
    END;
}

/* The kernel that does the whole product, with the arguments a plan would give it. */
static void run_kernel(const problem *p, const tw_kernel *kernel)
{
    scalar one = one_of(p->type);
    int64_t element = (single(p->type) ? 4 : 8) * reals_of(p->type);
    tw_args args = {.k = p->k, .lda = p->lda * element, .ldb = p->ldb * element, .ldc = p->ldc * element};
    args.flags = TW_FLAG_BETA | TW_FLAG_ADD;
    memcpy(&args.alpha, &one, sizeof one);
    memcpy(&args.beta, &one, sizeof one);
    scalar pair = single(p->type) ? (scalar){.c = {-1, 1}} : (scalar){.z = {-1, 1}};
    memcpy(&args.pair, &pair, sizeof pair);
    tw_kernel_fn call = kernel->run;
    const void *a = p->a, *b = p->b;
    void *c = p->c;
    BEGIN;
    call(a, b, c, &args);
    END;
}

static void run_cblas(const problem *p, void *function)
{
    scalar one = one_of(p->type);
    int m = p->m, n = p->n, k = p->k, lda = p->lda, ldb = p->ldb, ldc = p->ldc;
    int ta = p->trans_a == 'T' ? 112 : 111, tb = p->trans_b == 'T' ? 112 : 111;
    const void *a = p->a, *b = p->b;
    void *c = p->c;
    if (p->type == 's') {
        cblas_sgemm call = (cblas_sgemm)function;
        BEGIN;
        call(TW_COL_MAJOR, ta, tb, m, n, k, 1, a, lda, b, ldb, 1, c, ldc);
        END;
    } else if (p->type == 'd') {
        cblas_dgemm call = (cblas_dgemm)function;
        BEGIN;
        call(TW_COL_MAJOR, ta, tb, m, n, k, 1, a, lda, b, ldb, 1, c, ldc);
        END;
    } else {
        cblas_xgemm call = (cblas_xgemm)function;
        BEGIN;
        call(TW_COL_MAJOR, ta, tb, m, n, k, &one, a, lda, b, ldb, &one, c, ldc);
        END;
    }
}

static void run_fortran(const problem *p, void *function)
{
    scalar one = one_of(p->type);
    fortran_gemm call = (fortran_gemm)function;
    problem q = *p;
    BEGIN;
    call(&q.trans_a, &q.trans_b, &q.m, &q.n, &q.k, &one, q.a, &q.lda, q.b, &q.ldb, &one, q.c, &q.ldc);
    END;
}

static const char *run(const char *way, problem *p)
{
    tw_gemm_plan *plan = NULL;
    const tw_kernel *kernel = NULL;
    void *function = NULL;
    bool cblas = false;
    if (strcmp(way, "plan") == 0 || strcmp(way, "kernel") == 0) {
        if (tw_gemm_plan_create(&plan, p->type, TW_COL_MAJOR, p->trans_a, p->trans_b, p->m, p->n, p->k, p->lda, p->ldb,
                                p->ldc) != TW_OK) {
            return tw_error_message();
        }
        if (strcmp(way, "kernel") == 0) {
            tw_gemm_tile tile;
            if (tw_gemm_plan_tiles(plan, 1, &tile) != 1) {
                return "more than one tile";
            }
            kernel = tw_find_kernel(tile.kernel);
            char mode[] = {p->trans_a == 'N' ? 'n' : 't', p->trans_b == 'N' ? 'n' : 't'};
            if (kernel == NULL || memcmp(kernel->name + strlen("gemm_s_"), mode, sizeof mode) != 0) {
                return "a kernel for this size alone, or for an operand turned before";
            }
        }
    } else if (strcmp(way, "call") != 0) {
        int i = 0;
        while (i < library_count && strcmp(libraries[i].way, way) != 0) {
            i++;
        }
        if (i == library_count) {
            return "no such library";
        }
        char symbol[64];
        snprintf(symbol, sizeof symbol, "%s", libraries[i].symbol);
        char *letter = strchr(symbol, '?');
        if (letter != NULL) {
            *letter = p->type;
        }
        cblas = strstr(symbol, "cblas_") != NULL;
        function = dlsym(libraries[i].handle, symbol);
        if (function == NULL) {
            return dlerror();
        }
    }
    double x[2 * 256], bx[2 * 256], expected[2 * 256], found[2 * 256], before[2 * 256];
    for (int i = 0; i < 2 * p->n; i++) {
        x[i] = i % 2 && reals_of(p->type) == 1 ? 0 : (double)(i * 7 % 5 - 2);
    }
    times(p, p->b, p->ldb, p->trans_b == 'T', p->k, p->n, x, bx);
    times(p, p->a, p->lda, p->trans_a == 'T', p->m, p->k, bx, expected);
    for (int round = 0; round < 3; round++) { /* the last one counts */
        times(p, p->c, p->ldc, false, p->m, p->n, x, before);
        if (kernel != NULL) {
            run_kernel(p, kernel);
        } else if (plan != NULL) {
            run_plan(p, plan);
        } else if (function == NULL) {
            run_call(p);
        } else if (cblas) {
            run_cblas(p, function);
        } else {
            run_fortran(p, function);
        }
    }
    times(p, p->c, p->ldc, false, p->m, p->n, x, found);
    tw_gemm_plan_destroy(plan);
    for (int i = 0; i < 2 * p->m; i++) {
        if (found[i] - before[i] != expected[i]) {
            return "wrong";
        }
    }
    return "ok";
}

int main(void)
{
    char line[1024];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        char way[32], path[512], symbol[64];
        if (sscanf(line, "library %31s %511s %63s", way, path, symbol) == 3) {
            library *to = &libraries[library_count++];
            memcpy(to->way, way, sizeof way);
            memcpy(to->symbol, symbol, sizeof symbol);
            to->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
            puts(to->handle != NULL ? "ok" : dlerror());
            continue;
        }
        problem p = {0};
        if (sscanf(line, "%31s %c %c %c %d %d %d", way, &p.type, &p.trans_a, &p.trans_b, &p.m, &p.n, &p.k) != 7 ||
            p.m > 256 || p.n > 256 || p.k > 256) {
            puts("what?");
            continue;
        }
        bool ta = p.trans_a == 'T', tb = p.trans_b == 'T';
        p.lda = ta ? p.k : p.m;
        p.ldb = tb ? p.n : p.k;
        p.ldc = p.m;
        p.a = filled(&p, (int64_t)p.m * p.k, 1);
        p.b = filled(&p, (int64_t)p.k * p.n, 2);
        p.c = filled(&p, (int64_t)p.m * p.n, 3);
        puts(run(way, &p));
        free(p.a);
        free(p.b);
        free(p.c);
    }
    return 0;
}
