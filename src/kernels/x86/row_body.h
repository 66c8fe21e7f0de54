/* SPDX-License-Identifier: MIT
 *
 * row_body.h: op ROW written once for every vector width; row__avx2.c and row__avx512.c include it after their
 * lanes_*.h. Sums over a row run in four chains of vectors, added in a fixed tree: the order depends on n alone. */
#ifndef LM_KERNELS_X86_ROW_BODY_H
#define LM_KERNELS_X86_ROW_BODY_H
#include "kernels/rows.h"
#include <math.h>

#define CHAINS 4
#define STRIDE (CHAINS * VF_LANES)

/* The last n % VF_LANES elements, 0 if there are none. */
static inline int32_t rest_of(int64_t n) {
    return (int32_t)(n % VF_LANES);
}

static void row_rms_norm(const float *x, const float *w, float eps, int64_t n, float *y) {
    const int32_t rest = rest_of(n);
    const int64_t whole = n - rest;
    vf sum[CHAINS] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    int64_t i = 0;
    for (; i + STRIDE <= whole; i += STRIDE)
        for (int c = 0; c < CHAINS; c++) {
            vf a = vf_load(x + i + c * VF_LANES);
            sum[c] = vf_fma(a, a, sum[c]);
        }
    for (int c = 0; i < whole; i += VF_LANES, c++) {
        vf a = vf_load(x + i);
        sum[c] = vf_fma(a, a, sum[c]);
    }
    if (rest) {
        vf a = vf_load_n(x + whole, rest);
        sum[CHAINS - 1] = vf_fma(a, a, sum[CHAINS - 1]);
    }
    const float total = vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
    const vf scale = vf_set1(1.0f / sqrtf(total / (float)n + eps));
    for (i = 0; i < whole; i += VF_LANES) vf_store(y + i, vf_mul(vf_mul(vf_load(x + i), scale), vf_load(w + i)));
    if (rest)
        vf_store_n(y + whole, rest, vf_mul(vf_mul(vf_load_n(x + whole, rest), scale), vf_load_n(w + whole, rest)));
}

static inline vf silu_times(vf gate, vf up) {
    vf e = vf_exp(vf_sub(vf_zero(), gate));
    return vf_mul(vf_div(gate, vf_add(vf_set1(1.0f), e)), up);
}

static void row_swiglu(const float *gate, const float *up, int64_t n, float *y) {
    const int32_t rest = rest_of(n);
    const int64_t whole = n - rest;
    for (int64_t i = 0; i < whole; i += VF_LANES) vf_store(y + i, silu_times(vf_load(gate + i), vf_load(up + i)));
    if (rest) vf_store_n(y + whole, rest, silu_times(vf_load_n(gate + whole, rest), vf_load_n(up + whole, rest)));
}

static void row_add(float *y, const float *x, int64_t n) {
    const int32_t rest = rest_of(n);
    const int64_t whole = n - rest;
    for (int64_t i = 0; i < whole; i += VF_LANES) vf_store(y + i, vf_add(vf_load(y + i), vf_load(x + i)));
    if (rest) vf_store_n(y + whole, rest, vf_add(vf_load_n(y + whole, rest), vf_load_n(x + whole, rest)));
}

static void row_axpy(float *y, float a, const float *x, int64_t n) {
    const int32_t rest = rest_of(n);
    const int64_t whole = n - rest;
    const vf f = vf_set1(a);
    for (int64_t i = 0; i < whole; i += VF_LANES) vf_store(y + i, vf_fma(f, vf_load(x + i), vf_load(y + i)));
    if (rest) vf_store_n(y + whole, rest, vf_fma(f, vf_load_n(x + whole, rest), vf_load_n(y + whole, rest)));
}

static void row_rope(float *x, const float *cosine, const float *sine, int64_t half) {
    const int32_t rest = rest_of(half);
    const int64_t whole = half - rest;
    for (int64_t j = 0; j < whole; j += VF_LANES) {
        vf a = vf_load(x + j), b = vf_load(x + half + j), c = vf_load(cosine + j), s = vf_load(sine + j);
        vf_store(x + j, vf_sub(vf_mul(a, c), vf_mul(b, s)));
        vf_store(x + half + j, vf_add(vf_mul(b, c), vf_mul(a, s)));
    }
    if (rest) {
        vf a = vf_load_n(x + whole, rest), b = vf_load_n(x + half + whole, rest);
        vf c = vf_load_n(cosine + whole, rest), s = vf_load_n(sine + whole, rest);
        vf_store_n(x + whole, rest, vf_sub(vf_mul(a, c), vf_mul(b, s)));
        vf_store_n(x + half + whole, rest, vf_add(vf_mul(b, c), vf_mul(a, s)));
    }
}

/* Largest number of a row; -inf where there is none (NaN never counts). */
static float row_max(const float *x, int64_t n) {
    const int32_t rest = rest_of(n);
    const int64_t whole = n - rest;
    const vf lowest = vf_set1(-INFINITY);
    vf max[CHAINS] = {lowest, lowest, lowest, lowest};
    int64_t i = 0;
    for (; i + STRIDE <= whole; i += STRIDE)
        for (int c = 0; c < CHAINS; c++) max[c] = vf_max(vf_load(x + i + c * VF_LANES), max[c]);
    for (; i < whole; i += VF_LANES) max[0] = vf_max(vf_load(x + i), max[0]);
    if (rest) max[0] = vf_max(vf_keep(vf_load_n(x + whole, rest), rest, lowest), max[0]);
    return vf_largest(vf_max(vf_max(max[0], max[1]), vf_max(max[2], max[3])));
}

/* A chain of n / STRIDE additions would lose accuracy over a vocabulary: every 64 strides go to a total in double. */
#define LSE_BLOCK (64 * STRIDE)

static void row_logsumexp(const float *x, int64_t n, float *max, float *sum) {
    const float m = row_max(x, n);
    const vf shift = vf_set1(m);
    double total = 0;
    *max = m;
    *sum = 0;
    if (!(m > -INFINITY)) return; /* nothing can be subtracted */
    for (int64_t at = 0; at < n; at += LSE_BLOCK) {
        const int64_t end = n - at < LSE_BLOCK ? n : at + LSE_BLOCK;
        vf part[2] = {vf_zero(), vf_zero()};
        int64_t i = at;
        for (int c = 0; i + VF_LANES <= end; i += VF_LANES, c ^= 1)
            part[c] = vf_add(part[c], vf_exp(vf_sub(vf_load(x + i), shift)));
        const int32_t rest = (int32_t)(end - i);
        if (rest) part[1] = vf_add(part[1], vf_keep(vf_exp(vf_sub(vf_load_n(x + i, rest), shift)), rest, vf_zero()));
        total += (double)vf_sum(vf_add(part[0], part[1]));
    }
    *sum = (float)total;
}

/* Two passes: the largest value, then the first place that holds it. Equality makes +0 and -0 a tie, as `>` does. */
static int64_t row_argmax(const float *x, int64_t n) {
    const float m = row_max(x, n);
    const vf wanted = vf_set1(m);
    int64_t i = 0;
    for (; i + VF_LANES <= n; i += VF_LANES) {
        uint32_t hits = vf_eq_bits(vf_load(x + i), wanted);
        if (hits) return i + __builtin_ctz(hits);
    }
    for (; i < n; i++)
        if (x[i] == m) return i;
    return 0; /* only NaN */
}

#define DEFINE_ROW(symbol) \
    const lm_row_impl symbol = {row_rms_norm, row_swiglu, row_add, row_axpy, row_rope, row_logsumexp, row_argmax};
#endif
