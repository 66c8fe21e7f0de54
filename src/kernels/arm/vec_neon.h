/* SPDX-License-Identifier: MIT
 * vec_neon.h: the vector of x86/matmat.h, matvec.h, matvec_mx.h and quantize_body.h as NEON: 4 lanes, edges by small
 * copies. Shifts that depend on a code's place are written as operators: a loop that is not unrolled has no constants.
 */
#ifndef LM_KERNELS_ARM_VEC_NEON_H
#define LM_KERNELS_ARM_VEC_NEON_H
#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VL 4
typedef float32x4_t vf;
typedef int32x4_t vi;
typedef uint32_t vu __attribute__((vector_size(16)));

static inline vf vf_zero(void) {
    return vdupq_n_f32(0);
}
static inline vf vf_set1(float x) {
    return vdupq_n_f32(x);
}
/* Any alignment. */
static inline vf vf_load(const float *p) {
    return vreinterpretq_f32_u8(vld1q_u8((const uint8_t *)p));
}
static inline void vf_store(float *p, vf v) {
    vst1q_f32(p, v);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    float edge[4] = {0, 0, 0, 0};
    if (n >= 4) return vf_load(p);
    memcpy(edge, p, 4 * (size_t)n);
    return vf_load(edge);
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    float edge[4];
    if (n >= 4) {
        vf_store(p, v);
        return;
    }
    vf_store(edge, v);
    memcpy(p, edge, 4 * (size_t)n);
}
static inline vf vf_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
static inline vf vf_from_int(vi v) {
    return vcvtq_f32_s32(v);
}
static inline vf vf_bits(vi v) {
    return vreinterpretq_f32_s32(v);
}
/* Lane j: v[index[j]], indices 0 to 3. */
static inline vf vf_permute(vf v, vi index) {
    const vu at = (vu)index * 0x04040404u + 0x03020100u;
    return vreinterpretq_f32_u8(vqtbl1q_u8(vreinterpretq_u8_f32(v), (uint8x16_t)at));
}
/* The low half of each lane, a float16, as float32. */
static inline vf vf_low_halves(vi v) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vmovn_u32(vreinterpretq_u32_s32(v))));
}
static inline uint16x4_t vh_load(const void *p) {
    uint64_t all;
    memcpy(&all, p, 8);
    return vcreate_u16(all);
}
/* The first n halves, zeros after. */
static inline uint16x4_t vh_load_n(const void *p, int64_t n) {
    uint64_t all = 0;
    if (n >= 4) return vh_load(p);
    switch (n) {
    case 1: memcpy(&all, p, 2); break;
    case 2: memcpy(&all, p, 4); break;
    default: memcpy(&all, p, 2 * (size_t)n); break;
    }
    return vcreate_u16(all);
}
static inline vf vf_from_f16(uint16x4_t h) {
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}
static inline vf vf_from_bf16(uint16x4_t h) {
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}
static inline vf vf_load_f16(const void *p) {
    return vf_from_f16(vh_load(p));
}
static inline vf vf_load_bf16(const void *p) {
    return vf_from_bf16(vh_load(p));
}
static inline vf vf_load_f16_n(const void *p, int64_t n) {
    return vf_from_f16(vh_load_n(p, n));
}
static inline vf vf_load_bf16_n(const void *p, int64_t n) {
    return vf_from_bf16(vh_load_n(p, n));
}
/* The order of these additions is part of the kernels' definition. */
static inline float vf_sum(vf v) {
    const float32x2_t s = vadd_f32(vget_low_f32(v), vget_high_f32(v));
    return vget_lane_f32(s, 0) + vget_lane_f32(s, 1);
}

static inline vi vi_zero(void) {
    return vdupq_n_s32(0);
}
static inline vi vi_set1(uint32_t x) {
    return vreinterpretq_s32_u32(vdupq_n_u32(x));
}
static inline vi vi_load(const void *p) {
    return vreinterpretq_s32_u8(vld1q_u8((const uint8_t *)p));
}
static inline void vi_store(void *p, vi v) {
    vst1q_u8((uint8_t *)p, vreinterpretq_u8_s32(v));
}
/* The first `bytes` of p, zeros after. */
static inline vi vi_load_n(const void *p, int64_t bytes) {
    uint8_t edge[16] = {0};
    if (bytes >= 16) return vi_load(p);
    memcpy(edge, p, (size_t)bytes);
    return vi_load(edge);
}
static inline vi vi_and(vi a, vi b) {
    return vandq_s32(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return vorrq_s32(a, b);
}
/* The low four bytes of `bytes`, one a lane. */
static inline vi vi_from_bytes(uint64_t bytes) {
    const uint16x8_t halves = vmovl_u8(vcreate_u8(bytes));
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(halves)));
}
static inline void v_prefetch(const void *p) {
    __builtin_prefetch(p, 0, 3);
}

/* r[i] lane j <-> r[j] lane i. */
static inline void vi_transpose(vi r[4]) {
    const int32x4_t a = vtrn1q_s32(r[0], r[1]), b = vtrn2q_s32(r[0], r[1]);
    const int32x4_t c = vtrn1q_s32(r[2], r[3]), d = vtrn2q_s32(r[2], r[3]);
    r[0] = vcombine_s32(vget_low_s32(a), vget_low_s32(c));
    r[1] = vcombine_s32(vget_low_s32(b), vget_low_s32(d));
    r[2] = vcombine_s32(vget_high_s32(a), vget_high_s32(c));
    r[3] = vcombine_s32(vget_high_s32(b), vget_high_s32(d));
}

/* ---- codes along a row (matvec.h); see x86/vec_avx512.h ---- */
static inline vi vi_load_codes(const uint8_t *p, int bits, int64_t bytes) {
    if (bits == 2 || bits == 4 || bits == 8) return vi_load_n(p, bytes);
    uint64_t low;
    uint32_t high = 0;
    memcpy(&low, p, 8); /* all 10 or 12 bytes are there: a block of 16 or 32 codes divides every group */
    memcpy(&high, p + 8, bits == 5 ? 2 : 4);
    const uint8x16_t v = vcombine_u8(vcreate_u8(low), vcreate_u8(high));
    if (bits == 5) {
        const uint8x16_t at = {0, 1, 2, 255, 2, 3, 4, 255, 5, 6, 7, 255, 7, 8, 9, 255};
        const int32x4_t shift = {0, -4, 0, -4};
        return vreinterpretq_s32_u32(vshlq_u32(vreinterpretq_u32_u8(vqtbl1q_u8(v, at)), shift));
    }
    const uint8x16_t at = {0, 1, 2, 255, 3, 4, 5, 255, 6, 7, 8, 255, 9, 10, 11, 255};
    return vreinterpretq_s32_u8(vqtbl1q_u8(v, at));
}

#include "kernels/x86/vec_codes.h"
#endif
