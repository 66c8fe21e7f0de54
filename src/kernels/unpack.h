/* SPDX-License-Identifier: MIT
 * unpack.h: scalar pieces of the weight formats (docs/formats/affine.md): one element, one scale, one run of a row.
 * static inline only, so that ISA files may use them for tails. */
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

/* Elements [k0, k1) of row n as float32. Affine: the product is rounded, then the sum, as mlx does in float32. */
static inline void lm_unpack_run(const lm_weight *w, int64_t n, int64_t k0, int64_t k1, float *out) {
    const uint8_t *row = (const uint8_t *)w->data + (size_t)n * w->row_bytes;
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
