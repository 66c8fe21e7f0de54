/* SPDX-License-Identifier: MIT
 * planes.h: rows of activations as two planes of bytes (fixed16.h) in the order in which a block of packed codes gives
 * them, for products that read weights as they lie. A row: for every block and part of it 64 high, then 64 low bytes;
 * then the groups' steps, then their sums. */
#ifndef LM_X86_PLANES_H
#define LM_X86_PLANES_H
#include "kernels/x86/fixed16.h"

static int64_t qv_block(const lm_weight *w) {
    return VL * mv_lane_codes(lm_unpack_bits(w->format));
}
static int64_t qv_planes(const lm_weight *w) {
    return 2 * mv_up(w->k, qv_block(w));
}
/* Steps, then sums: floats of each. */
static int64_t qv_groups(const lm_weight *w) {
    return mv_up(w->k / w->group, VL);
}
static int64_t qv_stride(const lm_weight *w) {
    return qv_planes(w) + 2 * qv_groups(w) * (int64_t)sizeof(float);
}

static size_t qv_prep_bytes(const lm_weight *w, int64_t m) {
    return (size_t)(qv_stride(w) * m);
}

/* A block of bytes in order to where fx_codes puts the codes that meet them: part p at out + 128 p. It holds codes p,
 * p + 8/bits, ... at 2 and 4 bits, pairs of codes p, p + 2, ... at 3. */
INLINE void qv_spread(const int8_t *in, int bits, int8_t *out) {
    if (bits == 8) { /* or 5, 6: one part, in order */
        vi_store(out, vi_load(in));
    } else if (bits == 2) {
        for (int p = 0; p < 4; p++)
            for (int i = 0; i < 4; i++)
                _mm_storeu_si128((__m128i *)(void *)(out + 128 * p + 16 * i),
                                 _mm512_cvtepi32_epi8(vi_shr(vi_load(in + 64 * i), 8 * p)));
    } else {
        for (int i = 0; i < 2; i++) {
            const vi v = vi_load(in + 64 * i);
            __m256i a = bits == 4 ? _mm512_cvtepi16_epi8(v) : _mm512_cvtepi32_epi16(v);
            __m256i b =
                bits == 4 ? _mm512_cvtepi16_epi8(_mm512_srli_epi16(v, 8)) : _mm512_cvtepi32_epi16(vi_shr(v, 16));
            _mm256_storeu_si256((__m256i *)(void *)(out + 32 * i), a);
            _mm256_storeu_si256((__m256i *)(void *)(out + 128 + 32 * i), b);
        }
    }
}

static void qv_spread_row(const int8_t *in, int bits, int8_t *out) {
    switch (bits) {
    case 2: qv_spread(in, 2, out); break;
    case 3: qv_spread(in, 3, out); break;
    case 4: qv_spread(in, 4, out); break;
    default: qv_spread(in, 8, out); break;
    }
}

static void qv_prep_row(const lm_weight *w, const float *x, char *out) {
    const int bits = lm_unpack_bits(w->format);
    const int64_t block = qv_block(w), groups = w->k / w->group;
    float *steps = (float *)(void *)(out + qv_planes(w)), *sums = steps + qv_groups(w);
    /* bytes of one or more whole groups that are also whole blocks */
    _Alignas(64) int8_t high[256], low[256];
    const int64_t unit = block > w->group ? block : w->group;
    for (int64_t k = 0; k < w->k; k += unit) {
        const int64_t there = w->k - k < unit ? w->k - k : unit;
        if (there < unit) memset(high, 0, sizeof high), memset(low, 0, sizeof low);
        for (int64_t i = 0; i < there; i += w->group) {
            const int64_t g = (k + i) / w->group;
            steps[g] = fx_group(x + k + i, w->group, high + i, low + i, &sums[g]);
        }
        for (int64_t i = 0; i < there; i += block) {
            qv_spread_row(high + i, bits, (int8_t *)out + 2 * (k + i));
            qv_spread_row(low + i, bits, (int8_t *)out + 2 * (k + i) + 64);
        }
    }
    for (int64_t g = groups; g < qv_groups(w); g++) steps[g] = sums[g] = 0;
}

static void qv_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i++) qv_prep_row(w, x + i * ldx, (char *)xp + i * qv_stride(w));
}
#endif
