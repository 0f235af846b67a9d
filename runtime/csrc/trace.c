/* trace.c - what a plan does, said: to callers, and with TILEWRIGHT_VERBOSE on stderr. */
#define _GNU_SOURCE /* clock_gettime */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "blocked.h"
#include "siblings.h"
#include "tiling.h"

int tw_verbose;

int tw_verbosity(void)
{
    return tw_verbose;
}

int tw_gemm_plan_isa(const tw_gemm_plan *plan)
{
    return plan != NULL ? plan->served_by : -tw_refuse_plan("tw_gemm_plan_isa");
}

const char *tw_gemm_plan_path(const tw_gemm_plan *plan)
{
    if (plan != NULL && plan->blocked) {
        return tw_blocked_of(plan)->path;
    }
    return plan == NULL       ? "no plan"
           : plan->count < 0  ? "walk"
           : plan->count == 0 ? "nothing to do"
           : plan->count == 1 ? "one kernel"
                              : "tiles";
}

/* A plan's key, also where the cache has made another in its place and hidden this one: see tw_cache_renew. */
static tw_key key_of(const tw_gemm_plan *plan)
{
    tw_key key = plan->key;
    key.variant = __atomic_load_n(&plan->key.variant, __ATOMIC_RELAXED);
    if (key.variant < 0) {
        key.variant = tw_variant(plan->form.dtype, plan->served_by, 0);
    }
    return key;
}

const char *tw_gemm_plan_many(const tw_gemm_plan *plan)
{
    if (plan == NULL) {
        return NULL;
    }
    const tw_many *many = &plan->many;
    const tw_kernel *kernel = tw_special_running(many->across.run ? many->across.run : many->each.run);
    return kernel ? kernel->name : NULL;
}

void tw_gemm_plan_seen(const tw_gemm_plan *plan, int64_t seen[7])
{
    const tw_form *form = &plan->form;
    int64_t element = tw_element_bytes(form->dtype);
    seen[0] = form->m, seen[1] = form->n;
    seen[2] = form->lda / element, seen[3] = form->ldb / element, seen[4] = form->ldc / element;
    seen[5] = form->trans_a + 2 * form->conj_a;
    seen[6] = form->trans_b + 2 * form->conj_b;
}

static void fill(const tw_gemm_plan *plan, const tw_tile *tile, tw_gemm_tile *to)
{
    const tw_kernel *known = tile->kernel;
    const tw_tiles *any;
    if (known->family >= TW_EXACT && tile->m <= TW_LARGEST && tile->n <= TW_LARGEST &&
        tw_tiles_find(known->isa, known->dtype, known->mode, tw_steps_of(plan->form.k, false), &any) == TW_OK &&
        any != NULL && any->kernel[tile->m][tile->n] != NULL) {
        known = any->kernel[tile->m][tile->n]; /* at most what the kernel for any k takes */
    }
    tw_cost_line cost = tw_cost_near(known, plan->form.k);
    *to = (tw_gemm_tile){tile->kernel->name,
                         tile->i,
                         tile->j,
                         tile->m,
                         tile->n,
                         (double)cost.call + (double)cost.step * (double)plan->form.k};
    if (plan->exchanged != (plan->key.layout == TW_ROW_MAJOR)) { /* a row that was taken as a column */
        to->i = tile->j, to->j = tile->i;
        to->m = tile->n, to->n = tile->m;
    }
}

int64_t tw_gemm_plan_tiles(const tw_gemm_plan *plan, int64_t most, tw_gemm_tile *tiles)
{
    if (plan == NULL) {
        return -tw_refuse_plan("tw_gemm_plan_tiles");
    }
    int64_t count = 0;
    if (plan->blocked) {
        return 0;
    }
    if (plan->count < 0 || (plan->count > 0 && plan->walked)) {
        tw_walk walk = tw_walk_begin(plan->tiles, plan->main.m, plan->main.n);
        for (tw_tile tile; tw_walk_next(&walk, &tile); count++) {
            if (count < most) {
                fill(plan, &tile, &tiles[count]);
            }
        }
        return count;
    }
    if (plan->count > 0 && plan->tiles == NULL) { /* one kernel for just this product */
        tw_tile tile = {tw_special_running(plan->commands[0].run), 0, 0, (int)plan->form.m, (int)plan->form.n};
        if (most > 0) {
            fill(plan, &tile, tiles);
        }
        return 1;
    }
    if (plan->count > 0) { /* commands do not say what tile they are for: cut again, which gives the same */
        tw_tile_list *list = malloc(sizeof *list);
        if (list == NULL) {
            return -1;
        }
        int tiler = key_of(plan).variant >> 16 & TW_STRATEGY;
        const tw_form *form = &plan->main;
        count = tw_tile_c(plan->tiles, tiler, form->m, form->n, form->k, list);
        for (int64_t i = 0; i < count && i < most; i++) {
            fill(plan, &list->tiles[i], &tiles[i]);
        }
        if (plan->strip.rows) {
            form = &plan->strip.form;
            int more = tw_tile_c(plan->strip.tiles, tiler, form->m, form->n, form->k, list);
            for (int64_t i = 0; i < more; i++, count++) {
                if (count < most) {
                    list->tiles[i].i += plan->main.m;
                    fill(plan, &list->tiles[i], &tiles[count]);
                }
            }
        }
        free(list);
    }
    return count;
}

/* ---- TILEWRIGHT_VERBOSE ---- */

enum { SEEN = 64 };

/* Products by key, counted without locks; beyond the room there is, together. */
static struct {
    atomic_int state; /* 0 free, 1 being filled, 2 filled */
    tw_key key;
    const char *path;
    atomic_llong calls, nanoseconds;
} seen[SEEN];
static atomic_llong others, others_nanoseconds;

static void describe(const tw_key *key, char *text, size_t size)
{
    snprintf(text, size, "%cgemm %s-major %c%c m=%lld n=%lld k=%lld lda=%lld ldb=%lld ldc=%lld",
             tw_letters[key->variant & 0xff], key->layout == TW_ROW_MAJOR ? "row" : "column", key->transa, key->transb,
             (long long)key->m, (long long)key->n, (long long)key->k, (long long)key->lda, (long long)key->ldb,
             (long long)key->ldc);
}

static void summary(void)
{
    char text[192];
    for (int i = 0; i < SEEN && atomic_load(&seen[i].state) == 2; i++) {
        describe(&seen[i].key, text, sizeof text);
        fprintf(stderr, "tilewright: %lld x %s: %s, %.3f ms\n", (long long)atomic_load(&seen[i].calls), text,
                seen[i].path, (double)atomic_load(&seen[i].nanoseconds) * 1e-6);
    }
    if (atomic_load(&others) > 0) {
        fprintf(stderr, "tilewright: %lld x other products: %.3f ms\n", (long long)atomic_load(&others),
                (double)atomic_load(&others_nanoseconds) * 1e-6);
    }
}

__attribute__((constructor)) static void choose(void)
{
    const char *value = getenv("TILEWRIGHT_VERBOSE");
    tw_verbose = value && value[0] >= '1' && value[0] <= '9' ? (value[0] == '1' ? 1 : 2) : 0;
    if (tw_verbose) {
        atexit(summary);
    }
}

int64_t tw_trace_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void tally(const tw_gemm_plan *plan, int64_t calls, int64_t nanoseconds)
{
    const tw_key mine = key_of(plan), *key = &mine;
    for (int i = 0; i < SEEN; i++) {
        int unused = 0;
        if (atomic_compare_exchange_strong(&seen[i].state, &unused, 1)) {
            seen[i].key = *key;
            seen[i].path = tw_gemm_plan_path(plan);
            atomic_store(&seen[i].state, 2);
        }
        while (atomic_load(&seen[i].state) != 2) { /* another thread fills it, which is a copy of 64 bytes */
        }
        if (tw_key_same(&seen[i].key, key)) {
            atomic_fetch_add(&seen[i].calls, calls);
            atomic_fetch_add(&seen[i].nanoseconds, nanoseconds);
            return;
        }
    }
    atomic_fetch_add(&others, calls);
    atomic_fetch_add(&others_nanoseconds, nanoseconds);
}

void tw_trace(const tw_gemm_plan *plan, int64_t calls, int64_t nanoseconds)
{
    tally(plan, calls, nanoseconds);
    if (tw_verbose < 2) {
        return;
    }
    enum { SHOWN = 4 };
    char text[192], kernels[384];
    size_t length = 0;
    tw_gemm_tile tiles[SHOWN];
    int64_t total = tw_gemm_plan_tiles(plan, SHOWN, tiles);
    kernels[0] = '\0';
    for (int64_t i = 0; i < total && i < SHOWN && length < sizeof kernels; i++) {
        length += (size_t)snprintf(kernels + length, sizeof kernels - length, " %s", tiles[i].kernel);
    }
    tw_key key = key_of(plan);
    describe(&key, text, sizeof text);
    fprintf(stderr, "tilewright: %lld x %s: %s, %lld tile%s%s%s\n", (long long)calls, text, tw_gemm_plan_path(plan),
            (long long)total, total == 1 ? "" : "s", kernels, total > SHOWN ? " ..." : "");
}
