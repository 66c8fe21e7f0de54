/* SPDX-License-Identifier: MIT
 * codes.h: 32 affine codes, which every group is a multiple of, from 4 * bits packed bytes to a byte each. They come in
 * the order that takes fewest instructions; codes_order says which, and who multiplies them puts activations in the
 * same one. static inline only. */
#ifndef LM_KERNELS_ARM_CODES_H
#define LM_KERNELS_ARM_CODES_H
#include "kernels/unpack.h"
#include "kernels/x86/unroll.h"
#include <arm_neon.h>

/* Place p of the 32 holds code codes_order(bits, p). */
INLINE int codes_order(int bits, int p) {
    switch (bits) {
    case 2: return p % 8 * 4 + p / 8;                   /* 0 4 8 .., 1 5 9 .., 2 .., 3 .. */
    case 3: return p % 16 / 2 * 4 + p / 16 * 2 + p % 2; /* 0 1 4 5 8 9 .., 2 3 6 7 .. */
    case 4: return p % 16 * 2 + p / 16;                 /* 0 2 4 .., 1 3 5 .. */
    default: return p;
    }
}

/* Windows of 16 bits that begin with a code: eight pairs of 6 bits, or fours of 3, from 12 bytes. */
INLINE uint16x8_t codes_windows12(uint8x16_t v) {
    const uint8x16_t at = {0, 1, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8, 9, 10, 10, 11};
    const int16x8_t shift = {0, -4, 0, -4, 0, -4, 0, -4};
    return vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(v, at)), shift);
}
/* Eight pairs of 5 bits from 10 bytes. */
INLINE uint16x8_t codes_windows10(uint8x16_t v) {
    const uint8x16_t at = {0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 6, 7, 7, 8, 8, 9};
    const int16x8_t shift = {0, -2, -4, -6, 0, -2, -4, -6};
    return vshlq_u16(vreinterpretq_u16_u8(vqtbl1q_u8(v, at)), shift);
}
/* 8 bytes at p and `more` (2 or 4) after them. */
INLINE uint8x16_t codes_load(const uint8_t *p, int more) {
    return vcombine_u8(vld1_u8(p), vcreate_u8(more == 2 ? lm_load_u16(p + 8) : lm_load_u32(p + 8)));
}
/* The second code of a window moves up to the second byte. */
INLINE uint8x16_t codes_split(uint16x8_t w, int bits) {
    const uint16x8_t up = bits == 5 ? vshlq_n_u16(w, 3) : bits == 6 ? vshlq_n_u16(w, 2) : vshlq_n_u16(w, 5);
    const uint8x16_t both = vreinterpretq_u8_u16(vbslq_u16(vdupq_n_u16(0xff), w, up));
    return vandq_u8(both, vdupq_n_u8((uint8_t)((1u << bits) - 1)));
}

INLINE uint8x16x2_t codes_32(const uint8_t *p, int bits) {
    uint8x16x2_t q;
    if (bits == 8) {
        q.val[0] = vld1q_u8(p), q.val[1] = vld1q_u8(p + 16);
    } else if (bits == 4) {
        const uint8x16_t v = vld1q_u8(p);
        q.val[0] = vandq_u8(v, vdupq_n_u8(15)), q.val[1] = vshrq_n_u8(v, 4);
    } else if (bits == 2) {
        const uint8x8_t half = vld1_u8(p);
        const uint8x16_t v = vcombine_u8(half, vshr_n_u8(half, 2));
        q.val[0] = vandq_u8(v, vdupq_n_u8(3)), q.val[1] = vandq_u8(vshrq_n_u8(v, 4), vdupq_n_u8(3));
    } else if (bits == 3) {
        const uint16x8_t w = codes_windows12(codes_load(p, 4));
        q.val[0] = codes_split(w, 3), q.val[1] = codes_split(vshrq_n_u16(w, 6), 3);
    } else if (bits == 5) {
        q.val[0] = codes_split(codes_windows10(codes_load(p, 2)), 5);
        q.val[1] = codes_split(codes_windows10(codes_load(p + 10, 2)), 5);
    } else {
        q.val[0] = codes_split(codes_windows12(codes_load(p, 4)), 6);
        q.val[1] = codes_split(codes_windows12(codes_load(p + 12, 4)), 6);
    }
    return q;
}

/* As signed bytes for sdot and smmla: 8 bits less 128, which biases make good (codes_zero). */
INLINE int8x16_t codes_signed(uint8x16_t q, int bits) {
    return vreinterpretq_s8_u8(bits == 8 ? veorq_u8(q, vdupq_n_u8(128)) : q);
}
INLINE float codes_zero(int bits) {
    return bits == 8 ? 128.0f : 0.0f;
}
#endif
