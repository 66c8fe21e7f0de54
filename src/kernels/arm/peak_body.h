/* SPDX-License-Identifier: MIT
 * peak_body.h: twenty-four chains of one instruction that depend on nothing but themselves. The file that includes it
 * defines
 *   SUMS, INPUTS         the vector types of a chain and of what it multiplies
 *   NO_SUMS, NO_INPUTS   zeros of both: sums stay finite, and an instruction takes as long as with any other number
 *   MULTIPLY(sum, a)     sum + a * a, by the instruction */
#ifndef LM_KERNELS_ARM_PEAK_BODY_H
#define LM_KERNELS_ARM_PEAK_BODY_H
#include "kernels/peak.h"
#include "kernels/x86/unroll.h"
#include <arm_neon.h>

#define CHAINS 24 /* four pipes of four cycles and more */

static void run(int64_t rounds) {
    SUMS sum[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum[i] = NO_SUMS;
        __asm__ volatile("" : "+w"(sum[i])); /* unknown to the compiler: chains stay apart, nothing is folded */
    }
    for (int64_t r = 0; r < rounds; r++) {
        INPUTS a = NO_INPUTS;
        __asm__ volatile("" : "+w"(a));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = MULTIPLY(sum[i], a);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+w"(sum[i]));
}
#endif
