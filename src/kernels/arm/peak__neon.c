/* SPDX-License-Identifier: MIT
 * peak__neon.c: float32 by fmla. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define VEC float32x4_t
#define ROWS 6
#define VECS 4
#define ZERO() vdupq_n_f32(0)
#define LOAD(p) vld1q_f32((const float *)(const void *)(p))
#define STORE(p, v) vst1q_f32((float *)(void *)(p), v)
#define A_BYTES 4
#define SPREAD(p) vld1q_dup_f32((const float *)(const void *)(p))
#define ADD(sum, a, b) vfmaq_f32(sum, a, b)
#define OPERATIONS 2.0 * 4
#define CHAINS 24 /* four pipes of four cycles and more */
#define REGISTER "w"
#include "kernels/x86/peak_chains.h"

const lm_peak_impl lm_peak_f32__neon = {run, 2.0 * CHAINS * 4, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
