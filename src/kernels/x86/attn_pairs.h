/* SPDX-License-Identifier: MIT
 * attn_pairs.h: attention over one block with products of bfloat16 pairs; attn__amx.c says how a product is made and
 * includes this. Queries and weights e are high + low bfloat16 parts, which keep them to 2^-17: rounding them to
 * bfloat16 raised the KL divergence of bfloat16 checkpoints by up to a third. Keys and values in bfloat16 are what they
 * are (high*high + low*high); float16 ones (split) are in two parts as well, which lose nothing: and high*low.
 *
 * The block is packed once for all rows of a call: keys to panels [d/2][NR] of pairs of dimensions, values to panels
 * [positions/2][NR] of pairs of positions. Then groups of up to PAIRS_MR rows go through scores, softmax and values
 * while their scores stay in the first-level cache.
 *
 * A row's sums are one chain over all dimensions and one over all positions, in which positions past the row's limit
 * have e = 0: such terms add zero, and a last + 0 makes their sign not matter. So rows of different limits share tiles
 * without a trace in the bits. Zero times inf or NaN would leave one: values that some row of the call must not see are
 * looked at while packed, and if one is not finite, rows of one limit at a time are computed against values packed up
 * to that limit. */
#ifndef LM_KERNELS_X86_ATTN_PAIRS_H
#define LM_KERNELS_X86_ATTN_PAIRS_H
#include "kernels/rows.h"
#include "kernels/x86/panel_bf16.h"
#include <stdbool.h>

#define A_STRIDE LM_KV_BLOCK           /* halves from row to row of packed queries and of e: a block of dimensions */
#define AHEAD 4096                     /* bytes by which packing asks for keys and values ahead */
#define PANELS_KEYS (LM_KV_BLOCK / NR) /* panels of keys */
_Static_assert(LM_KV_STRIP % NR == 0, "panels of keys lie within a strip");

/* A packed factor: rows of halves (queries, e) or panels of words (keys, values), and what rounding left over. */
typedef struct left {
    uint16_t *high, *low;
} left;
typedef struct right {
    uint32_t *high, *low;
} right;

/* From the including file: c[rows, cols] (+)= a[rows, 2*pairs] * b[pairs, NR]; rows of a are A_STRIDE halves apart,
 * `pairs` is a multiple of PAIRS_STEP, cols <= NR. A sum that is not resumed starts from zero; + 0 is added at its end.
 */
INLINE void product(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc, int32_t cols,
                    bool resume);
/* The same for NR columns of scores: c has room for PAIRS_MR rows, of which any may be written; zeros of any sign. */
INLINE void product_scores(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc,
                           bool resume);

typedef struct pairs_scratch {
    left q, e;
    float *s; /* [PAIRS_MR, LM_KV_BLOCK] */
    right k, v;
} pairs_scratch;

INLINE int32_t at_most(int32_t a, int32_t b) {
    return a < b ? a : b;
}
INLINE int32_t pairs_up(int32_t n) { /* pairs that n elements take */
    return ((n + 1) / 2 + PAIRS_STEP - 1) / PAIRS_STEP * PAIRS_STEP;
}

static size_t pairs_layout(bool split, int32_t d, char *base, pairs_scratch *out) {
    const size_t blocks = (size_t)(d + A_STRIDE - 1) / A_STRIDE, rows = (size_t)PAIRS_MR * A_STRIDE;
    const size_t q = blocks * rows * sizeof(uint16_t), e = rows * sizeof(uint16_t), s = rows * sizeof(float);
    const size_t k = (size_t)PANELS_KEYS * (size_t)pairs_up(d) * NR * sizeof(uint32_t);
    const size_t v = (size_t)((d + NR - 1) / NR) * (LM_KV_BLOCK / 2) * NR * sizeof(uint32_t);
    if (out) {
        char *low = base + q + e + k + v; /* q, e, and with split k, v */
        out->q = (left){(uint16_t *)(void *)base, (uint16_t *)(void *)low};
        out->e = (left){(uint16_t *)(void *)(base + q), (uint16_t *)(void *)(low + q)};
        out->k = (right){(uint32_t *)(void *)(base + q + e), (uint32_t *)(void *)(low + q + e)};
        out->v = (right){(uint32_t *)(void *)(base + q + e + k), (uint32_t *)(void *)(low + q + e + k)};
        out->s = (float *)(void *)(low + q + e + (split ? k + v : 0));
    }
    return 2 * (q + e) + (split ? 2 : 1) * (k + v) + s;
}

/* ---- packing ---- */

/* 32 columns of two rows of `type` as NR pairs. */
INLINE void pack_pairs(bool split, vi even, vi odd, right to) {
    if (!split) {
        vi order;
        uint16_t index[32];
        for (int j = 0; j < 16; j++) index[2 * j] = (uint16_t)j, index[2 * j + 1] = (uint16_t)(32 + j);
        order = vi_load(index);
        vi_store(to.high, _mm512_permutex2var_epi16(even, order, odd));
        order = _mm512_add_epi16(order, _mm512_set1_epi16(16));
        vi_store(to.high + VL, _mm512_permutex2var_epi16(even, order, odd));
        return;
    }
    const vi interleave = bp_interleave();
    bp_pair(_mm512_cvtph_ps(_mm512_castsi512_si256(even)), _mm512_cvtph_ps(_mm512_castsi512_si256(odd)), interleave,
            to.high, to.low);
    bp_pair(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(even, 1)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64(odd, 1)),
            interleave, to.high + VL, to.low + VL);
}

INLINE right panel_at(bool split, right p, size_t word) {
    return (right){p.high + word, split ? p.low + word : NULL};
}

/* Pairs of dimensions [from, end) of the keys of positions [0, most), up to whole panels (a block has them all), to
 * [PANELS_KEYS][stride][NR]. */
INLINE void pack_keys(bool split, const lm_attn_args *a, int32_t from, int32_t end, int32_t most, right to,
                      int32_t stride) {
    for (int32_t strip = 0; strip < most; strip += LM_KV_STRIP)
        for (int32_t i = from; i < end; i++)
            for (int32_t pos = strip; pos < at_most(most, strip + LM_KV_STRIP); pos += NR) {
                const uint16_t *row = (const uint16_t *)a->kt + lm_kv_key_at(a->d, 2 * i, pos);
                _mm_prefetch((const char *)row + AHEAD, _MM_HINT_T0);
                _mm_prefetch((const char *)(row + LM_KV_STRIP) + AHEAD, _MM_HINT_T0);
                vi even = 2 * i < a->d ? vi_load(row) : vi_zero();
                vi odd = 2 * i + 1 < a->d ? vi_load(row + LM_KV_STRIP) : vi_zero();
                pack_pairs(split, even, odd,
                           panel_at(split, to, ((size_t)(pos / NR) * (size_t)stride + (size_t)(i - from)) * NR));
            }
}

/* Pairs of positions [from, end) of the values, zeros from position `most` on, to [d/NR][stride][NR]. Whether those of
 * positions from `least` on are all finite. */
INLINE bool pack_values(bool split, const lm_attn_args *a, int32_t from, int32_t end, int32_t least, int32_t most,
                        right to, int32_t stride) {
    const vi exponent = _mm512_set1_epi16(split ? 0x7c00 : 0x7f80);
    bool finite = true;
    for (int32_t i = from; i < end; i++) {
        const uint16_t *row = (const uint16_t *)a->v + (size_t)i * 2 * (size_t)a->d;
        for (int32_t c = 0; c < a->d; c += NR) {
            const int64_t bytes = 2 * (int64_t)at_most(NR, a->d - c);
            _mm_prefetch((const char *)(row + c) + AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)(row + a->d + c) + AHEAD, _MM_HINT_T0);
            vi even = 2 * i < most ? vi_load_n(row + c, bytes) : vi_zero();
            vi odd = 2 * i + 1 < most ? vi_load_n(row + a->d + c, bytes) : vi_zero();
            pack_pairs(split, even, odd,
                       panel_at(split, to, ((size_t)(c / NR) * (size_t)stride + (size_t)(i - from)) * NR));
            if (2 * i + 1 >= least)
                finite = finite && !_mm512_cmpeq_epi16_mask(vi_and(even, exponent), exponent) &&
                         !_mm512_cmpeq_epi16_mask(vi_and(odd, exponent), exponent);
        }
    }
    return finite;
}

INLINE void put_halves(vf x, vf y, left to, size_t at) {
    const vi high = to_bf16(x, y);
    vi_store(to.high + at, high);
    vi_store(to.low + at, bf16_rest(x, y, high));
}

/* Queries [first, first + count) to [d/A_STRIDE][PAIRS_MR][A_STRIDE], zeros up to a multiple of 32 dimensions. */
INLINE void pack_queries(const lm_attn_args *a, int32_t first, int32_t count, left to) {
    for (int32_t d = 0; d < a->d; d += 32)
        for (int32_t r = 0; r < count; r++) {
            const float *from = a->q + (first + r) * a->ldq + d;
            const int32_t rest = a->d - d;
            put_halves(vf_load_n(from, rest), rest > VL ? vf_load_n(from + VL, rest - VL) : vf_zero(), to,
                       ((size_t)(d / A_STRIDE) * PAIRS_MR + (size_t)r) * A_STRIDE + (size_t)(d % A_STRIDE));
        }
}

/* ---- softmax ---- */

/* 2^t for t <= 0, 0 below -200; relative error of the polynomial (the minimax fit over |r| <= 1/2) 2^-18.5, with split
 * 2^-25.9. */
INLINE vf exp2_of(bool split, vf t) {
    t = _mm512_max_ps(vf_set1(-200.0f), t); /* NaN stays */
    const vf n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), r = _mm512_sub_ps(t, n);
    vf p;
    if (split) {
        p = vf_fma(vf_set1(0x1.41d32p-13f), r, vf_set1(0x1.5f456ap-10f));
        p = vf_fma(p, r, vf_set1(0x1.3b2dbcp-7f));
        p = vf_fma(p, r, vf_set1(0x1.c6aed4p-5f));
        p = vf_fma(p, r, vf_set1(0x1.ebfbdap-3f));
        p = vf_fma(p, r, vf_set1(0x1.62e43p-1f));
        p = vf_fma(p, r, vf_set1(1.0f));
    } else {
        p = vf_fma(vf_set1(0x1.3997bap-7f), r, vf_set1(0x1.ca1440p-5f));
        p = vf_fma(p, r, vf_set1(0x1.ec06dcp-3f));
        p = vf_fma(p, r, vf_set1(0x1.62e0dcp-1f));
        p = vf_fma(p, r, vf_set1(0x1.ffffe8p-1f));
    }
    return _mm512_scalef_ps(p, n);
}

/* e of scores s[0..n), zeros up to `end` (a multiple of 32). Lane i of the sum takes positions i, i + 16, ... in order.
 */
INLINE void softmax_row(bool split, const float *s, int32_t n, int32_t end, left e, size_t at, float *max_out,
                        float *sum_out) {
    const vf lowest = vf_set1(-__builtin_inff()), log2e = vf_set1(0x1.715476p+0f);
    vf max = lowest, sum = vf_zero();
    for (int32_t p = 0; p < n; p += VL) max = _mm512_max_ps(_mm512_mask_loadu_ps(lowest, vf_mask(n - p), s + p), max);
    *max_out = _mm512_reduce_max_ps(max) + 0.0f; /* not -0 */
    const vf shift = vf_set1(*max_out);
    for (int32_t p = 0; p < end; p += 2 * VL) {
        vf x[2];
        UNROLL for (int i = 0; i < 2; i++) {
            const int32_t left_over = n - p - i * VL;
            const __mmask16 seen = left_over > 0 ? vf_mask(left_over) : (__mmask16)0;
            const vf t = vf_mul(_mm512_sub_ps(vf_load(s + p + i * VL), shift), log2e);
            x[i] = _mm512_maskz_mov_ps(seen, exp2_of(split, t));
            sum = vf_add(sum, x[i]);
        }
        put_halves(x[0], x[1], e, at + (size_t)p);
    }
    *sum_out = vf_sum(sum);
}

/* ---- a call ---- */

/* Rows [first, first + count), count <= PAIRS_MR, against the packed block. */
INLINE void pairs_group(bool split, const lm_attn_args *a, const pairs_scratch *w, int32_t first, int32_t count) {
    int32_t most = 0;
    for (int32_t r = first; r < first + count; r++) most = a->limit[r] > most ? a->limit[r] : most;
    pack_queries(a, first, count, w->q);
    const int32_t pairs = pairs_up(a->d);
    for (int32_t pos = 0; pos < most; pos += NR)
        for (int32_t i = 0; i < pairs; i += A_STRIDE / 2) {
            const size_t row = (size_t)(i / (A_STRIDE / 2)) * PAIRS_MR * A_STRIDE;
            product_scores(split, count, at_most(A_STRIDE / 2, pairs - i), (left){w->q.high + row, w->q.low + row},
                           panel_at(split, w->k, ((size_t)(pos / NR) * (size_t)pairs + (size_t)i) * NR), w->s + pos,
                           LM_KV_BLOCK, i > 0);
        }
    const int32_t seen = pairs_up(most);
    for (int32_t r = 0; r < count; r++)
        softmax_row(split, w->s + (size_t)r * LM_KV_BLOCK, a->limit[first + r], (2 * seen + 31) / 32 * 32, w->e,
                    (size_t)r * A_STRIDE, &a->m[first + r], &a->l[first + r]);
    for (int32_t c = 0; c < a->d; c += NR)
        product(split, count, seen, w->e, panel_at(split, w->v, (size_t)(c / NR) * (LM_KV_BLOCK / 2) * NR),
                a->acc + (int64_t)first * a->d + c, a->d, at_most(NR, a->d - c), false);
}

INLINE void pairs_rows(bool split, const lm_attn_args *a, const pairs_scratch *w, int32_t first, int32_t end) {
    while (first < end) { /* even groups: 16 rows of at most 14 are 8 and 8 */
        const int32_t parts = (end - first + PAIRS_MR - 1) / PAIRS_MR, count = (end - first + parts - 1) / parts;
        pairs_group(split, a, w, first, count);
        first += count;
    }
}

INLINE void pairs_chunk(bool split, const lm_attn_args *a, void *scratch) {
    pairs_scratch w;
    pairs_layout(split, a->d, scratch, &w);
    const int32_t pairs = pairs_up(a->d), stride = LM_KV_BLOCK / 2;
    int32_t least = LM_KV_BLOCK, most = 0;
    for (int32_t r = 0; r < a->r; r++) {
        least = at_most(least, a->limit[r]);
        most = a->limit[r] > most ? a->limit[r] : most;
    }
    PAIRS_BEGIN();
    pack_keys(split, a, 0, pairs, most, w.k, pairs);
    if (pack_values(split, a, 0, pairs_up(most), least, most, w.v, stride))
        pairs_rows(split, a, &w, 0, a->r);
    else
        for (int32_t first = 0, end; first < a->r; first = end) {
            const int32_t limit = a->limit[first];
            for (end = first + 1; end < a->r && a->limit[end] == limit;) end++;
            (void)pack_values(split, a, 0, pairs_up(limit), LM_KV_BLOCK, limit, w.v, stride);
            pairs_rows(split, a, &w, first, end);
        }
    PAIRS_END();
}

static void pairs_merge(float *to, float a, const float *from, float b, int64_t n) {
    for (int64_t i = 0; i < n; i += VL) {
        const vf y = vf_mul(vf_load_n(from + i, n - i), vf_set1(b));
        vf_store_n(to + i, a == 0.0f ? y : vf_add(vf_mul(vf_load_n(to + i, n - i), vf_set1(a)), y), n - i);
    }
}

#define DEFINE_ATTN_PAIRS(split, suffix, symbol)                      \
    static size_t scratch_bytes##suffix(int32_t d, int32_t r) {       \
        (void)r;                                                      \
        return pairs_layout(split, d, NULL, NULL);                    \
    }                                                                 \
    static void chunk##suffix(const lm_attn_args *a, void *scratch) { \
        pairs_chunk(split, a, scratch);                               \
    }                                                                 \
    const lm_attn_impl symbol = {scratch_bytes##suffix, chunk##suffix, pairs_merge}
#endif
