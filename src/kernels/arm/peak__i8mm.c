/* SPDX-License-Identifier: MIT
 * peak__i8mm.c: 8-bit integers by smmla: twenty-four chains that depend on nothing but themselves; and tiles from
 * caches. */
#if defined(__aarch64__)
#include <arm_neon.h>

#define VEC int32x4_t
#define ROWS 6
#define VECS 4
#define ZERO() vdupq_n_s32(0)
#define LOAD(p) vld1q_s32((const int32_t *)(const void *)(p))
#define STORE(p, v) vst1q_s32((int32_t *)(void *)(p), v)
#define A_BYTES 16
#define SPREAD(p) vld1q_s32((const int32_t *)(const void *)(p))
#define ADD(sum, a, b) vmmlaq_s32(sum, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b))
#define OPERATIONS 2.0 * 32
#include "kernels/x86/peak_tile.h"

#define CHAINS 24 /* four pipes of four cycles and more */

static void run(int64_t rounds) {
    int32x4_t sum[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_s32(0);
        __asm__ volatile("" : "+w"(sum[i])); /* unknown to the compiler: chains stay apart, nothing is folded */
    }
    for (int64_t r = 0; r < rounds; r++) {
        int8x16_t a = vdupq_n_s8(0);
        __asm__ volatile("" : "+w"(a));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = vmmlaq_s32(sum[i], a, a);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+w"(sum[i]));
}

const lm_peak_impl lm_peak_int8__i8mm = {run, 2.0 * CHAINS * 32, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
