/* SPDX-License-Identifier: MIT
 * peak__i8mm.c: 8-bit integers by smmla. */
#if defined(__aarch64__)
#define SUMS int32x4_t
#define INPUTS int8x16_t
#define NO_SUMS vdupq_n_s32(0)
#define NO_INPUTS vdupq_n_s8(0)
#define MULTIPLY(sum, a) vmmlaq_s32(sum, a, a)
#include "kernels/arm/peak_body.h"

const lm_peak_impl lm_peak_int8__i8mm = {run, 2.0 * CHAINS * 32};
#else
typedef int lm_empty_translation_unit;
#endif
