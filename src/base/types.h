/* SPDX-License-Identifier: MIT
 * types.h: the element types and weight formats that every room shares. One list each. */
#ifndef LM_BASE_TYPES_H
#define LM_BASE_TYPES_H
#include <stddef.h>
#include <stdint.h>

/* safetensors element types: X(enum, safetensors name, bytes) */
/* clang-format off */
#define LM_DTYPE_MAP(X) \
    X(BOOL, "BOOL", 1) X(U8, "U8", 1) X(I8, "I8", 1) \
    X(F8_E4M3, "F8_E4M3", 1) X(F8_E5M2, "F8_E5M2", 1) X(F8_E8M0, "F8_E8M0", 1) \
    X(U16, "U16", 2) X(I16, "I16", 2) X(F16, "F16", 2) X(BF16, "BF16", 2) \
    X(U32, "U32", 4) X(I32, "I32", 4) X(F32, "F32", 4) \
    X(U64, "U64", 8) X(I64, "I64", 8) X(F64, "F64", 8) X(C64, "C64", 8)
/* clang-format on */

typedef enum lm_dtype {
#define LM_X(name, text, bytes) LM_DTYPE_##name,
    LM_DTYPE_MAP(LM_X)
#undef LM_X
        LM_DTYPE_COUNT
} lm_dtype;
const char *lm_dtype_name(lm_dtype dtype);
size_t lm_dtype_bytes(lm_dtype dtype);
/** The dtype named `name` (length bytes), or LM_DTYPE_COUNT. */
lm_dtype lm_dtype_find(const char *name, size_t length);

/* Weight formats: what a kernel row is written for. See docs/formats/. X(enum, text, bits) */
/* clang-format off */
#define LM_FORMAT_MAP(X) \
    X(F32, "f32", 32) X(F16, "f16", 16) X(BF16, "bf16", 16) \
    X(AFFINE2, "affine2", 2) X(AFFINE3, "affine3", 3) X(AFFINE4, "affine4", 4) \
    X(AFFINE5, "affine5", 5) X(AFFINE6, "affine6", 6) X(AFFINE8, "affine8", 8) \
    X(MXFP4, "mxfp4", 4) X(NVFP4, "nvfp4", 4) X(MXFP8, "mxfp8", 8)
/* clang-format on */

typedef enum lm_format {
#define LM_X(name, text, bits) LM_FORMAT_##name,
    LM_FORMAT_MAP(LM_X)
#undef LM_X
        LM_FORMAT_COUNT
} lm_format;
const char *lm_format_name(lm_format format);
int lm_format_bits(lm_format format);
/** The affine format of `bits` (2,3,4,5,6,8), else LM_FORMAT_COUNT. */
lm_format lm_format_affine(int bits);
static inline int lm_format_is_affine(lm_format f) {
    return f >= LM_FORMAT_AFFINE2 && f <= LM_FORMAT_AFFINE8;
}
/** Elements that are small floats, one byte of scale a group, no biases. */
static inline int lm_format_is_mx(lm_format f) {
    return f == LM_FORMAT_MXFP4 || f == LM_FORMAT_NVFP4 || f == LM_FORMAT_MXFP8;
}

/** Where and how a weight's bytes lie. LM_LAYOUT_MLX rows run straight from the file. */
typedef enum lm_layout { LM_LAYOUT_MLX, LM_LAYOUT_COUNT } lm_layout;
typedef enum lm_device { LM_DEVICE_CPU, LM_DEVICE_CUDA } lm_device;

/** A weight matrix [n, k]: a reference, never an owner. Pointers may have any alignment (mlx pads nothing).
 *  Affine: element (i,j) = scales[i, j/group] * q(i,j) + biases[i, j/group]; q bit-packed along k, least significant
 *  bit first; a row is k*bits/8 bytes. mxfp4, nvfp4, mxfp8: scale(scales[i, j/group]) * element(i,j), biases NULL.
 *  Float formats: row-major elements, scales and biases NULL. */
typedef struct lm_weight {
    const void *data;
    const void *scales, *biases; /* [n, k/group] of scale_type (mx: bytes) */
    int64_t n, k;                /* outputs, inputs */
    size_t row_bytes;            /* bytes from one row of data to the next */
    size_t bytes;                /* of data, scales and biases together */
    int32_t group;               /* 16, 32, 64, 128; 0 for float formats */
    lm_format format;
    lm_dtype scale_type; /* F16, BF16, F32; mx: U8 */
    lm_layout layout;
    lm_device device;
    const char *name; /* module path, for messages; borrowed */
} lm_weight;

/** How keys and values are quantized: affine codes in groups along the head. bits 0: not at all. */
typedef struct lm_kvq {
    int32_t bits, group;
} lm_kvq;

#define LM_KV_BLOCK 256 /* positions of one key/value block; also the chunk of every sum over positions */
#define LM_KV_STRIP 64  /* positions whose keys lie together, transposed: a block of keys is [256/64][D][64] */

/** Where dimension i of the key of position `pos` lies in a block of keys of head dimension d, in elements. */
static inline size_t lm_kv_key_at(int32_t d, int32_t i, int32_t pos) {
    const size_t strip = (size_t)(pos / LM_KV_STRIP), within = (size_t)(pos % LM_KV_STRIP);
    return (strip * (size_t)d + (size_t)i) * LM_KV_STRIP + within;
}
#endif
