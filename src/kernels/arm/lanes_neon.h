/* SPDX-License-Identifier: MIT
 * lanes_neon.h: the vector words of x86/lanes_avx512.h, four floats wide. `_n` loads and stores touch the first n
 * elements only (0 < n < 4) and load zeros above them. static inline only. */
#ifndef LM_KERNELS_ARM_LANES_NEON_H
#define LM_KERNELS_ARM_LANES_NEON_H
#include <arm_neon.h>
#include <stdint.h>
#include <string.h>

#define VF_LANES 4
typedef float32x4_t vf;
typedef uint16x4_t vh; /* as many 16-bit elements */

static inline uint32x4_t vf_first(int32_t n) {
    const uint32x4_t order = {0, 1, 2, 3};
    return vcltq_u32(order, vdupq_n_u32((uint32_t)n));
}
static inline vf vf_zero(void) {
    return vdupq_n_f32(0);
}
static inline vf vf_set1(float x) {
    return vdupq_n_f32(x);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
static inline vf vf_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
static inline vf vf_sub(vf a, vf b) {
    return vsubq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
static inline vf vf_div(vf a, vf b) {
    return vdivq_f32(a, b);
}
/* b where one is NaN: FMAX would give the NaN. */
static inline vf vf_max(vf a, vf b) {
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
static inline vf vf_keep(vf x, int32_t n, vf rest) {
    return vbslq_f32(vf_first(n), x, rest);
}
static inline uint32_t vf_eq_bits(vf a, vf b) {
    const uint32x4_t bit = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vceqq_f32(a, b), bit));
}

/* Any alignment. */
static inline vf vf_load(const float *p) {
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p));
}
static inline vf vf_load_n(const float *p, int32_t n) {
    float all[4] = {0, 0, 0, 0};
    memcpy(all, p, 4 * (size_t)n);
    return vld1q_f32(all);
}
static inline void vf_store(float *p, vf x) {
    vst1q_f32(p, x);
}
static inline void vf_store_n(float *p, int32_t n, vf x) {
    float all[4];
    vst1q_f32(all, x);
    memcpy(p, all, 4 * (size_t)n);
}

static inline vf vf_from_f16(vh h) {
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}
static inline vf vf_from_bf16(vh h) {
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}
static inline vh vf_load_u16(const void *p) {
    uint64_t all;
    memcpy(&all, p, 8);
    return vcreate_u16(all);
}
static inline vh vf_load_u16_n(const void *p, int32_t n) {
    uint64_t all = 0;
    memcpy(&all, p, 2 * (size_t)n);
    return vcreate_u16(all);
}
static inline void vf_store_u16(void *p, vh x) {
    memcpy(p, &x, 8);
}
static inline void vf_store_u16_n(void *p, int32_t n, vh x) {
    memcpy(p, &x, 2 * (size_t)n);
}

/* Round to nearest even; NaN stays a quiet NaN. */
static inline vh vf_to_f16(vf x) {
    return vreinterpret_u16_f16(vcvt_f16_f32(x));
}
static inline vh vf_to_bf16(vf x) {
    const uint32x4_t u = vreinterpretq_u32_f32(x), high = vshrq_n_u32(u, 16);
    const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
    const uint32x4_t r = vshrq_n_u32(vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
    return vmovn_u32(vbslq_u32(vceqq_f32(x, x), r, vorrq_u32(high, vdupq_n_u32(0x40))));
}

/* Halves added to halves: the order is part of the kernels' definition. */
static inline float vf_sum(vf x) {
    const float32x2_t s = vadd_f32(vget_low_f32(x), vget_high_f32(x));
    return vget_lane_f32(s, 0) + vget_lane_f32(s, 1);
}
/* No lane is NaN. */
static inline float vf_largest(vf x) {
    return vmaxvq_f32(x);
}

#include "kernels/x86/exp.h"

/* As in lanes_avx2.h, bit for bit. 2^n is applied in two halves: n may be 128, and one factor would overflow. */
static inline vf vf_exp(vf x) {
    const vf n = vrndnq_f32(vf_mul(x, vf_set1(LM_EXP_LOG2E)));
    const vf p = vf_exp_of_rest(x, n);
    const int32x4_t whole = vcvtnq_s32_f32(n), half = vshrq_n_s32(whole, 1), rest = vsubq_s32(whole, half);
    const int32x4_t bias = vdupq_n_s32(127);
    const vf a = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
    const vf b = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
    vf y = vf_mul(vf_mul(p, a), b);
    y = vbslq_f32(vcltq_f32(x, vf_set1(LM_EXP_LOWEST)), vf_zero(), y);
    return vbslq_f32(vcgtq_f32(x, vf_set1(LM_EXP_HIGHEST)), vf_set1(LM_EXP_INF), y);
}
#endif
