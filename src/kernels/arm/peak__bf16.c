/* SPDX-License-Identifier: MIT
 * peak__bf16.c: bfloat16 by bfmmla: twenty-four chains that depend on nothing but themselves; and tiles from caches. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define VEC float32x4_t
#define ROWS 6
#define VECS 4
#define ZERO() vdupq_n_f32(0)
#define LOAD(p) vld1q_f32((const float *)(const void *)(p))
#define STORE(p, v) vst1q_f32((float *)(void *)(p), v)
#define A_BYTES 16
#define SPREAD(p) vld1q_f32((const float *)(const void *)(p))
#define ADD(sum, a, b) vbfmmlaq_f32(sum, vreinterpretq_bf16_f32(a), vreinterpretq_bf16_f32(b))
#define OPERATIONS 2.0 * 16
#include "kernels/x86/peak_tile.h"

#define CHAINS 24 /* four pipes of four cycles and more */

static void run(int64_t rounds) {
    float32x4_t sum[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_f32(0);
        __asm__ volatile("" : "+w"(sum[i])); /* unknown to the compiler: chains stay apart, nothing is folded */
    }
    for (int64_t r = 0; r < rounds; r++) {
        bfloat16x8_t a = vreinterpretq_bf16_u16(vdupq_n_u16(0));
        __asm__ volatile("" : "+w"(a));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = vbfmmlaq_f32(sum[i], a, a);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+w"(sum[i]));
}

const lm_peak_impl lm_peak_bf16__bf16 = {run, 2.0 * CHAINS * 16, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
