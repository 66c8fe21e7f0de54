/* SPDX-License-Identifier: MIT
 * panel_few.h: panel_fixed.h for few rows of activations, where unpacking weights is what a product costs. A panel
 * keeps its words packed: they are only transposed, and every tile of rows takes the codes out of them in registers, on
 * ports that vpdpbusd leaves idle. A panel of KC inputs is then 8 KiB at 4 bits and stays in the first-level cache
 * beside the rows. The integers, the order of groups and the roundings are panel_fixed.h's, and so are the bits. */
#ifndef LM_X86_PANEL_FEW_H
#define LM_X86_PANEL_FEW_H
#include "kernels/x86/fixed_bytes.h"

#define FEW_ROWS 32 /* rows that sums are kept for */
#define FEW_TILE 6  /* rows of a tile: 24 sums, and room for words and codes */

typedef struct few_scratch {
    _Alignas(64) uint32_t words[KC / 4 * NR]; /* [word of a row][NR] */
    float scales[MM_GROUPS * NR], biases[MM_GROUPS * NR];
    float sums[FEW_ROWS * NR];
    mm_groups groups;
    uintptr_t next; /* weights that nobody asked for yet */
} few_scratch;

/* `bytes` of the words of 16 rows of weights at byte `at`, transposed: vi_transpose in an order that asks for no more
 * registers than there are. */
INLINE void few_words(int bits, const uint8_t *const row[VL], int64_t at, int64_t bytes, uint32_t *out) {
    vi r[VL];
    UNROLL for (int i = 0; i < VL; i += 4) {
        const vi a = fx_load(row[i] + at, bits, bytes), b = fx_load(row[i + 1] + at, bits, bytes);
        const vi c = fx_load(row[i + 2] + at, bits, bytes), d = fx_load(row[i + 3] + at, bits, bytes);
        const vi ab = _mm512_unpacklo_epi32(a, b), ab2 = _mm512_unpackhi_epi32(a, b);
        const vi cd = _mm512_unpacklo_epi32(c, d), cd2 = _mm512_unpackhi_epi32(c, d);
        r[i] = _mm512_unpacklo_epi64(ab, cd), r[i + 1] = _mm512_unpackhi_epi64(ab, cd);
        r[i + 2] = _mm512_unpacklo_epi64(ab2, cd2), r[i + 3] = _mm512_unpackhi_epi64(ab2, cd2);
    }
    /* r[4 a + c], 128-bit lane b: rows 4 a..4 a + 3 of word 4 b + c */
    UNROLL for (int c = 0; c < 4; c++) {
        const vi a = _mm512_shuffle_i32x4(r[c], r[4 + c], 0x88), b = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0x88);
        vi_store(out + c * NR, _mm512_shuffle_i32x4(a, b, 0x88));
        vi_store(out + (8 + c) * NR, _mm512_shuffle_i32x4(a, b, 0xdd));
        const vi d = _mm512_shuffle_i32x4(r[c], r[4 + c], 0xdd), e = _mm512_shuffle_i32x4(r[8 + c], r[12 + c], 0xdd);
        vi_store(out + (4 + c) * NR, _mm512_shuffle_i32x4(d, e, 0x88));
        vi_store(out + (12 + c) * NR, _mm512_shuffle_i32x4(d, e, 0xdd));
    }
}

/* Outputs n..n+VL (those past `last` repeat it), inputs k0..k0+kc, to lanes of the panel from `lane` on. */
INLINE void few_panel(int bits, const lm_weight *w, int64_t n, int64_t last, int64_t k0, int64_t kc, few_scratch *to,
                      int lane) {
    const int codes = mv_lane_codes(bits), block = VL * codes, block_bytes = block * bits / 8;
    const uint8_t *row[VL];
    for (int i = 0; i < VL; i++)
        row[i] =
            (const uint8_t *)w->data + (size_t)(n + i < last ? n + i : last) * w->row_bytes + (size_t)(k0 * bits / 8);
    uint32_t *out = to->words + lane;
    const int64_t whole = kc / block;
    for (int64_t b = 0; b < whole; b++) few_words(bits, row, b * block_bytes, block_bytes, out + b * VL * NR);
    if (whole * block < kc)
        few_words(bits, row, whole * block_bytes, kc * bits / 8 - whole * block_bytes, out + whole * VL * NR);
}

/* Scales and biases of the same outputs, groups g0..g0+groups. */
static inline void few_scales(const lm_weight *w, int64_t n, int64_t last, int64_t g0, int64_t groups, few_scratch *to,
                              int lane) {
    mm_scales(w, n, last, g0, groups, &to->groups);
    for (int g = 0; g < groups; g++) {
        vf_store(to->scales + g * NR + lane, vf_load(to->groups.scales[g]));
        vf_store(to->biases + g * NR + lane, vf_load(to->groups.biases[g]));
    }
}

/* Asks for the next lines of weights, in the order in which they lie: memory gives most when it is read so. */
INLINE void few_ask(few_scratch *s, int lines) {
    for (int i = 0; i < lines; i++) _mm_prefetch((const char *)(s->next + 64 * i), _MM_HINT_T0);
    s->next += 64 * (uintptr_t)lines;
}

/* The same of scales and biases, as many as `groups` groups of NR outputs have, from element `at` on. */
INLINE void few_ask_scales(const lm_weight *w, int64_t at, int64_t groups) {
    const int64_t size = w->scale_type == LM_DTYPE_F32 ? 4 : 2;
    for (int64_t i = at * size; i < (at + groups * NR) * size; i += 64) {
        _mm_prefetch((const char *)((uintptr_t)w->scales + (uintptr_t)i), _MM_HINT_T0);
        _mm_prefetch((const char *)((uintptr_t)w->biases + (uintptr_t)i), _MM_HINT_T0);
    }
}

/* sums[rows][NR] += rows x[0..rows) times the panel: `groups` groups of `count` words, the first with scales g0. */
INLINE void few_inner(int bits, int rows, int groups, int count, const fx_row *x, few_scratch *p, int g0, int lines,
                      float *sums) {
    const int parts = mv_lane_codes(bits) / 4;
    for (int g = 0; g < groups; g++) {
        few_ask(p, lines);
        vi high[FEW_TILE][2], low[FEW_TILE][2];
        UNROLL for (int r = 0; r < rows; r++) high[r][0] = high[r][1] = low[r][0] = low[r][1] = vi_zero();
        const uint32_t *words = p->words + g * count * NR;
        const int8_t *from = x->plane[0] + g * count * parts * 4;
        for (int i = 0; i < count; i++) {
            const vi w0 = vi_load(words + i * NR), w1 = vi_load(words + i * NR + VL);
            UNROLL for (int part = 0; part < parts; part++) {
                const vi q0 = fx_codes(w0, bits, part), q1 = fx_codes(w1, bits, part);
                UNROLL for (int r = 0; r < rows; r++) {
                    const int8_t *at = from + r * (int64_t)sizeof(fx_row) + 4 * (i * parts + part);
                    vi v = four_inputs(at);
                    high[r][0] = multiply_add(high[r][0], q0, v);
                    high[r][1] = multiply_add(high[r][1], q1, v);
                    v = four_inputs(at + KC);
                    low[r][0] = multiply_add(low[r][0], q0, v);
                    low[r][1] = multiply_add(low[r][1], q1, v);
                }
            }
        }
        const float *scale = p->scales + (g0 + g) * NR, *bias = p->biases + (g0 + g) * NR;
        const vf scale0 = vf_load(scale), scale1 = vf_load(scale + VL);
        const vf bias0 = vf_load(bias), bias1 = vf_load(bias + VL);
        UNROLL for (int r = 0; r < rows; r++) {
            const vf step = vf_set1(x[r].steps[g]), all = vf_set1(x[r].sums[g]);
            add_group(high[r][0], low[r][0], scale0, bias0, step, all, sums + r * NR);
            add_group(high[r][1], low[r][1], scale1, bias1, step, all, sums + r * NR + VL);
        }
    }
}

INLINE void few_tile(int bits, int64_t rows, int groups, int count, const fx_row *x, few_scratch *p, int g0, int lines,
                     float *sums) {
    /* clang-format off */
    switch (rows) {
#define ROWS(r) case r: few_inner(bits, r, groups, count, x, p, g0, lines, sums); break;
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5)
#undef ROWS
    default: few_inner(bits, FEW_TILE, groups, count, x, p, g0, lines, sums); break;
    }
    /* clang-format on */
}

/* One panel of outputs n..n+cols against all rows; `last` is the last output there is. */
INLINE void few_outputs(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n, int64_t cols, int64_t last,
                        float *y, int64_t ldy, few_scratch *s) {
    const int count = w->group / mv_lane_codes(bits);
    const int64_t tiles = (m + FEW_TILE - 1) / FEW_TILE; /* of about the same height */
    const int64_t all = w->k / w->group;
    const int lines =
        (w->group * bits / 16 + (int)tiles - 1) / (int)tiles; /* a tile's share of a group of NR outputs */
    s->next = (uintptr_t)w->data + (uintptr_t)(n + NR) * w->row_bytes;
    for (int64_t i = 0; i < m * NR; i += VL) vf_store(s->sums + i, vf_zero());
    for (int64_t k0 = 0; k0 < w->k; k0 += KC) {
        const int64_t kc = w->k - k0 < KC ? w->k - k0 : KC, g = k0 / w->group;
        for (int lane = 0; lane < NR && lane < cols; lane += VL) {
            few_panel(bits, w, n + lane, last, k0, kc, s, lane);
            if (g % MM_GROUPS == 0)
                few_scales(w, n + lane, last, g, all - g < MM_GROUPS ? all - g : MM_GROUPS, s, lane);
        }
        few_ask_scales(w, (n + NR) * all + g * NR, kc / w->group);
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t i = m * t / tiles, rows = m * (t + 1) / tiles - i;
            few_tile(bits, rows, (int)(kc / w->group), count, (const fx_row *)xp + k0 / KC * m + i, s,
                     (int)(g % MM_GROUPS), lines, s->sums + i * NR);
        }
    }
    end_sums(m, s->sums, y + n, ldy, cols);
}
#endif
