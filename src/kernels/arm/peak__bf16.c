/* SPDX-License-Identifier: MIT
 * peak__bf16.c: bfloat16 by bfmmla. */
#if defined(__aarch64__)
#define SUMS float32x4_t
#define INPUTS bfloat16x8_t
#define NO_SUMS vdupq_n_f32(0)
#define NO_INPUTS vreinterpretq_bf16_u16(vdupq_n_u16(0))
#define MULTIPLY(sum, a) vbfmmlaq_f32(sum, a, a)
#include "kernels/arm/peak_body.h"

const lm_peak_impl lm_peak_bf16__bf16 = {run, 2.0 * CHAINS * 16};
#else
typedef int lm_empty_translation_unit;
#endif
