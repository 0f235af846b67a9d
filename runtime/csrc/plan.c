/* plan.c - a product made ready: which kernels, where in the matrices, with what arguments. */
#include <stdlib.h>

#include "internal.h"

/* A plan and room on the stack for one command. */
typedef union small_plan {
    tw_gemm_plan plan;
    char bytes[sizeof(tw_gemm_plan) + sizeof(tw_command)];
} small_plan;

/* Put the arguments of every tile together once, for alpha = 1 and beta = 0 or 1, a set for all tiles that agree in them. */
static void make_ready(tw_gemm_plan *plan)
{
    int used = 0;
    tw_args *sets = plan->sets[0];
    for (int i = 0; i < plan->count; i++) {
        tw_command *command = &plan->commands[i];
        int set = 0;
        while (set < used && (sets[set].mask != command->mask || sets[set].lanes != command->lanes ||
                              sets[set].flags != command->conj)) {
            set++;
        }
        if (set == TW_PLAN_SETS) {
            return;
        }
        if (set == used) {
            sets[used] = plan->args;
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
    if (plan->count == 1 && !plan->turned) {
        plan->run = plan->commands[0].run;
        plan->args = sets[0];
    }
}

static float cost_of(const tw_tile_list *list, int count, int64_t k)
{
    float sum = 0;
    for (int i = 0; i < count; i++) {
        tw_cost_line line = tw_cost_near(list->tiles[i].kernel, k);
        sum += line.call + (float)k * line.step;
    }
    return sum;
}

/* Turn A before the kernels run and use those of mode nn, if that is thought to take less time than the tiles in `list`. */
static void turn_if_it_pays(tw_gemm_plan *plan, int strategy, tw_tile_list *list)
{
    tw_form turned;
    tw_tile_list other;
    const tw_tiles *tiles;
    int64_t k = plan->form.k;
    if (plan->count == 0 || !tw_turn_form(&plan->form, plan->served_by, &turned) ||
        tw_tiles_find(plan->served_by, turned.dtype, turned.mode, &tiles) != TW_OK || tiles == NULL) {
        return;
    }
    int count = tw_tile_c(tiles, strategy, turned.m, turned.n, k, &other);
    bool listed = plan->count > 0; /* what is not listed is long enough for turning to pay */
    if (count < 1 ||
        (listed && cost_of(&other, count, k) + tw_cycle * tw_turn_cycles(&turned) >= cost_of(list, plan->count, k))) {
        return;
    }
    plan->turned = plan->form.lda;
    plan->form = turned;
    plan->tiles = tiles;
    plan->count = (int16_t)count;
    plan->args.lda = turned.lda;
    *list = other;
}

int tw_plan_fill(tw_gemm_plan *plan, const tw_key *key, int room)
{
    int isa;
    tw_form *form = &plan->form;
    if (tw_get_num_threads() < 0) { /* here, so that what fails is every product, and none asks twice */
        return TW_ERROR_THREADS;
    }
    int status = tw_form_of(key, form, &isa);
    if (status != TW_OK) {
        return status;
    }
    plan->key = *key;
    plan->exchanged = key->layout == TW_ROW_MAJOR;
    plan->run = NULL;
    plan->ready = 0;
    plan->turned = 0;
    plan->walked = room < TW_PLAN_TILES;
    plan->count = 0;
    plan->tiles = NULL;
    plan->args = (tw_args){0};
    plan->served_by = isa;
    if (form->m == 0 || form->n == 0) {
        return TW_OK;
    }
    /* Without steps nothing is read, so nothing need be conjugated: whatever kernels there are will do. */
    tw_operation op_a = {form->trans_a, form->conj_a && form->k > 0},
                 op_b = {form->trans_b, form->conj_b && form->k > 0};
    status = tw_select(isa, form->dtype, op_a, op_b, &plan->tiles, &form->mode, &plan->served_by);
    if (status != TW_OK) {
        return status;
    }
    form->conj_a = op_a.conj;
    form->conj_b = op_b.conj;
    plan->args = tw_args_of(form);
    if (plan->walked) { /* for this call alone: nothing is searched */
        tw_walk walk = tw_walk_begin(plan->tiles, form->m, form->n);
        tw_tile tile;
        while (plan->count >= 0 && tw_walk_next(&walk, &tile)) {
            if (plan->count == room) {
                plan->count = -1;
            } else {
                plan->commands[plan->count++] = tw_command_of(form, &tile);
            }
        }
    } else {
        tw_tile_list list;
        plan->count = (int16_t)tw_tile_c(plan->tiles, key->variant >> 16, form->m, form->n, form->k, &list);
        turn_if_it_pays(plan, key->variant >> 16, &list);
        for (int i = 0; i < plan->count; i++) {
            plan->commands[i] = tw_command_of(form, &list.tiles[i]);
        }
    }
    make_ready(plan);
    return TW_OK;
}

static void run_ready(const tw_gemm_plan *plan, const void *a, const void *b, void *c, const tw_args *sets)
{
    const tw_command *command = plan->commands, *end = command + plan->ready;
    do {
        const void *args = (const char *)sets + command->set;
        command->run((const char *)a + command->a, (const char *)b + command->b, (char *)c + command->c, args);
    } while (++command != end);
}

static void run_listed(const tw_gemm_plan *plan, const void *a, const void *b, void *c, tw_args *args)
{
    for (int i = 0; i < plan->count; i++) {
        tw_run_command(&plan->commands[i], a, b, c, args);
    }
}

/* Apart, since a panel on the stack is for those alone that need one. */
static __attribute__((noinline)) void turn_and_run(const tw_gemm_plan *plan, const void *a, const void *b, void *c,
                                                   const tw_args *sets, tw_args *args)
{
    _Alignas(64) char panel[TW_PANEL];
    tw_turn(&plan->form, a, plan->turned, panel);
    if (sets != NULL) {
        run_ready(plan, panel, b, c, sets);
    } else {
        run_listed(plan, panel, b, c, args);
    }
}

void tw_plan_run_ready(const tw_gemm_plan *plan, const void *a, const void *b, void *c, const tw_args *sets)
{
    if (plan->turned) {
        turn_and_run(plan, a, b, c, sets, NULL);
    } else {
        run_ready(plan, a, b, c, sets);
    }
}

void tw_plan_run_tiles(const tw_gemm_plan *plan, const void *a, const void *b, void *c, tw_args *args)
{
    if (__builtin_expect(tw_verbose, 0)) {
        tw_trace(plan, 1);
    }
    const void *x = plan->exchanged ? b : a, *y = plan->exchanged ? a : b;
    if (plan->turned && args->k > 0) {
        turn_and_run(plan, x, y, c, NULL, args);
    } else {
        run_listed(plan, x, y, c, args);
    }
    if (plan->count < 0) {
        tw_walk walk = tw_walk_begin(plan->tiles, plan->form.m, plan->form.n);
        tw_tile tile;
        while (tw_walk_next(&walk, &tile)) {
            tw_command command = tw_command_of(&plan->form, &tile);
            tw_run_command(&command, x, y, c, args);
        }
    }
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
    tw_plan_run_tiles(plan, a, b, c, &args);
    return TW_OK;
}

int tw_plan_run_once(const tw_key *key, const tw_scalar *alpha, const void *a, const void *b, const tw_scalar *beta,
                     void *c)
{
    small_plan made;
    int status = tw_plan_fill(&made.plan, key, 1);
    if (status == TW_ERROR_KERNEL &&
        tw_scalar_is(key->variant & 0xff, alpha, 0)) { /* no kernel conjugates so: nor need */
        tw_key without = *key;
        without.k = 0;
        status = tw_plan_fill(&made.plan, &without, 1);
    }
    return status ? status : tw_plan_run(&made.plan, alpha, a, b, beta, c);
}

/* ---- For callers who keep a plan themselves ---- */

int tw_gemm_plan_create(tw_gemm_plan **plan, int dtype, int layout, int transa, int transb, int64_t m, int64_t n,
                        int64_t k, int64_t lda, int64_t ldb, int64_t ldc)
{
    *plan = NULL;
    int type = tw_dtype_of(dtype), isa = tw_isa_current();
    if (type < 0) {
        return tw_fail(TW_ERROR_TYPE, "tw_gemm_plan_create: dtype is %d; it must be 's', 'd', 'c' or 'z'.", dtype);
    }
    if (isa < 0) {
        return TW_ERROR_ISA;
    }
    if (tw_tiler_current() == NULL) {
        return TW_ERROR_TILER;
    }
    tw_key key = {m, n, k, lda, ldb, ldc, layout, transa, transb, tw_variant(type, isa, atomic_load(&tw_tiler_now))};
    size_t most = sizeof(tw_gemm_plan) + TW_PLAN_TILES * sizeof(tw_command);
    tw_gemm_plan *made = malloc(most);
    if (made == NULL) {
        return tw_fail(TW_ERROR_MEMORY, "tw_gemm_plan_create: out of memory for %zu bytes.", most);
    }
    int status = tw_plan_fill(made, &key, TW_PLAN_TILES);
    if (status != TW_OK) {
        free(made);
        return status;
    }
    int kept = made->count > 0 ? made->count : 1;
    tw_gemm_plan *fitted = realloc(made, sizeof *made + (size_t)kept * sizeof(tw_command));
    *plan = fitted ? fitted : made;
    return TW_OK;
}

void tw_gemm_plan_destroy(tw_gemm_plan *plan)
{
    free(plan);
}

int tw_gemm_execute(const tw_gemm_plan *plan, const void *a, const void *b, void *c)
{
    if (a != NULL && b != NULL && c != NULL) {
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
    if (bound->alpha == NULL && bound->beta == NULL) {
        return tw_gemm_execute(bound->plan, bound->a, bound->b, bound->c);
    }
    return tw_gemm_plan_execute(bound->plan, bound->alpha, bound->a, bound->b, bound->beta, bound->c);
}
