/* SPDX-License-Identifier: MIT
 * peak__bf16.c: bfloat16 by vdpbf16ps: twenty-four chains that depend on nothing but themselves; and tiles from caches.
 */
#if defined(__x86_64__)
#include <immintrin.h>

/* Written out: around the intrinsic gcc 12 copies every sum. */
static inline __m512 product(__m512 sum, __m512 a, __m512 b) {
    __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

#define VEC __m512
#define ROWS 14
#define VECS 2
#define ZERO() _mm512_setzero_ps()
#define LOAD(p) _mm512_load_ps(p)
#define STORE(p, v) _mm512_store_ps(p, v)
#define A_BYTES 4
#define SPREAD(p) _mm512_set1_ps(*(const float *)(const void *)(p))
#define ADD(sum, a, b) product(sum, a, b)
#define OPERATIONS 2.0 * 32
#define CHAINS 24 /* two pipes of up to six cycles, and more */
#define REGISTER "v"
#include "kernels/x86/peak_chains.h"

const lm_peak_impl lm_peak_bf16__bf16 = {run, 2.0 * CHAINS * 32, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
