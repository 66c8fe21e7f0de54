/* SPDX-License-Identifier: MIT
 * peak__neon.c: float32 by fmla: twenty-four chains that depend on nothing but themselves; and tiles from caches. */
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
#include "kernels/x86/peak_tile.h"

#define CHAINS 24 /* four pipes of four cycles and more */

static void run(int64_t rounds) {
    float32x4_t sum[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_f32(0);
        __asm__ volatile("" : "+w"(sum[i])); /* unknown to the compiler: chains stay apart, nothing is folded */
    }
    for (int64_t r = 0; r < rounds; r++) {
        float32x4_t a = vdupq_n_f32(0);
        __asm__ volatile("" : "+w"(a));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = vfmaq_f32(sum[i], a, a);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+w"(sum[i]));
}

const lm_peak_impl lm_peak_f32__neon = {run, 2.0 * CHAINS * 4, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
