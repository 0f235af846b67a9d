/* tiling.h - the table of tiles: what the kernels of one (isa, dtype, mode) can cover. */
#ifndef TW_TILING_H
#define TW_TILING_H

#include "internal.h"

enum { TW_LARGEST = 64 }; /* rows and columns of the largest tile used; kernels beyond it are left aside */

struct tw_tiles {
    bool paired;
    uint8_t most_rows, most_columns; /* of any kernel */
    uint8_t width[TW_LARGEST + 1]
                 [TW_LARGEST + 1]; /* [m][n]: the widest tile of m rows with at most n columns; 0: none */
    uint8_t height[TW_LARGEST + 1][TW_LARGEST + 1];          /* [m][n]: rows of the band to take where m x n is left */
    const tw_kernel *kernel[TW_LARGEST + 1][TW_LARGEST + 1]; /* [m][n]: what does exactly this size */
};

/* A table of kernels that are nothing but sizes, (m, n) each; NULL: they do not cover every shape, or memory is short. */
tw_tiles *tw_tiles_of_sizes(int count, const int *sizes);

#endif
