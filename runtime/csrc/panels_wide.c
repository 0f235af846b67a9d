/* panels_wide.c - elements into panels with registers of 64 bytes: AVX-512's part of panels.c.
 *
 * As many lines at a time as a register has elements, each read along k to the end of its piece: few streams, which hardware follows where
 * the 48 lines of a panel at once are too many for it, and whole cache lines on both sides. */
#include "panels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define WIDE __attribute__((target("avx512f")))
#define WIDE_INLINE static inline __attribute__((always_inline, target("avx512f")))

enum { WIDTH = 64, STEPS_AHEAD = 4 };

static inline __mmask16 first_bytes(int64_t bytes)
{
    return (__mmask16)((1u << bytes / 4) - 1);
}

/* Lane l of x[i] becomes lane i of y[l]; lanes are of 16 bytes. */
WIDE_INLINE void turn_lanes(const __m512i x[4], __m512i *y, int stride)
{
    __m512i even01 = _mm512_shuffle_i32x4(x[0], x[1], 0x88), odd01 = _mm512_shuffle_i32x4(x[0], x[1], 0xdd);
    __m512i even23 = _mm512_shuffle_i32x4(x[2], x[3], 0x88), odd23 = _mm512_shuffle_i32x4(x[2], x[3], 0xdd);
    y[0] = _mm512_shuffle_i32x4(even01, even23, 0x88);
    y[stride] = _mm512_shuffle_i32x4(odd01, odd23, 0x88);
    y[2 * stride] = _mm512_shuffle_i32x4(even01, even23, 0xdd);
    y[3 * stride] = _mm512_shuffle_i32x4(odd01, odd23, 0xdd);
}

/* A register for each line, of so many bytes an element, becomes one for each step: pairs within lanes, then lanes. */
WIDE_INLINE void turn_registers(__m512i *r, int unit)
{
    __m512i s[16];
    int count = WIDTH / unit, groups = count / 4; /* registers between those that hold lanes of the same steps */
    if (unit == 4) {
        UNROLL
        for (int i = 0; i < 16; i += 2) {
            s[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
            s[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        }
        UNROLL
        for (int i = 0; i < 16; i += 4) {
            UNROLL
            for (int j = 0; j < 2; j++) {
                r[i + 2 * j] = _mm512_unpacklo_epi64(s[i + j], s[i + j + 2]);
                r[i + 2 * j + 1] = _mm512_unpackhi_epi64(s[i + j], s[i + j + 2]);
            }
        }
    } else if (unit == 8) {
        UNROLL
        for (int i = 0; i < 8; i += 2) {
            s[i] = _mm512_unpacklo_epi64(r[i], r[i + 1]);
            s[i + 1] = _mm512_unpackhi_epi64(r[i], r[i + 1]);
        }
        UNROLL
        for (int i = 0; i < 8; i++) {
            r[i] = s[i];
        }
    }
    UNROLL
    for (int j = 0; j < groups; j++) {
        __m512i lanes[4] = {r[j], r[j + groups], r[j + 2 * groups], r[j + 3 * groups]};
        turn_lanes(lanes, s + j, groups);
    }
    UNROLL
    for (int i = 0; i < count; i++) {
        r[i] = s[i];
    }
}

/* So many lines of so many steps, at most as many as a register has elements. */
WIDE_INLINE void turn_block(char *to, int64_t pitch, const char *from, int64_t line, int64_t lines, int64_t steps,
                            int unit, bool around)
{
    __m512i r[16];
    int count = WIDTH / unit;
    if (lines == count && steps == count) {
        UNROLL
        for (int i = 0; i < count; i++) {
            r[i] = _mm512_loadu_si512(from + i * line);
        }
        turn_registers(r, unit);
        UNROLL
        for (int i = 0; i < count; i++) {
            if (around) {
                _mm512_stream_si512((void *)(to + i * pitch), r[i]);
            } else {
                _mm512_storeu_si512(to + i * pitch, r[i]);
            }
        }
        return;
    }
    UNROLL
    for (int i = 0; i < count; i++) {
        r[i] =
            i < lines ? _mm512_maskz_loadu_epi32(first_bytes(steps * unit), from + i * line) : _mm512_setzero_si512();
    }
    turn_registers(r, unit);
    UNROLL
    for (int i = 0; i < count; i++) {
        if (i < steps) {
            _mm512_mask_storeu_epi32(to + i * pitch, first_bytes(lines * unit), r[i]);
        }
    }
}

WIDE_INLINE void turn(const tw_lines *source, char *to, int unit, bool around)
{
    int64_t count = WIDTH / unit, pitch = source->lines * unit;
    for (int64_t i = 0; i < source->lines; i += count) {
        int64_t lines = source->lines - i < count ? source->lines - i : count;
        for (int64_t p = 0; p < source->k; p += count) {
            turn_block(to + p * pitch + i * unit, pitch, source->at + i * source->line + p * unit, source->line, lines,
                       source->k - p < count ? source->k - p : count, unit, around);
        }
    }
}

/* May what begins here, rows of so many bytes, be written around the caches? */
static bool whole_lines(const char *to, int64_t pitch)
{
    return ((uintptr_t)to | (uintptr_t)pitch) % WIDTH == 0;
}

WIDE void tw_turn_wide(const tw_lines *source, char *to, bool around)
{
    int64_t unit = tw_element_bytes(source->dtype);
    around = around && whole_lines(to, source->lines * unit);
    if (unit == 4) {
        around ? turn(source, to, 4, true) : turn(source, to, 4, false);
    } else if (unit == 8) {
        around ? turn(source, to, 8, true) : turn(source, to, 8, false);
    } else {
        around ? turn(source, to, 16, true) : turn(source, to, 16, false);
    }
    if (around) {
        _mm_sfence(); /* before others are told that it is there */
    }
}

WIDE bool tw_spread_wide(const tw_lines *source, int64_t width, char *to)
{
    int64_t unit = tw_element_bytes(source->dtype), panel = width * unit, bytes = source->lines * unit;
    if (!whole_lines(to, panel) || bytes % panel != 0) {
        return false;
    }
    for (int64_t p = 0; p < source->k; p++) {
        const char *from = source->at + p * source->step;
        if (p + STEPS_AHEAD < source->k) {
            for (int64_t byte = 0; byte < bytes; byte += WIDTH) {
                _mm_prefetch(from + STEPS_AHEAD * source->step + byte, _MM_HINT_T0);
            }
        }
        for (int64_t done = 0; done < bytes; done += panel) {
            for (int64_t byte = 0; byte < panel; byte += WIDTH) {
                _mm512_stream_si512((void *)(to + done * source->k + p * panel + byte),
                                    _mm512_loadu_si512(from + done + byte));
            }
        }
    }
    _mm_sfence();
    return true;
}
#endif
