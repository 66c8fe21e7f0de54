/* SPDX-License-Identifier: MIT
 * vec_avx512.h: the vector of matmat.h and matvec.h as AVX-512: 16 lanes, masked edges. */
#ifndef LM_X86_VEC_AVX512_H
#define LM_X86_VEC_AVX512_H
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define VL 16
typedef __m512 vf;
typedef __m512i vi;
typedef uint32_t vu __attribute__((vector_size(64)));

static inline vf vf_zero(void) {
    return _mm512_setzero_ps();
}
static inline vf vf_set1(float x) {
    return _mm512_set1_ps(x);
}
static inline vf vf_load(const float *p) {
    return _mm512_loadu_ps(p);
}
static inline void vf_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
static inline __mmask16 vf_mask(int64_t n) {
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}
static inline vf vf_load_n(const float *p, int64_t n) {
    return _mm512_maskz_loadu_ps(vf_mask(n), p);
}
static inline void vf_store_n(float *p, vf v, int64_t n) {
    _mm512_mask_storeu_ps(p, vf_mask(n), v);
}
static inline vf vf_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
static inline vf vf_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
static inline vf vf_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
static inline vf vf_from_int(vi v) {
    return _mm512_cvtepi32_ps(v);
}
static inline vf vf_bits(vi v) {
    return _mm512_castsi512_ps(v);
}
static inline vf vf_permute(vf v, vi index) {
    return _mm512_permutexvar_ps(index, v);
}
static inline vf vf_low_halves(vi v) {
    return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v));
}
/* 16 float16 from memory. */
static inline vf vf_load_f16(const void *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}
static inline vf vf_load_bf16(const void *p) {
    return vf_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}
/* The first n, zeros after. */
static inline vf vf_load_f16_n(const void *p, int64_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vf_mask(n), p));
}
static inline vf vf_load_bf16_n(const void *p, int64_t n) {
    return vf_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(vf_mask(n), p)), 16));
}
/* The order of these additions is part of the kernels' definition. */
static inline float vf_sum(vf v) {
    __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
}

static inline vi vi_zero(void) {
    return _mm512_setzero_si512();
}
static inline vi vi_set1(uint32_t x) {
    return _mm512_set1_epi32((int)x);
}
static inline vi vi_load(const void *p) {
    return _mm512_loadu_si512(p);
}
static inline void vi_store(void *p, vi v) {
    _mm512_storeu_si512(p, v);
}
/* The first `bytes` of p, zeros after. */
static inline vi vi_load_n(const void *p, int64_t bytes) {
    return bytes >= 64 ? vi_load(p) : _mm512_maskz_loadu_epi8(((uint64_t)1 << bytes) - 1, p);
}
static inline vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
/* The low bytes of `bytes`, one a lane. */
static inline vi vi_from_bytes(uint64_t bytes) {
    return _mm512_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes));
}
static inline void v_prefetch(const void *p) {
    _mm_prefetch((const char *)p, _MM_HINT_T0);
}

/* r[i] lane j <-> r[j] lane i. */
static inline void vi_transpose(vi r[16]) {
    vi t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    /* r[4a + c], 128-bit lane b: rows 4a..4a+3 of column 4b + c */
    for (int c = 0; c < 4; c++) {
        vi a01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88), b01 = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd);
        vi a23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88), b23 = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
        t[c] = _mm512_shuffle_i32x4(a01, a23, 0x88);      /* column c */
        t[8 + c] = _mm512_shuffle_i32x4(a01, a23, 0xdd);  /* column 8 + c */
        t[4 + c] = _mm512_shuffle_i32x4(b01, b23, 0x88);  /* column 4 + c */
        t[12 + c] = _mm512_shuffle_i32x4(b01, b23, 0xdd); /* column 12 + c */
    }
    for (int i = 0; i < 16; i++) r[i] = t[i];
}

/* ---- codes along a row (matvec.h) ---- */
/* Spreads a block of packed codes over lanes, LM_LANE_CODES(bits) whole codes in the low bits of each. The block has
 * VL * LM_LANE_CODES(bits) codes; `bytes` of them are there, zeros after. */
static inline vi vi_load_codes(const uint8_t *p, int bits, int64_t bytes) {
    if (bits == 2 || bits == 4 || bits == 8) return vi_load_n(p, bytes);
    const int64_t full = bits == 5 ? 40 : 48;
    vi v = _mm512_maskz_loadu_epi8(((uint64_t)1 << (bytes < full ? bytes : full)) - 1, p);
    if (bits == 5) {
        v = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 2, 2, 3, 4, 4, 5, 6, 7, 7, 7, 8, 9, 9), v);
        const __m128i even = _mm_setr_epi8(0, 1, 2, -1, 2, 3, 4, -1, 5, 6, 7, -1, 7, 8, 9, -1);
        const __m128i odd = _mm_setr_epi8(2, 3, 4, -1, 4, 5, 6, -1, 7, 8, 9, -1, 9, 10, 11, -1);
        __m256i pair = _mm256_inserti128_si256(_mm256_castsi128_si256(even), odd, 1);
        v = _mm512_shuffle_epi8(v, _mm512_broadcast_i64x4(pair));
        return _mm512_srlv_epi32(v, _mm512_set1_epi64((int64_t)4 << 32));
    }
    v = _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11), v);
    const __m128i spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
    return _mm512_shuffle_epi8(v, _mm512_broadcast_i32x4(spread));
}

#include "kernels/x86/vec_codes.h"
#endif
