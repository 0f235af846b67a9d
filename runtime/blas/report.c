/* report.c - what BLAS says: errors to the program's handler, and with TILEWRIGHT_VERBOSE how often each entry was called.
 *
 * Handlers are looked for in whatever program this serves. Nothing of that name is exported: preloaded, it would answer in
 * place of a handler that R, or anybody, keeps in another library. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blas.h"

void cblas_xerbla(int argument, const char *routine, const char *form, ...) __attribute__((weak));
void xerbla_(const char *routine, const int64_t *argument, size_t length) __attribute__((weak));
/* Beside the reference CBLAS: not 0, its handlers take numbers to be of Fortran's product with A and B exchanged. */
extern int RowMajorStrg __attribute__((weak));

void tw_blas_wrong(const tw_entry *entry, int argument, const char *why)
{
    if (!entry->fortran && cblas_xerbla != NULL) {
        if (&RowMajorStrg != NULL) {
            RowMajorStrg = 0;
        }
        cblas_xerbla(argument, entry->routine, "%s\n", why);
    } else if (entry->fortran && xerbla_ != NULL) {
        int64_t number = argument; /* 32 bits for some: little-endian, so either finds it */
        xerbla_(entry->routine, &number, strlen(entry->routine));
    } else {
        fprintf(stderr, "tilewright: %s: argument %d is illegal: %s\n", entry->symbol, argument, why);
    }
}

void tw_blas_failed(const tw_entry *entry, int status)
{
    const char *why = tw_error_message();
    if (status < 1 || status > TW_LAST_ARGUMENT) {
        fprintf(stderr, "tilewright: %s: %s Nothing was computed, and BLAS has no way to say so.\n", entry->symbol,
                why);
        abort();
    }
    tw_blas_wrong(entry, entry->fortran ? status - 1 : status, why);
}

/* ---- TILEWRIGHT_VERBOSE ---- */

static bool counting;

int64_t tw_blas_begin(void)
{
    return counting ? tw_trace_clock() : 0;
}

void tw_blas_end(tw_entry *entry, int64_t begun)
{
    if (begun != 0) {
        atomic_fetch_add(&entry->calls, 1);
        atomic_fetch_add(&entry->nanoseconds, tw_blas_begin() - begun);
    }
}

static void summary(void)
{
    for (int i = 0; i < tw_entry_count; i++) {
        long long calls = atomic_load(&tw_entries[i].calls);
        if (calls > 0) {
            fprintf(stderr, "tilewright: %s: %lld calls, %.3f ms\n", tw_entries[i].symbol, calls,
                    (double)atomic_load(&tw_entries[i].nanoseconds) * 1e-6);
        }
    }
}

/* libtilewright's constructors have run: this library links it. */
__attribute__((constructor)) static void load(void)
{
    counting = tw_verbosity() > 0;
    if (counting) {
        atexit(summary);
    }
}
