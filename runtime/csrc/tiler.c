/* tiler.c - how C is cut into tiles when a plan is made: the strategies.
 *
 * measured    bands of rows, or of columns, each cut on its own, so that the sum of what tiles cost (tuning.c) is least. On ISAs with masks
 *             every size is there and near-equal splits come out by themselves: 13 = 7 + 6, not 12 + 1.
 * paper       IrGEMM's Algorithm 2: the guillotine cut with the least sum of (m + n) over its tiles, ties broken by the
 *             least sum of (1/m + 1/n); line 19 corrected to compare dp_v with dp_v, and an exact fit ends the search.
 * greedy      the walk of tiling.c: what most work per element loaded first, then what is left.
 * rebalance   autoGEMM's idea: as many bands and tiles as greedy needs, but as near to equal as kernels allow. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"
#include "tiling.h"

enum { MEASURED, PAPER, GREEDY, REBALANCE, STRATEGIES };

static const char *const names[STRATEGIES] = {"measured", "paper", "greedy", "rebalance"};

atomic_int tw_tiler_now = MEASURED;

static char wish[32];

static int find(const char *name)
{
    for (int i = 0; i < STRATEGIES; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void choose(void)
{
    const char *value = getenv("TILEWRIGHT_TILER");
    snprintf(wish, sizeof wish, "%s", value ? value : "");
    const char *same = getenv("TILEWRIGHT_REPRODUCIBLE");
    int strategy = wish[0] ? find(wish) : MEASURED;
    bool reproducible = same != NULL && same[0] != '\0' && strcmp(same, "0") != 0;
    tw_choose(&tw_tiler_now, strategy < 0 || !reproducible ? strategy : strategy | TW_REPRODUCIBLE);
}

/* As isa.c does. */
__attribute__((constructor)) static void load(void)
{
    pthread_once(&once, choose);
}

const char *tw_tiler_current(void)
{
    load();
    int now = atomic_load_explicit(&tw_tiler_now, memory_order_relaxed);
    if (now < 0) {
        tw_fail(TW_ERROR_TILER,
                "TILEWRIGHT_TILER=%s: there is no such tiler; there are measured, paper, greedy, rebalance.", wish);
    }
    return now < 0 ? NULL : names[now & TW_STRATEGY];
}

int tw_tiler_set(const char *name)
{
    load();
    int strategy = name == NULL || name[0] == '\0' ? MEASURED : find(name);
    if (strategy < 0) {
        return tw_fail(TW_ERROR_TILER,
                       "tw_tiler_set: %.40s: there is no such tiler; there are measured, paper, greedy, "
                       "rebalance.",
                       name);
    }
    int now = atomic_load(&tw_tiler_now);
    tw_choose(&tw_tiler_now, (now < 0 ? 0 : now & ~TW_STRATEGY) | strategy);
    return TW_OK;
}

void tw_tiler_alone(bool one_thread)
{
    load();
    int now = atomic_load(&tw_tiler_now), next = one_thread ? now | TW_ONE_THREAD : now & ~TW_ONE_THREAD;
    if (now >= 0 && next != now) {
        tw_choose(&tw_tiler_now, next);
    }
}

/* ---- The strategies ---- */

/* Where tiles go; count = -1: more than there is room for. */
typedef struct result {
    tw_tile *tiles;
    int count, most;
} result;

static void put(result *to, const tw_tiles *tiles, int i, int j, int m, int n)
{
    if (to->count < 0 || to->count == to->most) {
        to->count = -1;
        return;
    }
    to->tiles[to->count++] = (tw_tile){tiles->kernel[m][n], i, j, m, n};
}

static int least(int64_t a, int64_t b)
{
    return (int)(a < b ? a : b);
}

static void greedy(const tw_tiles *tiles, int64_t m, int64_t n, result *to)
{
    tw_walk walk = tw_walk_begin(tiles, m, n);
    tw_tile tile;
    while (to->count >= 0 && tw_walk_next(&walk, &tile)) {
        if (to->count == to->most) {
            to->count = -1;
        } else {
            to->tiles[to->count++] = tile;
        }
    }
}

static const tw_kernel *kernel_at(const tw_tiles *tiles, bool turned, int along, int across)
{
    return turned ? tiles->kernel[across][along] : tiles->kernel[along][across];
}

static const float TILE = 0.7f; /* nanoseconds from one kernel of a plan to the next */

/* Nanoseconds that a band adds because the operand that all bands share comes from the second cache once more. */
static float pass_over(const tw_tiles *tiles, int64_t elements)
{
    enum { KEPT = 52 << 10, BYTES_A_NANOSECOND = 300 }; /* what is little larger than the first cache runs ahead */
    int64_t bytes = elements * tw_element_bytes(tiles->kernel[1][1]->dtype);
    return bytes > KEPT ? (float)bytes / BYTES_A_NANOSECOND : 0;
}

enum { FEW_STEPS = 12 };

enum { WORK = 400000, ALONG = 2048 }; /* steps of a search: well below a millisecond */

/* The best bands, each `h` high, cut into tiles `w` wide. `turned`: bands of columns. */
typedef struct bands {
    bool turned;
    int high, wide; /* of C */
    float total;
    float *cost;    /* [h][w]: the best for the first w columns of a band h high */
    uint8_t *width; /* [h][w]: its last tile */
    float *sum;     /* [i]: the best for the first i rows */
    uint8_t *height;
} bands;

static size_t cells(const bands *b)
{
    return (size_t)(least(b->high, TW_LARGEST) + 1) * (size_t)(b->wide + 1);
}

static void search(const tw_tiles *tiles, bands *b, int64_t k)
{
    int tallest = least(b->high, TW_LARGEST), stride = b->wide + 1;
    float pass = pass_over(tiles, b->wide * k);
    for (int h = 1; h <= tallest; h++) {
        float *cost = b->cost + h * stride;
        uint8_t *width = b->width + h * stride;
        int widths[TW_LARGEST], count = 0;
        float price[TW_LARGEST];
        for (int w = 1; w <= least(b->wide, TW_LARGEST); w++) {
            if (kernel_at(tiles, b->turned, h, w) != NULL) {
                tw_cost_line line = tw_cost_near(kernel_at(tiles, b->turned, h, w), k);
                widths[count] = w;
                price[count++] = TILE + line.call + (float)k * line.step;
            }
        }
        cost[0] = 0;
        for (int j = 1; j <= b->wide; j++) {
            cost[j] = 1e30f;
            for (int c = 0; c < count && widths[c] <= j; c++) {
                float sum = price[c] + cost[j - widths[c]];
                if (sum < cost[j]) {
                    cost[j] = sum;
                    width[j] = (uint8_t)widths[c];
                }
            }
        }
    }
    b->sum[0] = 0;
    for (int i = 1; i <= b->high; i++) {
        b->sum[i] = 1e30f;
        for (int h = 1; h <= least(i, TW_LARGEST); h++) {
            float sum = pass + b->cost[h * stride + b->wide] + b->sum[i - h];
            if (sum < b->sum[i]) {
                b->sum[i] = sum;
                b->height[i] = (uint8_t)h;
            }
        }
    }
    b->total = b->sum[b->high];
}

static void take(const tw_tiles *tiles, const bands *b, result *to)
{
    int stride = b->wide + 1;
    for (int i = b->high, at = 0; i > 0 && to->count >= 0;) {
        int h = b->height[i];
        for (int j = b->wide, across = 0; j > 0;) {
            int w = b->width[h * stride + j];
            put(to, tiles, b->turned ? across : at, b->turned ? at : across, b->turned ? w : h, b->turned ? h : w);
            across += w;
            j -= w;
        }
        at += h;
        i -= h;
    }
}

/* False: too much to search, or no memory for it. */
static bool measured(const tw_tiles *tiles, int64_t m, int64_t n, int64_t k, result *to)
{
    if (m > ALONG || n > ALONG || (m <= TW_LARGEST && n <= TW_LARGEST && tiles->kernel[m][n] && m * n <= 16)) {
        return false; /* the least tiles: one kernel is best, and the walk finds it */
    }
    int64_t rows = least(m, tiles->most_rows), columns = least(n, tiles->most_columns);
    if (rows * columns * (m + n) > WORK) {
        return false;
    }
    bands both[2] = {{.turned = false, .high = (int)m, .wide = (int)n},
                     {.turned = true, .high = (int)n, .wide = (int)m}};
    size_t room = 0;
    for (int i = 0; i < 2; i++) {
        room += (sizeof(float) + 1) * (cells(&both[i]) + (size_t)both[i].high + 1);
    }
    char *memory = calloc(1, room);
    if (memory == NULL) {
        return false;
    }
    char *at = memory; /* floats first, so that they are aligned */
    for (int i = 0; i < 2; i++) {
        both[i].cost = (float *)(void *)at;
        at += sizeof(float) * cells(&both[i]);
        both[i].sum = (float *)(void *)at;
        at += sizeof(float) * ((size_t)both[i].high + 1);
    }
    for (int i = 0; i < 2; i++) {
        both[i].width = (uint8_t *)at;
        at += cells(&both[i]);
        both[i].height = (uint8_t *)at;
        at += both[i].high + 1;
        search(tiles, &both[i], k);
    }
    take(tiles, both[1].total < both[0].total ? &both[1] : &both[0], to);
    free(memory);
    return true;
}

enum { PAPER_MOST = 96 };

typedef struct cut {
    int32_t sum; /* of m + n; 0: not reached */
    float tie;   /* of 1/m + 1/n */
    uint8_t m, n,
        below; /* the corner's kernel; below: what lies left of it is as high as it, else what lies above as wide */
} cut;

static void emit(const tw_tiles *tiles, const cut *table, int stride, int i0, int j0, int i, int j, result *to)
{
    if (i == 0 || j == 0) {
        return;
    }
    const cut *c = &table[i * stride + j];
    int m = c->m, n = c->n;
    if (c->below) {
        emit(tiles, table, stride, i0, j0, i - m, j, to);
        emit(tiles, table, stride, i0 + i - m, j0, m, j - n, to);
    } else {
        emit(tiles, table, stride, i0, j0, i, j - n, to);
        emit(tiles, table, stride, i0, j0 + j - n, i - m, n, to);
    }
    put(to, tiles, i0 + i - m, j0 + j - n, m, n);
}

static bool paper(const tw_tiles *tiles, int64_t m, int64_t n, result *to)
{
    if (m > PAPER_MOST || n > PAPER_MOST) {
        return false;
    }
    int stride = (int)n + 1;
    cut *table = calloc((size_t)(m + 1) * (size_t)stride, sizeof *table);
    if (table == NULL) {
        return false;
    }
    for (int i = 1; i <= m; i++) {
        for (int j = 1; j <= n; j++) {
            cut *best = &table[i * stride + j];
            if (i <= TW_LARGEST && j <= TW_LARGEST && tiles->kernel[i][j]) {
                *best = (cut){i + j, 1.0f / (float)i + 1.0f / (float)j, (uint8_t)i, (uint8_t)j, 1};
                continue;
            }
            for (int h = 1; h <= least(i, tiles->most_rows); h++) {
                for (int w = 1; w <= tiles->width[h][least(j, tiles->most_columns)]; w++) {
                    if (tiles->kernel[h][w] == NULL) {
                        continue;
                    }
                    float own = 1.0f / (float)h + 1.0f / (float)w;
                    const cut *parts[2][2] = {{&table[(i - h) * stride + j], &table[h * stride + j - w]},
                                              {&table[i * stride + j - w], &table[(i - h) * stride + w]}};
                    for (int way = 0; way < 2; way++) {
                        int sum = parts[way][0]->sum + parts[way][1]->sum + h + w;
                        float tie = parts[way][0]->tie + parts[way][1]->tie + own;
                        if (best->sum == 0 || sum < best->sum || (sum == best->sum && tie < best->tie)) {
                            *best = (cut){sum, tie, (uint8_t)h, (uint8_t)w, way == 0};
                        }
                    }
                }
            }
        }
    }
    emit(tiles, table, stride, 0, 0, (int)m, (int)n, to);
    free(table);
    return true;
}

/* The first of `parts` near-equal parts of `size`. */
static int share(int64_t size, int64_t parts)
{
    return (int)((size + parts - 1) / parts);
}

static void rebalance(const tw_tiles *tiles, int64_t m, int64_t n, result *to)
{
    int tall = tiles->height[least(m, tiles->most_rows)][least(n, tiles->most_columns)];
    int64_t rows = (m + tall - 1) / tall;
    for (int64_t i = 0; i < m && to->count >= 0; rows -= rows > 1) {
        int h = share(m - i, rows);
        while (h > 1 && tiles->width[h][1] == 0) { /* no band of this height */
            h--;
        }
        int wide = tiles->width[h][least(n, tiles->most_columns)];
        int64_t columns = (n + wide - 1) / wide;
        for (int64_t j = 0; j < n && to->count >= 0; columns -= columns > 1) {
            int w = tiles->width[h][least(share(n - j, columns), tiles->most_columns)];
            put(to, tiles, (int)i, (int)j, h, w);
            j += w;
        }
        i += h;
    }
}

static int by_place(const void *first, const void *second)
{
    const tw_tile *a = first, *b = second;
    int64_t after = a->j != b->j ? a->j - b->j : a->i - b->i;
    return (after > 0) - (after < 0);
}

int tw_tile_c(const tw_tiles *tiles, int strategy, int64_t m, int64_t n, int64_t k, tw_tile_list *list)
{
    result to = {list->tiles, 0, TW_PLAN_TILES};
    bool done = strategy == MEASURED ? measured(tiles, m, n, k, &to)
                : strategy == PAPER  ? paper(tiles, m, n, &to)
                                     : false;
    if (!done || to.count < 0) { /* more than are listed: the walk, without searching */
        to.count = 0;
        if (strategy == REBALANCE) {
            rebalance(tiles, m, n, &to);
        } else {
            greedy(tiles, m, n, &to);
        }
    }
    if (k <= FEW_STEPS && to.count > 1) {
        /* C is most of what moves: down its columns, so that lines of the cache that tiles share are written once. */
        qsort(to.tiles, (size_t)to.count, sizeof *to.tiles, by_place);
    }
    return to.count;
}

int tw_tile_sizes(const char *tiler, int count, const int *sizes, int64_t m, int64_t n, int64_t k, int *tiles)
{
    int strategy = find(tiler);
    if (strategy < 0) {
        return -tw_fail(TW_ERROR_TILER, "tw_tile_sizes: %.40s: there is no such tiler.", tiler);
    }
    tw_tiles *table = tw_tiles_of_sizes(count, sizes);
    if (table == NULL) {
        return -tw_fail(TW_ERROR_KERNEL, "tw_tile_sizes: these sizes cannot cover every shape, or memory is short.");
    }
    tw_tile_list list;
    int found = tw_tile_c(table, strategy, m, n, k, &list);
    for (int i = 0; i < found; i++) {
        const int tile[4] = {(int)list.tiles[i].i, (int)list.tiles[i].j, list.tiles[i].m, list.tiles[i].n};
        memcpy(tiles + 4 * i, tile, sizeof tile);
    }
    free(table);
    return found;
}
