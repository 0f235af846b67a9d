/* route.c - which way a product goes: tiles alone, or blocks, and which.
 *
 * What decides is how often an element of an operand is used and how it lies. Of a product with a short dimension s the
 * long operand is read from memory once, at s multiply-adds an element:
 *
 *     path      long operand    lies             the short one
 *     stream    where it is     along its lines  panels           few k steps at a time, so that C stays near
 *     dot       where it is     along k          lines            real types, and complex ones as real: vectors along k, some
 *                                                                 long lines at a time
 *     direct    where it is     along k          panels           elements of the long one, one at a time
 *     blocked   panels          either           panels           everything else
 *     inner     where it is     either           where it is      m and n small, k huge; k is split among threads
 *
 * Direct also serves what has no short dimension: an operand that lies along k and is the scalar side need not be packed.
 * The tables of panels, C's chunk and kc follow from the caches and the shape. */
#include <unistd.h>

#include "blocked.h"
#include "tiling.h"

enum {
    TALL = 4, /* times as long as wide */
    LONGEST_DOT = 64,
    SHORT_LINES = 8,             /* k steps */
    MOST_ROWS = 8,               /* of kernels that ask ahead */
    MOST_DOTS = 4,               /* of others along k, on x86 */
    LEAST_AHEAD = 512,           /* bytes of a line, else other kernels are as good */
    FROM_MEMORY = 12 << 20,      /* bytes; not by the last cache's size, which hypervisors tell wrong */
    THIN_FROM_MEMORY = 20 << 20, /* where one or two lines take so little arithmetic that asking shows */
    INNER_BLOCK = 3072,          /* bytes of the wider operand */
    INNER_WIDE = 256,            /* bytes of a k step: a tile takes a part of it */
    PIECE = 4096,                /* bytes of C */
    MOST_PIECE = 256 << 10,      /* where one is as wide as a tile and C has many rows */
    AROUND_ROWS = 32,            /* with fewer, plain stores run beside the arithmetic and are the faster */
    AROUND_STEPS = 1,            /* k for each row of C */
    DEEPEST_FAR = 1024,          /* k steps of a block whose panels stay in the second cache */
    BLOCKED_LINES = 128,         /* of a chunk that is packed: it shares the second cache with a panel */
    DIRECT_LINES = 256,          /* of a chunk: once for so many a panel comes from the last cache */
    ASKED = 1024,                /* bytes of a line, before hardware follows it */
    WIDE_STREAM = 128,           /* columns */
    WIDEST_STREAM = 256,         /* where k is of many blocks */
    MANY_STEPS = 1024,
    FEW_STEPS = 400,      /* with which turning much of C takes too long */
    TURNING_STEPS = 128,  /* the same for `stream` */
    VECTOR = 64,          /* bytes */
    FAR_LINES = 4096,     /* bytes of a line that comes from memory, for `direct` */
    MOST_PAIRS = 7 << 16, /* bytes of complex lines that are copied as real ones, twice as long */
    LEAST_CHUNK = 10000,  /* nanoseconds */
    MOST_CHUNK = 3 << 19  /* bytes of a thread's own memory */
};

static int64_t at_most(int64_t x, int64_t y)
{
    return x < y ? x : y;
}

static int64_t at_least(int64_t x, int64_t y)
{
    return x > y ? x : y;
}

static int64_t round_up(int64_t x, int64_t to)
{
    return (x + to - 1) / to * to;
}

tw_caches tw_caches_here(void)
{
    static atomic_llong sizes[3];
    static const int names[3] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
    static const int64_t usual[3] = {32 << 10, 512 << 10, 8 << 20};
    tw_caches caches;
    int64_t *all[3] = {&caches.first, &caches.second, &caches.last};
    for (int i = 0; i < 3; i++) {
        int64_t size = atomic_load_explicit(&sizes[i], memory_order_relaxed);
        if (size == 0) {
            long told = sysconf(names[i]);
            size = told > 0 ? told : usual[i];
            atomic_store_explicit(&sizes[i], size, memory_order_relaxed);
        }
        *all[i] = size;
    }
    return caches;
}

/* The plan but for formats and blocks. */
static tw_blocked begin(const tw_form *form, int isa)
{
    int64_t element = tw_element_bytes(form->dtype);
    return (tw_blocked){
        .dtype = form->dtype,
        .isa = isa,
        .threads = 1,
        .parts = 1,
        .size = {form->m, form->n},
        .m = form->m,
        .n = form->n,
        .scalars = form->dtype,
        .k = form->k,
        .ldc = form->ldc,
        .stand = {{.line = form->trans_a ? form->lda : element,
                   .step = form->trans_a ? element : form->lda,
                   .conj = form->conj_a},
                  {.line = form->trans_b ? element : form->ldb,
                   .step = form->trans_b ? form->ldb : element,
                   .conj = form->conj_b}},
    };
}

/* Compute C^T: the operands change sides. */
static void turn(tw_blocked *plan)
{
    tw_stand stand = plan->stand[0];
    plan->stand[0] = plan->stand[1];
    plan->stand[1] = stand;
    int64_t size = plan->size[0];
    plan->size[0] = plan->size[1];
    plan->size[1] = size;
    plan->turned = !plan->turned;
}

/* Does it lie along k? One line, or one step, lies as one pleases. */
static bool along_k(const tw_blocked *plan, int side)
{
    return plan->stand[side].step == tw_element_bytes(plan->dtype) && plan->stand[side].line != plan->stand[side].step;
}

/* Lines of an operand of which many fall into the same sets of the first cache. */
static bool crowded(int64_t ld)
{
    return ld % 2048 == 0;
}

/* So many that a tile's push one another out? ARM's first caches are of four ways, others of eight. */
static bool jams(int isa, int64_t ld)
{
    return (isa == TW_ISA_NEON || isa == TW_ISA_FCMA) && crowded(ld);
}

static double bytes_of(const tw_blocked *plan, int side)
{
    return (double)plan->size[side] * (double)plan->k * (double)tw_element_bytes(plan->dtype);
}

/* Choose mode and kernels by the formats. False: there are none. A status in *status. */
static bool settle(tw_blocked *plan, const tw_wish *wish, int *status)
{
    bool a_along = plan->stand[0].format == TW_COPIED || (plan->stand[0].format == TW_DIRECT && along_k(plan, 0));
    bool b_along = plan->stand[1].format == TW_COPIED || (plan->stand[1].format == TW_DIRECT && along_k(plan, 1));
    plan->mode = a_along ? (b_along ? TW_TN : TW_TT) : (b_along ? TW_NN : TW_NT);
    /* What lies where it is cannot be conjugated on the way: the other one is, and the product at the end. */
    for (int side = 0; side < 2; side++) {
        if (plan->stand[side].format == TW_DIRECT && plan->stand[side].conj) {
            if (plan->flip) {
                continue;
            }
            plan->flip = true;
            plan->stand[0].conj = !plan->stand[0].conj;
            plan->stand[1].conj = !plan->stand[1].conj;
        }
    }
    if ((plan->stand[0].format == TW_DIRECT && plan->stand[0].conj) ||
        (plan->stand[1].format == TW_DIRECT && plan->stand[1].conj)) {
        return false;
    }
    *status =
        tw_tiles_find(plan->isa, plan->dtype, plan->mode, tw_steps_of(plan->kc, wish->reproducible), &plan->tiles);
    return *status == TW_OK && plan->tiles != NULL;
}

static void panels(tw_blocked *plan, int side)
{
    plan->stand[side].format = TW_PANELS;
    plan->stand[side].width =
        tw_panel_width(plan->isa, plan->dtype, side == plan->filling ? TW_VECTOR_SIDE : TW_SCALAR_SIDE);
}

/* k in blocks of equal length, at most `most`. */
static int64_t even(int64_t k, int64_t most)
{
    int64_t blocks = (k + most - 1) / most;
    return at_least(round_up((k + blocks - 1) / at_least(blocks, 1), 8), 8);
}

/* The chunk of whole panels, at most `most` lines and at least half of that, with which threads end soonest. */
static int64_t even_chunk(int64_t most, int64_t width, int64_t size, int threads)
{
    int64_t best = most, least = INT64_MAX, step = at_least(most / 16 / width, 1) * width;
    for (int64_t chunk = most; threads > 1 && chunk >= at_least(most / 2, width); chunk -= step) {
        int64_t whole = size / chunk, rest = size % chunk;
        int64_t longest = whole % threads ? (whole / threads + 1) * chunk : whole / threads * chunk + rest;
        if (longest < least) {
            least = longest;
            best = chunk;
        }
    }
    return best;
}

/* A chunk is of whole panels and near to plan->lines; there are enough for all threads. */
void tw_blocked_share(tw_blocked *plan)
{
    plan->threads = (int)at_least(at_most(plan->threads, tw_threads_worth(plan->nanoseconds)), 1);
    if (plan->inner) {
        plan->chunk = at_least(plan->size[plan->split], 1);
        plan->parts = (int)at_most(plan->threads, (plan->k + plan->kc - 1) / plan->kc);
        return;
    }
    int64_t width = plan->stand[plan->split].width, lines = at_least(plan->lines, 1);
    if (plan->threads > 1 && plan->stand[plan->split].format != TW_PANELS && !plan->turned) {
        /* Nothing is kept for a chunk, and each costs threads a fight for the counter. */
        lines = at_least(lines, (int64_t)(LEAST_CHUNK / plan->nanoseconds * (double)plan->size[plan->split]));
    }
    if (plan->turned || plan->pairs) { /* a chunk has C^T, or C, beside its block */
        int64_t block = plan->stand[plan->split].format == TW_PANELS ? plan->kc : 0;
        lines = at_most(lines, MOST_CHUNK / ((plan->size[!plan->split] + block) * tw_element_bytes(plan->dtype)));
        lines = at_least(lines, 1);
    }
    int64_t each = (plan->size[plan->split] + plan->threads - 1) / plan->threads;
    int64_t count = at_least((each + lines - 1) / lines, 1);
    plan->chunk = even_chunk(at_least(round_up((each + count - 1) / count, width), width), width,
                             plan->size[plan->split], plan->threads);
}

/* k steps of a block. The other operand's panel may fill the first cache: it is fetched ahead of its turn, and the longer a
 * block is the less often C is read and written. */
static int64_t deepest(const tw_blocked *plan)
{
    int64_t step = plan->stand[!plan->filling].width * tw_element_bytes(plan->dtype);
    return at_most(at_least(tw_caches_here().first / step, 64), 512);
}

/* The same where the vector side's panel is what stays, in the second cache. */
static int64_t deepest_far(const tw_blocked *plan)
{
    int64_t step = plan->stand[TW_VECTOR_SIDE].width * tw_element_bytes(plan->dtype);
    return at_least(at_most(tw_caches_here().second / 5 / step, DEEPEST_FAR), 64);
}

/* ---- The paths ---- */

/* Of a regular product the vector side is packed once and the other a chunk at a time: deep blocks, whose panels come from the
 * second cache. Of a tall one the long side is never packed whole. */
static bool blocked(tw_blocked *plan, const tw_wish *wish, int *status)
{
    tw_caches caches = tw_caches_here();
    int64_t element = tw_element_bytes(plan->dtype), l = at_least(plan->size[0], plan->size[1]);
    bool regular = l < TALL * at_most(plan->size[0], plan->size[1]);
    panels(plan, TW_VECTOR_SIDE);
    panels(plan, TW_SCALAR_SIDE);
    plan->split = plan->size[0] >= plan->size[1] && !regular ? TW_VECTOR_SIDE : TW_SCALAR_SIDE;
    plan->kc = wish->reproducible ? 256 : even(plan->k, regular ? deepest_far(plan) : deepest(plan));
    plan->lines = regular ? at_most(BLOCKED_LINES, MOST_CHUNK / (plan->kc * element))
                          : caches.second * 2 / 3 / (plan->kc * element);
    return settle(plan, wish, status);
}

/* One operand comes packed; its panels fill vectors. If it is the long one its panels are the chunks. A short one on the scalar
 * side is no whole panel, so that C^T is computed; not of a reproducible product, which adds that up in another order. */
static bool given(tw_blocked *plan, const tw_wish *wish, int *status)
{
    tw_caches caches = tw_caches_here();
    int64_t element = tw_element_bytes(plan->dtype);
    int side = wish->given == 'A' ? TW_VECTOR_SIDE : TW_SCALAR_SIDE, other = !side;
    int width = tw_panel_width(plan->isa, plan->dtype, TW_VECTOR_SIDE);
    if (side == TW_SCALAR_SIDE && plan->size[side] < 4 * width && !wish->reproducible) {
        turn(plan);
        side = TW_VECTOR_SIDE;
        other = !side;
    }
    plan->filling = side;
    panels(plan, side);
    plan->stand[side].format = TW_GIVEN;
    plan->stand[side].conj = false;
    panels(plan, other);
    bool is_long = plan->size[side] >= plan->size[other];
    plan->split = is_long ? side : other;
    int64_t most = deepest(plan), few = plan->stand[other].width;
    if (is_long) { /* the longer what is read lies in a row the better; read once: the others' panel comes along */
        most *= plan->size[other] <= few ? 4 : 2;
    }
    plan->kc = wish->reproducible ? 256 : even(plan->k, most);
    /* With few partners one panel after the other comes from memory; with more a chunk waits in the second cache, and of one
     * that came packed the next as well. */
    int64_t room = is_long ? caches.second / 3 : caches.second * 2 / 3;
    plan->lines = is_long && plan->size[other] <= 8 * few ? width : room / (plan->kc * element);
    return settle(plan, wish, status);
}

/* y += A x, A's lines along y: a few of them side by side, y in the first cache. From memory more of them, which are the more
 * streams to follow; from a cache fewer, of which no two ways of a set are taken. */
static void column(tw_blocked *plan, int64_t element)
{
    int64_t steps = bytes_of(plan, TW_VECTOR_SIDE) <= THIN_FROM_MEMORY && !tw_is_complex(plan->dtype) ? 6 : 8;
    plan->column = tw_special_column(plan->isa, plan->dtype, steps);
    if (plan->column != NULL) {
        plan->kc = steps;
        plan->stand[TW_VECTOR_SIDE].width = plan->column->mr;
        plan->lines = tw_caches_here().second / 8 / element;
    }
}

static bool stream(tw_blocked *plan, const tw_wish *wish, int *status)
{
    tw_caches caches = tw_caches_here();
    int64_t element = tw_element_bytes(plan->dtype);
    if (plan->size[0] < plan->size[1]) {
        turn(plan);
    }
    if (along_k(plan, TW_VECTOR_SIDE) || (wish->reproducible && plan->turned)) { /* C^T is added up in another order */
        return false;
    }
    panels(plan, TW_SCALAR_SIDE);
    plan->stand[TW_VECTOR_SIDE].format = TW_DIRECT;
    plan->stand[TW_VECTOR_SIDE].width = tw_panel_width(plan->isa, plan->dtype, TW_VECTOR_SIDE);
    plan->split = TW_VECTOR_SIDE;
    int64_t narrow = plan->size[1]; /* the more columns C has, the more it costs to add to it */
    int64_t few = narrow <= 8 ? 8 : narrow <= 16 ? 16 : narrow <= 40 ? 32 : narrow <= WIDE_STREAM ? 64 : 256;
    plan->near = !tw_is_complex(plan->dtype) && narrow <= (plan->isa == TW_ISA_AVX512 ? 16 : 8) &&
                 bytes_of(plan, TW_VECTOR_SIDE) <= FROM_MEMORY;
    if (plan->near) { /* hardware needs no long runs then */
        few = narrow <= 3 ? 16 : 64;
    }
    plan->kc = wish->reproducible ? 256 : even(plan->k, few);
    plan->lines = caches.second / 4 / (plan->size[1] * element);
    if (narrow == 1 && !wish->reproducible) {
        column(plan, element);
    }
    return settle(plan, wish, status);
}

/* A complex product of lines along k as a real one: the long lines are what they are in memory, twice as many real numbers;
 * each short one becomes two, for the real parts of its dot products and for the imaginary ones, which in C are neighbours. */
static void as_pairs(tw_blocked *plan, int split)
{
    plan->pairs = true;
    plan->dtype = plan->dtype == TW_C ? TW_S : TW_D;
    plan->isa = tw_isa_of_type(plan->isa, plan->dtype);
    plan->k *= 2;
    plan->size[!split] *= 2;
    plan->stand[split].step /= 2;
    plan->flip = plan->stand[split].conj;
    plan->stand[!split].conj = plan->stand[!split].conj != plan->flip;
    plan->stand[split].conj = false;
}

/* Both along k. Kernels that ask ahead do all of the short side at once, or bands of it, on as many long lines as then find
 * registers; what they read and what they ask for stays in the second cache. Without such kernels: the fewer the other
 * lines are, the more of the long operand's are read side by side, for memory answers many at a time, and the farther, for
 * hardware needs a while to follow. */
static bool dot(tw_blocked *plan, const tw_wish *wish, int *status)
{
    tw_caches caches = tw_caches_here();
    int64_t element = tw_element_bytes(plan->dtype), few = at_most(plan->size[0], plan->size[1]);
    int split = TW_SCALAR_SIDE;
    if (plan->size[split] < plan->size[!split]) {
        turn(plan);
    }
    if (wish->reproducible || !along_k(plan, split) || few > LONGEST_DOT) {
        return false;
    }
    if (tw_is_complex(plan->dtype)) {
        if ((double)few * (double)plan->k * (double)element > MOST_PAIRS) {
            return false;
        }
        as_pairs(plan, split);
        element /= 2;
        few *= 2;
    }
    bool small_tiles = plan->isa == TW_ISA_NEON || plan->isa == TW_ISA_SCALAR;
    plan->split = split;
    plan->stand[!split].format = TW_COPIED;
    plan->stand[!split].width = (int)few;
    plan->stand[split].format = TW_DIRECT;
    bool near = few <= 2 && bytes_of(plan, split) <= THIN_FROM_MEMORY; /* as good without asking, which has a price */
    plan->stand[split].width = small_tiles ? 4 : few == 1 && !near ? 12 : 8;
    int64_t bytes = few > 16 ? caches.first / 2 : few > 8 ? 2 * caches.first : 4 * caches.first;
    int64_t most = at_most(at_least(bytes / ((few > 4 ? 8 : few) * element), 256), 4096);
    int64_t bands = (few + MOST_ROWS - 1) / MOST_ROWS;
    bool paced = bands == 1 && (few <= 2 || bytes_of(plan, split) > FROM_MEMORY);
    const tw_kernel *ahead = tw_kernel_ahead(plan->isa, plan->dtype, (int)((few + bands - 1) / bands), paced);
    if (plan->k * element < LEAST_AHEAD) {
        plan->main = NULL;
    } else if (!small_tiles && (near || (ahead == NULL && element == 4))) {
        bands = (few + MOST_DOTS - 1) / MOST_DOTS;
        plan->main = tw_kernel_dot(plan->isa, plan->dtype, (int)((few + bands - 1) / bands), few == 1 ? 6 : 8);
    } else {
        plan->main = ahead;
    }
    if (plan->main != NULL) {
        plan->stand[split].width = plan->main->nr;
    }
    if (plan->main != NULL && plan->main == ahead) {
        int64_t kept =
            few <= 2 ? 2 * caches.second : caches.second * 3 / 5; /* long runs, where there is little to keep */
        most = at_least(kept / ((few + 2 * plan->main->nr) * element), 512);
    }
    plan->kc = round_up(even(plan->k, most), 64);
    plan->lines = 1024;
    return settle(plan, wish, status);
}

/* Elements of one operand, the long one where one is, are taken one at a time where they lie: along k, as many lines at once
 * as a panel of that side has, whose streams hardware follows, or, if k is short, across. The other's panel comes from the
 * second cache for each of them. Where k is shortest kernels of more lines are faster if there are few rows; of long lines more
 * would push one another out of the first cache where they crowd in its sets. */
static bool direct(tw_blocked *plan, const tw_wish *wish, int *status)
{
    bool tall = plan->size[TW_VECTOR_SIDE] >= TALL * plan->size[TW_SCALAR_SIDE];
    bool across = plan->k < TURNING_STEPS && !along_k(plan, TW_SCALAR_SIDE);
    if (tall ||
        (plan->size[TW_SCALAR_SIDE] < plan->size[TW_VECTOR_SIDE] && !along_k(plan, TW_SCALAR_SIDE) && !across)) {
        turn(plan);
    }
    if (wish->reproducible || (!along_k(plan, TW_SCALAR_SIDE) && !across) ||
        jams(plan->isa, plan->stand[TW_SCALAR_SIDE].line)) {
        return false;
    }
    panels(plan, TW_VECTOR_SIDE);
    panels(plan, TW_SCALAR_SIDE);
    plan->stand[TW_SCALAR_SIDE].format = TW_DIRECT;
    plan->split = TW_SCALAR_SIDE;
    plan->kc = even(plan->k, deepest_far(plan));
    if (!settle(plan, wish, status)) {
        return false;
    }
    if (plan->k <= SHORT_LINES && plan->size[0] <= plan->stand[TW_VECTOR_SIDE].width) {
        const tw_tiles *tiles = plan->tiles;
        int rows = (int)at_most(at_most(plan->size[0], plan->stand[TW_VECTOR_SIDE].width), tiles->most_rows);
        plan->stand[TW_SCALAR_SIDE].width = tiles->width[tiles->height[rows][tiles->most_columns]][tiles->most_columns];
    }
    plan->lines = DIRECT_LINES;
    plan->ahead =
        bytes_of(plan, TW_SCALAR_SIDE) > FROM_MEMORY ? at_most(plan->k * tw_element_bytes(plan->dtype), ASKED) : 0;
    return true;
}

/* How many steps of k tiles take at a time, one tile after the other: where memory is what they wait for, few, for a block is then
 * read from it once and from the first cache again, and memory has the more even work (docs/skinny.md). */
static void inner_steps(tw_blocked *plan, int64_t step)
{
    int64_t few = plan->size[1], most = INNER_BLOCK / step;
    if (step > INNER_WIDE / 2 && plan->isa != TW_ISA_AVX512) { /* small tiles: a block is read again and again */
        most = step > INNER_WIDE ? 32 : 256;
        plan->asks = step > INNER_WIDE;
    } else if (few == 1) {
        most = 128;
    } else if (few >= 40 && step <= 2 * INNER_WIDE) { /* arithmetic is */
        most = few >= 64 ? 256 : 64;
    } else if (step > INNER_WIDE) {
        most = few >= 40 ? 32 : 16;
        plan->asks = true;
    }
    plan->kc = even(plan->k, at_most(at_least(most, 16), 256));
}

static bool inner(tw_blocked *plan, const tw_wish *wish, int *status)
{
    int64_t element = tw_element_bytes(plan->dtype);
    if (wish->reproducible || plan->size[0] * plan->size[1] * element > 256 << 10) {
        return false;
    }
    if (plan->size[0] < plan->size[1]) {
        turn(plan);
    }
    for (int side = 0; side < 2; side++) {
        plan->stand[side].format = TW_DIRECT;
        plan->stand[side].width = tw_panel_width(plan->isa, plan->dtype, side);
    }
    plan->split = TW_VECTOR_SIDE;
    inner_steps(plan, plan->size[0] * element);
    plan->inner = true;
    return settle(plan, wish, status);
}

/* A large C whose rows follow one another, and which is a good part of what memory has to do: plain stores would read it
 * first. It is done a small piece at a time: memory goes on being read, ahead of time, while one is written. The other operand
 * is read again for each piece. */
static void choose_around(tw_blocked *plan)
{
    int64_t column = plan->size[0] * tw_element_bytes(plan->dtype), width = plan->stand[plan->split].width;
    plan->around = tw_writes_around() && plan->size[0] >= AROUND_ROWS &&
                   column * plan->k <= tw_caches_here().second / 8 && plan->split == TW_SCALAR_SIDE && !plan->turned &&
                   !plan->inner && plan->stand[plan->split].format == TW_DIRECT && plan->ldc == column &&
                   column * width <= MOST_PIECE && plan->k <= AROUND_STEPS * plan->size[0] &&
                   (double)column * (double)plan->size[1] > FROM_MEMORY;
    plan->piece = at_least(PIECE / at_least(column, 1) / width, 1) * width;
    if (plan->around) {
        plan->lines = at_least(plan->lines, 64 * plan->piece);
    }
}

/* Is a panel's share of C^T more than a thread may have? */
static bool is_wide(const tw_blocked *plan)
{
    int64_t line = plan->size[!plan->split] * tw_element_bytes(plan->dtype);
    return plan->turned && !plan->inner && plan->stand[plan->split].width * line > MOST_CHUNK;
}

/* ---- The choice ---- */

typedef bool (*path_fn)(tw_blocked *plan, const tw_wish *wish, int *status);

static const struct {
    const char *name;
    path_fn make;
} paths[] = {{"auto", NULL}, {"tiles", NULL},    {"blocked", blocked}, {"stream", stream},
             {"dot", dot},   {"direct", direct}, {"inner", inner}};

int tw_path_set(const char *name)
{
    for (int path = 0; path < TW_PATHS; path++) {
        if (strcmp(paths[path].name, name ? name : "auto") == 0) {
            int now = atomic_load(&tw_tiler_now);
            if (now >= 0) {
                tw_choose(&tw_tiler_now, (now & ~(15 << TW_PATH_SHIFT)) | path << TW_PATH_SHIFT);
            }
            return TW_OK;
        }
    }
    return tw_fail(TW_ERROR_TILER,
                   "tw_path_set: %.40s: there is no such path; there are auto, tiles, blocked, stream, dot, "
                   "direct, inner.",
                   name);
}

/* Nanoseconds on one core: its arithmetic at three quarters of a common peak, or reading the operands from memory. */
static double nanoseconds_of(const tw_form *form)
{
    double m = (double)form->m, n = (double)form->n, k = (double)form->k;
    double element = (double)tw_element_bytes(form->dtype);
    double work = m * n * k * element / (tw_is_complex(form->dtype) ? 96 : 192);
    double read = element * (k * (m + n) + m * n) / 25;
    return work > read ? work : read;
}

/* Do tiles where they lie do without blocks? On one thread they are 4 to 25 % faster (docs/packed.md) as long as all three
 * matrices stay in or near the second cache; for more threads up to where two are worth while. Not of short and long. */
static bool tiles_do(const tw_form *form, const tw_wish *wish, const tw_caches *caches)
{
    int64_t m = form->m, n = form->n, k = form->k, element = tw_element_bytes(form->dtype);
    double inputs = (double)element * (double)k * (double)(m + n),
           all = inputs + (double)element * (double)m * (double)n;
    bool regular = at_least(m, n) < TALL * at_most(m, n) && k < 16 * at_least(m, n),
         near = inputs <= (double)caches->second / 2;
    if ((double)m * (double)n * (double)k <= 96. * 96. * 96.) {
        return near;
    }
    if (wish->alone && regular && all <= 1.75 * (double)caches->second) {
        return !crowded(form->lda) && !crowded(form->ldb) && !crowded(form->ldc);
    }
    return near && regular && nanoseconds_of(form) < 2 * tw_thread_share(-1);
}

/* Do real kernels do a complex product along k faster than complex ones, whose vectors so few short lines do not fill? AVX2's
 * have few registers; NEON's have tiles for that. The copies of the lines, twice as long, must be within what a product may
 * have beside its matrices. */
static bool pairs_do(int isa, int dtype, int64_t s, int64_t k)
{
    int64_t element = tw_element_bytes(dtype);
    int64_t most = isa == TW_ISA_AVX512 ? VECTOR / element - 1 : isa == TW_ISA_AVX2;
    return s <= most && (double)s * (double)k * (double)element <= MOST_PAIRS;
}

/* Is `direct` faster than `dot`, of real numbers? Where s elements fill vectors. Kernels of dot that ask ahead (AVX-512, not for
 * the shortest lines) are better from memory unless lines are long and there is more than a vector; where no such kernels are,
 * dot is for one line or two. */
static bool fills(const tw_form *form, int isa, int64_t s, int64_t l)
{
    int64_t element = tw_element_bytes(form->dtype), bytes = s * element, line = form->k * element;
    bool far = (double)l * (double)line > FROM_MEMORY;
    if (isa != TW_ISA_AVX512) {
        return s > 2 && !jams(isa, form->m >= form->n ? form->lda : form->ldb);
    }
    if (line < LEAST_AHEAD) {
        return bytes > VECTOR / 2;
    }
    return (!far || line >= FAR_LINES) && bytes >= (far ? VECTOR + 1 : VECTOR) &&
           10 * bytes >= 6 * round_up(bytes, VECTOR);
}

static int choose(const tw_form *form, int isa, const tw_wish *wish)
{
    tw_caches caches = tw_caches_here();
    int64_t m = form->m, n = form->n, k = form->k;
    int64_t s = at_most(m, n), l = at_least(m, n);
    if (tiles_do(form, wish, &caches)) {
        return wish->reproducible ? TW_PATH_BLOCKED : TW_PATH_TILES;
    }
    if (l <= 128 && k >= 16 * l) {
        return TW_PATH_INNER;
    }
    bool vector_long = m >= n;
    bool along = vector_long ? form->trans_a : !form->trans_b;
    if (l < TALL * s) {
        return (form->trans_b && k >= TURNING_STEPS) || form->dtype == TW_Z ? TW_PATH_BLOCKED : TW_PATH_DIRECT;
    }
    if (!along) {
        if (!vector_long && s > 1 && k < (s > 8 ? TURNING_STEPS : TURNING_STEPS / 4)) {
            return TW_PATH_DIRECT; /* stream would turn all of C for little work */
        }
        return s <= (k >= MANY_STEPS ? WIDEST_STREAM : WIDE_STREAM) ? TW_PATH_STREAM : TW_PATH_BLOCKED;
    }
    if (vector_long && (k <= SHORT_LINES || (s >= 8 && k < (s > LONGEST_DOT ? FEW_STEPS : TURNING_STEPS)))) {
        return TW_PATH_BLOCKED; /* others turn all of C */
    }
    bool dots =
        tw_is_complex(form->dtype) ? pairs_do(isa, form->dtype, s, k) : s <= LONGEST_DOT && !fills(form, isa, s, l);
    return dots && k > 8 ? TW_PATH_DOT : TW_PATH_DIRECT;
}

int tw_route(const tw_form *form, int isa, int path, const tw_wish *wish, tw_blocked *plan, bool *found)
{
    int status = TW_OK;
    if (path == TW_PATH_AUTO) {
        path = choose(form, isa, wish);
    }
    *found = false;
    if (wish->given != 0) {
        *plan = begin(form, isa);
        plan->threads = wish->threads > 0 ? wish->threads : TW_MOST_THREADS;
        plan->nanoseconds = nanoseconds_of(form);
        plan->path = "packed";
        *found = given(plan, wish, &status);
        return status == TW_OK && !*found ? tw_fail(TW_ERROR_KERNEL,
                                                    "tw_skinny_plan_create: %s has no kernels for packed "
                                                    "operands of type '%c'; build all of them.",
                                                    tw_isa_name(isa), tw_letters[form->dtype])
                                          : status;
    }
    if (wish->blocked && path == TW_PATH_TILES) {
        path = TW_PATH_BLOCKED;
    }
    for (int attempt = 0; attempt < 2 && path != TW_PATH_TILES; attempt++, path = TW_PATH_BLOCKED) {
        *plan = begin(form, isa);
        plan->threads = wish->threads > 0 ? wish->threads : TW_MOST_THREADS;
        plan->nanoseconds = nanoseconds_of(form);
        if (paths[path].make(plan, wish, &status) && !is_wide(plan)) {
            plan->path = paths[path].name;
            choose_around(plan);
            *found = true;
            return TW_OK;
        }
        if (status != TW_OK) {
            return status;
        }
    }
    return TW_OK;
}
