/* SPDX-License-Identifier: MIT
 * lanes_avx2.h: the vector words of lanes_avx512.h, eight floats wide. `_n` loads and stores touch the first n elements
 * only (0 < n < 8) and load zeros above them. static inline only. */
#ifndef LM_KERNELS_X86_LANES_AVX2_H
#define LM_KERNELS_X86_LANES_AVX2_H
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define VF_LANES 8
typedef __m256 vf;
typedef __m128i vh; /* as many 16-bit elements */

static inline __m256i vf_first(int32_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf vf_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm256_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline vf vf_keep(vf x, int32_t n, vf rest) {
    return _mm256_blendv_ps(rest, x, _mm256_castsi256_ps(vf_first(n)));
}
static inline uint32_t vf_eq_bits(vf a, vf b) {
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ));
}

static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline vf vf_load_n(const float *p, int32_t n) {
    return _mm256_maskload_ps(p, vf_first(n));
}
static inline void vf_store(float *p, vf x) {
    _mm256_storeu_ps(p, x);
}
static inline void vf_store_n(float *p, int32_t n, vf x) {
    _mm256_maskstore_ps(p, vf_first(n), x);
}

static inline vf vf_from_f16(vh h) {
    return _mm256_cvtph_ps(h);
}
static inline vf vf_from_bf16(vh h) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
static inline vh vf_load_u16(const void *p) {
    return _mm_loadu_si128((const __m128i *)p);
}
/* Four, two and one elements by the bits of n: there is no masked 16-bit load here, and n is the same for a whole loop.
 */
static inline vh vf_load_u16_n(const void *p, int32_t n) {
    const char *c = (const char *)p;
    uint64_t part = 0, four = 0;
    uint32_t two;
    uint16_t one;
    int shift = 0;
    if (n & 4) memcpy(&four, c, 8);
    if (n & 2) memcpy(&two, c + 2 * (n & 4), 4), part = two, shift = 32;
    if (n & 1) memcpy(&one, c + 2 * (n & 6), 2), part |= (uint64_t)one << shift;
    return n & 4 ? _mm_set_epi64x((long long)part, (long long)four) : _mm_set_epi64x(0, (long long)part);
}
static inline void vf_store_u16(void *p, vh x) {
    _mm_storeu_si128((__m128i *)p, x);
}
static inline void vf_store_u16_n(void *p, int32_t n, vh x) {
    uint16_t all[8];
    memcpy(all, &x, 16);
    for (int32_t i = 0; i < n; i++) memcpy((char *)p + 2 * i, all + i, 2);
}

static inline vh vf_to_f16(vf x) {
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}
static inline vh vf_to_bf16(vf x) {
    __m256i u = _mm256_castps_si256(x), high = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    r = _mm256_blendv_epi8(r, _mm256_or_si256(high, _mm256_set1_epi32(0x40)), nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1));
}

static inline float vf_sum(vf x) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vf_largest(vf x) {
    __m128 s = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    s = _mm_max_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

#include "kernels/x86/exp.h"

/* As in lanes_avx512.h, bit for bit. 2^n is applied in two halves: n may be 128, and one factor would overflow. */
static inline vf vf_exp(vf x) {
    vf n = _mm256_round_ps(vf_mul(x, vf_set1(LM_EXP_LOG2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vf p = vf_exp_of_rest(x, n);
    __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1), rest = _mm256_sub_epi32(whole, half);
    const __m256i bias = _mm256_set1_epi32(127);
    vf a = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    vf b = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
    vf y = vf_mul(vf_mul(p, a), b);
    y = _mm256_andnot_ps(_mm256_cmp_ps(x, vf_set1(LM_EXP_LOWEST), _CMP_LT_OQ), y);
    return _mm256_blendv_ps(y, vf_set1(LM_EXP_INF), _mm256_cmp_ps(x, vf_set1(LM_EXP_HIGHEST), _CMP_GT_OQ));
}
#endif
