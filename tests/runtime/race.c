/* race.c - plans, the plan cache, batches, blocks and the pool used by many threads at once, for ThreadSanitizer to watch.
 *
 * test_races.py compiles it with the library's own C and the scalar kernels, which are C too, so that every access is seen.
 * Products are of small integers, so they must be exactly right; it says what was not and exits with 1. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tilewright.h"

enum { THREADS = 4, TURNS = 60, SIDE = 12, COUNT = 40, LONG = 300, SHORT = 7, STEPS = 90 };

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, tw_error_message());           \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

static double ones[COUNT * SIDE * SIDE]; /* read by all */
static tw_gemm_plan *shared;
static atomic_int seeds;

static bool all_are(const double *c, int64_t count, double value)
{
    for (int64_t i = 0; i < count; i++) {
        if (c[i] != value) {
            return false;
        }
    }
    return true;
}

static void *work(void *unused)
{
    (void)unused;
    unsigned seed = (unsigned)atomic_fetch_add(&seeds, 1);
    double *c = malloc(COUNT * SIDE * SIDE * sizeof *c);
    CHECK(c != NULL);
    for (int turn = 0; turn < TURNS; turn++) {
        seed = seed * 1103515245 + 12345;
        int64_t m = 1 + (seed >> 8) % SIDE, n = 1 + (seed >> 14) % SIDE, k = 1 + (seed >> 20) % SIDE;
        /* The cache, of shapes that other threads come to at the same time. */
        CHECK(tw_dgemm(TW_ROW_MAJOR, 'N', 'N', m, n, k, 1, ones, k, ones, n, 0, c, n) == TW_OK);
        CHECK(all_are(c, m * n, (double)k));
        /* One plan for all threads; batches, which the pool divides. */
        double alpha = 1 + seed % 5;
        CHECK(tw_gemm_plan_execute(shared, &alpha, ones, ones, NULL, c) == TW_OK);
        CHECK(all_are(c, SIDE * SIDE, alpha * SIDE));
        int64_t size = SIDE * SIDE;
        CHECK(tw_gemm_batch_strided(shared, COUNT, &alpha, ones, size, ones, 0, NULL, c, size) == TW_OK);
        CHECK(all_are(c, COUNT * size, alpha * SIDE));
        tw_gemm_plan *own;
        CHECK(tw_gemm_plan_create(&own, 'd', TW_ROW_MAJOR, 'N', 'T', m, n, k, k, k, n) == TW_OK);
        const void *a[COUNT];
        void *out[COUNT];
        for (int i = 0; i < COUNT; i++) {
            a[i] = ones;
            out[i] = c + i * size;
        }
        const tw_gemm_plan *plans[] = {own, shared};
        int64_t counts[] = {COUNT / 2, COUNT / 2};
        CHECK(tw_gemm_batch_groups(2, plans, counts, NULL, a, a, NULL, out) == TW_OK);
        CHECK(all_are(out[COUNT / 2 - 1], m * n, (double)k) && all_are(out[COUNT - 1], size, SIDE));
        tw_gemm_plan_destroy(own);
        /* Settings, and a message of this thread's own. */
        CHECK(tw_set_num_threads(1 + (int)(seed >> 10) % 4) == TW_OK && tw_get_num_threads() >= 1);
        CHECK(tw_dgemm(TW_ROW_MAJOR, 'N', 'N', m, -turn - 1, k, 1, ones, k, ones, n, 0, c, n) == 5);
        char wanted[80];
        snprintf(wanted, sizeof wanted, "tw_dgemm: n is %d; it must be 0 or more.", -turn - 1);
        CHECK(strcmp(tw_error_message(), wanted) == 0);
    }
    free(c);
    return NULL;
}

static void *packed_ones; /* read by all */
static double many_ones[20 * LONG * SHORT];

/* Products that the pool divides into chunks, or parts of k: buffers that two threads take for their own, C read before all
 * parts of it are there. */
static void *work_on_blocks(void *unused)
{
    (void)unused;
    double *c = malloc(LONG * LONG * sizeof *c);
    tw_gemm_plan *plan;
    CHECK(c != NULL);
    CHECK(tw_skinny_plan_create(&plan, 'd', TW_ROW_MAJOR, 'N', 'N', LONG, SHORT, STEPS, STEPS, SHORT, SHORT, 'B', 1, 0,
                                0) == TW_OK);
    for (int turn = 0; turn < 4; turn++) {
        int64_t sizes[4][3] = {
            {LONG, SHORT, STEPS}, {SHORT, LONG, STEPS}, {SHORT, SHORT, 20 * LONG}, {100, 120, STEPS}};
        for (int size = 0; size < 4; size++) {
            int64_t m = sizes[size][0], n = sizes[size][1], k = sizes[size][2];
            for (int modes = 0; modes < 4; modes++) {
                bool ta = modes & 1, tb = modes & 2;
                CHECK(tw_dgemm(TW_ROW_MAJOR, ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1, many_ones, ta ? m : k,
                               many_ones, tb ? k : n, 0, c, n) == TW_OK);
                CHECK(all_are(c, m * n, (double)k));
            }
        }
        CHECK(tw_gemm_plan_execute_packed(plan, NULL, many_ones, packed_ones, NULL, c) == TW_OK);
        CHECK(all_are(c, LONG * SHORT, STEPS));
    }
    tw_gemm_plan_destroy(plan);
    free(c);
    return NULL;
}

static void by_threads(void *(*run)(void *))
{
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(void)
{
    for (int i = 0; i < COUNT * SIDE * SIDE; i++) {
        ones[i] = 1;
    }
    for (int i = 0; i < 20 * LONG * SHORT; i++) {
        many_ones[i] = 1;
    }
    tw_thread_share(0);
    CHECK(tw_gemm_plan_create(&shared, 'd', TW_ROW_MAJOR, 'N', 'N', SIDE, SIDE, SIDE, SIDE, SIDE, SIDE) == TW_OK);
    by_threads(work);
    int64_t bytes;
    CHECK(tw_pack_size('d', TW_ROW_MAJOR, 'B', 'N', STEPS, SHORT, &bytes) == TW_OK);
    packed_ones = malloc((size_t)bytes);
    CHECK(packed_ones != NULL && tw_set_num_threads(3) == TW_OK);
    CHECK(tw_pack('d', TW_ROW_MAJOR, 'B', 'N', STEPS, SHORT, NULL, many_ones, SHORT, packed_ones) == TW_OK);
    const char *paths[] = {"blocked", "stream", "dot", "direct", "inner", "auto"};
    for (size_t path = 0; path < sizeof paths / sizeof *paths; path++) {
        CHECK(tw_path_set(paths[path]) == TW_OK);
        by_threads(work_on_blocks);
    }
    free(packed_ones);
    tw_gemm_plan_destroy(shared);
    return 0;
}
