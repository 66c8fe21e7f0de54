/* SPDX-License-Identifier: MIT
 * peak__dotprod.c: 8-bit integers by sdot. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define VEC int32x4_t
#define ROWS 6
#define VECS 4
#define ZERO() vdupq_n_s32(0)
#define LOAD(p) vld1q_s32((const int32_t *)(const void *)(p))
#define STORE(p, v) vst1q_s32((int32_t *)(void *)(p), v)
#define A_BYTES 4
#define SPREAD(p) vld1q_dup_s32((const int32_t *)(const void *)(p))
#define ADD(sum, a, b) vdotq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
#define OPERATIONS 2.0 * 16
#define CHAINS 24 /* four pipes of four cycles and more */
#define REGISTER "w"
#include "kernels/x86/peak_chains.h"

const lm_peak_impl lm_peak_int8__dotprod = {run, 2.0 * CHAINS * 16, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
