/* given.c - the tiles of a product whose long operand came packed: its panels come from memory, each once.
 *
 * Memory shall have something to do all the time, and never so much at once that loads wait behind what was asked for:
 *
 *     few lines of the other operand     arithmetic is short; two panels are read side by side, and hardware follows both
 *     about a panel of them              kernels that ask for their own panel some KB ahead
 *     more                               a panel is read again and again, which leaves memory idle: the last passes over a
 *                                        block ask for the panels of the next, each for its share, into the second cache
 */
#include "product.h"

enum { DEEP = 64, LINE = 64, TURN = 4 /* k steps */ };

tw_far_calls tw_far_calls_of(const tw_blocked *plan)
{
    int other = !plan->split;
    int64_t lines = plan->size[other], width = plan->stand[other].width, full = lines / width;
    tw_far_calls far = {0};
    if (plan->filling != plan->split || plan->stand[plan->split].format != TW_GIVEN) {
        return far;
    }
    for (int last = 0; last < 2; last++) {
        int64_t across = last ? lines % width : width;
        const tw_kernel *kernel = tw_panel_kernel(plan->isa, plan->dtype, plan->filling, across, TW_FAR);
        if (kernel != NULL) {
            far.first[last].run = kernel->run; /* there are no masks, nor offsets */
        }
    }
    if (plan->split == TW_VECTOR_SIDE) {
        const tw_kernel *twin = lines <= width ? tw_twin_kernel(plan->isa, plan->dtype, lines) : NULL;
        const tw_kernel *share = full > 1 ? tw_sharing_kernel(plan->isa, plan->dtype, width, full) : NULL;
        if (twin != NULL) {
            far.twin.run = twin->run;
        }
        if (share != NULL) {
            far.share.run = share->run;
            far.asks = share->asks;
        }
    }
    return far;
}

bool tw_multiply_given(const tw_product *all, const tw_block *block, const char *next, bool near, tw_args *args)
{
    const tw_blocked *plan = all->plan;
    const tw_far_calls *far = &all->far;
    int split = plan->split, other = !split;
    int64_t element = tw_element_bytes(plan->dtype), others = plan->size[other], steps = block->steps;
    int64_t width = plan->stand[split].width, most = plan->stand[other].width;
    int64_t c_split = split == TW_VECTOR_SIDE ? element : block->ldc,
            c_other = split == TW_VECTOR_SIDE ? block->ldc : element;
    int64_t panel = width * plan->k * element; /* from one to the next */
    bool finish = all->epilogue != NULL && block->step + steps == plan->k;
    bool afar = others * steps * element > tw_caches_here().second / 2; /* the other's panels, all of them */
    bool reads = steps >= DEEP && (args->flags & TW_FLAG_BETA);
    /* The last of the whole passes ask: what was asked for early others would push out. */
    int64_t asks = next != NULL && far->share.run != NULL ? steps / TURN * far->asks : 0, full = others / most;
    int64_t sharing = asks > 0 ? full - tw_at_most((width * steps * element + asks - 1) / asks, full) : full;
    args->k = steps;
    args->ldc = block->ldc;
    for (int64_t j = 0, pass = 0; j < others; j += most, pass++) {
        int64_t across = tw_at_most(most, others - j);
        bool last = across < most, share = pass >= sharing && pass < full;
        const char *y = all->panels + (j * plan->k + block->step * across) * element;
        /* Where the other's next panel comes from afar as well, a piece of it is asked for with every tile of this one. */
        int64_t after = tw_at_most(most, others - j - across);
        const char *ahead = all->panels + ((j + across) * plan->k + block->step * after) * element,
                   *end = ahead + (afar ? after * steps * element : 0);
        int64_t piece = ((end - ahead) * width / block->lines + LINE - 1) / LINE * LINE;
        for (int64_t i = 0, along; i < block->lines; i += along) {
            bool twin = far->twin.run != NULL && i + 2 * width <= block->lines;
            along = twin ? 2 * width : tw_at_most(width, block->lines - i);
            const char *x = tw_given_at(all, block->first + i, block->step);
            char *corner = block->c + i * c_split + j * c_other;
            for (const char *stop = ahead + tw_at_most(piece, end - ahead); ahead < stop; ahead += LINE) {
                __builtin_prefetch(ahead, 0, 2);
            }
            if (reads) {
                tw_fetch(corner, block->ldc, split == TW_VECTOR_SIDE ? across : along,
                         (split == TW_VECTOR_SIDE ? along : across) * element);
            }
            const tw_tile_calls *tile = &all->tiles[along < width][last];
            const tw_command *calls = tile->calls;
            args->lda = tile->ld[0];
            args->ldb = tile->ld[1];
            if (twin) {
                calls = &far->twin;
                args->far = panel - width * element;
            } else if (share && along == width) {
                calls = &far->share;
                args->far = next + i / width * panel + (pass - sharing) * asks - x;
            } else if (pass == 0 && !near && along == width && far->first[last].run != NULL) {
                calls = &far->first[last];
            }
            int count = calls == tile->calls ? tile->count : 1;
            for (int call = 0; call < count; call++) {
                tw_run_command(&calls[call], split == TW_VECTOR_SIDE ? x : y, split == TW_VECTOR_SIDE ? y : x, corner,
                               args);
            }
            if (finish) { /* of a linear layer, whose weight fills vectors */
                tw_epilogue_run(all->epilogue, block->first + i, along, across, corner, block->ldc);
            }
        }
    }
    return asks > 0;
}
