/* paths.c - how a product goes along each path: formats of both operands, blocks of k, lines of a chunk, kernels.
 *
 * What follows from the caches and the shape is here; which path serves is route.c's to say. */
#include "paths.h"
#include "tiling.h"

enum {
    MOST_ROWS = 8,               /* of kernels that ask ahead */
    MOST_DOTS = 4,               /* of others along k, on x86 */
    THIN_FROM_MEMORY = 20 << 20, /* where one or two lines take so little arithmetic that asking shows */
    INNER_BLOCK = 3072,          /* bytes of the wider operand */
    INNER_WIDE = 256,            /* bytes of a k step: a tile takes a part of it */
    PIECE = 4096,                /* bytes of C */
    MOST_PIECE = 256 << 10,      /* where one is as wide as a tile and C has many rows */
    AROUND_ROWS = 32,            /* with fewer, plain stores run beside the arithmetic and are the faster */
    AROUND_STEPS = 1,            /* k for each row of C */
    AROUND_SHORT = 16,           /* k; with more steps, columns shorter than the next number are written plainly */
    AROUND_COLUMN = 512,         /* bytes: lines of shorter ones come in time, along with those beside them */
    DEEPEST_FAR = 1024,          /* k steps of a block whose panels stay in the second cache */
    BLOCKED_LINES = 128,         /* of a chunk that is packed: it shares the second cache with a panel */
    DIRECT_LINES = 256,          /* of a chunk: once for so many a panel comes from the last cache */
    ASKED = 1024                 /* bytes of a line, before hardware follows it */
};

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
    return tw_at_least(tw_round_up((k + blocks - 1) / tw_at_least(blocks, 1), 8), 8);
}

/* k steps of a block. The other operand's panel may fill the first cache: it is fetched ahead of its turn, and the longer a
 * block is the less often C is read and written. */
static int64_t deepest(const tw_blocked *plan)
{
    int64_t step = plan->stand[!plan->filling].width * tw_element_bytes(plan->dtype);
    return tw_at_most(tw_at_least(tw_caches_here().first / step, 64), 512);
}

/* The same where the vector side's panel is what stays, in the second cache. */
static int64_t deepest_far(const tw_blocked *plan)
{
    int64_t step = plan->stand[TW_VECTOR_SIDE].width * tw_element_bytes(plan->dtype);
    return tw_at_least(tw_at_most(tw_caches_here().second / 5 / step, DEEPEST_FAR), 64);
}

/* Of a regular product the vector side is packed once and the other a chunk at a time: deep blocks, whose panels come from the
 * second cache. Of a tall one the long side is never packed whole. */
bool tw_path_blocked(tw_blocked *plan, const tw_wish *wish, int *status)
{
    tw_caches caches = tw_caches_here();
    int64_t element = tw_element_bytes(plan->dtype), l = tw_at_least(plan->size[0], plan->size[1]);
    bool regular = l < TW_TALL * tw_at_most(plan->size[0], plan->size[1]);
    panels(plan, TW_VECTOR_SIDE);
    panels(plan, TW_SCALAR_SIDE);
    plan->split = plan->size[0] >= plan->size[1] && !regular ? TW_VECTOR_SIDE : TW_SCALAR_SIDE;
    plan->kc = wish->reproducible ? 256 : even(plan->k, regular ? deepest_far(plan) : deepest(plan));
    plan->lines = regular ? tw_at_most(BLOCKED_LINES, TW_MOST_CHUNK / (plan->kc * element))
                          : tw_at_most(caches.second * 2 / 3, TW_MOST_CHUNK) / (plan->kc * element);
    return settle(plan, wish, status);
}

/* One operand comes packed; its panels fill vectors. If it is the long one its panels are the chunks. A short one on the scalar
 * side is no whole panel, so that C^T is computed; not of a reproducible product, which adds that up in another order. */
bool tw_path_given(tw_blocked *plan, const tw_wish *wish, int *status)
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
    int64_t room = tw_at_most(is_long ? caches.second / 3 : caches.second * 2 / 3, TW_MOST_CHUNK);
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

bool tw_path_stream(tw_blocked *plan, const tw_wish *wish, int *status)
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
    int64_t few = narrow <= 8 ? 8 : narrow <= 16 ? 16 : narrow <= 40 ? 32 : narrow <= TW_WIDE_STREAM ? 64 : 256;
    plan->near = !tw_is_complex(plan->dtype) && narrow <= (plan->isa == TW_ISA_AVX512 ? 16 : 8) &&
                 bytes_of(plan, TW_VECTOR_SIDE) <= TW_FROM_MEMORY;
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
bool tw_path_dot(tw_blocked *plan, const tw_wish *wish, int *status)
{
    tw_caches caches = tw_caches_here();
    int64_t element = tw_element_bytes(plan->dtype), few = tw_at_most(plan->size[0], plan->size[1]);
    int split = TW_SCALAR_SIDE;
    if (plan->size[split] < plan->size[!split]) {
        turn(plan);
    }
    if (wish->reproducible || !along_k(plan, split) || few > TW_LONGEST_DOT) {
        return false;
    }
    if (tw_is_complex(plan->dtype)) {
        if ((double)few * (double)plan->k * (double)element > TW_MOST_PAIRS) {
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
    int64_t most = tw_at_most(tw_at_least(bytes / ((few > 4 ? 8 : few) * element), 256), 4096);
    int64_t bands = (few + MOST_ROWS - 1) / MOST_ROWS;
    bool paced = bands == 1 && (few <= 2 || bytes_of(plan, split) > TW_FROM_MEMORY);
    const tw_kernel *ahead = tw_kernel_ahead(plan->isa, plan->dtype, (int)((few + bands - 1) / bands), paced);
    if (plan->k * element < TW_LEAST_AHEAD) {
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
        most = tw_at_least(kept / ((few + 2 * plan->main->nr) * element), 512);
    }
    plan->kc = tw_round_up(even(plan->k, most), 64);
    plan->lines = 1024;
    return settle(plan, wish, status);
}

/* Elements of one operand, the long one where one is, are taken one at a time where they lie: along k, as many lines at once
 * as a panel of that side has, whose streams hardware follows, or, if k is short, across. The other's panel comes from the
 * second cache for each of them. Where k is shortest kernels of more lines are faster if there are few rows; of long lines more
 * would push one another out of the first cache where they crowd in its sets. */
bool tw_path_direct(tw_blocked *plan, const tw_wish *wish, int *status)
{
    bool tall = plan->size[TW_VECTOR_SIDE] >= TW_TALL * plan->size[TW_SCALAR_SIDE];
    bool across = plan->k < TW_TURNING_STEPS && !along_k(plan, TW_SCALAR_SIDE);
    if (tall ||
        (plan->size[TW_SCALAR_SIDE] < plan->size[TW_VECTOR_SIDE] && !along_k(plan, TW_SCALAR_SIDE) && !across)) {
        turn(plan);
    }
    if (wish->reproducible || (!along_k(plan, TW_SCALAR_SIDE) && !across) ||
        tw_jams(plan->isa, plan->stand[TW_SCALAR_SIDE].line)) {
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
    int64_t element = tw_element_bytes(plan->dtype), line = plan->k * element;
    const tw_tiles *tiles = plan->tiles;
    int rows = (int)tw_at_most(tw_at_most(plan->size[0], plan->stand[TW_VECTOR_SIDE].width), tiles->most_rows);
    int most = tiles->width[tiles->height[rows][tiles->most_columns]][tiles->most_columns];
    if (plan->k <= TW_SHORT_LINES && plan->size[0] * element * most <= MOST_PIECE) {
        plan->stand[TW_SCALAR_SIDE].width = most;
    }
    plan->lines = DIRECT_LINES;
    bool far = !across && bytes_of(plan, TW_SCALAR_SIDE) > TW_FROM_MEMORY;
    plan->ahead = far && line >= TW_LEAST_AHEAD ? tw_at_most(line, ASKED) : 0; /* short ones follow one another */
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
    plan->kc = even(plan->k, tw_at_most(tw_at_least(most, 16), 256));
}

bool tw_path_inner(tw_blocked *plan, const tw_wish *wish, int *status)
{
    int64_t element = tw_element_bytes(plan->dtype);
    if (wish->reproducible || (double)plan->size[0] * (double)plan->size[1] * (double)element > 256 << 10) {
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
void tw_choose_around(tw_blocked *plan)
{
    int64_t column = plan->size[0] * tw_element_bytes(plan->dtype), width = plan->stand[plan->split].width;
    plan->around = tw_writes_around() && plan->size[0] >= AROUND_ROWS &&
                   (double)column * (double)plan->k <= (double)tw_caches_here().second / 8 &&
                   plan->split == TW_SCALAR_SIDE && !plan->turned && !plan->inner &&
                   plan->stand[plan->split].format == TW_DIRECT && plan->ldc == column &&
                   (plan->k < AROUND_SHORT || column >= AROUND_COLUMN) && column * width <= MOST_PIECE &&
                   plan->k <= AROUND_STEPS * plan->size[0] && (double)column * (double)plan->size[1] > TW_FROM_MEMORY;
    plan->piece = tw_at_least(PIECE / tw_at_least(column, 1) / width, 1) * width;
    if (plan->around) {
        plan->lines = tw_at_least(plan->lines, 64 * plan->piece);
    }
}
