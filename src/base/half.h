/* SPDX-License-Identifier: MIT
 * half.h: scalar conversions between float32, float16 and bfloat16, and unaligned loads. static inline only, so that
 * ISA files may include it. */
#ifndef LM_BASE_HALF_H
#define LM_BASE_HALF_H
#include <stdint.h>
#include <string.h>

static inline uint16_t lm_load_u16(const void *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t lm_load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t lm_load_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline float lm_load_f32(const void *p) {
    float v;
    memcpy(&v, p, 4);
    return v;
}
static inline float lm_bits_f32(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t lm_f32_bits(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float lm_bf16_to_f32(uint16_t h) {
    return lm_bits_f32((uint32_t)h << 16);
}
/* Round to nearest even; NaN stays a quiet NaN. */
static inline uint16_t lm_f32_to_bf16(float f) {
    uint32_t u = lm_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
}
static inline float lm_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, man = h & 0x3ff;
    if (exp == 0) { /* zero or subnormal: man * 2^-24 is exact */
        float f = (float)man * 0x1p-24f;
        return lm_bits_f32(lm_f32_bits(f) | sign);
    }
    if (exp == 31) return lm_bits_f32(sign | 0x7f800000u | (man << 13));
    return lm_bits_f32(sign | ((exp + 112) << 23) | (man << 13));
}
/* Round to nearest even, overflow to infinity, subnormals kept. */
static inline uint16_t lm_f32_to_f16(float f) {
    uint32_t u = lm_f32_bits(f), sign = (u >> 16) & 0x8000, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | ((a >> 13) & 0x3ff));
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* 65520 and up */
    if (a < 0x38800000u) {                                  /* below 2^-14 */
        float r = lm_bits_f32(a) + 0.5f;                    /* ulp of 0.5 is 2^-24: the addition rounds for us */
        return (uint16_t)(sign | (lm_f32_bits(r) - 0x3f000000u));
    }
    uint32_t r = a + 0xfffu + ((a >> 13) & 1);
    return (uint16_t)(sign | ((r - 0x38000000u) >> 13));
}
#endif
