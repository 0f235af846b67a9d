/* call.c - one kernel on one tile: what the kernel ABI (tw_kernel.h) asks of its caller. */
#include <string.h>

#include "internal.h"

/* A window into this, `live` bytes from its middle, is a mask of that many live bytes. */
static const uint8_t lane_window[64] = {
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
};

tw_args tw_args_of(const tw_product *product)
{
    int dtype = product->dtype;
    tw_args args = {.k = product->k,
                    .lda = product->lda,
                    .ldb = product->ldb,
                    .ldc = product->ldc,
                    .alpha = product->alpha,
                    .beta = product->beta};
    if (tw_scalar_is(dtype, &product->alpha, 0)) {
        args.k = 0; /* whatever alpha and the operands hold, they are not read */
    }
    if (args.k > 0 && !tw_scalar_is(dtype, &product->alpha, 1)) {
        args.flags |= TW_FLAG_ALPHA;
    }
    if (!tw_scalar_is(dtype, &product->beta, 0)) {
        args.flags |= TW_FLAG_BETA;
    }
    /* v s^(conj if x), v the vector operand; TW_FLAG_CONJ, set per tile, conjugates the whole where v itself is to be.
     * */
    double sign = product->conj_a != product->conj_b ? 1 : -1;
    if (dtype == TW_C) {
        args.pair = (tw_scalar){.c = {(float)sign, (float)-sign}};
        args.flip = (tw_scalar){.c = {1, -1}};
    } else if (dtype == TW_Z) {
        args.pair = (tw_scalar){.z = {sign, -sign}};
        args.flip = (tw_scalar){.z = {1, -1}};
    }
    return args;
}

/* Is the product the conjugate of what the kernel computes before TW_FLAG_CONJ? */
static bool conjugates(const tw_product *product, const tw_kernel *kernel)
{
    if (kernel->paired) {
        return kernel->vector_dim == 0 ? product->conj_a : product->conj_b;
    }
    /* Modes cn conjugates A; nc and tc conjugate B; the others neither. */
    return kernel->mode == TW_CN ? product->conj_b : product->conj_a;
}

void tw_run_tile(const tw_product *product, const tw_tile *tile, tw_args *args)
{
    const tw_kernel *kernel = tile->kernel;
    int64_t element = tw_element_bytes(product->dtype);
    if (kernel->mask_span) {
        int dead = kernel->vector_dim == 0 ? kernel->mr - tile->m : kernel->nr - tile->n;
        int live = kernel->mask_span - dead;
        int lanes = tw_is_complex(product->dtype) ? 2 * live : live;
        int64_t bytes = live * element;
        args->mask = lanes < 64 ? (UINT64_C(1) << lanes) - 1 : UINT64_MAX;
        args->lanes = bytes <= 32 ? lane_window + 32 - bytes : NULL;
    }
    if (tw_is_complex(product->dtype)) {
        args->flags &= ~(uint64_t)TW_FLAG_CONJ;
        args->flags |= conjugates(product, kernel) ? (uint64_t)TW_FLAG_CONJ : 0;
    }
    kernel->run(product->a + tile->i * (product->trans_a ? product->lda : element),
                product->b + tile->j * (product->trans_b ? element : product->ldb),
                product->c + tile->i * element + tile->j * product->ldc, args);
}
