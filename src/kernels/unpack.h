/* SPDX-License-Identifier: MIT
 * unpack.h: scalar pieces of the weight formats (docs/formats/affine.md, mx.md): one element, one scale, one run of a
 * row. static inline only, so that ISA files may use them for tails. */
#ifndef LM_KERNELS_UNPACK_H
#define LM_KERNELS_UNPACK_H
#include "base/half.h"
#include "base/types.h"

static inline int lm_unpack_bits(lm_format format) {
    switch (format) {
    case LM_FORMAT_AFFINE2: return 2;
    case LM_FORMAT_AFFINE3: return 3;
    case LM_FORMAT_AFFINE4: return 4;
    case LM_FORMAT_AFFINE5: return 5;
    case LM_FORMAT_AFFINE6: return 6;
    case LM_FORMAT_AFFINE8: return 8;
    case LM_FORMAT_MXFP4: return 4;
    case LM_FORMAT_NVFP4: return 4;
    case LM_FORMAT_MXFP8: return 8;
    case LM_FORMAT_F32: return 32;
    default: return 16;
    }
}

/* Element i of array p of F16, BF16 or F32. */
static inline float lm_unpack_scale(const void *p, lm_dtype type, int64_t i) {
    const uint8_t *b = p;
    if (type == LM_DTYPE_F32) return lm_load_f32(b + 4 * i);
    uint16_t h = lm_load_u16(b + 2 * i);
    return type == LM_DTYPE_BF16 ? lm_bf16_to_f32(h) : lm_f16_to_f32(h);
}

/* Element i of a row of bit-packed codes; reads no byte that holds none of its bits. */
static inline unsigned lm_unpack_code(const uint8_t *row, int bits, int64_t i) {
    int64_t bit = i * bits;
    unsigned shift = (unsigned)(bit & 7), word = row[bit >> 3];
    if (shift + (unsigned)bits > 8) word |= (unsigned)row[(bit >> 3) + 1] << 8;
    return word >> shift & ((1u << bits) - 1);
}

static inline float lm_e4m3_to_f32(uint8_t v) {
    uint32_t sign = (uint32_t)(v & 0x80) << 24, a = v & 0x7f;
    if (a == 0x7f) return lm_bits_f32(sign | 0x7fc00000u);
    if (a < 8) return lm_bits_f32(lm_f32_bits((float)a * 0x1p-9f) | sign);
    return lm_bits_f32(sign | ((a << 20) + 0x3c000000u));
}

/* 2^(v - 127); 0 is 2^-127, a subnormal, and 255 NaN. */
static inline float lm_e8m0_to_f32(uint8_t v) {
    return lm_bits_f32(v == 255 ? 0x7fc00000u : v ? (uint32_t)v << 23 : 0x00400000u);
}

static inline float lm_e2m1_to_f32(unsigned code) {
    static const float values[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    float v = values[code & 7];
    return code & 8 ? -v : v;
}

/* Elements [k0, k1) of row n of an mx format: element times scale, one rounding. */
static inline void lm_unpack_mx(const lm_weight *w, int64_t n, int64_t k0, int64_t k1, float *out) {
    const uint8_t *row = (const uint8_t *)w->data + (size_t)n * w->row_bytes;
    const uint8_t *scales = (const uint8_t *)w->scales + n * (w->k / w->group);
    for (int64_t k = k0; k < k1; k++) {
        uint8_t s = scales[k / w->group];
        float scale = w->format == LM_FORMAT_NVFP4 ? lm_e4m3_to_f32(s) : lm_e8m0_to_f32(s);
        float v = w->format == LM_FORMAT_MXFP8 ? lm_e4m3_to_f32(row[k]) : lm_e2m1_to_f32(lm_unpack_code(row, 4, k));
        *out++ = scale * v;
    }
}

/* Elements [k0, k1) of row n as float32. Affine: the product is rounded, then the sum, as mlx does in float32. */
static inline void lm_unpack_run(const lm_weight *w, int64_t n, int64_t k0, int64_t k1, float *out) {
    const uint8_t *row = (const uint8_t *)w->data + (size_t)n * w->row_bytes;
    if (lm_format_is_mx(w->format)) {
        lm_unpack_mx(w, n, k0, k1, out);
        return;
    }
    if (!lm_format_is_affine(w->format)) {
        lm_dtype type = w->format == LM_FORMAT_F32   ? LM_DTYPE_F32
                        : w->format == LM_FORMAT_F16 ? LM_DTYPE_F16
                                                     : LM_DTYPE_BF16;
        for (int64_t k = k0; k < k1; k++) *out++ = lm_unpack_scale(row, type, k);
        return;
    }
    int bits = lm_unpack_bits(w->format);
    int64_t groups = w->k / w->group;
    for (int64_t k = k0; k < k1;) {
        int64_t g = k / w->group, end = (g + 1) * w->group;
        float scale = lm_unpack_scale(w->scales, w->scale_type, n * groups + g);
        float bias = lm_unpack_scale(w->biases, w->scale_type, n * groups + g);
        if (end > k1) end = k1;
        for (; k < end; k++) {
            float product = scale * (float)lm_unpack_code(row, bits, k);
            *out++ = product + bias;
        }
    }
}
#endif
