/* isa.c - which ISA products use: the best that was built and can run here, or the one that was asked for. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "siblings.h"

enum { BEST, ENVIRONMENT, CALL };

atomic_int tw_isa_now = -1; /* -1 also before the first call of tw_isa_current: not chosen yet */
atomic_int tw_variant_now[TW_DTYPES] = {-256, -255, -254, -253}; /* tw_variant of each type and that */
static atomic_int reason = BEST;

void tw_choose(atomic_int *choice, int value)
{
    int variant;
    atomic_store(choice, value);
    do { /* whoever stores last, of threads that choose at once, sees what the others chose */
        variant = tw_variant(0, atomic_load(&tw_isa_now), atomic_load(&tw_tiler_now));
        for (int dtype = 0; dtype < TW_DTYPES; dtype++) {
            atomic_store(&tw_variant_now[dtype], dtype | variant);
        }
    } while (variant != tw_variant(0, atomic_load(&tw_isa_now), atomic_load(&tw_tiler_now)));
    atomic_fetch_add(&tw_settings, 1);
}

int tw_isa_count(void)
{
    return TW_ISAS;
}

const char *tw_isa_name(int isa)
{
    return isa >= 0 && isa < TW_ISAS ? tw_isa_names[isa] : NULL;
}

int tw_isa_kernels(int isa)
{
    int count = 0;
    for (int i = 0; i < tw_kernel_count; i++) {
        count += tw_kernels[i].isa == isa;
    }
    return count;
}

int tw_isa_of_type(int isa, int dtype)
{
    static _Atomic(uint8_t) known[TW_ISAS][TW_DTYPES]; /* the answer + 1: packed products ask each time */
    int base = tw_isa_bases[isa];
    if (base == isa) {
        return isa;
    }
    int found = atomic_load_explicit(&known[isa][dtype], memory_order_relaxed) - 1;
    if (found < 0) {
        found = base;
        for (int i = 0; i < tw_kernel_count && found == base; i++) {
            if (tw_kernels[i].isa == isa && tw_kernels[i].dtype == dtype) {
                found = isa;
            }
        }
        atomic_store_explicit(&known[isa][dtype], (uint8_t)(found + 1), memory_order_relaxed);
    }
    return found;
}

int tw_isa_supported(int isa)
{
    return isa >= 0 && isa < TW_ISAS && (tw_cpu_isas() >> isa & 1);
}

int tw_isa_best(void)
{
    unsigned supported = tw_cpu_isas();
    int best = -1;
    for (int i = 0; i < tw_kernel_count; i++) {
        int isa = tw_kernels[i].isa;
        if (isa > best && (supported >> isa & 1)) {
            best = isa;
        }
    }
    return best;
}

/* "avx512, avx2, scalar": the ISAs that were built and, if `supported`, can run here; best first. */
static const char *list(char *text, size_t size, bool supported)
{
    size_t length = 0;
    text[0] = '\0';
    for (int isa = TW_ISAS - 1; isa >= 0; isa--) {
        if (tw_isa_kernels(isa) && (!supported || tw_isa_supported(isa)) && length < size) {
            length += (size_t)snprintf(text + length, size - length, "%s%s", length ? ", " : "", tw_isa_names[isa]);
        }
    }
    if (length == 0) {
        snprintf(text, size, "nothing");
    }
    return text;
}

/* The ISA of that name, NULL and "" meaning the best; -1, with the reason noted, where it cannot be used. */
static int find(const char *name, const char *asked_by)
{
    char text[64];
    if (name == NULL || name[0] == '\0') {
        int best = tw_isa_best();
        if (best < 0) {
            tw_fail(TW_ERROR_ISA, "no ISA can be used: built is %s, and this machine can run none of it.",
                    list(text, sizeof text, false));
        }
        return best;
    }
    int isa = TW_ISAS - 1;
    while (isa >= 0 && strcmp(name, tw_isa_names[isa]) != 0) {
        isa--;
    }
    const char *wrong = isa < 0 || !tw_isa_kernels(isa) ? "not built"
                        : !tw_isa_supported(isa)        ? "this CPU lacks it"
                                                        : NULL;
    if (wrong) {
        tw_fail(TW_ERROR_ISA, "%s=%.40s: %s; this machine can run %s.", asked_by, name, wrong,
                list(text, sizeof text, true));
        return -1;
    }
    return isa;
}

static char wish[64]; /* TILEWRIGHT_ISA at load */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    const char *value = getenv("TILEWRIGHT_ISA");
    snprintf(wish, sizeof wish, "%s", value ? value : "");
    int isa = find(wish, "TILEWRIGHT_ISA");
    atomic_store(&reason, wish[0] ? ENVIRONMENT : BEST);
    tw_choose(&tw_isa_now, isa);
}

/* At load, so that the first product does not pay and later changes of the environment do not matter; or before, where
 * another library's constructor calls. */
__attribute__((constructor)) static void load(void)
{
    pthread_once(&once, choose);
}

int tw_isa_current(void)
{
    load();
    int isa = atomic_load_explicit(&tw_isa_now, memory_order_relaxed);
    return isa >= 0 ? isa : find(wish, "TILEWRIGHT_ISA"); /* again, to note the reason for this thread */
}

const char *tw_isa_reason(void)
{
    load();
    static const char *const reasons[] = {"best of those built", "TILEWRIGHT_ISA", "tw_isa_set"};
    return reasons[atomic_load(&reason)];
}

int tw_isa_set(const char *name)
{
    load(); /* or it would undo this */
    int isa = find(name, "tw_isa_set");
    if (isa < 0) {
        return TW_ERROR_ISA;
    }
    atomic_store(&reason, name && name[0] ? CALL : BEST);
    tw_choose(&tw_isa_now, isa);
    return TW_OK;
}
