/* turn.c - products whose A lies along k: turned once into a panel, so that the kernels of plain A serve.
 *
 * Vectors run along m, and where A is transposed their elements lie a leading dimension apart. The kernels that take
 * both operands along k (mode tn) pay for that with small tiles and a sum across lanes at the end of each; turning A
 * costs m k loads and stores once and leaves tiles as large as those of mode nn. The plan compares the two. */
#include "internal.h"

#ifdef __aarch64__
#include <arm_neon.h>

enum {
    CALL = 20, /* cycles of a turned product besides its elements */
};

/* Elements in a block's side: what a register holds of float, and two of double. */
static int64_t side_of(int dtype)
{
    return dtype == TW_S ? 4 : 2;
}

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
#define TURN(NAME, TYPE, SIDE, BLOCK)                                                                                  \
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

TURN(turn_all_s, float, 4, turn_s)
TURN(turn_all_d, double, 2, turn_d)

bool tw_turn_form(const tw_form *form, int isa, tw_form *turned)
{
    if (form->mode != TW_TN || isa != TW_ISA_NEON || tw_is_complex(form->dtype)) {
        return false;
    }
    int64_t side = side_of(form->dtype), element = tw_element_bytes(form->dtype);
    int64_t ld = (form->m + side - 1) / side * side;
    *turned = *form;
    turned->mode = TW_NN;
    turned->trans_a = false;
    turned->lda = ld * element;
    return form->m >= side && form->k >= side && ld <= TW_PANEL / element / form->k;
}

float tw_turn_cycles(const tw_form *form)
{
    return CALL + 0.5F * (float)(form->m * form->k * tw_element_bytes(form->dtype)) / 4;
}

void tw_turn(const tw_form *turned, const void *a, int64_t lda, void *panel)
{
    if (turned->dtype == TW_S) {
        turn_all_s(turned->m, turned->k, a, lda / 4, panel, turned->lda / 4);
    } else {
        turn_all_d(turned->m, turned->k, a, lda / 8, panel, turned->lda / 8);
    }
}

#else /* elsewhere kernels turn what they load, or have masks and lanes enough to do without */

bool tw_turn_form(const tw_form *form, int isa, tw_form *turned)
{
    (void)form, (void)isa, (void)turned;
    return false;
}

float tw_turn_cycles(const tw_form *form)
{
    (void)form;
    return 0;
}

void tw_turn(const tw_form *turned, const void *a, int64_t lda, void *panel)
{
    (void)turned, (void)a, (void)lda, (void)panel;
}

#endif
