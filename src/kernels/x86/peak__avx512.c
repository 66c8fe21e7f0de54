/* SPDX-License-Identifier: MIT
 * peak__avx512.c: float32 by vfmadd, 512 bits: twenty-four chains that depend on nothing but themselves; and tiles from
 * caches. */
#if defined(__x86_64__)
#include <immintrin.h>

#define VEC __m512
#define ROWS 14
#define VECS 2
#define ZERO() _mm512_setzero_ps()
#define LOAD(p) _mm512_load_ps(p)
#define STORE(p, v) _mm512_store_ps(p, v)
#define A_BYTES 4
#define SPREAD(p) _mm512_set1_ps(*(const float *)(const void *)(p))
#define ADD(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#define OPERATIONS 2.0 * 16
#define CHAINS 24 /* two pipes of up to six cycles, and more */
#define REGISTER "v"
#include "kernels/x86/peak_chains.h"

const lm_peak_impl lm_peak_f32__avx512 = {run, 2.0 * CHAINS * 16, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
