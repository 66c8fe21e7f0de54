/* SPDX-License-Identifier: MIT
 * quantize__avx2.c: op QUANT (quantize_body.h). */
#if defined(__x86_64__)
#include "kernels/x86/vec_avx2.h"

static inline vf qv_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
static inline vf qv_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
static inline float qv_least(vf v) {
    __m128 a = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_min_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_min_ss(a, _mm_movehdup_ps(a)));
}
static inline float qv_most(vf v) {
    __m128 a = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    a = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(a, _mm_movehdup_ps(a)));
}
static inline vf qv_rint(vf v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf qv_trunc(vf v) {
    return _mm256_round_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
static inline vf qv_round_f16(vf v) {
    return _mm256_cvtph_ps(_mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vi qv_to_int(vf v) {
    return _mm256_cvttps_epi32(v);
}
/* VL numbers from 0 to 255 as bytes. */
static inline void qv_store_codes(uint8_t *out, vi q) {
    __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(q), _mm256_extracti128_si256(q, 1));
    _mm_storel_epi64((__m128i *)(void *)out, _mm_packus_epi16(h, h));
}
#include "kernels/x86/quantize_body.h"

const lm_quant_impl lm_quantize__avx2 = {qv_rows};
#else
typedef int lm_empty_translation_unit;
#endif
