/* SPDX-License-Identifier: MIT
 * peak__dotprod.c: 8-bit integers by sdot. */
#if defined(__aarch64__)
#define SUMS int32x4_t
#define INPUTS int8x16_t
#define NO_SUMS vdupq_n_s32(0)
#define NO_INPUTS vdupq_n_s8(0)
#define MULTIPLY(sum, a) vdotq_s32(sum, a, a)
#include "kernels/arm/peak_body.h"

const lm_peak_impl lm_peak_int8__dotprod = {run, 2.0 * CHAINS * 16};
#else
typedef int lm_empty_translation_unit;
#endif
