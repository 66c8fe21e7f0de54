/* SPDX-License-Identifier: MIT
 * quant_group.h: what quantizing computes once per group, and the rounding of one element: the definition that the
 * vector rows follow. static inline only, so that ISA files may include it. */
#ifndef LM_KERNELS_QUANT_GROUP_H
#define LM_KERNELS_QUANT_GROUP_H
#include "kernels/quantize.h"
#include "kernels/unpack.h"
#include <math.h>

/* v rounded to the element type. */
static inline float lm_quant_round(float v, lm_dtype dtype) {
    if (dtype == LM_DTYPE_BF16) return lm_bf16_to_f32(lm_f32_to_bf16(v));
    if (dtype == LM_DTYPE_F16) return lm_f16_to_f32(lm_f32_to_f16(v));
    return v;
}

static inline void lm_quant_store(void *out, int64_t i, float v, lm_dtype dtype) {
    uint32_t bits = lm_f32_bits(v);
    uint16_t half = dtype == LM_DTYPE_BF16 ? lm_f32_to_bf16(v) : lm_f32_to_f16(v);
    if (dtype == LM_DTYPE_F32)
        memcpy((uint8_t *)out + 4 * i, &bits, 4);
    else
        memcpy((uint8_t *)out + 2 * i, &half, 2);
}

/* Half away from zero; NaN and infinity stay. x - trunc(x) is exact. */
static inline float lm_quant_away(float x) {
    float t = truncf(x);
    return fabsf(x - t) >= 0.5f ? t + copysignf(1.0f, x) : t;
}
static inline float lm_quant_rint(float x, lm_quant_rule rule) {
    return rule == LM_QUANT_RULE_CPU ? rintf(x) : lm_quant_away(x);
}

/* ---- affine ---- */

/* What minimum and maximum start from. The kernels for GPUs let the maximum start at 0. */
static inline float lm_quant_min_start(lm_quant_rule rule) {
    return rule == LM_QUANT_RULE_CPU ? INFINITY : 0x1.fffffep127f;
}
static inline float lm_quant_max_start(lm_quant_rule rule) {
    return rule == LM_QUANT_RULE_CPU ? -INFINITY : 0.0f;
}

/* Scale and bias of a group, before they are rounded to the element type: the edge value becomes exact. */
static inline void lm_quant_affine(float lo, float hi, int bits, lm_quant_rule rule, float *scale, float *bias) {
    float bins = (float)((1 << bits) - 1), s = (hi - lo) / bins;
    s = s > 1e-7f ? s : 1e-7f;
    float edge = hi;
    if (fabsf(lo) > fabsf(hi))
        edge = lo;
    else
        s = -s;
    float q0 = lm_quant_rint(edge / s, rule);
    *scale = q0 != 0 ? edge / q0 : s;
    *bias = q0 != 0 ? edge : 0;
}

/* NaN gives 0. */
static inline uint32_t lm_quant_code(float w, float scale, float bias, int bits, lm_quant_rule rule) {
    float top = (float)((1 << bits) - 1), q = lm_quant_rint((w - bias) / scale, rule);
    q = q > 0 ? q : 0;
    return (uint32_t)(q < top ? q : top);
}

/* ---- e4m3, e8m0, e2m1 ---- */

/* Nearest even; what is beyond 448 saturates there. NaN gives 0x7f. */
static inline uint8_t lm_quant_e4m3(float x) {
    uint32_t u = lm_f32_bits(x), sign = (u >> 24) & 0x80, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint8_t)(sign | 0x7f);
    if (a >= 0x43e00000u) return (uint8_t)(sign | 0x7e);
    if (a < 0x3c800000u) /* below 2^-6: the addition rounds to a multiple of 2^-9 */
        return (uint8_t)(sign | (lm_f32_bits(lm_bits_f32(a) + 0x1p14f) - 0x46800000u));
    a += 0x7ffffu + ((a >> 20) & 1);
    return (uint8_t)(sign | ((a - 0x3c000000u) >> 20));
}

/* Code of x in e2m1 by mlx's CPU rule: the first of +0 .5 1 1.5 2 3 4 6 -0 -.5 ... at the least |x - value| in float32.
 * So ties go to the smaller magnitude, -0 never appears, and magnitudes that swallow the differences give less. */
static inline uint32_t lm_quant_e2m1_first(float x) {
    float a = fabsf(x), best = INFINITY;
    uint32_t code = 0;
    for (uint32_t i = 0; i < 8; i++) {
        float d = fabsf(a - lm_e2m1_to_f32(i));
        if (d < best) best = d, code = i;
    }
    return code && x < 0 ? code | 8 : code;
}

/* By the rule of the kernels for GPUs: nearest even, saturating, the sign kept. NaN gives 0. */
static inline uint32_t lm_quant_e2m1_even(float x) {
    float a = fabsf(x);
    uint32_t code =
        (uint32_t)(a > 0.25f) + (a >= 0.75f) + (a > 1.25f) + (a >= 1.75f) + (a > 2.5f) + (a >= 3.5f) + (a > 5.0f);
    return x == x ? code | (lm_f32_bits(x) >> 28 & 8) : 0;
}

/* The least e with a <= 2^e, for a finite a > 0. */
static inline int lm_quant_exponent(float a) {
    const uint32_t u = lm_f32_bits(a);
    int e;
    if (u >= 0x00800000u) return (int)(u >> 23) - 127 + ((u & 0x7fffffu) != 0);
    return frexpf(a, &e) == 0.5f ? e - 1 : e;
}

/* Code where the divisor is 0. The GPU kernels divide all the same: by an nvfp4 scale of 0 that gives infinities, and
 * NaN for zeros, which end as 6 and -6. */
static inline uint32_t lm_quant_undivided(const lm_quant_spec *spec, float w) {
    if (spec->rule == LM_QUANT_RULE_CPU || spec->mode != LM_QUANT_NVFP4) return 0;
    return w < 0 ? 15 : 7;
}

/* The group's scale byte, and what elements are divided by (0: their codes are those of lm_quant_undivided). */
static inline uint8_t lm_quant_scale(const lm_quant_spec *spec, float largest, lm_dtype dtype, float *divisor) {
    float a = largest / (spec->bits == 4 ? 6.0f : 448.0f);
    if (spec->rule == LM_QUANT_RULE_CPU) a = lm_quant_round(a, dtype);
    if (spec->mode == LM_QUANT_NVFP4) {
        uint8_t s = lm_quant_e4m3(a);
        *divisor = lm_e4m3_to_f32(s);
        return s;
    }
    *divisor = a == INFINITY ? 0 : 1;
    if (a == 0) return spec->rule == LM_QUANT_RULE_CPU ? 127 : 0;
    if (a == INFINITY) return 255;
    int e = lm_quant_exponent(a);
    *divisor = e >= -126 && e <= 127 ? lm_bits_f32((uint32_t)(e + 127) << 23) : ldexpf(1.0f, e);
    return (uint8_t)(e + 127);
}
#endif
