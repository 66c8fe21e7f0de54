/* SPDX-License-Identifier: MIT
 * fixed.h: activations as 16-bit fixed point with a step for every group of weights (docs/kernels.md): two signed bytes
 * each, x = step * (256 * high + low). The dotprod and i8mm rows share it. static inline only. */
#ifndef LM_KERNELS_ARM_FIXED_H
#define LM_KERNELS_ARM_FIXED_H
#include "kernels/arm/codes.h"
#include "kernels/rows.h"

#define FX_TOP 32639 /* 127 * 256 + 127: both bytes stay within [-127, 127] but for low's -128 */

/* One group of n (32, 64 or 128) numbers, `high` and `low` in order; returns the step and the sum of what x became. NaN
 * and inf make the step NaN or inf, and the outputs with it. */
INLINE float fx_group(const float *x, int64_t n, int8_t *high, int8_t *low, float *sum) {
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffff);
    uint32x4_t top = vdupq_n_u32(0);
    int32x4_t total = vdupq_n_s32(0);
    for (int64_t k = 0; k < n; k += 4)
        top = vmaxq_u32(top, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + k)), magnitude));
    const float max = lm_bits_f32(vmaxvq_u32(top));
    if (max == 0) {
        memset(high, 0, (size_t)n), memset(low, 0, (size_t)n);
        *sum = 0;
        return 0;
    }
    const float up = max < 0x1p-60f ? 0x1p64f : 1.0f; /* else 1 / step would overflow */
    const float factor = (float)FX_TOP / (max * up);
    for (int64_t k = 0; k < n; k += 8) {
        const int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vmulq_n_f32(vld1q_f32(x + k), up), factor));
        const int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vmulq_n_f32(vld1q_f32(x + k + 4), up), factor));
        total = vaddq_s32(total, vaddq_s32(a, b));
        const int16x8_t both = vcombine_s16(vmovn_s32(a), vmovn_s32(b));
        vst1_s8(low + k, vmovn_s16(both));
        vst1_s8(high + k, vmovn_s16(vshrq_n_s16(vaddq_s16(both, vdupq_n_s16(128)), 8)));
    }
    const float step = max * up / (float)FX_TOP / up;
    *sum = step * (float)vaddvq_s32(total); /* below 2^24: exact but for the product */
    return step;
}

/* 32 bytes in order to the order of codes_32. */
INLINE void fx_order(const int8_t *in, int bits, int8_t *out) {
    uint8_t at[32];
    for (int p = 0; p < 32; p++) at[p] = (uint8_t)codes_order(bits, p);
    const int8x16x2_t v = {{vld1q_s8(in), vld1q_s8(in + 16)}};
    vst1q_s8(out, vqtbl2q_s8(v, vld1q_u8(at)));
    vst1q_s8(out + 16, vqtbl2q_s8(v, vld1q_u8(at + 16)));
}

INLINE float32x4_t fx_halves(const lm_weight *w, uint16x4_t h) {
    return w->scale_type == LM_DTYPE_BF16 ? vreinterpretq_f32_u32(vshll_n_u16(h, 16))
                                          : vcvt_f32_f16(vreinterpret_f16_u16(h));
}
/* Scales (or biases) at .. at + n, n up to 4, zeros after. */
INLINE float32x4_t fx_scales(const lm_weight *w, const void *p, int64_t at, int64_t n) {
    const size_t size = w->scale_type == LM_DTYPE_F32 ? 4 : 2;
    const uint8_t *from = (const uint8_t *)p + size * (size_t)at;
    uint8_t edge[16] = {0};
    if (n < 4) {
        memcpy(edge, from, size * (size_t)n);
        from = edge;
    }
    if (size == 4) return vreinterpretq_f32_u8(vld1q_u8(from));
    return fx_halves(w, vreinterpret_u16_u8(vld1_u8(from)));
}
#endif
