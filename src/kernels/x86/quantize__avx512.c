/* SPDX-License-Identifier: MIT
 * quantize__avx512.c: op QUANT (quantize_body.h). */
#if defined(__x86_64__)
#include "kernels/x86/vec_avx512.h"
#include <string.h>

static inline vf qv_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
static inline vf qv_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
static inline float qv_least(vf v) {
    return _mm512_reduce_min_ps(v);
}
static inline float qv_most(vf v) {
    return _mm512_reduce_max_ps(v);
}
static inline vf qv_rint(vf v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
static inline vf qv_trunc(vf v) {
    return _mm512_roundscale_ps(v, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}
static inline vf qv_round_f16(vf v) {
    return _mm512_cvtph_ps(_mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline vi qv_to_int(vf v) {
    return _mm512_cvttps_epi32(v);
}
/* VL numbers from 0 to 255 as bytes. */
static inline void qv_store_codes(uint8_t *out, vi q) {
    _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8(q));
}
#include "kernels/x86/quantize_body.h"

const lm_quant_impl lm_quantize__avx512 = {qv_rows};
#else
typedef int lm_empty_translation_unit;
#endif
