/* SPDX-License-Identifier: MIT
 * peak__avx512.c: float32 by vfmadd, 512 bits: twelve chains that depend on nothing but themselves. */
#if defined(__x86_64__)
#include "kernels/peak.h"
#include "kernels/x86/unroll.h"
#include <immintrin.h>

#define CHAINS 12

static void run(int64_t rounds) {
    __m512 sum[CHAINS];
    UNROLL for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm512_setzero_ps();
        __asm__ volatile("" : "+v"(sum[i])); /* unknown to the compiler: chains stay apart, nothing is folded */
    }
    for (int64_t r = 0; r < rounds; r++) {
        __m512 a =
            _mm512_setzero_ps(); /* zeros keep sums finite; the instruction takes as long as with any other number */
        __asm__ volatile("" : "+v"(a));
        UNROLL for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(a, a, sum[i]);
    }
    UNROLL for (int i = 0; i < CHAINS; i++) __asm__ volatile("" : "+v"(sum[i]));
}

const lm_peak_impl lm_peak_f32__avx512 = {run, 2.0 * CHAINS * 16};
#else
typedef int lm_empty_translation_unit;
#endif
