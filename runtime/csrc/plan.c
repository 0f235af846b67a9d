/* plan.c - a product made ready: which kernels, where in the matrices, with what arguments. */
#include <stdlib.h>

#include "blocked.h"

/* A plan and room on the stack for one command, or blocks. */
typedef union small_plan {
    tw_gemm_plan plan;
    char bytes[sizeof(tw_gemm_plan) +
               (sizeof(tw_command) > sizeof(tw_blocked) ? sizeof(tw_command) : sizeof(tw_blocked))];
} small_plan;

static int64_t lda_of(const tw_gemm_plan *plan, int command)
{
    return plan->strip.rows && command >= plan->strip.first ? plan->strip.form.lda : plan->main.lda;
}

/* Put the arguments of every tile together once, for alpha = 1 and beta = 0 or 1, a set for all tiles that agree in them. */
static void make_ready(tw_gemm_plan *plan)
{
    int used = 0;
    tw_args *sets = plan->sets[0];
    for (int i = 0; i < plan->count; i++) {
        tw_command *command = &plan->commands[i];
        int set = 0;
        while (set < used && (sets[set].mask != command->mask || sets[set].lanes != command->lanes ||
                              sets[set].flags != command->conj || sets[set].lda != lda_of(plan, i))) {
            set++;
        }
        if (set == TW_PLAN_SETS) {
            return;
        }
        if (set == used) {
            sets[used] = plan->args;
            sets[used].lda = lda_of(plan, i);
            sets[used].mask = command->mask;
            sets[used].lanes = command->lanes;
            sets[used++].flags = command->conj;
        }
        command->set = set * (int64_t)sizeof(tw_args);
    }
    if (used == 0 || tw_verbose) {
        return;
    }
    tw_scalar one = tw_alpha_at(plan->form.dtype, NULL);
    for (int set = 0; set < used; set++) {
        plan->sets[1][set] = sets[set];
        tw_args_scale(&plan->sets[1][set], plan->form.dtype, &one, &one);
    }
    plan->ready = plan->count;
    if (plan->count == 1 && plan->turn.operand == 0) {
        plan->run = plan->commands[0].run;
        plan->straight = plan->exchanged ? NULL : plan->run;
        plan->args = sets[0];
    }
}

/* Cut a part of C, from row i on, and add its commands; all or, with false, none. */
static bool add_tiles(tw_gemm_plan *plan, const tw_form *form, const tw_tiles *tiles, int64_t i)
{
    tw_tile_list list;
    int count = tw_tile_c(tiles, plan->key.variant >> 16 & TW_STRATEGY, form->m, form->n, form->k, &list);
    if (count < 0 || plan->count + count > TW_PLAN_TILES) {
        return false;
    }
    for (int tile = 0; tile < count; tile++) {
        tw_command *command = &plan->commands[plan->count++];
        *command = tw_command_of(form, &list.tiles[tile]);
        command->c += i * tw_element_bytes(form->dtype);
    }
    return true;
}

/* The main part and the strip of the last rows, where that is worth while. False: not so, and nothing is changed. */
static bool fill_strip(tw_gemm_plan *plan, int isa, bool ordered)
{
    tw_strip strip = {.form = plan->main};
    tw_turn turn;
    strip.rows = tw_turn_rows(&strip.form, isa, ordered, &turn);
    int served_by, mode;
    if (strip.rows == 0 ||
        tw_select(isa, strip.form.dtype, (tw_operation){true, false}, (tw_operation){false, false},
                  tw_steps_of(strip.form.k, ordered), &strip.tiles, &mode, &served_by) != TW_OK ||
        served_by != isa) {
        return false;
    }
    strip.form.mode = mode;
    plan->main.m -= strip.rows;
    if (add_tiles(plan, &plan->main, plan->tiles, 0)) {
        strip.first = plan->count;
        if (add_tiles(plan, &strip.form, strip.tiles, plan->main.m)) {
            plan->strip = strip;
            plan->turn = turn;
            return true;
        }
    }
    plan->main.m += strip.rows;
    plan->count = 0;
    return false;
}

size_t tw_plan_bytes(const tw_gemm_plan *plan)
{
    size_t commands = (plan->count > 0 ? (size_t)plan->count : 1) * sizeof(tw_command);
    return sizeof *plan + (plan->blocked ? sizeof(tw_blocked) : commands);
}

size_t tw_plan_bytes_most(void)
{
    return sizeof(tw_gemm_plan) + TW_PLAN_TILES * sizeof(tw_command);
}

/* Blocks, where the product is large enough, or no kernel does what is asked without packing. *found says which. */
static int fill_blocked(tw_gemm_plan *plan, int isa, int path, const tw_wish *wish, bool *found)
{
    tw_blocked blocked;
    const tw_form *form = &plan->form;
    int status = tw_route(form, isa, path, wish, &blocked, found);
    if (status == TW_OK && *found) {
        memcpy(plan->commands, &blocked, sizeof blocked);
        plan->blocked = true;
        plan->count = -1;
        plan->served_by = isa;
        plan->args = tw_args_of(form);
    }
    return status;
}

int tw_plan_fill(tw_gemm_plan *plan, const tw_key *key, int room, const tw_wish *wish)
{
    int isa, tiler = key->variant >> 16, path = tiler >> TW_PATH_SHIFT & 15;
    tw_wish own = {.reproducible = tiler & TW_REPRODUCIBLE};
    own = wish ? *wish : own;
    own.alone = own.threads == 1 || (own.threads == 0 && tiler & TW_ONE_THREAD);
    wish = &own;
    tw_form *form = &plan->form;
    if (tw_get_num_threads() < 0) { /* here, so that what fails is every product, and none asks twice */
        return TW_ERROR_THREADS;
    }
    int status = tw_form_of(key, form, &isa);
    if (status != TW_OK) {
        return status;
    }
    plan->key = *key;
    plan->exchanged = form->exchanged;
    plan->run = plan->straight = NULL;
    plan->ready = 0;
    plan->walked = room < TW_PLAN_TILES;
    plan->count = 0;
    plan->tiles = NULL;
    plan->turn = (tw_turn){0};
    plan->strip.rows = 0;
    plan->args = (tw_args){0};
    plan->many = (tw_many){.lanes = 0};
    plan->served_by = isa;
    plan->blocked = false;
    plan->packed = 0;
    if (form->m == 0 || form->n == 0) {
        return TW_OK;
    }
    bool blocked;
    status = fill_blocked(plan, isa, path, wish, &blocked);
    if (status != TW_OK || blocked) {
        return status;
    }
    tw_row_as_column(form, isa);
    plan->exchanged = form->exchanged;
    /* Without steps nothing is read, so nothing need be conjugated: whatever kernels there are will do. */
    form->conj_a = form->conj_a && form->k > 0;
    form->conj_b = form->conj_b && form->k > 0;
    tw_form *main = &plan->main;
    const bool ordered = wish->reproducible; /* no kernel that changes the order of a sum */
    *main = *form;
    if (!plan->walked && !wish->reproducible) { /* their sums of -0 are -0, where others give 0 */
        plan->many = tw_special_many(form, isa);
        if (tw_special_whole(form, isa, &plan->commands[0])) {
            plan->args = tw_args_of(form);
            plan->count = 1;
            make_ready(plan);
            return TW_OK;
        }
    }
    tw_turn_choose(main, isa, ordered, &plan->turn);
    tw_operation op_a = {main->trans_a, main->conj_a}, op_b = {main->trans_b, main->conj_b};
    status = tw_select(isa, main->dtype, op_a, op_b, tw_steps_of(main->k, ordered), &plan->tiles, &main->mode,
                       &plan->served_by);
    if (status == TW_ERROR_KERNEL &&
        op_a.conj != op_b.conj) { /* conjugated but not transposed: no tile does that by itself, packing does */
        int refused = status;
        status = fill_blocked(plan, isa, TW_PATH_BLOCKED, wish, &blocked);
        return status == TW_OK && !blocked ? refused : status;
    }
    if (status != TW_OK) {
        return status;
    }
    plan->args = tw_args_of(main);
    if (plan->walked) { /* for this call alone: nothing is searched */
        tw_walk walk = tw_walk_begin(plan->tiles, main->m, main->n);
        tw_tile tile;
        while (plan->count >= 0 && tw_walk_next(&walk, &tile)) {
            if (plan->count == room) {
                plan->count = -1;
            } else {
                plan->commands[plan->count++] = tw_command_of(main, &tile);
            }
        }
    } else if (!fill_strip(plan, isa, ordered) && !add_tiles(plan, main, plan->tiles, 0)) {
        plan->count = -1;
    }
    make_ready(plan);
    return TW_OK;
}

static inline void run_sets(const tw_command *command, const tw_command *end, const void *x, const void *y, void *c,
                            const tw_args *sets)
{
    do {
        const void *args = (const char *)sets + command->set;
        command->run((const char *)x + command->a, (const char *)y + command->b, (char *)c + command->c, args);
    } while (++command != end);
}

static void run_tiles(const tw_gemm_plan *plan, int first, int end, const void *x, const void *y, void *c,
                      tw_args *args)
{
    for (int i = first; i < end; i++) {
        tw_run_command(&plan->commands[i], x, y, c, args);
    }
    if (end < 0) {
        tw_walk walk = tw_walk_begin(plan->tiles, plan->main.m, plan->main.n);
        tw_tile tile;
        while (tw_walk_next(&walk, &tile)) {
            tw_command command = tw_command_of(&plan->main, &tile);
            tw_run_command(&command, x, y, c, args);
        }
    }
}

/* With one operand turned, either with ready arguments or with `args`: a function of its own, so that others need no room
 * for the panel. */
static __attribute__((noinline)) void run_turned(const tw_gemm_plan *plan, const void *x, const void *y, void *c,
                                                 const tw_args *sets, tw_args *args)
{
    _Alignas(64) char panel[TW_PANEL];
    bool of_a = plan->turn.operand == 'A';
    int first = plan->strip.rows ? plan->strip.first : 0;
    const tw_command *commands = plan->commands;
    const void *turned_x = of_a ? panel : x, *turned_y = of_a ? y : panel;
    if (sets != NULL || args->k > 0) {
        tw_turn_into(&plan->turn, plan->form.dtype, of_a ? x : y, panel);
    }
    if (sets != NULL) {
        if (first > 0) {
            run_sets(commands, commands + first, x, y, c, sets);
        }
        run_sets(commands + first, commands + plan->count, turned_x, turned_y, c, sets);
        return;
    }
    if (first > 0) {
        run_tiles(plan, 0, first, x, y, c, args);
        args->lda = plan->strip.form.lda;
    }
    run_tiles(plan, first, plan->count, turned_x, turned_y, c, args);
    args->lda = plan->main.lda; /* a batch uses them again */
}

void tw_plan_run_ready(const tw_gemm_plan *plan, const void *x, const void *y, void *c, const tw_args *sets)
{
    if (plan->turn.operand == 0) {
        run_sets(plan->commands, plan->commands + plan->ready, x, y, c, sets);
    } else {
        run_turned(plan, x, y, c, sets, NULL);
    }
}

static int run_all(const tw_gemm_plan *plan, const void *a, const void *b, void *c, tw_args *args)
{
    const void *x = plan->exchanged ? b : a, *y = plan->exchanged ? a : b;
    if (plan->blocked) {
        return tw_blocked_run(tw_blocked_of(plan), &args->alpha, x, y, &args->beta, c);
    }
    if (plan->turn.operand == 0) {
        run_tiles(plan, 0, plan->count, x, y, c, args);
    } else {
        run_turned(plan, x, y, c, NULL, args);
    }
    return TW_OK;
}

int tw_plan_run_tiles(const tw_gemm_plan *plan, const void *a, const void *b, void *c, tw_args *args)
{
    int64_t begun = __builtin_expect(tw_verbose, 0) ? tw_trace_clock() : 0;
    int status = run_all(plan, a, b, c, args);
    if (__builtin_expect(tw_verbose, 0)) {
        tw_trace(plan, 1, tw_trace_clock() - begun);
    }
    return status;
}

int tw_plan_run(const tw_gemm_plan *plan, const tw_scalar *alpha, const void *a, const void *b, const tw_scalar *beta,
                void *c)
{
    if (plan->count == 0) {
        return TW_OK;
    }
    int dtype = plan->form.dtype;
    tw_args args = plan->args;
    tw_args_scale(&args, dtype, alpha, beta);
    if (args.k == 0) { /* A and B are not read */
        if (tw_scalar_is(dtype, beta, 1)) {
            return TW_OK;
        }
        a = b = c; /* whatever they are, no arithmetic on them either */
    }
    if (a == NULL || b == NULL || c == NULL) {
        return tw_refuse_null(dtype, c == NULL ? TW_ARGUMENT_C : a == NULL ? TW_ARGUMENT_A : TW_ARGUMENT_B);
    }
    return tw_plan_run_tiles(plan, a, b, c, &args);
}

int tw_plan_run_once(const tw_key *key, const tw_scalar *alpha, const void *a, const void *b, const tw_scalar *beta,
                     void *c)
{
    small_plan made;
    int status = tw_plan_fill(&made.plan, key, 1, NULL);
    if (status == TW_ERROR_KERNEL &&
        tw_scalar_is(key->variant & 0xff, alpha, 0)) { /* no kernel conjugates so: nor need */
        tw_key without = *key;
        without.k = 0;
        status = tw_plan_fill(&made.plan, &without, 1, NULL);
    }
    return status ? status : tw_plan_run(&made.plan, alpha, a, b, beta, c);
}

/* ---- For callers who keep a plan themselves ---- */

int tw_variant_for(const char *entry, int dtype, int32_t *variant)
{
    int type = tw_dtype_of(dtype), isa = tw_isa_current();
    if (type < 0) {
        return tw_fail(TW_ERROR_TYPE, "%s: dtype is %d; it must be 's', 'd', 'c' or 'z'.", entry, dtype);
    }
    if (isa < 0) {
        return TW_ERROR_ISA;
    }
    if (tw_tiler_current() == NULL) {
        return TW_ERROR_TILER;
    }
    *variant = tw_variant(type, isa, atomic_load(&tw_tiler_now));
    return TW_OK;
}

/* Can the elements be counted? What is reckoned of sizes must not overflow; leading dimensions are the caller's word. */
static bool addressable(const tw_key *key)
{
    double most = 0x1p63 / 16, m = (double)key->m, n = (double)key->n, k = (double)key->k;
    return m * n == 0 || (m * k < most && k * n < most && m * n < most);
}

int tw_plan_make(const char *entry, const tw_key *key, const tw_wish *wish, tw_gemm_plan **plan)
{
    if (!addressable(key)) {
        return tw_fail(TW_ERROR_PLAN,
                       "%s: m, n and k are %lld, %lld and %lld: a matrix of two of them is beyond what an address can "
                       "hold; it must have less than 2^59 elements.",
                       entry, (long long)key->m, (long long)key->n, (long long)key->k);
    }
    size_t most = tw_plan_bytes_most();
    tw_gemm_plan *made = malloc(most);
    if (made == NULL) {
        return tw_fail(TW_ERROR_MEMORY, "%s: out of memory for %zu bytes.", entry, most);
    }
    int status = tw_plan_fill(made, key, TW_PLAN_TILES, wish);
    if (status != TW_OK) {
        free(made);
        return status;
    }
    tw_gemm_plan *fitted = realloc(made, tw_plan_bytes(made));
    *plan = fitted ? fitted : made;
    return TW_OK;
}

int tw_gemm_plan_create(tw_gemm_plan **plan, int dtype, int layout, int transa, int transb, int64_t m, int64_t n,
                        int64_t k, int64_t lda, int64_t ldb, int64_t ldc)
{
    *plan = NULL;
    int32_t variant;
    int status = tw_variant_for("tw_gemm_plan_create", dtype, &variant);
    if (status != TW_OK) {
        return status;
    }
    tw_key key = {m, n, k, lda, ldb, ldc, layout, transa, transb, variant};
    return tw_plan_make("tw_gemm_plan_create", &key, NULL, plan);
}

void tw_gemm_plan_destroy(tw_gemm_plan *plan)
{
    free(plan);
}

int tw_refuse_plan(const char *function)
{
    return tw_fail(TW_ERROR_PLAN, "%s: the plan is NULL; tw_gemm_plan_create makes one, and says why where it cannot.",
                   function);
}

int tw_gemm_execute(const tw_gemm_plan *plan, const void *a, const void *b, void *c)
{
    if (plan != NULL && a != NULL && b != NULL && c != NULL) {
        const void *x = plan->exchanged ? b : a, *y = plan->exchanged ? a : b;
        if (plan->run != NULL) {
            plan->run(x, y, c, plan->sets[0]);
            return TW_OK;
        }
        if (plan->ready != 0) {
            tw_plan_run_ready(plan, x, y, c, plan->sets[0]);
            return TW_OK;
        }
    }
    return tw_gemm_plan_execute(plan, NULL, a, b, NULL, c);
}

/* Apart, so that the common case needs no memory. */
static __attribute__((noinline)) int execute(const tw_gemm_plan *plan, const void *alpha, const void *a, const void *b,
                                             const void *beta, void *c)
{
    int dtype = plan->form.dtype;
    tw_scalar first = tw_alpha_at(dtype, alpha), second = tw_beta_at(dtype, beta);
    return tw_plan_run(plan, &first, a, b, &second, c);
}

int tw_gemm_plan_execute(const tw_gemm_plan *plan, const void *alpha, const void *a, const void *b, const void *beta,
                         void *c)
{
    if (plan == NULL) {
        return tw_refuse_plan("tw_gemm_plan_execute");
    }
    if (plan->packed) {
        return tw_gemm_plan_execute_packed(plan, alpha, a, b, beta, c);
    }
    int dtype = plan->form.dtype;
    if (alpha != NULL && beta != NULL && a != NULL && b != NULL && c != NULL && plan->ready != 0) {
        tw_plain plain = tw_plain_at(dtype, alpha, beta);
        if (plain != TW_GENERAL) {
            const void *x = plan->exchanged ? b : a, *y = plan->exchanged ? a : b;
            const tw_args *sets = plan->sets[plain == TW_ADDED];
            if (plan->run != NULL) {
                plan->run(x, y, c, sets);
            } else {
                tw_plan_run_ready(plan, x, y, c, sets);
            }
            return TW_OK;
        }
    }
    return execute(plan, alpha, a, b, beta, c);
}

int tw_gemm_bound_run(const tw_gemm_bound *bound)
{
    if (bound == NULL) {
        return tw_refuse_plan("tw_gemm_bound_run");
    }
    if (bound->alpha == NULL && bound->beta == NULL) {
        return tw_gemm_execute(bound->plan, bound->a, bound->b, bound->c);
    }
    return tw_gemm_plan_execute(bound->plan, bound->alpha, bound->a, bound->b, bound->beta, bound->c);
}
