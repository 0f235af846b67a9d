/* call.c - one kernel on one tile: what the kernel ABI (tw_kernel.h) asks of its caller. */
#include <string.h>

#include "internal.h"

/* A window into this, `live` bytes from its middle, is a mask of that many live bytes. */
static const uint8_t lane_window[64] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
};

tw_args tw_args_of(const tw_form *form)
{
    tw_args args = {.k = form->k, .lda = form->lda, .ldb = form->ldb, .ldc = form->ldc};
    /* v s^(conj if x), v the vector operand; TW_FLAG_CONJ, set per tile, conjugates the whole where v itself is to be. */
    double sign = form->conj_a != form->conj_b ? 1 : -1;
    if (form->dtype == TW_C) {
        args.pair = (tw_scalar){.c = {(float)sign, (float)-sign}};
        args.flip = (tw_scalar){.c = {1, -1}};
    } else if (form->dtype == TW_Z) {
        args.pair = (tw_scalar){.z = {sign, -sign}};
        args.flip = (tw_scalar){.z = {1, -1}};
    }
    return args;
}

void tw_args_scale(tw_args *args, int dtype, const tw_scalar *alpha, const tw_scalar *beta)
{
    args->alpha = *alpha;
    args->beta = *beta;
    if (tw_scalar_is(dtype, alpha, 0)) {
        args->k = 0; /* whatever alpha and the operands hold, they are not read */
    }
    if (args->k > 0 && !tw_scalar_is(dtype, alpha, 1)) {
        args->flags |= TW_FLAG_ALPHA;
    }
    if (!tw_scalar_is(dtype, beta, 0)) {
        args->flags |= tw_scalar_is(dtype, beta, 1) ? TW_FLAG_BETA | TW_FLAG_ADD : TW_FLAG_BETA;
    }
}

/* Is the product the conjugate of what the kernel computes before TW_FLAG_CONJ? */
static bool conjugates(const tw_form *form, const tw_kernel *kernel)
{
    if (!tw_is_complex(form->dtype)) {
        return false;
    }
    if (kernel->paired) {
        return kernel->vector_dim == 0 ? form->conj_a : form->conj_b;
    }
    /* Modes cn conjugates A; nc and tc conjugate B; the others neither. */
    return kernel->mode == TW_CN ? form->conj_b : form->conj_a;
}

tw_command tw_command_of(const tw_form *form, const tw_tile *tile)
{
    const tw_kernel *kernel = tile->kernel;
    int64_t element = tw_element_bytes(form->dtype);
    tw_command command = {
        .run = kernel->run,
        .a = tile->i * (form->trans_a ? form->lda : element),
        .b = tile->j * (form->trans_b ? element : form->ldb),
        .c = tile->i * element + tile->j * form->ldc,
        .conj = conjugates(form, kernel) ? TW_FLAG_CONJ : 0,
    };
    if (kernel->mask_span) {
        int dead = kernel->vector_dim == 0 ? kernel->mr - tile->m : kernel->nr - tile->n;
        int live = kernel->mask_span - dead;
        int lanes = tw_is_complex(form->dtype) ? 2 * live : live;
        int64_t bytes = live * element;
        command.mask = lanes < 64 ? (UINT64_C(1) << lanes) - 1 : UINT64_MAX;
        command.lanes = bytes <= 32 ? lane_window + 32 - bytes : NULL;
    }
    return command;
}
