/* SPDX-License-Identifier: MIT
 * fixed16.h: activations as 16-bit fixed point, a step for every group of weights, and packed affine codes as bytes:
 * what the vpdpbusd rows share. docs/kernels.md argues why that is no looser than float16.
 *
 * Per group, step = max |x| / 32639 and x = step * (256 * high + low), two signed bytes; the group's sum is step times
 * the exact sum of those integers, so the only thing rounded is x itself. */
#ifndef LM_X86_FIXED16_H
#define LM_X86_FIXED16_H
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/matvec_parts.h"

#define FX_TOP 32639 /* 127 * 256 + 127: both bytes stay within [-127, 127] but for low's -128 */

/* One group of x to bytes in order; returns the step. NaN and inf make the step NaN or inf, and the outputs with it. */
static inline float fx_group(const float *x, int64_t n, int8_t *high, int8_t *low, float *sum) {
    const vi magnitude = vi_set1(0x7fffffff);
    vi top = vi_zero(), total = vi_zero();
    for (int64_t k = 0; k < n; k += VL) top = _mm512_max_epi32(top, vi_and(vi_load(x + k), magnitude));
    const uint32_t top_bits = (uint32_t)_mm512_reduce_max_epi32(top);
    const float max = lm_bits_f32(top_bits);
    if (max == 0) {
        memset(high, 0, (size_t)n), memset(low, 0, (size_t)n);
        *sum = 0;
        return 0;
    }
    const float up = max < 0x1p-60f ? 0x1p64f : 1.0f; /* else 1 / step would overflow */
    const vf factor = vf_set1((float)FX_TOP / (max * up)), raise = vf_set1(up);
    for (int64_t k = 0; k < n; k += VL) {
        vi q = _mm512_cvtps_epi32(vf_mul(vf_mul(vf_load(x + k), raise), factor));
        total = _mm512_add_epi32(total, q);
        _mm_storeu_si128((__m128i *)(void *)(low + k), _mm512_cvtepi32_epi8(q));
        q = _mm512_srai_epi32(_mm512_add_epi32(q, vi_set1(128)), 8);
        _mm_storeu_si128((__m128i *)(void *)(high + k), _mm512_cvtepi32_epi8(q));
    }
    const float step = max * up / (float)FX_TOP / up;
    *sum = step * (float)_mm512_reduce_add_epi32(total); /* below 2^24: exact but for the product */
    return step;
}

/* The first `bytes` of a block of packed codes, E = mv_lane_codes(bits) of them to every lane. Where codes cross bytes,
 * every 16 bits get two whole codes of 5 or 6 bits, four of 3, from bit 0 on. */
INLINE vi fx_load(const uint8_t *p, int bits, int64_t bytes) {
    if (bits == 2 || bits == 4 || bits == 8) return vi_load_n(p, bytes);
    vi v = _mm512_maskz_loadu_epi8(((uint64_t)1 << bytes) - 1, p);
    if (bits == 5) {
        v = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 2, 2, 3, 4, 4, 5, 6, 7, 7, 7, 8, 9, 9), v);
        const __m128i even = _mm_setr_epi8(0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 6, 7, 7, 8, 8, 9);
        const __m128i odd = _mm_setr_epi8(2, 3, 3, 4, 4, 5, 5, 6, 7, 8, 8, 9, 9, 10, 10, 11);
        v = _mm512_shuffle_epi8(v, _mm512_broadcast_i64x4(_mm256_set_m128i(odd, even)));
        return _mm512_srlv_epi16(v, _mm512_set1_epi64(0x0006000400020000));
    }
    v = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11), v);
    const __m128i spread = _mm_setr_epi8(0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11);
    return _mm512_srlv_epi16(_mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(spread)), vi_set1(0x00040000));
}

/* Part `part` of E / 4 of every lane as a code a byte: codes part, part + E / 4, ... of the lane's E at 2, 4 and 8
 * bits; pairs of codes, likewise, at 3; in order at 5 and 6. */
INLINE vi fx_codes(vi v, int bits, int part) {
    if (bits == 8) return v;
    const uint32_t one = (1u << bits) - 1;
    if (bits == 2 || bits == 4) {
        return vi_and(part ? _mm512_srli_epi16(v, bits * part) : v, vi_set1(one * 0x01010101));
    }
    if (part) v = _mm512_srli_epi16(v, 2 * bits);
    const vi second = _mm512_slli_epi16(v, 8 - bits), low = vi_set1(one * 0x00010001);
    return _mm512_ternarylogic_epi32(vi_and(v, low), second, vi_set1(one * 0x01000100), 0xf8); /* a | (b & c) */
}

#endif
