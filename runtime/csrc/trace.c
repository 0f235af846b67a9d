/* trace.c - what a plan does, said: to callers, and with TILEWRIGHT_VERBOSE on stderr. */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"
#include "tiling.h"

int tw_verbose;

int tw_gemm_plan_isa(const tw_gemm_plan *plan)
{
    return plan->served_by;
}

const char *tw_gemm_plan_path(const tw_gemm_plan *plan)
{
    return plan->turned       ? "A turned, then tiles"
           : plan->count < 0  ? "walk"
           : plan->count == 0 ? "nothing to do"
           : plan->count == 1 ? "one kernel"
                              : "tiles";
}

static void fill(const tw_gemm_plan *plan, const tw_tile *tile, tw_gemm_tile *to)
{
    tw_cost_line cost = tw_cost_near(tile->kernel, plan->form.k);
    *to = (tw_gemm_tile){tile->kernel->name,
                         tile->i,
                         tile->j,
                         tile->m,
                         tile->n,
                         (double)cost.call + (double)cost.step * (double)plan->form.k};
}

int64_t tw_gemm_plan_tiles(const tw_gemm_plan *plan, int64_t most, tw_gemm_tile *tiles)
{
    int64_t count = 0;
    if (plan->count < 0 || (plan->count > 0 && plan->walked)) {
        tw_walk walk = tw_walk_begin(plan->tiles, plan->form.m, plan->form.n);
        for (tw_tile tile; tw_walk_next(&walk, &tile); count++) {
            if (count < most) {
                fill(plan, &tile, &tiles[count]);
            }
        }
        return count;
    }
    if (plan->count > 0) { /* commands do not say what tile they are for: cut again, which gives the same */
        tw_tile_list *list = malloc(sizeof *list);
        if (list == NULL) {
            return -1;
        }
        const tw_form *form = &plan->form;
        count = tw_tile_c(plan->tiles, plan->key.variant >> 16, form->m, form->n, form->k, list);
        for (int64_t i = 0; i < count && i < most; i++) {
            fill(plan, &list->tiles[i], &tiles[i]);
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
    atomic_llong calls;
} seen[SEEN];
static atomic_llong others;

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
        fprintf(stderr, "tilewright: %lld x %s\n", (long long)atomic_load(&seen[i].calls), text);
    }
    if (atomic_load(&others) > 0) {
        fprintf(stderr, "tilewright: %lld x other products\n", (long long)atomic_load(&others));
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

static void tally(const tw_key *key, int64_t calls)
{
    for (int i = 0; i < SEEN; i++) {
        int unused = 0;
        if (atomic_compare_exchange_strong(&seen[i].state, &unused, 1)) {
            seen[i].key = *key;
            atomic_store(&seen[i].state, 2);
        }
        while (atomic_load(&seen[i].state) != 2) { /* another thread fills it, which is a copy of 64 bytes */
        }
        if (tw_key_same(&seen[i].key, key)) {
            atomic_fetch_add(&seen[i].calls, calls);
            return;
        }
    }
    atomic_fetch_add(&others, calls);
}

void tw_trace(const tw_gemm_plan *plan, int64_t calls)
{
    tally(&plan->key, calls);
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
    describe(&plan->key, text, sizeof text);
    fprintf(stderr, "tilewright: %lld x %s: %s, %lld tile%s%s%s\n", (long long)calls, text, tw_gemm_plan_path(plan),
            (long long)total, total == 1 ? "" : "s", kernels, total > SHOWN ? " ..." : "");
}
