/* SPDX-License-Identifier: MIT
 * peak_chains.h: both roofs of peak.h by one instruction: chains that depend on nothing but themselves, and tiles from
 * caches (peak_tile.h, which says what the file that includes this one defines). CHAINS: how many; REGISTER: the letter
 * of a vector register in assembly. Sums of the chains stay zero, and an instruction takes as long as with any other
 * number. */
#ifndef LM_X86_PEAK_CHAINS_H
#define LM_X86_PEAK_CHAINS_H
#include "kernels/x86/peak_tile.h"

static void run(int64_t rounds) {
    VEC sum[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum[i] = ZERO();
        __asm__ volatile("" : "+" REGISTER(sum[i])); /* unknown to the compiler: chains stay apart, nothing is folded */
    }
    for (int64_t r = 0; r < rounds; r++) {
        VEC a = ZERO();
        __asm__ volatile("" : "+" REGISTER(a));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = ADD(sum[i], a, a);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+" REGISTER(sum[i]));
}
#endif
