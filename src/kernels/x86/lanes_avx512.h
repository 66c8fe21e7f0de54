/* SPDX-License-Identifier: MIT
 * lanes_avx512.h: the few vector words that attn_body.h, row_body.h and kv_body.h are written in, sixteen floats wide.
 * lanes_avx2.h has the same words eight wide. `_n` loads and stores touch the first n elements only (0 < n < lanes) and
 * load zeros above them. static inline only. */
#ifndef LM_KERNELS_X86_LANES_AVX512_H
#define LM_KERNELS_X86_LANES_AVX512_H
#include <immintrin.h>
#include <stdint.h>

#define VF_LANES 16
typedef __m512 vf;
typedef __m256i vh; /* as many 16-bit elements */

static inline __mmask16 vf_first(int32_t n) {
    return (__mmask16)((1u << n) - 1);
}
static inline vf vf_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return _mm512_div_ps(a, b);
}
static inline vf vf_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
} /* b where one is NaN */
/* x in the first n lanes, `rest` above. */
static inline vf vf_keep(vf x, int32_t n, vf rest) {
    return _mm512_mask_mov_ps(rest, vf_first(n), x);
}
/* Bit i: a[i] == b[i] (not NaN). */
static inline uint32_t vf_eq_bits(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}

static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline vf vf_load_n(const float *p, int32_t n) {
    return _mm512_maskz_loadu_ps(vf_first(n), p);
}
static inline void vf_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
static inline void vf_store_n(float *p, int32_t n, vf x) {
    _mm512_mask_storeu_ps(p, vf_first(n), x);
}

static inline vf vf_from_f16(vh h) {
    return _mm512_cvtph_ps(h);
}
static inline vf vf_from_bf16(vh h) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16));
}
static inline vh vf_load_u16(const void *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline vh vf_load_u16_n(const void *p, int32_t n) {
    return _mm256_maskz_loadu_epi16(vf_first(n), p);
}
static inline void vf_store_u16(void *p, vh x) {
    _mm256_storeu_si256((__m256i *)p, x);
}
static inline void vf_store_u16_n(void *p, int32_t n, vh x) {
    _mm256_mask_storeu_epi16(p, vf_first(n), x);
}

/* Round to nearest even; NaN stays a quiet NaN. */
static inline vh vf_to_f16(vf x) {
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vh vf_to_bf16(vf x) {
    __m512i u = _mm512_castps_si512(x), high = _mm512_srli_epi32(u, 16);
    __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
    __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(r, nan, high, _mm512_set1_epi32(0x40)));
}

/* Halves added to halves: the order is part of the kernels' definition. */
static inline float vf_sum(vf x) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float vf_largest(vf x) {
    return _mm512_reduce_max_ps(x);
}

#include "kernels/x86/exp.h"

/* exp(x): at most 1 ulp off where the result is normal; results below 2^-126 are 0, -inf gives 0, above 88.72 inf. */
static inline vf vf_exp(vf x) {
    vf n = _mm512_roundscale_ps(vf_mul(x, vf_set1(LM_EXP_LOG2E)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const vf p = vf_exp_of_rest(x, n);
    vf y = _mm512_scalef_ps(p, n);
    /* +-inf made r NaN; the comparisons put that right and leave NaN alone. */
    y = _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, vf_set1(LM_EXP_LOWEST), _CMP_LT_OQ), vf_zero());
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, vf_set1(LM_EXP_HIGHEST), _CMP_GT_OQ), vf_set1(LM_EXP_INF));
}
#endif
