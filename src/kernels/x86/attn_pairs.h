/* SPDX-License-Identifier: MIT
 * attn_pairs.h: attention over one block with products of bfloat16 pairs; attn__amx.c says how a product is made and
 * includes this. Queries and weights e are high + low bfloat16 parts, which keep them to 2^-16 at least: rounding them
 * to bfloat16 raised the KL divergence of bfloat16 checkpoints by up to a third. Keys and values in bfloat16 are what
 * they are (high*high + low*high); float16 ones (split) are in two parts as well, which lose nothing: and high*low.
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

#define AHEAD 4096                     /* bytes by which packing asks for keys and values ahead */
#define PANELS_KEYS (LM_KV_BLOCK / NR) /* panels of keys */
_Static_assert(LM_KV_STRIP % NR == 0, "panels of keys lie within a strip");

/* Rows of pairs, up to 2 * BLOCK of them, in tiles of 16 pairs: bytes from row to row, from tile to tile along a row,
 * and to the second BLOCK rows. */
typedef struct left {
    const char *high, *low;
    size_t row, along, rows;
} left;
/* Panels of words, and what rounding left over. */
typedef struct right {
    uint32_t *high, *low;
} right;

/* From the including file: c[rows, cols] = a[rows, 2*pairs] * b[pairs, NR] + 0; `pairs` is a multiple of PAIRS_STEP,
 * cols
 * <= NR, rows of c are ldc floats apart. */
INLINE void product(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc, int32_t cols);
/* The same for NR columns of scores, in the order of columns that panels have: c has room for PAIRS_MR rows, of which
 * any may be written; zeros of any sign. */
INLINE void product_scores(bool split, int32_t rows, int32_t pairs, left a, right b, float *c, int64_t ldc);

typedef struct pairs_scratch {
    char *q;  /* [d/32][high, low][2][BLOCK][16] pairs */
    float *s; /* [PAIRS_MR, LM_KV_BLOCK] scores, then in their place e: of 32 positions 16 high and 16 low pairs */
    right k, v;
} pairs_scratch;

INLINE int32_t at_most(int32_t a, int32_t b) {
    return a < b ? a : b;
}
INLINE int32_t pairs_up(int32_t n) { /* pairs that n elements take */
    return ((n + 1) / 2 + PAIRS_STEP - 1) / PAIRS_STEP * PAIRS_STEP;
}

#define Q_TILE ((size_t)64 * 16) /* bytes */
#define Q_STEP (4 * Q_TILE)
#define E_STEP (32 * sizeof(float)) /* bytes of 32 positions of a row */

static size_t pairs_layout(bool split, int32_t d, char *base, pairs_scratch *out) {
    const size_t q = (size_t)pairs_up(d) / PAIRS_STEP * Q_STEP, s = (size_t)PAIRS_MR * LM_KV_BLOCK * sizeof(float);
    const size_t k = (size_t)PANELS_KEYS * (size_t)pairs_up(d) * NR * sizeof(uint32_t);
    const size_t v = (size_t)((d + NR - 1) / NR) * (LM_KV_BLOCK / 2) * NR * sizeof(uint32_t);
    if (out) {
        char *low = base + q + s + k + v;
        out->q = base;
        out->s = (float *)(void *)(base + q);
        out->k = (right){(uint32_t *)(void *)(base + q + s), (uint32_t *)(void *)low};
        out->v = (right){(uint32_t *)(void *)(base + q + s + k), (uint32_t *)(void *)(low + k)};
    }
    return q + s + (split ? 2 : 1) * (k + v);
}

/* ---- packing ---- */

/* Pair j of 32 elements in a row: FIRST(j) and FIRST(j) + 4, which is where unpacking leaves columns 2j and 2j+1 of a
 * panel without a further shuffle. */
#define FIRST(j) ((j) / 4 * 8 + (j) % 4)

/* 32 columns of two rows as NR pairs: columns FIRST(0..16), then those + 4. */
INLINE void pack_pairs(bool split, vi even, vi odd, right to) {
    if (!split) {
        vi_store(to.high, _mm512_unpacklo_epi16(even, odd));
        vi_store(to.high + VL, _mm512_unpackhi_epi16(even, odd));
        return;
    }
    const vi interleave = bp_interleave(), order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    even = _mm512_permutexvar_epi64(order, even), odd = _mm512_permutexvar_epi64(order, odd);
    bp_pair(_mm512_cvtph_ps(_mm512_castsi512_si256(even)), _mm512_cvtph_ps(_mm512_castsi512_si256(odd)), interleave,
            to.high, to.low);
    bp_pair(_mm512_cvtph_ps(_mm512_extracti64x4_epi64(even, 1)), _mm512_cvtph_ps(_mm512_extracti64x4_epi64(odd, 1)),
            interleave, to.high + VL, to.low + VL);
}

INLINE right panel_at(bool split, right p, size_t word) {
    return (right){p.high + word, split ? p.low + word : NULL};
}

/* Keys of positions [0, most), up to whole panels (a block has them all), to [PANELS_KEYS][pairs][NR]: row 16 i + j has
 * dimensions 32 i + j and 32 i + 16 + j. */
INLINE void pack_keys(bool split, const lm_attn_args *a, int32_t pairs, int32_t most, right to) {
    for (int32_t strip = 0; strip < most; strip += LM_KV_STRIP)
        for (int32_t i = 0; i < pairs; i++)
            for (int32_t pos = strip; pos < at_most(most, strip + LM_KV_STRIP); pos += NR) {
                const int32_t dim = i / 16 * 32 + i % 16;
                const uint16_t *row = (const uint16_t *)a->kt + lm_kv_key_at(a->d, dim, pos);
                _mm_prefetch((const char *)row + AHEAD, _MM_HINT_T0);
                _mm_prefetch((const char *)(row + 16 * LM_KV_STRIP) + AHEAD, _MM_HINT_T0);
                vi even = dim < a->d ? vi_load(row) : vi_zero();
                vi odd = dim + 16 < a->d ? vi_load(row + 16 * LM_KV_STRIP) : vi_zero();
                pack_pairs(split, even, odd,
                           panel_at(split, to, ((size_t)(pos / NR) * (size_t)pairs + (size_t)i) * NR));
            }
}

/* Values, zeros from position `most` on, to [d/NR][LM_KV_BLOCK/2][NR], rows [0, pairs): row 16 i + j has positions 32 i
 * + FIRST(j) and 4 more. Whether those of positions from `least` on are all finite. */
INLINE bool pack_values(bool split, const lm_attn_args *a, int32_t pairs, int32_t least, int32_t most, right to) {
    const vi exponent = _mm512_set1_epi16(split ? 0x7c00 : 0x7f80);
    bool finite = true;
    for (int32_t i = 0; i < pairs; i++) {
        const int32_t pos = i / 16 * 32 + FIRST(i % 16);
        const uint16_t *row = (const uint16_t *)a->v + (size_t)pos * (size_t)a->d;
        for (int32_t c = 0; c < a->d; c += NR) {
            const int64_t bytes = 2 * (int64_t)at_most(NR, a->d - c);
            const uint16_t *other = row + 4 * (size_t)a->d + c;
            _mm_prefetch((const char *)(row + c) + AHEAD, _MM_HINT_T0);
            _mm_prefetch((const char *)other + AHEAD, _MM_HINT_T0);
            vi even = pos < most ? vi_load_n(row + c, bytes) : vi_zero();
            vi odd = pos + 4 < most ? vi_load_n(other, bytes) : vi_zero();
            pack_pairs(split, even, odd, panel_at(split, to, ((size_t)(c / NR) * (LM_KV_BLOCK / 2) + (size_t)i) * NR));
            if (pos + 4 >= least)
                finite = finite && !_mm512_cmpeq_epi16_mask(vi_and(even, exponent), exponent) &&
                         !_mm512_cmpeq_epi16_mask(vi_and(odd, exponent), exponent);
        }
    }
    return finite;
}

/* x and y as 16 pairs of bfloat16, high and low parts. `near`: high is the nearest, which leaves 2^-17; else what is
 * cut off leaves twice that. */
INLINE void put_pairs(bool near, vf x, vf y, void *high, void *low) {
    const vi top = vi_set1(0xffff0000u), half = vi_set1(0x8000);
    vi a = _mm512_castps_si512(x), b = _mm512_castps_si512(y);
    if (near) a = _mm512_add_epi32(a, half), b = _mm512_add_epi32(b, half);
    const vi b_high = vi_and(b, top);
    vi_store(high, vi_or(vi_shr(a, 16), b_high));
    a = _mm512_add_epi32(_mm512_castps_si512(_mm512_sub_ps(x, vf_bits(vi_and(a, top)))), half);
    b = _mm512_add_epi32(_mm512_castps_si512(_mm512_sub_ps(y, vf_bits(b_high))), half);
    vi_store(low, _mm512_ternarylogic_epi32(top, b, vi_shr(a, 16), 0xca));
}

#define LOG2E 0x1.715476p+0f
#define LN2 0x1.62e43p-1f

/* Queries [first, first + count) times log2 e, zeros up to a multiple of 32 dimensions. */
INLINE void pack_queries(const lm_attn_args *a, int32_t first, int32_t count, char *to) {
    const vf log2e = vf_set1(LOG2E);
    for (int32_t d = 0; d < a->d; d += 32)
        for (int32_t r = 0; r < count; r++) {
            const float *from = a->q + (first + r) * a->ldq + d;
            const int32_t rest = a->d - d;
            char *at = to + (size_t)(d / 32) * Q_STEP + (size_t)r * 64; /* the second 16 rows are the next tile */
            put_pairs(true, vf_mul(vf_load_n(from, rest), log2e),
                      rest > VL ? vf_mul(vf_load_n(from + VL, rest - VL), log2e) : vf_zero(), at, at + 2 * Q_TILE);
        }
}

/* ---- softmax ---- */

/* 2^t for t <= 0, never below 2^-125: subnormal numbers take a processor's slow path. Relative error of the polynomial
 * (the minimax fit over a fraction in [0, 1]) 2^-18.5, with split 2^-23.9, its roundings with it. */
INLINE vf exp2_of(bool split, vf t) {
    t = _mm512_max_ps(vf_set1(-125.0f), t); /* NaN stays */
    const vf r = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    vf p;
    if (split) {
        p = vf_fma(vf_set1(0x1.c72118p-13f), r, vf_set1(0x1.461954p-10f));
        p = vf_fma(p, r, vf_set1(0x1.3d28p-7f));
        p = vf_fma(p, r, vf_set1(0x1.c685p-5f));
        p = vf_fma(p, r, vf_set1(0x1.ebfd9ep-3f));
        p = vf_fma(p, r, vf_set1(0x1.62e42ap-1f));
        p = vf_fma(p, r, vf_set1(1.0f));
    } else {
        p = vf_fma(vf_set1(0x1.bb7cd4p-7f), r, vf_set1(0x1.aa13fp-5f));
        p = vf_fma(p, r, vf_set1(0x1.ee798ap-3f));
        p = vf_fma(p, r, vf_set1(0x1.62d166p-1f));
        p = vf_fma(p, r, vf_set1(0x1.00002cp+0f));
    }
    return _mm512_scalef_ps(p, t);
}

/* Lanes of the first and second half of 32 columns whose position is below n. */
INLINE __mmask16 seen_lanes(int32_t n, int32_t half) {
    const vi first = _mm512_setr_epi32(0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    return _mm512_cmplt_epi32_mask(first, vi_set1((uint32_t)(n - 4 * half)));
}

/* The largest of scores s[0..n), NaN left out. */
INLINE float largest_score(const float *s, int32_t n) {
    vf max[2] = {vf_set1(-__builtin_inff()), vf_set1(-__builtin_inff())};
    int32_t p = 0;
    for (; p + 2 * VL <= n; p += 2 * VL)
        UNROLL for (int i = 0; i < 2; i++) max[i] = _mm512_max_ps(vf_load(s + p + i * VL), max[i]);
    if (p < n)
        UNROLL for (int i = 0; i < 2; i++) max[i] =
            _mm512_mask_max_ps(max[i], seen_lanes(n - p, i), vf_load(s + p + i * VL), max[i]);
    return _mm512_reduce_max_ps(_mm512_max_ps(max[0], max[1])) + 0.0f; /* not -0 */
}

/* Scores s[0..n), in units of log2, to e in their place, zeros up to `end` (a multiple of 32). A lane of the sum takes
 * its columns in order. */
INLINE float softmax_row(bool split, float *s, int32_t n, int32_t end, float max) {
    const vf shift = vf_set1(max);
    vf sum = vf_zero();
    int32_t p = 0;
    for (; p + 2 * VL <= n; p += 2 * VL) {
        vf x[2];
        UNROLL for (int i = 0; i < 2; i++) {
            x[i] = exp2_of(split, _mm512_sub_ps(vf_load(s + p + i * VL), shift));
            sum = vf_add(sum, x[i]);
        }
        put_pairs(split, x[0], x[1], s + p, s + p + VL);
    }
    for (; p < end; p += 2 * VL) {
        vf x[2];
        UNROLL for (int i = 0; i < 2; i++) {
            x[i] = _mm512_maskz_mov_ps(seen_lanes(n - p, i),
                                       exp2_of(split, _mm512_sub_ps(vf_load(s + p + i * VL), shift)));
            sum = vf_add(sum, x[i]);
        }
        put_pairs(split, x[0], x[1], s + p, s + p + VL);
    }
    return vf_sum(sum);
}

/* ---- a call ---- */

/* Rows [first, first + count), count <= PAIRS_MR, against the packed block. */
INLINE void pairs_group(bool split, const lm_attn_args *a, const pairs_scratch *w, int32_t first, int32_t count) {
    int32_t most = 0;
    for (int32_t r = first; r < first + count; r++) most = a->limit[r] > most ? a->limit[r] : most;
    pack_queries(a, first, count, w->q);
    const int32_t pairs = pairs_up(a->d), seen = pairs_up(most);
    const left q = {w->q, w->q + 2 * Q_TILE, 64, Q_STEP, Q_TILE};
    for (int32_t pos = 0; pos < most; pos += NR)
        product_scores(split, count, pairs, q, panel_at(split, w->k, (size_t)(pos / NR) * (size_t)pairs * NR),
                       w->s + pos, LM_KV_BLOCK);
    /* all maxima first: a row's e would wait for its own */
    float max[PAIRS_MR];
    for (int32_t r = 0; r < count; r++) max[r] = largest_score(w->s + (size_t)r * LM_KV_BLOCK, a->limit[first + r]);
    for (int32_t r = 0; r < count; r++) {
        a->m[first + r] = max[r] * LN2;
        a->l[first + r] = softmax_row(split, w->s + (size_t)r * LM_KV_BLOCK, a->limit[first + r], 2 * seen, max[r]);
    }
    const size_t row = LM_KV_BLOCK * sizeof(float);
    const left e = {(const char *)w->s, (const char *)(w->s + VL), row, E_STEP, BLOCK * row};
    for (int32_t c = 0; c < a->d; c += NR)
        product(split, count, seen, e, panel_at(split, w->v, (size_t)(c / NR) * (LM_KV_BLOCK / 2) * NR),
                a->acc + (int64_t)first * a->d + c, a->d, at_most(NR, a->d - c));
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
    int32_t least = LM_KV_BLOCK, most = 0;
    for (int32_t r = 0; r < a->r; r++) {
        least = at_most(least, a->limit[r]);
        most = a->limit[r] > most ? a->limit[r] : most;
    }
    PAIRS_BEGIN();
    pack_keys(split, a, pairs_up(a->d), most, w.k);
    if (pack_values(split, a, pairs_up(most), least, most, w.v))
        pairs_rows(split, a, &w, 0, a->r);
    else
        for (int32_t first = 0, end; first < a->r; first = end) {
            const int32_t limit = a->limit[first];
            for (end = first + 1; end < a->r && a->limit[end] == limit;) end++;
            (void)pack_values(split, a, pairs_up(limit), LM_KV_BLOCK, limit, w.v);
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
    const lm_attn_impl symbol = {scratch_bytes##suffix, chunk##suffix, pairs_merge, PAIRS_ROWS}
#endif
