/* SPDX-License-Identifier: MIT
 * peak_body.h: both roofs of peak.h by one instruction: twenty-four chains that depend on nothing but themselves, and
 * tiles from caches (peak_tile.h, which says what the file that includes this one defines). Sums of the chains stay
 * zero, and an instruction takes as long as with any other number. */
#ifndef LM_KERNELS_ARM_PEAK_BODY_H
#define LM_KERNELS_ARM_PEAK_BODY_H
#include "kernels/x86/peak_tile.h"

#define CHAINS 24 /* four pipes of four cycles and more */

static void run(int64_t rounds) {
    VEC sum[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum[i] = ZERO();
        __asm__ volatile("" : "+w"(sum[i])); /* unknown to the compiler: chains stay apart, nothing is folded */
    }
    for (int64_t r = 0; r < rounds; r++) {
        VEC a = ZERO();
        __asm__ volatile("" : "+w"(a));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = ADD(sum[i], a, a);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+w"(sum[i]));
}
#endif
