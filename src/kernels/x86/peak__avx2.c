/* SPDX-License-Identifier: MIT
 * peak__avx2.c: float32 by vfmadd, 256 bits: twelve chains that depend on nothing but themselves; and tiles from
 * caches. */
#if defined(__x86_64__)
#include <immintrin.h>

#define VEC __m256
#define ROWS 6
#define VECS 2
#define ZERO() _mm256_setzero_ps()
#define LOAD(p) _mm256_load_ps((const float *)(const void *)(p))
#define STORE(p, v) _mm256_store_ps((float *)(void *)(p), v)
#define A_BYTES 4
#define SPREAD(p) _mm256_broadcast_ss((const float *)(const void *)(p))
#define ADD(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#define OPERATIONS 2.0 * 8
#define CHAINS 12
#define REGISTER "x"
#include "kernels/x86/peak_chains.h"

const lm_peak_impl lm_peak_f32__avx2 = {run, 2.0 * CHAINS * 8, BLOCKED};
#else
typedef int lm_empty_translation_unit;
#endif
