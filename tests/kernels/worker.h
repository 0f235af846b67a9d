/* worker.h - what the worker, its trampolines and the Python driver agree on.
 *
 * A job lies in shared memory: an array of tw_call records, each naming three operand images that lie in the same memory.
 * The Python side (worker.py) packs the same layout with `struct`; the worker prints sizeof(tw_call) so that it can check. */
#ifndef TW_TEST_WORKER_H
#define TW_TEST_WORKER_H

#define TW_SAVED_COUNT 24 /* room for the callee-saved registers of either architecture */
#define TW_CANARY 0xC0FFEE0000000000

#ifndef __ASSEMBLER__
#include <stdint.h>

#include "tw_kernel.h"

enum tw_place { TW_AT_END, TW_AT_START, TW_ABSENT, TW_SPARSE };
enum tw_operand_name { TW_OPERAND_A, TW_OPERAND_B, TW_OPERAND_C, TW_OPERAND_ARGS, TW_OPERAND_LANES, TW_OPERAND_COUNT };

typedef struct tw_operand {
    uint64_t image;      /* offset of the image in the shared memory */
    uint32_t rows, cols; /* bytes in a column, number of columns */
    uint64_t image_ld;   /* bytes from one column of the image to the next */
    uint32_t place;      /* tw_place */
    uint32_t shift;      /* bytes away from the guard page it would touch */
} tw_operand;

typedef struct tw_call {
    tw_operand operands[3]; /* A B C */
    int32_t kernel;         /* index into tw_kernels */
    uint32_t has_lanes;     /* else args.lanes is NULL */
    tw_args args;
    uint8_t lanes[32];
    /* What the worker answers; all zero when nothing is wrong. */
    int32_t trap;    /* signal number, or -1: the kernel did not return in time */
    int32_t operand; /* tw_operand_name whose guard page was hit, or TW_OPERAND_COUNT: none of them */
    int64_t offset;  /* bytes from that operand's first element, or the address itself */
    uint64_t damage; /* bit i: saved register i was changed; bits 62 and 63: bytes before or after C were written */
} tw_call;

/* What the trampoline found after the call. Layout known to the trampolines. */
typedef struct tw_after {
    uint64_t saved[TW_SAVED_COUNT];
    uint8_t vectors[16 * 64]; /* x86: zmm0-15 */
} tw_after;

extern const char *const tw_saved_names[]; /* ends with NULL */
extern int tw_vector_bytes;                /* x86: widest vector register the CPU has, 16, 32 or 64 */

/* Call run(a, b, c, args) with canaries in every callee-saved register and note what they hold afterwards. */
void tw_guarded_call(tw_kernel_fn run, const void *a, const void *b, void *c, const tw_args *args, tw_after *after);
#endif
#endif
