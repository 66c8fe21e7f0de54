/* SPDX-License-Identifier: MIT
 * quantize.h: float rows to packed codes, as mlx writes them. docs/formats/affine.md and mx.md have the rules. */
#ifndef LM_KERNELS_QUANTIZE_H
#define LM_KERNELS_QUANTIZE_H
#include "base/types.h"

typedef enum lm_quant_mode { LM_QUANT_AFFINE, LM_QUANT_MXFP4, LM_QUANT_NVFP4, LM_QUANT_MXFP8 } lm_quant_mode;
/** Whose rounding: mlx's CPU back end, or its Metal and CUDA kernels. */
typedef enum lm_quant_rule { LM_QUANT_RULE_CPU, LM_QUANT_RULE_GPU } lm_quant_rule;

/** affine: bits 2, 3, 4, 5, 6, 8, group 32, 64, 128. mxfp4: 4, 32. nvfp4: 4, 16. mxfp8: 8, 32. */
typedef struct lm_quant_spec {
    lm_quant_mode mode;
    int bits, group;
    lm_quant_rule rule;
} lm_quant_spec;

/** Quantizes n rows of k float32 values (exact up-casts of `dtype`: F32, F16, BF16; k % group == 0).
 *  packed: [n][k*bits/32] u32, little-endian. scales, biases: [n][k/group] in dtype (affine), or u8 scales and no
 *  biases (the others; `biases` is not used). Outputs may have any alignment.
 *  NaN and infinity: a NaN is not seen by the minimum and the maximum and becomes code 0 (mxfp8: 0x7f or 0xff); where
 *  the largest magnitude of a group is infinite, mx scales become 255 (NaN) with codes 0. */
void lm_quantize_rows(const lm_quant_spec *spec, const float *w, lm_dtype dtype, int64_t n, int64_t k, void *packed,
                      void *scales, void *biases);
#endif
