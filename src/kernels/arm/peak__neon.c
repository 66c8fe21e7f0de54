/* SPDX-License-Identifier: MIT
 * peak__neon.c: float32 by fmla. */
#if defined(__aarch64__)
#define SUMS float32x4_t
#define INPUTS float32x4_t
#define NO_SUMS vdupq_n_f32(0)
#define NO_INPUTS vdupq_n_f32(0)
#define MULTIPLY(sum, a) vfmaq_f32(sum, a, a)
#include "kernels/arm/peak_body.h"

const lm_peak_impl lm_peak_f32__neon = {run, 2.0 * CHAINS * 4};
#else
typedef int lm_empty_translation_unit;
#endif
