/* SPDX-License-Identifier: MIT
 * peak__dotprod.c: 8-bit integers by sdot: twenty-four chains that depend on nothing but themselves. */
#if defined(__aarch64__)
#include "kernels/peak.h"
#include "kernels/x86/unroll.h"
#include <arm_neon.h>

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
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = vdotq_s32(sum[i], a, a);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+w"(sum[i]));
}

const lm_peak_impl lm_peak_int8__dotprod = {run, 2.0 * CHAINS * 16};
#else
typedef int lm_empty_translation_unit;
#endif
