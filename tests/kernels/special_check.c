/* special_check.c - every kernel for one size that this CPU can run, through plans and batches, between guard pages.
 *
 * usage: special_check LIBRARY. For each kernel and each size it serves: single products or batches of several counts,
 * with strides that leave gaps, that are zero for A and B, that are negative; every operand at the end of its memory and
 * at the start, a page that nobody may touch beyond it; NaN between the elements of A and B, and in C where beta is 0;
 * all else that C's memory holds must keep its value. Integers, compared exactly. Says what failed; at the end
 * "checked N kernels, M products". A fault ends it, and the kernel at work was named before. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "tilewright.h"
#include "tw_kernel.h"

enum { ROOM = 1 << 18, PAGE = 1 << 16 };

static void *library;
#define GET(name) ((__typeof__(&name))dlsym(library, #name))

typedef struct region {
    char *low, *high; /* first byte, first byte beyond */
} region;

static region guarded(void)
{
    char *all = mmap(NULL, ROOM + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED || mprotect(all + PAGE, ROOM, PROT_READ | PROT_WRITE) != 0) {
        perror("mmap");
        exit(2);
    }
    return (region){all + PAGE, all + PAGE + ROOM};
}

/* One operand of a batch: `lines` runs of `length` elements, ld apart, `count` matrices a stride apart. */
typedef struct operand {
    region where;
    char *first; /* of problem 0, which a negative stride puts last */
    int64_t lines, length, ld, stride, count;
} operand;

static int reals, real_bytes; /* of an element, of a real */

static void put(char *at, int64_t real, double value)
{
    if (real_bytes == 4) {
        ((float *)(void *)at)[real] = (float)value;
    } else {
        ((double *)(void *)at)[real] = value;
    }
}

static double get(const char *at, int64_t real)
{
    return real_bytes == 4 ? (double)((const float *)(const void *)at)[real] : ((const double *)(const void *)at)[real];
}

static char *element(const operand *x, int64_t problem, int64_t line, int64_t along)
{
    return x->first + (problem * x->stride + line * x->ld + along) * reals * real_bytes;
}

static void place(operand *x, bool at_end)
{
    int64_t size = reals * real_bytes, span = (x->lines - 1) * x->ld + x->length;
    int64_t reach = (x->count - 1) * (x->stride < 0 ? -x->stride : x->stride) + span;
    char *start = at_end ? x->where.high - reach * size : x->where.low;
    x->first = x->stride < 0 ? start + (x->count - 1) * -x->stride * size : start;
}

static int draw(void)
{
    static unsigned state = 1;
    state = state * 1664525u + 1013904223u;
    return (int)(state >> 24) % 9 - 4;
}

static void fill(operand *x, bool elements)
{
    for (int64_t i = 0; i < ROOM / real_bytes; i++) {
        put(x->where.low, i, NAN);
    }
    for (int64_t p = 0; elements && p < x->count; p++) {
        for (int64_t line = 0; line < x->lines; line++) {
            for (int64_t i = 0; i < x->length * reals; i++) {
                put(element(x, p, line, 0), i, draw());
            }
        }
    }
}

typedef struct trial {
    const tw_special *special;
    int m, n, k;
    bool trans_a, trans_b, conj_a, conj_b;
    int scalars; /* 0: 1, 0; 1: 1, 1; 2: both general; 3: alpha = 0 */
    int64_t count;
    int gap; /* 0: a little; 1: A and B are one matrix each; 2: negative strides */
    bool at_end;
} trial;

static long products;

static bool wrong(const trial *t, int64_t p, const char *what)
{
    printf("%s: %s: m %d, n %d, conj %d %d, scalars %d, problem %lld of %lld, gap %d, at %s\n", t->special->kernel.name,
           what, t->m, t->n, t->conj_a, t->conj_b, t->scalars, (long long)p, (long long)t->count, t->gap,
           t->at_end ? "end" : "start");
    return false;
}

/* Element (line, along) of op(X), its imaginary part negated where it is conjugated. */
static void factor(const operand *x, int64_t p, bool trans, bool conj, int row, int column, double value[2])
{
    const char *at = trans ? element(x, p, row, column) : element(x, p, column, row);
    value[0] = get(at, 0);
    value[1] = reals == 2 ? (conj ? -1 : 1) * get(at, 1) : 0;
}

static void times(double x[2], const double y[2])
{
    double re = x[0] * y[0] - x[1] * y[1];
    x[1] = x[0] * y[1] + x[1] * y[0];
    x[0] = re;
}

static const double alphas[][2] = {{1, 0}, {1, 0}, {-2, 3}, {0, 0}}, betas[][2] = {{0, 0}, {1, 0}, {3, -1}, {2, 0}};

static bool check(const trial *t, operand *a, operand *b, operand *c, char *before)
{
    const tw_special *s = t->special;
    const char letters[] = "sdcz", op_a = "NTRC"[t->trans_a + 2 * t->conj_a], op_b = "NTRC"[t->trans_b + 2 * t->conj_b];
    tw_gemm_plan *plan;
    if (GET(tw_gemm_plan_create)(&plan, letters[s->kernel.dtype], TW_COL_MAJOR, op_a, op_b, t->m, t->n, t->k, a->ld,
                                 b->ld, c->ld) != TW_OK) {
        return wrong(t, 0, GET(tw_error_message)());
    }
    bool batch = s->kernel.family == TW_BATCH;
    tw_gemm_tile tile = {.kernel = ""};
    GET(tw_gemm_plan_tiles)(plan, 1, &tile);
    const char *many = GET(tw_gemm_plan_many)(plan);
    bool used = batch ? many != NULL : strcmp(tile.kernel, s->kernel.name) == 0;
    char alpha[16], beta[16];
    for (int part = 0; part < reals; part++) {
        put(alpha, part, alphas[t->scalars][part]);
        put(beta, part, betas[t->scalars][part]);
    }
    place(a, t->at_end);
    place(b, t->at_end);
    place(c, t->at_end);
    fill(a, t->scalars != 3);
    fill(b, t->scalars != 3);
    fill(c, t->scalars != 0);
    memcpy(before, c->where.low, ROOM);
    int status = batch ? GET(tw_gemm_batch_strided)(plan, t->count, alpha, a->first, a->stride, b->first, b->stride,
                                                    beta, c->first, c->stride)
                       : GET(tw_gemm_plan_execute)(plan, alpha, a->first, b->first, beta, c->first);
    GET(tw_gemm_plan_destroy)(plan);
    if (status != TW_OK) {
        return wrong(t, 0, GET(tw_error_message)());
    }
    for (int64_t p = 0; p < t->count; p++) {
        products++;
        for (int j = 0; j < t->n; j++) {
            for (int i = 0; i < t->m; i++) {
                double sum[2] = {0, 0}, x[2], y[2];
                for (int k = 0; k < t->k && t->scalars != 3; k++) {
                    factor(a, p, t->trans_a, t->conj_a, i, k, x);
                    factor(b, p, t->trans_b, t->conj_b, k, j, y);
                    times(x, y);
                    sum[0] += x[0], sum[1] += x[1];
                }
                double scale[2] = {alphas[t->scalars][0], reals == 2 ? alphas[t->scalars][1] : 0};
                times(sum, scale);
                char *at = element(c, p, j, i), *old = before + (at - c->where.low);
                if (t->scalars != 0) {
                    double add[2] = {betas[t->scalars][0], reals == 2 ? betas[t->scalars][1] : 0};
                    double was[2] = {get(old, 0), reals == 2 ? get(old, 1) : 0};
                    times(add, was);
                    sum[0] += add[0], sum[1] += add[1];
                }
                for (int part = 0; part < reals; part++) {
                    if (get(at, part) != sum[part]) {
                        return wrong(t, p, "wrong element");
                    }
                    memcpy(at + part * real_bytes, old + part * real_bytes, (size_t)real_bytes); /* for what follows */
                }
            }
        }
    }
    if (memcmp(before, c->where.low, ROOM) != 0) {
        return wrong(t, 0, "something beside C was written");
    }
    return used || wrong(t, 0, "the plan runs another kernel");
}

static bool check_size(const tw_special *s, int m, int n, operand *a, operand *b, operand *c, char *before)
{
    const tw_kernel *kernel = &s->kernel;
    int k = s->k, mode = kernel->mode;
    trial t = {.special = s, .m = m, .n = n, .k = k};
    t.trans_a = mode == TW_TN || mode == TW_TT || mode == TW_CN || mode == TW_TC;
    t.trans_b = mode == TW_NT || mode == TW_TT || mode == TW_NC || mode == TW_TC;
    bool batch = kernel->family == TW_BATCH, good = true;
    int lanes = s->lanes;
    const int64_t counts[] = {4, 5, lanes > 1 ? lanes : 7, 2 * lanes + 3};
    for (int turn = 0; turn < (batch ? 4 * 3 * 2 : 2 * 4); turn++) {
        t.count = batch ? counts[turn % 4] : 1;
        t.count = t.count < 4 && batch ? 4 : t.count;
        t.gap = batch ? turn / 4 % 3 : 0;
        t.at_end = turn % 2;
        t.scalars = batch ? (turn + turn / 4) % 4 : turn / 2;
        t.conj_a = t.conj_b = false;
        if (kernel->paired) {
            t.conj_a = turn & 1, t.conj_b = turn & 2;
        }
        int64_t size_a = t.trans_a ? m : k, size_b = t.trans_b ? k : n, size_c = n;
        a->lines = size_a, a->length = t.trans_a ? k : m, a->ld = s->lda ? s->lda : a->length + 2;
        b->lines = size_b, b->length = t.trans_b ? n : k, b->ld = s->ldb ? s->ldb : b->length + 1;
        c->lines = size_c, c->length = m, c->ld = s->ldc ? s->ldc : c->length + 3;
        a->count = b->count = c->count = t.count;
        int sign = t.gap == 2 ? -1 : 1, extra = t.gap == 0 ? turn % 3 : 1;
        a->stride = t.gap == 1 ? 0 : sign * (a->lines * a->ld + extra);
        b->stride = t.gap == 1 ? 0 : sign * (b->lines * b->ld + extra);
        c->stride = sign * (c->lines * c->ld + extra);
        good = check(&t, a, b, c, before) && good;
    }
    return good;
}

int main(int argc, char **argv)
{
    library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (library == NULL) {
        fprintf(stderr, "%s\n", argc == 2 ? dlerror() : "usage: special_check LIBRARY");
        return 2;
    }
    const tw_special *specials = dlsym(library, "tw_specials");
    int count = *(const int *)dlsym(library, "tw_special_count"), checked = 0;
    operand a = {.where = guarded()}, b = {.where = guarded()}, c = {.where = guarded()};
    char *before = malloc(ROOM);
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int i = 0; i < count && before != NULL; i++) {
        const tw_special *s = &specials[i];
        const tw_kernel *kernel = &s->kernel;
        if (!GET(tw_isa_supported)(kernel->isa)) {
            continue;
        }
        GET(tw_isa_set)(GET(tw_isa_name)(kernel->isa));
        fprintf(stderr, "%s\n", kernel->name);
        reals = kernel->dtype == TW_C || kernel->dtype == TW_Z ? 2 : 1;
        real_bytes = kernel->dtype == TW_S || kernel->dtype == TW_C ? 4 : 8;
        int slack = kernel->mask_span ? kernel->mask_span - 1 : 0;
        for (int less = 0; less <= slack; less++) {
            int m = kernel->mr - (kernel->vector_dim == 0 ? less : 0), n = kernel->nr - (kernel->vector_dim ? less : 0);
            bool trans_a = kernel->mode == TW_TN || kernel->mode == TW_TT,
                 trans_b = kernel->mode == TW_NT || kernel->mode == TW_TT;
            if ((s->lda && s->lda < (trans_a ? s->k : m)) || (s->ldb && s->ldb < (trans_b ? n : s->k)) ||
                (s->ldc && s->ldc < m) || (m == 1 && s->k > 1) || m < 1 || n < 1) {
                continue; /* no such matrices; or a row, which is taken as a column */
            }
            check_size(s, m, n, &a, &b, &c, before);
        }
        checked++;
    }
    printf("checked %d kernels, %ld products\n", checked, products);
    return 0;
}
