/* SPDX-License-Identifier: MIT
 * peak__vnni.c: int8 by vpdpbusd: twenty-four chains that depend on nothing but themselves; and tiles from caches. */
#if defined(__x86_64__)
#include <immintrin.h>

/* Written out: around the intrinsic gcc 12 copies every sum. */
static inline __m512i product(__m512i sum, __m512i a, __m512i b) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(b), "v"(a));
    return sum;
}

#define VEC __m512i
#define ROWS 14
#define VECS 2
#define ZERO() _mm512_setzero_si512()
#define LOAD(p) _mm512_load_si512(p)
#define STORE(p, v) _mm512_store_si512(p, v)
#define A_BYTES 4
#define SPREAD(p) _mm512_set1_epi32(*(const int32_t *)(const void *)(p))
#define ADD(sum, a, b) product(sum, a, b)
#define OPERATIONS 2.0 * 64
#define CHAINS 24 /* two pipes of up to six cycles, and more */
#define REGISTER "v"
#include "kernels/x86/peak_chains.h"

const lm_peak_impl lm_peak_int8__vnni = {run, 2.0 * CHAINS * 64, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
