/* SPDX-License-Identifier: MIT
 * quantize__neon.c: op QUANT (quantize_body.h). */
#if defined(__aarch64__)
#include "kernels/arm/vec_neon.h"

/* b where one is NaN: FMIN and FMAX would give the NaN. */
static inline vf qv_min(vf a, vf b) {
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline vf qv_max(vf a, vf b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline float qv_least(vf v) {
    return vminvq_f32(v);
}
static inline float qv_most(vf v) {
    return vmaxvq_f32(v);
}
static inline vf qv_rint(vf v) {
    return vrndnq_f32(v);
}
static inline vf qv_trunc(vf v) {
    return vrndq_f32(v);
}
static inline vf qv_round_f16(vf v) {
    return vcvt_f32_f16(vcvt_f16_f32(v));
}
static inline vi qv_to_int(vf v) {
    return vcvtq_s32_f32(v);
}
/* VL numbers from 0 to 255 as bytes. */
static inline void qv_store_codes(uint8_t *out, vi q) {
    const uint8x16_t first = {0, 4, 8, 12, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255};
    const uint32_t four = vgetq_lane_u32(vreinterpretq_u32_u8(vqtbl1q_u8(vreinterpretq_u8_s32(q), first)), 0);
    memcpy(out, &four, 4);
}
#include "kernels/x86/quantize_body.h"

const lm_quant_impl lm_quantize__neon = {qv_rows};
#else
typedef int lm_empty_translation_unit;
#endif
