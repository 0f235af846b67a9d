/* cache.c - plans by what they were asked for: one table for the process, read without locks, never emptied.
 *
 * A plan once in the table is never freed, so a thread may keep a pointer to it. That bounds the table: when the places
 * for a hash are taken, further shapes are planned at each call (tens of nanoseconds more). No lock that a fork could
 * leave held: threads that come first together each make the plan, and one is kept. */
#include <stdlib.h>

#include "internal.h"

enum {
    PLACES = 4096,
    PROBES = 16,
    LARGEST_C = 1 << 16, /* elements: beyond it, planning at each call is nothing beside the product */
};

static _Atomic(tw_gemm_plan *) places[PLACES];

static uint64_t hash_of(const tw_key *key)
{
    /* Odd multipliers spread each word over the high bits; the multiplications do not wait for each other. */
    uint64_t h = (uint64_t)key->m * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)key->n * UINT64_C(0xc2b2ae3d27d4eb4f) +
                 (uint64_t)key->k * UINT64_C(0x165667b19e3779f9) + (uint64_t)key->lda * UINT64_C(0x27d4eb2f165667c5) +
                 (uint64_t)key->ldb * UINT64_C(0x85ebca77c2b2ae63) + (uint64_t)key->ldc * UINT64_C(0xd6e8feb86659fd93) +
                 ((uint64_t)key->layout + (uint64_t)key->transa * 8 + (uint64_t)key->transb * 1024 +
                  (uint64_t)key->variant * 131072) *
                     UINT64_C(0xa0761d6478bd642f);
    return h ^ h >> 32;
}

/* Make the plan, as small as it is. *made = NULL: memory is short. */
static int make(const tw_key *key, tw_gemm_plan **made)
{
    *made = NULL;
    tw_gemm_plan *plan = malloc(tw_plan_bytes_most());
    if (plan == NULL) {
        return TW_OK;
    }
    int status = tw_plan_fill(plan, key, TW_PLAN_TILES, NULL);
    if (status != TW_OK) {
        free(plan);
        return status;
    }
    tw_gemm_plan *fitted = realloc(plan, tw_plan_bytes(plan));
    *made = fitted ? fitted : plan;
    return TW_OK;
}

/* Do they run the same kernels? */
static bool same_kernels(const tw_gemm_plan *x, const tw_gemm_plan *y)
{
    bool same =
        x->count == y->count && x->many.each.run == y->many.each.run && x->many.across.run == y->many.across.run;
    for (int i = 0; same && i < x->count; i++) {
        same = x->commands[i].run == y->commands[i].run;
    }
    return same;
}

/* The plan that was there keeps its memory, for threads hold pointers to it, but no key is the same as its own now. */
static void renew(_Atomic(tw_gemm_plan *) *place)
{
    tw_gemm_plan *old = atomic_load_explicit(place, memory_order_acquire), *made;
    if (old == NULL) {
        return;
    }
    tw_key key = old->key;
    key.variant = __atomic_load_n(&old->key.variant, __ATOMIC_RELAXED);
    if (key.variant < 0 || make(&key, &made) != TW_OK || made == NULL) { /* below 0: another thread has done it */
        return;
    }
    if (!same_kernels(made, old) &&
        atomic_compare_exchange_strong_explicit(place, &old, made, memory_order_acq_rel, memory_order_acquire)) {
        __atomic_store_n(&old->key.variant, -1, __ATOMIC_RELAXED);
    } else {
        free(made);
    }
}

void tw_cache_renew(void)
{
    for (int i = 0; i < PLACES; i++) {
        renew(&places[i]);
    }
}

int tw_cache_find(const tw_key *key, const tw_gemm_plan **found)
{
    *found = NULL;
    if (key->m <= 0 || key->m > LARGEST_C || key->n > LARGEST_C / key->m) {
        return TW_OK;
    }
    uint64_t hash = hash_of(key);
    for (int probe = 0; probe < PROBES; probe++) {
        _Atomic(tw_gemm_plan *) *place = &places[(hash + (uint64_t)probe) % PLACES];
        tw_gemm_plan *plan = atomic_load_explicit(place, memory_order_acquire);
        if (plan == NULL) {
            tw_gemm_plan *made;
            int epoch = tw_special_epoch();
            int status = make(key, &made);
            if (status != TW_OK || made == NULL) {
                return status;
            }
            if (atomic_compare_exchange_strong_explicit(place, &plan, made, memory_order_acq_rel,
                                                        memory_order_acquire)) {
                if (epoch != tw_special_epoch()) { /* its making may have missed kernels that it should have */
                    renew(place);
                }
                *found = made;
                return TW_OK;
            }
            free(made); /* another thread was first, with this key or another */
        }
        if (tw_key_same(&plan->key, key)) {
            *found = plan;
            return TW_OK;
        }
    }
    return TW_OK;
}
