/* turn.c - one operand turned round, on the stack, before the kernels run.
 *
 * A small matrix is soon turned, and the kernels of another mode may gain more than that costs:
 *
 * - A^T B and A^T B^T with few steps: kernels that turn rows in registers do so anew for every tile, and those that turn
 *   C at its end have much of it for little work. The turned A is as small as k, and A B and A B^T do neither.
 * - A B with two or three rows, and A^T B^T with so few columns: vectors along them would be mostly empty. Turned, both
 *   operands lie along k, and dot products fill vectors with that.
 * - The same for the last rows of A B alone, one to three beyond a multiple of a vector. */
#include "internal.h"

enum {
    FEW = 3,     /* rows or columns that fill no vector */
    LEAST = 12,  /* of the others, so that turning is a small part */
    LONG = 24,   /* steps from which dot products gain more than their sums across cost */
    LONGER = 56, /* the same where the kernels that stand against them fill half a vector: three rows of d */
    SHORT = 16,  /* steps up to which A^T is turned */
    WIDE = 12,   /* columns of C for each, so that it pays */
    LESS = 8     /* the same for A^T B^T */
};

static void turn_a(tw_form *form, tw_turn *turn, int64_t lines, int64_t length)
{
    *turn = (tw_turn){'A', 0, lines, length, form->lda};
    form->lda = lines * tw_element_bytes(form->dtype);
    form->trans_a = !form->trans_a;
}

void tw_turn_choose(tw_form *form, int isa, bool ordered, tw_turn *turn)
{
    int64_t m = form->m, n = form->n, k = form->k, bytes = tw_element_bytes(form->dtype);
    *turn = (tw_turn){0};
    if (isa != TW_ISA_AVX512 && isa != TW_ISA_AVX2) { /* measured there only */
        return;
    }
    /* z: an element fills what is turned at once, so such kernels lose nothing; those that turn C do. */
    bool loses = form->dtype != TW_Z || form->trans_b;
    if (form->trans_a && loses && k >= 1 && k <= SHORT && m >= LEAST && n >= (form->trans_b ? LESS : WIDE) * k &&
        m * k * bytes <= TW_PANEL) {
        turn_a(form, turn, m, k);
        return;
    }
    if (tw_is_complex(form->dtype) || ordered || k < LONG) {
        return;
    }
    if (!form->trans_a && !form->trans_b && m <= FEW && n >= LEAST && k >= (form->dtype == TW_D ? LONGER : LONG) &&
        m * k * bytes <= TW_PANEL) {
        turn_a(form, turn, k, m);
    } else if (form->trans_a && form->trans_b && n <= FEW && m >= LEAST && n * k * bytes <= TW_PANEL) {
        *turn = (tw_turn){'B', 0, k, n, form->ldb};
        form->ldb = k * bytes;
        form->trans_b = false;
    }
}

int tw_turn_rows(tw_form *form, int isa, bool ordered, tw_turn *turn)
{
    int64_t m = form->m, k = form->k, bytes = tw_element_bytes(form->dtype);
    if (isa != TW_ISA_AVX512 || ordered || tw_is_complex(form->dtype) || form->trans_a || form->trans_b) {
        return 0;
    }
    /* One to three rows beyond half a register cost half a multiplication a step and column, dot products less. */
    int rows = (int)(m % (32 / bytes));
    bool pays = form->dtype == TW_S ? rows <= FEW && k >= LONG : rows == 1 && k >= LONGER;
    if (m <= 32 / bytes || rows == 0 || !pays || form->n < LEAST || rows * k * bytes > TW_PANEL) {
        return 0;
    }
    form->m = rows;
    turn_a(form, turn, k, rows);
    turn->offset = (m - rows) * bytes;
    return rows;
}

#define TURN(type)                                                                                                     \
    for (int64_t i = 0; i < turn->length; i++) {                                                                       \
        const char *from = (const char *)matrix + turn->offset + i * (int64_t)sizeof(type);                            \
        type *to = (type *)panel + i * turn->lines;                                                                    \
        for (int64_t line = 0; line < turn->lines; line++, from += turn->ld) {                                         \
            memcpy(to + line, from, sizeof(type));                                                                     \
        }                                                                                                              \
    }

void tw_turn_into(const tw_turn *turn, int dtype, const void *matrix, void *panel)
{
    switch (tw_element_bytes(dtype)) {
    case 4:
        TURN(uint32_t)
        break;
    case 8:
        TURN(uint64_t)
        break;
    default:
        TURN(tw_scalar)
        break;
    }
}
