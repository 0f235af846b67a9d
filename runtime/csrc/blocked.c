/* blocked.c - the loops around tiles where operands do not fit the caches.
 *
 *     for each chunk of the split operand's lines              a task takes one after the other
 *       for each block of kc steps                             the chunk's block is packed, or left where it is
 *         for each panel of the other operand                  stays in the first cache
 *           for each panel of the chunk                        comes from the second
 *             the tile's kernels
 *
 * The other operand is packed once, first, by all threads; or it comes packed. What the papers call nc, pc, mc, jr and ir
 * are the same loops: AutoTSMM (arXiv 2208.08088), after Goto and van Zijl de Geijn. */
#include "product.h"

enum {
    LINE = 64,
    SPREAD = 1024,
    AHEAD = 2 /* panels */,
    FAR = 4 /* blocks */,
    DEEP = 64,
    DEEP_C = 16,
    LONG = 128 /* k steps */
};

static bool along_k(int format, const tw_stand *stand, int64_t element)
{
    return format == TW_COPIED || (format == TW_DIRECT && stand->step == element && stand->line != element);
}

/* Bytes from one line to the next of copied lines: eight of them shall share no set of the first cache, nor shall what is
 * fetched ahead of one meet another. */
static int64_t pitch_of(const tw_blocked *plan)
{
    return tw_round_up(plan->k * tw_element_bytes(plan->dtype), SPREAD) + SPREAD / 2 + LINE;
}

/* The leading dimension that kernels see of a panel of `width` lines. */
static int64_t ld_of(const tw_blocked *plan, int side, int64_t width)
{
    const tw_stand *stand = &plan->stand[side];
    int64_t element = tw_element_bytes(plan->dtype);
    switch (stand->format) {
    case TW_COPIED:
        return pitch_of(plan);
    case TW_DIRECT:
        return along_k(TW_DIRECT, stand, element) ? stand->line : stand->step;
    default:
        return width * element;
    }
}

/* The kernel on panels for a tile; NULL: it has none. */
static const tw_kernel *whole_kernel(const tw_blocked *plan, int64_t m, int64_t n, int place)
{
    int64_t lines[] = {m, n};
    bool whole = lines[plan->filling] == plan->stand[plan->filling].width;
    if (!whole || plan->stand[0].format > TW_PANELS || plan->stand[1].format > TW_PANELS) {
        return NULL;
    }
    return tw_panel_kernel(plan->isa, plan->dtype, plan->filling, lines[!plan->filling], place);
}

/* The calls for a tile of so many lines of each side. False: more than there is room for. */
static bool cut(const tw_blocked *plan, int64_t m, int64_t n, int64_t ldc, tw_tile_calls *tile)
{
    int64_t element = tw_element_bytes(plan->dtype);
    tile->ld[0] = ld_of(plan, TW_VECTOR_SIDE, m);
    tile->ld[1] = ld_of(plan, TW_SCALAR_SIDE, n);
    tw_form form = {.dtype = plan->dtype,
                    .mode = plan->mode,
                    .trans_a = along_k(plan->stand[0].format, &plan->stand[0], element),
                    .trans_b = !along_k(plan->stand[1].format, &plan->stand[1], element),
                    .lda = tile->ld[0],
                    .ldb = tile->ld[1],
                    .ldc = ldc};
    tile->count = 0;
    tw_tile one = {whole_kernel(plan, m, n, TW_NEAR), 0, 0, (int)m, (int)n};
    if (one.kernel != NULL) {
        tile->calls[tile->count++] = tw_command_of(&form, &one);
        return true;
    }
    int64_t from = 0;
    for (; plan->main != NULL && n == plan->main->nr && m - from >= plan->main->mr; from += plan->main->mr) {
        one = (tw_tile){plan->main, from, 0, plan->main->mr, (int)n};
        tile->calls[tile->count++] = tw_command_of(&form, &one);
    }
    /* Three or four long copied lines go two by two, with all long lines at once: those come from memory, which answers many at a
     * time. From five on arithmetic counts for more. */
    int64_t band = plan->stand[TW_VECTOR_SIDE].format == TW_COPIED && m <= 4 && plan->k >= LONG ? 2 : m;
    for (; from < m; from += band) {
        tw_walk walk = tw_walk_begin(plan->tiles, tw_at_most(band, m - from), n);
        while (tw_walk_next(&walk, &one)) {
            if (tile->count == TW_MOST_TILES) {
                return false;
            }
            one.i += (int)from;
            tile->calls[tile->count++] = tw_command_of(&form, &one);
        }
    }
    return true;
}

/* A part of one side, to be packed. */
static tw_lines lines_of(const tw_product *all, int side, int64_t first, int64_t lines, int64_t step, int64_t steps)
{
    const tw_stand *stand = &all->plan->stand[side];
    return (tw_lines){.dtype = all->plan->dtype,
                      .conj = stand->conj,
                      .at = all->operand[side] + first * stand->line + step * stand->step,
                      .line = stand->line,
                      .step = stand->step,
                      .lines = lines,
                      .k = steps};
}

/* Make a block of the chunk ready. */
static void prepare(const tw_product *all, int64_t first, int64_t lines, int64_t step, int64_t steps, char *block)
{
    const tw_blocked *plan = all->plan;
    const tw_stand *stand = &plan->stand[plan->split];
    if (stand->format == TW_PANELS) {
        tw_lines some = lines_of(all, plan->split, first, lines, step, steps);
        tw_pack_panels(&some, stand->width, 1, block);
    }
}

/* Where a panel begins that starts with this line, at this k step of all. */
static const char *panel_at(const tw_product *all, int side, int64_t first, int64_t width, int64_t step)
{
    const tw_blocked *plan = all->plan;
    const tw_stand *stand = &plan->stand[side];
    int64_t element = tw_element_bytes(plan->dtype);
    const char *base = side == plan->split ? all->operand[side] : all->panels;
    switch (stand->format) {
    case TW_DIRECT:
        return all->operand[side] + first * stand->line + step * stand->step;
    case TW_COPIED:
        return base + first * pitch_of(plan) + step * element;
    default:
        return base + (first * plan->k + step * width) * element;
    }
}

/* Ask for a panel that lies where it is, before its turn comes, into the second cache: its steps are far apart in memory,
 * which no hardware follows. */
static inline __attribute__((always_inline)) void fetch_second(const char *at, int64_t step, int64_t steps,
                                                               int64_t bytes)
{
    for (; steps > 0; steps--, at += step) {
        for (int64_t byte = 0; byte < bytes; byte += LINE) {
            __builtin_prefetch(at + byte, 0, 2);
        }
    }
}

/* All tiles of a chunk's block. `c` is the chunk's first element of C, at line 0 of the other side. */
static void multiply(const tw_product *all, int64_t first, int64_t lines, int64_t step, int64_t steps,
                     const char *block, char *c, int64_t ldc, tw_args *args)
{
    const tw_blocked *plan = all->plan;
    int split = plan->split, other = !split;
    const tw_stand *mine = &plan->stand[split];
    int64_t element = tw_element_bytes(plan->dtype), others = plan->size[other], width = mine->width;
    int64_t c_split = split == TW_VECTOR_SIDE ? element : ldc, c_other = split == TW_VECTOR_SIDE ? ldc : element;
    /* For fewer than three it takes longer to ask. */
    bool apart = others > 2 && !plan->near && mine->format == TW_DIRECT && mine->line == element;
    bool finish = all->epilogue != NULL && step + steps == plan->k;
    bool wide = steps >= DEEP;
    /* Panels that fill vectors are longer, and hardware follows them while the chunk's first tile is computed. */
    bool panels = wide && plan->stand[other].format <= TW_PANELS && other != plan->filling;
    int64_t asked = tw_at_most(plan->ahead, steps * element);
    args->k = steps;
    args->ldc = ldc;
    for (int64_t j = 0; j < others; j += plan->stand[other].width) {
        int64_t across = tw_at_most(plan->stand[other].width, others - j);
        const char *y = panel_at(all, other, j, across, step);
        bool last_other = across < plan->stand[other].width;
        /* The next panel comes from afar: a piece of it is asked for with every tile of this one. */
        const char *next = y + across * plan->k * element, *end = next;
        int64_t piece = 0;
        if (panels && j + across < others) {
            int64_t bytes = tw_at_most(plan->stand[other].width, others - j - across) * steps * element;
            next = panel_at(all, other, j + across, tw_at_most(plan->stand[other].width, others - j - across), step);
            end = next + bytes;
            piece = tw_round_up(bytes * width / lines, LINE);
        }
        for (int64_t i = 0; i < lines; i += width) {
            int64_t along = tw_at_most(width, lines - i);
            const char *x =
                mine->format == TW_PANELS ? block + i * steps * element : panel_at(all, split, first + i, along, step);
            if (plan->asks && j == 0) {
                fetch_second(x + FAR * steps * mine->step, mine->step, steps, along * element);
            }
            /* The next block of k is asked for a share with each of the other's panels; the first one panel by panel. */
            if (apart && j == 0 && (step == 0 || plan->inner) && i + (AHEAD + 1) * width <= lines) {
                tw_fetch(x + AHEAD * width * element, mine->step, steps, width * element);
            }
            if (apart && !plan->inner && step + steps < plan->k) {
                int64_t from = steps * j / others, to = steps * tw_at_most(j + across, others) / others;
                fetch_second(x + (steps + from) * mine->step, mine->step, to - from, along * element);
            }
            if (asked > 0) { /* a share with each of the panels: too much at a time would stop the arithmetic */
                int64_t from = width * j / others, to = width * tw_at_most(j + across, others) / others;
                tw_fetch(x + (2 * width + from) * mine->line, mine->line, to - from, asked);
            }
            for (const char *stop = next + tw_at_most(piece, end - next); next < stop; next += LINE) {
                __builtin_prefetch(next, 0, 2);
            }
            char *corner = c + i * c_split + j * c_other;
            if (steps >= (plan->inner ? DEEP : DEEP_C)) {
                tw_fetch(corner, ldc, split == TW_VECTOR_SIDE ? across : along,
                         (split == TW_VECTOR_SIDE ? along : across) * element);
            }
            const tw_tile_calls *tile = &all->tiles[along < width][last_other];
            args->lda = tile->ld[0];
            args->ldb = tile->ld[1];
            for (int call = 0; call < tile->count; call++) {
                tw_run_command(&tile->calls[call], split == TW_VECTOR_SIDE ? x : y, split == TW_VECTOR_SIDE ? y : x,
                               corner, args);
            }
            if (finish && split == TW_VECTOR_SIDE) {
                tw_epilogue_run(all->epilogue, first + i, along, across, corner, ldc);
            } else if (finish) {
                tw_epilogue_run(all->epilogue, j, across, along, corner, ldc);
            }
        }
    }
}

/* Sums start from beta C. */
static void begin_sum(int dtype, const tw_scalar *beta, tw_args *args)
{
    if (!tw_scalar_is(dtype, beta, 0)) {
        args->beta = *beta;
        args->flags |= TW_FLAG_BETA;
    }
}

/* The next steps are added to what there is. */
static void go_on(int dtype, tw_args *args)
{
    args->beta = tw_alpha_at(dtype, NULL);
    args->flags |= TW_FLAG_BETA | TW_FLAG_ADD;
}

/* One column of C, all of k: so much of a chunk as whole pieces make, a block of steps in one call. How many lines that
 * was. */
static int64_t run_column(const tw_product *all, int64_t first, int64_t lines, char *c, int64_t ldc,
                          const tw_scalar *beta)
{
    const tw_blocked *plan = all->plan;
    const tw_kernel *kernel = plan->column;
    int64_t element = tw_element_bytes(plan->dtype), piece = kernel->mr * element, count = lines / kernel->mr, step = 0;
    int64_t apart = plan->stand[TW_VECTOR_SIDE].step;
    if (count == 0) {
        return 0;
    }
    tw_batch_args many = {.args = all->args, .count = count, .stride_a = piece, .stride_c = piece};
    const char *x = panel_at(all, TW_VECTOR_SIDE, first, kernel->mr, 0), *y = panel_at(all, TW_SCALAR_SIDE, 0, 1, 0);
    many.args.k = plan->kc;
    many.args.lda = apart;
    begin_sum(plan->dtype, beta, &many.args);
    for (; step + plan->kc <= plan->k; step += plan->kc) {
        tw_run_command(&all->column, x + step * apart, y + step * element, c, &many.args);
        go_on(plan->dtype, &many.args);
    }
    if (step < plan->k) {
        multiply(all, first, count * kernel->mr, step, plan->k - step, NULL, c, ldc, &many.args);
    }
    return count * kernel->mr;
}

/* One chunk, steps from..to of k, into `c`. Of an operand that came packed: `then` is the line that this thread goes on
 * with, and *near says whether the chunk's panels were asked for, then whether those were. */
static void run_chunk(const tw_product *all, int64_t first, int64_t lines, int64_t from, int64_t to, char *block,
                      char *c, int64_t ldc, const tw_scalar *beta, int64_t then, bool *near)
{
    const tw_blocked *plan = all->plan;
    bool given = plan->stand[plan->split].format == TW_GIVEN;
    if (plan->column != NULL) {
        int64_t done = run_column(all, first, lines, c, ldc, beta);
        first += done;
        lines -= done;
        c += done * tw_element_bytes(plan->dtype);
    }
    int64_t kc = plan->column != NULL ? DEEP : plan->kc; /* a few lines at its end: C stays in registers */
    tw_args args = all->args;
    begin_sum(plan->dtype, beta, &args);
    for (int64_t step = from; step < to && lines > 0; step += kc) {
        int64_t steps = tw_at_most(kc, to - step);
        if (given) {
            tw_block here = {first, lines, step, steps, c, ldc};
            const char *next = step + steps < to                ? tw_given_at(all, first, step + steps)
                               : then < plan->size[plan->split] ? tw_given_at(all, then, 0)
                                                                : NULL;
            *near = tw_multiply_given(all, &here, next, *near, &args);
        } else {
            prepare(all, first, lines, step, steps, block);
            multiply(all, first, lines, step, steps, block, c, ldc, &args);
        }
        go_on(plan->dtype, &args);
    }
}

/* Take a chunk, or two that are a pair of panels while there are enough for all. Its first line; none: beyond the last. */
static int64_t take(tw_product *all, int64_t *lines)
{
    const tw_blocked *plan = all->plan;
    int64_t size = plan->size[plan->split], count = 1;
    if (all->far.twin.run != NULL && !plan->turned) {
        int64_t taken = atomic_load_explicit(&all->next, memory_order_relaxed) * plan->chunk;
        count = size - taken >= 2 * plan->threads * plan->chunk ? 2 : 1;
    }
    int64_t first = atomic_fetch_add_explicit(&all->next, count, memory_order_relaxed) * plan->chunk;
    *lines = tw_at_most(count * plan->chunk, size - first);
    return first;
}

/* Chunks until there are none. */
static void take_chunks(void *context, int64_t task)
{
    tw_product *all = context;
    const tw_blocked *plan = all->plan;
    char *block = all->buffers + task * all->buffer_bytes, *turned = block + all->block_bytes;
    int64_t element = tw_element_bytes(plan->dtype), size = plan->size[plan->split];
    bool asks = all->far.share.run != NULL, near = false;
    int64_t lines, then_lines, then;
    tw_packing_join(&all->packing);
    for (int64_t first = take(all, &lines); first < size; first = then, lines = then_lines) {
        then = asks ? take(all, &then_lines) : size; /* what is asked for must be known */
        if (all->around) {
            tw_scalar none = tw_beta_at(plan->dtype, NULL);
            for (int64_t at = first, end = first + lines; at < end; at += plan->piece) {
                int64_t some = tw_at_most(plan->piece, end - at);
                run_chunk(all, at, some, 0, plan->k, block, turned, plan->ldc, &none, size, &near);
                tw_write_around(all->c + at * plan->ldc, turned, some * plan->ldc);
            }
        } else if (!plan->turned && all->direct) {
            char *c = all->c + first * (plan->split == TW_VECTOR_SIDE ? element : plan->ldc);
            run_chunk(all, first, lines, 0, plan->k, block, c, plan->ldc, all->beta, then, &near);
        } else if (!plan->turned) { /* pairs, whose kernels know no complex beta */
            tw_scalar none = tw_beta_at(plan->dtype, NULL);
            run_chunk(all, first, lines, 0, plan->k, block, turned, plan->size[0] * element, &none, then, &near);
            tw_add_up(plan->scalars, plan->m, lines, turned, plan->size[0] * element, 1, 0, false, all->beta,
                      all->c + first * plan->ldc, plan->ldc);
        } else {
            /* The product that is computed is C^T[size0 x size1]; of it a chunk of rows, or of columns. */
            bool rows = plan->split == TW_VECTOR_SIDE;
            int64_t ld = (rows ? plan->chunk : plan->size[0]) * element;
            tw_scalar none = tw_beta_at(plan->dtype, NULL);
            run_chunk(all, first, lines, 0, plan->k, block, turned, ld, &none, then, &near);
            tw_add_up(plan->scalars, rows ? plan->m : lines, rows ? lines : plan->n, turned, ld, 1, 0, true, all->beta,
                      all->c + first * (rows ? plan->ldc : tw_element_bytes(plan->scalars)), plan->ldc);
        }
        if (!asks) {
            then = take(all, &then_lines);
        }
    }
    if (all->around) {
        tw_written_around();
    }
}

/* A part of k: the whole of C, into memory of its own. */
static void take_part(void *context, int64_t part)
{
    tw_product *all = context;
    const tw_blocked *plan = all->plan;
    int64_t each = tw_round_up((plan->k + plan->parts - 1) / plan->parts, plan->kc), from = part * each;
    char *block = all->buffers + part * all->buffer_bytes, *c = block + all->block_bytes;
    tw_scalar none = tw_beta_at(plan->dtype, NULL);
    int64_t element = tw_element_bytes(plan->dtype), ldc = plan->size[0] * element;
    if (from >= plan->k) {
        memset(c, 0, (size_t)(ldc * plan->size[1]));
        return;
    }
    bool near = false;
    run_chunk(all, 0, plan->size[plan->split], from, tw_at_most(from + each, plan->k), block, c, ldc, &none,
              plan->size[plan->split], &near);
}

/* ---- Memory: all of it is had before anything is written ---- */

static int64_t other_bytes(const tw_blocked *plan)
{
    int other = !plan->split;
    switch (plan->stand[other].format) {
    case TW_PANELS:
        return tw_round_up(plan->size[other] * plan->k * tw_element_bytes(plan->dtype), LINE);
    case TW_COPIED:
        return plan->size[other] * pitch_of(plan);
    default:
        return 0;
    }
}

static int64_t block_bytes(const tw_blocked *plan)
{
    int64_t lines = tw_at_most(plan->chunk, plan->size[plan->split]);
    return plan->stand[plan->split].format == TW_PANELS
               ? tw_round_up(lines * plan->kc * tw_element_bytes(plan->dtype), LINE)
               : 0;
}

static int64_t own_c_bytes(const tw_blocked *plan)
{
    int64_t element = tw_element_bytes(plan->dtype);
    if (plan->parts > 1) {
        return tw_round_up(plan->size[0] * plan->size[1] * element, LINE);
    }
    int64_t lines = plan->turned || plan->pairs ? plan->chunk : 0;
    if (plan->around && plan->piece > lines) {
        lines = plan->piece;
    }
    return tw_round_up(lines * plan->size[!plan->split] * element, LINE);
}

static int tasks_of(const tw_blocked *plan)
{
    if (plan->parts > 1) {
        return plan->parts;
    }
    int64_t chunks = (plan->size[plan->split] + plan->chunk - 1) / plan->chunk;
    return (int)tw_at_most(plan->threads, chunks > 0 ? chunks : 1);
}

int64_t tw_blocked_memory(const tw_blocked *plan)
{
    return other_bytes(plan) + tasks_of(plan) * (block_bytes(plan) + own_c_bytes(plan));
}

const tw_kernel *tw_blocked_kernel(const tw_blocked *plan)
{
    int other = !plan->split;
    int64_t lines[2];
    lines[plan->split] = plan->stand[plan->split].width;
    lines[other] = tw_at_most(plan->stand[other].width, plan->size[other]);
    if (plan->stand[plan->split].format == TW_GIVEN && plan->split == TW_VECTOR_SIDE &&
        lines[other] == plan->size[other]) {
        const tw_kernel *twin = tw_twin_kernel(plan->isa, plan->dtype, lines[other]);
        if (twin != NULL) {
            return twin;
        }
    }
    return whole_kernel(plan, lines[0], lines[1], plan->stand[plan->split].format == TW_GIVEN ? TW_FAR : TW_NEAR);
}

/* Copy the other operand's lines, or say how its panels are to be made: threads make them before they take chunks. */
static void prepare_other(tw_product *all, char *panels)
{
    const tw_blocked *plan = all->plan;
    int other = !plan->split;
    tw_lines whole = lines_of(all, other, 0, plan->size[other], 0, plan->k);
    if (plan->stand[other].format == TW_PANELS) {
        tw_packing_begin(&all->packing, &whole, plan->stand[other].width, panels);
    } else if (plan->pairs) {
        whole.dtype = plan->scalars;
        whole.alpha = &all->alpha;
        whole.lines /= 2;
        whole.k /= 2;
        tw_pack_pairs(&whole, plan->flip, panels, pitch_of(plan));
    } else {
        tw_pack_lines(&whole, panels, pitch_of(plan));
    }
}

static tw_scalar conjugate_of(int dtype, const tw_scalar *value)
{
    return dtype == TW_C ? (tw_scalar){.c = {value->c[0], -value->c[1]}}
                         : (tw_scalar){.z = {value->z[0], -value->z[1]}};
}

int tw_blocked_run(const tw_blocked *made, const tw_scalar *alpha, const void *x, const void *y, const tw_scalar *beta,
                   void *c)
{
    return tw_blocked_finish(made, alpha, x, y, beta, c, NULL);
}

int tw_blocked_finish(const tw_blocked *made, const tw_scalar *alpha, const void *x, const void *y,
                      const tw_scalar *beta, void *c, const tw_epilogue *epilogue)
{
    tw_blocked own = *made;
    const tw_blocked *plan = &own;
    tw_blocked_share(&own);
    if (plan->k == 0 || tw_scalar_is(plan->scalars, alpha, 0)) {
        tw_scale_c(plan->scalars, plan->m, plan->n, beta, c, plan->ldc);
        if (epilogue != NULL) {
            tw_epilogue_run(epilogue, 0, plan->size[0], plan->size[1], c, plan->ldc);
        }
        return TW_OK;
    }
    int split = plan->split, other = !split, tasks = tasks_of(plan);
    tw_product all = {.plan = plan,
                      .operand = {plan->turned ? y : x, plan->turned ? x : y},
                      .c = c,
                      .beta = beta,
                      .epilogue = epilogue};
    all.around = plan->around && tw_scalar_is(plan->scalars, beta, 0);
    tw_form form = {.dtype = plan->dtype, .mode = plan->mode, .k = plan->k};
    all.args = tw_args_of(&form);
    tw_scalar none = tw_beta_at(plan->dtype, NULL), one = tw_alpha_at(plan->dtype, NULL);
    tw_args_scale(&all.args, plan->dtype, plan->pairs ? &one : alpha, &none);
    all.direct = true;
    if (plan->pairs) {
        all.alpha = plan->flip ? conjugate_of(plan->scalars, alpha) : *alpha;
        all.direct = tw_scalar_is(plan->scalars, beta, 0) || tw_scalar_is(plan->scalars, beta, 1);
        if (all.direct) {
            all.beta = tw_scalar_is(plan->scalars, beta, 0) ? &none : &one;
        }
    }
    int64_t ldc = plan->ldc, element = tw_element_bytes(plan->dtype);
    if (plan->parts > 1) {
        ldc = plan->size[0] * element;
    } else if (plan->turned || !all.direct) {
        ldc = (split == TW_VECTOR_SIDE ? plan->chunk : plan->size[0]) * element;
    }
    for (int last = 0; last < 4; last++) {
        int64_t lines[2];
        lines[split] = last & 1 ? plan->size[split] % plan->stand[split].width : plan->stand[split].width;
        lines[other] = last & 2 ? plan->size[other] % plan->stand[other].width : plan->stand[other].width;
        if (!cut(plan, lines[0], lines[1], ldc, &all.tiles[last & 1][last >> 1])) {
            return tw_fail(TW_ERROR_KERNEL, "no kernels for panels of %lld x %lld.", (long long)lines[0],
                           (long long)lines[1]);
        }
        tw_tile_calls *tile = &all.tiles[last & 1][last >> 1];
        if (plan->flip && !plan->pairs) {
            for (int i = 0; i < tile->count; i++) {
                tile->calls[i].conj ^= TW_FLAG_CONJ;
            }
        }
    }
    all.far = tw_far_calls_of(plan);
    if (plan->column != NULL) {
        all.column = (tw_command){.run = plan->column->run, .conj = plan->flip ? TW_FLAG_CONJ : 0};
    }
    int64_t shared = other_bytes(plan), bytes = tw_blocked_memory(plan);
    char *memory = NULL;
    if (bytes > 0) {
        memory = tw_workspace_take(bytes);
        if (memory == NULL) {
            return tw_fail(TW_ERROR_MEMORY,
                           "out of memory: %lld bytes to pack operands of a product %lld x %lld x %lld.",
                           (long long)bytes, (long long)plan->m, (long long)plan->n, (long long)plan->k);
        }
    }
    all.block_bytes = block_bytes(plan);
    all.buffer_bytes = all.block_bytes + own_c_bytes(plan);
    all.buffers = memory; /* first: they shall lie on huge pages */
    char *panels = memory + tasks * all.buffer_bytes;
    all.panels = plan->stand[other].format == TW_GIVEN ? all.operand[other] : panels;
    if (shared > 0) {
        prepare_other(&all, panels);
    }
    if (plan->parts > 1) {
        tw_parallel(tasks, tasks, take_part, &all);
        tw_add_up(plan->dtype, plan->m, plan->n, all.buffers + all.block_bytes, ldc, plan->parts, all.buffer_bytes,
                  plan->turned, beta, c, plan->ldc);
    } else {
        tw_parallel(tasks, tasks, take_chunks, &all);
    }
    if (memory != NULL) {
        tw_workspace_give(memory);
    }
    return TW_OK;
}
