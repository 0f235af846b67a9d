/* panels.c - elements into panels: copied where a panel's lines are neighbours, turned round where k steps are.
 *
 * Conjugation and alpha are a second pass over what was just written, which still lies in the first cache; the usual
 * operand has neither. */
#include "panels.h"

enum { STEPS_AHEAD = 8, LINE = 64, AHEAD = 4 /* cache lines */ };

#define INLINE static inline __attribute__((always_inline))

int tw_panel_width(int isa, int dtype, int side)
{
    static const uint8_t widths[TW_ISAS][TW_DTYPES][2] = {
        [TW_ISA_SCALAR] = {{4, 4}, {4, 4}, {2, 2}, {2, 2}}, [TW_ISA_NEON] = {{12, 8}, {8, 4}, {8, 4}, {4, 4}},
        [TW_ISA_AVX2] = {{16, 6}, {8, 6}, {8, 3}, {4, 3}},  [TW_ISA_AVX512] = {{48, 8}, {24, 8}, {16, 6}, {8, 6}},
        [TW_ISA_FCMA] = {{12, 8}, {8, 4}, {8, 4}, {4, 4}},
    };
    return widths[isa][dtype][side];
}

/* ---- Units of 4, 8 and 16 bytes, 32 bytes at a time ---- */

typedef uint32_t v8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint64_t v4 __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint64_t v2 __attribute__((vector_size(16), aligned(4), may_alias));

#ifdef __clang__
#define SHUFFLE8(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#define SHUFFLE4(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#else
#define SHUFFLE8(x, y, ...) __builtin_shuffle(x, y, (v8){__VA_ARGS__})
#define SHUFFLE4(x, y, ...) __builtin_shuffle(x, y, (v4){__VA_ARGS__})
#endif

/* `bytes` is a multiple of 4. */
INLINE void copy(char *to, const char *from, int64_t bytes)
{
    int64_t done = 0;
    for (; done + 32 <= bytes; done += 32) {
        *(v8 *)(to + done) = *(const v8 *)(from + done);
    }
    if (done + 16 <= bytes) {
        *(v2 *)(to + done) = *(const v2 *)(from + done);
        done += 16;
    }
    for (; done < bytes; done += 4) {
        memcpy(to + done, from + done, 4);
    }
}

/* Eight lines of eight steps of 4 bytes become eight steps of eight lines. */
INLINE void turn8(char *to, int64_t pitch, const char *from, int64_t line)
{
    v8 r[8], s[8];
    UNROLL
    for (int i = 0; i < 8; i++) {
        r[i] = *(const v8 *)(from + i * line);
    }
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        s[i] = SHUFFLE8(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        s[i + 1] = SHUFFLE8(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        UNROLL
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = (v8)SHUFFLE4((v4)s[i + j], (v4)s[i + j + 2], 0, 4, 2, 6);
            r[i + 2 * j + 1] = (v8)SHUFFLE4((v4)s[i + j], (v4)s[i + j + 2], 1, 5, 3, 7);
        }
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        *(v8 *)(to + i * pitch) = (v8)SHUFFLE4((v4)r[i], (v4)r[i + 4], 0, 1, 4, 5);
        *(v8 *)(to + (i + 4) * pitch) = (v8)SHUFFLE4((v4)r[i], (v4)r[i + 4], 2, 3, 6, 7);
    }
}

/* Four lines of four steps of 8 bytes. */
INLINE void turn4(char *to, int64_t pitch, const char *from, int64_t line)
{
    v4 r[4], s[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = *(const v4 *)(from + i * line);
    }
    UNROLL
    for (int i = 0; i < 4; i += 2) {
        s[i] = SHUFFLE4(r[i], r[i + 1], 0, 4, 2, 6);
        s[i + 1] = SHUFFLE4(r[i], r[i + 1], 1, 5, 3, 7);
    }
    UNROLL
    for (int i = 0; i < 2; i++) {
        *(v4 *)(to + i * pitch) = SHUFFLE4(s[i], s[i + 2], 0, 1, 4, 5);
        *(v4 *)(to + (i + 2) * pitch) = SHUFFLE4(s[i], s[i + 2], 2, 3, 6, 7);
    }
}

/* One element at a time: what is left at the edges, and any strides. */
INLINE void scatter(const tw_lines *source, char *to, int64_t unit, int64_t first_line, int64_t lines,
                    int64_t first_step, int64_t steps)
{
    int64_t pitch = source->lines * unit;
    for (int64_t p = first_step; p < first_step + steps; p++) {
        for (int64_t i = first_line; i < first_line + lines; i++) {
            memcpy(to + p * pitch + i * unit, source->at + i * source->line + p * source->step, (size_t)unit);
        }
    }
}

/* A cache line of steps of all lines before the next: it is used up before others that fall into its set push it out. The next
 * ones are asked for; with 4 bytes that did not help. */
INLINE void turn(const tw_lines *source, char *to, int64_t unit)
{
    int64_t block = 32 / unit, run = LINE / unit, pitch = source->lines * unit;
    int64_t lines = source->lines / block * block, steps = source->k / block * block;
    for (int64_t p = 0; p < steps; p += run) {
        for (int64_t i = 0; i < lines; i += block) {
            const char *from = source->at + i * source->line + p * unit;
            if (unit == 8 && p + AHEAD * run < steps) {
                for (int64_t j = 0; j < block; j++) {
                    __builtin_prefetch(from + j * source->line + AHEAD * LINE);
                }
            }
            for (int64_t q = 0; q < run && p + q < steps; q += block) {
                if (unit == 4) {
                    turn8(to + (p + q) * pitch + i * unit, pitch, from + q * unit, source->line);
                } else {
                    turn4(to + (p + q) * pitch + i * unit, pitch, from + q * unit, source->line);
                }
            }
        }
        scatter(source, to, unit, lines, source->lines - lines, p, steps - p < run ? steps - p : run);
    }
    scatter(source, to, unit, 0, source->lines, steps, source->k - steps);
}

INLINE void gather(const tw_lines *source, char *to)
{
    int64_t unit = tw_element_bytes(source->dtype);
    if (source->lines == 1 && source->step == unit) {
        copy(to, source->at, source->k * unit);
    } else if (source->line == unit) {
        int64_t bytes = source->lines * unit;
        for (int64_t p = 0; p < source->k; p++) {
            copy(to + p * bytes, source->at + p * source->step, bytes);
        }
    } else if (source->step == unit && unit == 4) {
        turn(source, to, 4);
    } else if (source->step == unit && unit == 8) {
        turn(source, to, 8);
    } else if (unit == 16) {
        scatter(source, to, 16, 0, source->lines, 0, source->k);
    } else {
        scatter(source, to, unit, 0, source->lines, 0, source->k);
    }
}

/* Several panels of neighbours at once: a k step of all of them is one run of memory. */
INLINE void spread(const tw_lines *source, int64_t width, char *to)
{
    int64_t unit = tw_element_bytes(source->dtype), panel = width * unit, bytes = source->lines * unit;
    for (int64_t p = 0; p < source->k; p++) {
        const char *from = source->at + p * source->step;
        if (p + STEPS_AHEAD < source->k) {
            for (int64_t byte = 0; byte < bytes; byte += 64) {
                __builtin_prefetch(from + STEPS_AHEAD * source->step + byte);
            }
        }
        for (int64_t done = 0; done < bytes; done += panel) {
            int64_t here = bytes - done < panel ? bytes - done : panel;
            copy(to + done * source->k + p * here, from + done, here);
        }
    }
}

INLINE void gather_all(const tw_lines *source, int64_t width, char *to)
{
    int64_t unit = tw_element_bytes(source->dtype);
    if (source->line == unit && source->lines > width) {
        spread(source, width, to);
        return;
    }
    tw_lines some = *source;
    for (int64_t first = 0; first < source->lines; first += width) {
        some.at = source->at + first * source->line;
        some.lines = source->lines - first < width ? source->lines - first : width;
        gather(&some, to + first * source->k * unit);
    }
}

static void gather_anywhere(const tw_lines *source, int64_t width, char *to, bool around)
{
    (void)around;
    gather_all(source, width, to);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void gather_avx2(const tw_lines *source, int64_t width, char *to, bool around)
{
    (void)around;
    gather_all(source, width, to);
}

static void gather_avx512(const tw_lines *source, int64_t width, char *to, bool around)
{
    int64_t unit = tw_element_bytes(source->dtype);
    bool narrow = unit == 4 && width <= 8; /* half a register of lines: AVX2 turns them as fast */
    if (source->step != unit || source->line == unit || source->lines == 1 || narrow) {
        if (!(around && source->line == unit && tw_spread_wide(source, width, to))) {
            gather_avx2(source, width, to, around);
        }
        return;
    }
    tw_lines some = *source;
    for (int64_t first = 0; first < source->lines; first += width) {
        some.at = source->at + first * source->line;
        some.lines = source->lines - first < width ? source->lines - first : width;
        tw_turn_wide(&some, to + first * source->k * unit, around);
    }
}
#endif

typedef void (*gather_fn)(const tw_lines *source, int64_t width, char *to, bool around);

/* By the instruction set in use, not what the CPU has: who chose another wants nothing of the best, and tests see all. */
static gather_fn chosen(void)
{
#if defined(__x86_64__)
    int isa = atomic_load_explicit(&tw_isa_now, memory_order_relaxed);
    if (isa == TW_ISA_AVX512 || isa == TW_ISA_AVX2) {
        return isa == TW_ISA_AVX512 ? gather_avx512 : gather_avx2;
    }
#endif
    return gather_anywhere;
}

/* Conjugate `count` numbers in place and multiply them by alpha, by the plain formula. */
static void amend(int dtype, bool conj, const tw_scalar *alpha, void *numbers, int64_t count)
{
    if (conj && tw_is_complex(dtype)) {
        for (int64_t i = 0; i < count; i++) {
            if (dtype == TW_C) {
                ((float *)numbers)[2 * i + 1] = -((float *)numbers)[2 * i + 1];
            } else {
                ((double *)numbers)[2 * i + 1] = -((double *)numbers)[2 * i + 1];
            }
        }
    }
    if (alpha == NULL || tw_scalar_is(dtype, alpha, 1)) {
        return;
    }
    for (int64_t i = 0; i < count; i++) {
        if (dtype == TW_S) {
            ((float *)numbers)[i] *= alpha->s;
        } else if (dtype == TW_D) {
            ((double *)numbers)[i] *= alpha->d;
        } else if (dtype == TW_C) {
            float *x = (float *)numbers + 2 * i, re = x[0], im = x[1];
            x[0] = re * alpha->c[0] - im * alpha->c[1];
            x[1] = re * alpha->c[1] + im * alpha->c[0];
        } else {
            double *x = (double *)numbers + 2 * i, re = x[0], im = x[1];
            x[0] = re * alpha->z[0] - im * alpha->z[1];
            x[1] = re * alpha->z[1] + im * alpha->z[0];
        }
    }
}

void tw_pack_some(const tw_lines *source, int64_t width, void *panels, bool around)
{
    bool again = source->conj || source->alpha != NULL; /* a second pass, which wants them in a cache */
    chosen()(source, width, panels, around && !again);
    if (again) {
        amend(source->dtype, source->conj, source->alpha, panels, source->lines * source->k);
    }
}

void tw_pack_lines(const tw_lines *source, void *lines, int64_t pitch)
{
    int64_t bytes = source->k * tw_element_bytes(source->dtype);
    for (int64_t i = 0; i < source->lines; i++) {
        char *to = (char *)lines + i * pitch;
        if (source->step == tw_element_bytes(source->dtype)) {
            memcpy(to, source->at + i * source->line, (size_t)bytes);
        } else {
            tw_lines one = *source;
            one.at += i * source->line;
            one.lines = 1;
            scatter(&one, to, tw_element_bytes(source->dtype), 0, 1, 0, source->k);
        }
        if (source->conj || source->alpha != NULL) {
            amend(source->dtype, source->conj, source->alpha, to, source->k);
        }
    }
}

/* `first` holds the pairs (re, im). */
#define SPLIT_PAIRS(NAME, REAL)                                                                                        \
    static void NAME(REAL *first, REAL *second, REAL sign, int64_t k)                                                  \
    {                                                                                                                  \
        for (int64_t p = 0; p < 2 * k; p += 2) {                                                                       \
            second[p] = sign * first[p + 1];                                                                           \
            second[p + 1] = sign * first[p];                                                                           \
            first[p + 1] = -first[p + 1];                                                                              \
        }                                                                                                              \
    }

SPLIT_PAIRS(split_c, float)
SPLIT_PAIRS(split_z, double)

void tw_pack_pairs(const tw_lines *source, bool conj, void *lines, int64_t pitch)
{
    tw_pack_lines(source, lines, 2 * pitch);
    for (int64_t i = 0; i < source->lines; i++) {
        char *first = (char *)lines + 2 * i * pitch, *second = first + pitch;
        if (source->dtype == TW_C) {
            split_c((float *)(void *)first, (float *)(void *)second, conj ? -1 : 1, source->k);
        } else {
            split_z((double *)(void *)first, (double *)(void *)second, conj ? -1 : 1, source->k);
        }
    }
}
