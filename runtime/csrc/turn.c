/* turn.c - one operand turned round, on the stack, before the kernels run.
 *
 * A small matrix is soon turned, and the kernels of another mode may gain more than that costs:
 *
 * - A^T B and A^T B^T with few steps: kernels that turn rows in registers do so anew for every tile, and those that turn
 *   C at its end have much of it for little work. The turned A is as small as k, and A B and A B^T do neither.
 * - A B with two or three rows, and A^T B^T with so few columns: vectors along them would be mostly empty. Turned, both
 *   operands lie along k, and dot products fill vectors with that.
 * - The same for the last rows of A B alone, one to three beyond a multiple of a vector.
 * - On NEON A^T B: dot products there are small tiles with a sum across lanes for each element of C. */
#include "internal.h"

#ifdef __aarch64__
#include <arm_neon.h>
#endif

enum {
    FEW = 3,     /* rows or columns that fill no vector */
    LEAST = 12,  /* of the others, so that turning is a small part */
    LONG = 24,   /* steps from which dot products gain more than their sums across cost */
    LONGER = 56, /* the same where the kernels that stand against them fill half a vector: three rows of d */
    SHORT = 16,  /* steps up to which A^T is turned */
    WIDE = 12,   /* columns of C for each, so that it pays */
    LESS = 8,    /* the same for A^T B^T */
    FLOATS = 10, /* columns of C from which NEON turns A^T */
    DOUBLES = 5
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
    if (isa == TW_ISA_NEON) { /* by instructions and model cycles: docs/neon.md */
        int64_t enough = bytes == 4 ? FLOATS : DOUBLES;
        if (!tw_is_complex(form->dtype) && form->trans_a && !form->trans_b && m >= 4 && k >= 4 && n >= enough &&
            m * k * bytes <= TW_PANEL) {
            turn_a(form, turn, m, k);
        }
        return;
    }
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

#ifdef __aarch64__
/* Four lines of four become four columns; `ld` elements from one to the next. */
static inline void turn_s(const float *from, int64_t lda, float *to, int64_t ld)
{
    float32x4_t r0 = vld1q_f32(from), r1 = vld1q_f32(from + lda);
    float32x4_t r2 = vld1q_f32(from + 2 * lda), r3 = vld1q_f32(from + 3 * lda);
    float64x2_t low = vreinterpretq_f64_f32(vzip1q_f32(r0, r1)), low2 = vreinterpretq_f64_f32(vzip1q_f32(r2, r3));
    float64x2_t high = vreinterpretq_f64_f32(vzip2q_f32(r0, r1)), high2 = vreinterpretq_f64_f32(vzip2q_f32(r2, r3));
    vst1q_f32(to, vreinterpretq_f32_f64(vzip1q_f64(low, low2)));
    vst1q_f32(to + ld, vreinterpretq_f32_f64(vzip2q_f64(low, low2)));
    vst1q_f32(to + 2 * ld, vreinterpretq_f32_f64(vzip1q_f64(high, high2)));
    vst1q_f32(to + 3 * ld, vreinterpretq_f32_f64(vzip2q_f64(high, high2)));
}

static inline void turn_d(const double *from, int64_t lda, double *to, int64_t ld)
{
    float64x2_t r0 = vld1q_f64(from), r1 = vld1q_f64(from + lda);
    vst1q_f64(to, vzip1q_f64(r0, r1));
    vst1q_f64(to + ld, vzip2q_f64(r0, r1));
}

/* The last blocks of a line, and the last lines, are those that end where the matrix does: what they share with the
 * blocks before is written twice. At least a block each way. */
#define BLOCKS(NAME, TYPE, SIDE, BLOCK)                                                                                \
    static void NAME(int64_t m, int64_t k, const TYPE *a, int64_t lda, TYPE *panel, int64_t ld)                        \
    {                                                                                                                  \
        for (int64_t i = 0;;) {                                                                                        \
            const TYPE *from = a + i * lda;                                                                            \
            TYPE *to = panel + i;                                                                                      \
            for (int64_t blocks = k / SIDE; blocks > 0; blocks--) {                                                    \
                BLOCK(from, lda, to, ld);                                                                              \
                from += SIDE;                                                                                          \
                to += SIDE * ld;                                                                                       \
            }                                                                                                          \
            if (k % SIDE) {                                                                                            \
                BLOCK(a + i * lda + k - SIDE, lda, panel + i + (k - SIDE) * ld, ld);                                   \
            }                                                                                                          \
            if (i == m - SIDE) {                                                                                       \
                return;                                                                                                \
            }                                                                                                          \
            i = i + 2 * SIDE <= m ? i + SIDE : m - SIDE;                                                               \
        }                                                                                                              \
    }

BLOCKS(turn_all_s, float, 4, turn_s)
BLOCKS(turn_all_d, double, 2, turn_d)

#endif

void tw_turn_into(const tw_turn *turn, int dtype, const void *matrix, void *panel)
{
#ifdef __aarch64__
    int64_t bytes = tw_element_bytes(dtype);
    const char *from = (const char *)matrix + turn->offset;
    if (bytes <= 8 && turn->lines >= 4 && turn->length >= 4) {
        if (bytes == 4) {
            turn_all_s(turn->lines, turn->length, (const void *)from, turn->ld / 4, panel, turn->lines);
        } else {
            turn_all_d(turn->lines, turn->length, (const void *)from, turn->ld / 8, panel, turn->lines);
        }
        return;
    }
#endif
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
