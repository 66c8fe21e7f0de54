/* SPDX-License-Identifier: MIT
 * vec_avx2.h: the vector of matmat.h and matvec.h as AVX2 + FMA + F16C: 8 lanes, edges by small copies or masks. */
#ifndef LM_X86_VEC_AVX2_H
#define LM_X86_VEC_AVX2_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define VL 8
typedef __m256 vf;
typedef __m256i vi;
typedef uint32_t vu __attribute__((vector_size(32)));

static inline vf vf_zero(void) {
    return _mm256_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm256_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm256_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
static inline vi vf_mask(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n >= 8 ? 8 : (int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm256_maskload_ps(p, vf_mask(n));
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    if (n >= 8)
        vf_store(p, v);
    else
        _mm256_maskstore_ps(p, vf_mask(n), v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
static inline vf vf_from_int(vi v) {
    return _mm256_cvtepi32_ps(v);
}
static inline vf vf_bits(vi v) {
    return _mm256_castsi256_ps(v);
}
static inline vf vf_permute(vf v, vi index) {
    return _mm256_permutevar8x32_ps(v, index);
}
/* The low half of each lane, a float16, as float32. */
static inline vf vf_low_halves(vi v) {
    v = _mm256_and_si256(v, _mm256_set1_epi32(0xffff));
    v = _mm256_permute4x64_epi64(_mm256_packus_epi32(v, v), 0x08);
    return _mm256_cvtph_ps(_mm256_castsi256_si128(v));
}
static inline vf vf_load_f16(const void *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(p));
}
static inline vf vf_load_bf16(const void *p) {
    return vf_bits(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(p)), 16));
}
/* The first n halves, zeros after. */
static inline __m128i vi_load_halves(const void *p, int64_t n) {
    uint16_t edge[8] = {0};
    switch (n) {
    case 1: memcpy(edge, p, 2); return _mm_cvtsi32_si128(edge[0]);
    case 2: return _mm_loadu_si32(p);
    case 4: return _mm_loadl_epi64(p);
    default: break;
    }
    if (n >= 8) return _mm_loadu_si128(p);
    memcpy(edge, p, 2 * (size_t)n);
    return _mm_loadu_si128((const __m128i *)(const void *)edge);
}
static inline vf vf_load_f16_n(const void *p, int64_t n) {
    return _mm256_cvtph_ps(vi_load_halves(p, n));
}
static inline vf vf_load_bf16_n(const void *p, int64_t n) {
    return vf_bits(_mm256_slli_epi32(_mm256_cvtepu16_epi32(vi_load_halves(p, n)), 16));
}
/* The order of these additions is part of the kernels' definition. */
static inline float vf_sum(vf v) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

static inline vi vi_zero(void) {
    return _mm256_setzero_si256();
}
static inline vi vi_set1(uint32_t x) {
    return _mm256_set1_epi32((int)x);
}
static inline vi vi_load(const void *p) {
    return _mm256_loadu_si256(p);
}
static inline void vi_store(void *p, vi v) {
    _mm256_storeu_si256(p, v);
}
/* The first `bytes` of p, zeros after. */
static inline vi vi_load_n(const void *p, int64_t bytes) {
    if (bytes >= 32) return vi_load(p);
    uint8_t edge[32] = {0};
    memcpy(edge, p, (size_t)bytes);
    return vi_load(edge);
}
static inline vi vi_and(vi a, vi b) {
    return _mm256_and_si256(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm256_or_si256(a, b);
}
/* The low bytes of `bytes`, one a lane. */
static inline vi vi_from_bytes(uint64_t bytes) {
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes));
}
static inline void v_prefetch(const void *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

/* r[i] lane j <-> r[j] lane i. */
static inline void vi_transpose(vi r[8]) {
    vi t[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int c = 0; c < 4; c++) {
        t[c] = _mm256_permute2x128_si256(r[c], r[4 + c], 0x20);
        t[4 + c] = _mm256_permute2x128_si256(r[c], r[4 + c], 0x31);
    }
    for (int i = 0; i < 8; i++) r[i] = t[i];
}

/* ---- codes along a row (matvec.h); see vec_avx512.h ---- */
static inline vi vi_load_codes(const uint8_t *p, int bits, int64_t bytes) {
    if (bits == 2 || bits == 4 || bits == 8) return vi_load_n(p, bytes);
    const int64_t full = bits == 5 ? 20 : 24;
    vi v;
    if (bytes >= full)
        v = _mm256_maskload_epi32((const int *)(const void *)p, vf_mask(full / 4));
    else
        v = vi_load_n(p, bytes);
    if (bits == 5) {
        v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 1, 2, 2, 2, 3, 4, 4));
        v = _mm256_shuffle_epi8(v, _mm256_setr_epi8(0, 1, 2, -1, 2, 3, 4, -1, 5, 6, 7, -1, 7, 8, 9, -1, 2, 3, 4, -1, 4,
                                                    5, 6, -1, 7, 8, 9, -1, 9, 10, 11, -1));
        return _mm256_srlv_epi32(v, _mm256_set1_epi64x((int64_t)4 << 32));
    }
    v = _mm256_permutevar8x32_epi32(v, _mm256_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5));
    return _mm256_shuffle_epi8(v, _mm256_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1, 0, 1, 2, -1, 3,
                                                   4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
}

#include "kernels/x86/vec_codes.h"
#endif
