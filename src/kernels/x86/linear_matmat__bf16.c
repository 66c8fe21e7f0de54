/* SPDX-License-Identifier: MIT
 * linear_matmat__bf16.c: MATMAT rows of class BF16: activations and dequantized weights rounded to bfloat16, products
 * in pairs by vdpbf16ps, sums in float32. As matmat.h with pairs of inputs in place of inputs: tiles [k/2][MR] and
 * panels [k/2][NR] of 32-bit pairs. bf16 weights need no conversion at all: their transposed words are the panel. Every
 * output: one chain per block of KC inputs, the blocks added in order. */
#if defined(__x86_64__)
#include "kernels/x86/panel_bf16.h"

#define MR 14
#define KC 256
_Static_assert(KC <= BP_KC, "a block fits the scratch of bp_strip");

typedef struct bf_scratch {
    _Alignas(64) uint32_t panel[PANELS][KC / 2 * NR];
    bp_words words;
} bf_scratch;

static int64_t pairs_of(const lm_weight *w) {
    return (w->k + 1) / 2;
}
static size_t tile_words(const lm_weight *w) {
    return ((size_t)pairs_of(w) * MR + 15) & ~(size_t)15;
}

static size_t prep_bytes(const lm_weight *w, int64_t m) {
    return tile_words(w) * sizeof(uint32_t) * (size_t)((m + MR - 1) / MR);
}

static size_t scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return (sizeof(bf_scratch) + 63) & ~(size_t)63;
}

static void prep_tile(const float *x, int64_t ldx, int64_t rows, int64_t k, uint32_t *out) {
    for (int64_t k0 = 0; k0 < k; k0 += 2 * VL) {
        vi t[VL];
        for (int i = 0; i < VL; i++) {
            const float *from = x + i * ldx + k0;
            t[i] = vi_zero();
            if (i < rows)
                t[i] = to_bf16(vf_load_n(from, k - k0), k - k0 > VL ? vf_load_n(from + VL, k - k0 - VL) : vf_zero());
        }
        vi_transpose(t);
        for (int i = 0; i < VL && k0 + 2 * i < k; i++)
            _mm512_mask_storeu_epi32(out + (k0 / 2 + i) * MR, vf_mask(rows), t[i]);
    }
}

static void prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i += MR)
        prep_tile(x + i * ldx, ldx, m1 - i < MR ? m1 - i : MR, w->k, (uint32_t *)xp + tile_words(w) * (size_t)(i / MR));
}

INLINE void inner(int rows, int64_t pairs, const uint32_t *tile, const uint32_t *panel, float *y, int64_t ldy,
                  int64_t cols, bool add) {
    vf sum[MR][2];
    UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = vf_zero();
    for (int64_t k = 0; k < pairs; k++) {
        __m512bh w0 = (__m512bh)vi_load(panel + k * NR), w1 = (__m512bh)vi_load(panel + k * NR + VL);
        UNROLL for (int r = 0; r < rows; r++) {
            __m512bh x = (__m512bh)vi_set1(tile[k * MR + r]);
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], x, w0);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], x, w1);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) {
        float *to = y + r * ldy;
        vf_store_n(to, add ? vf_add(vf_load_n(to, cols), sum[r][0]) : sum[r][0], cols);
        if (cols > VL)
            vf_store_n(to + VL, add ? vf_add(vf_load_n(to + VL, cols - VL), sum[r][1]) : sum[r][1], cols - VL);
    }
}

static void tile_times_panel(int64_t rows, int64_t pairs, const uint32_t *tile, const uint32_t *panel, float *y,
                             int64_t ldy, int64_t cols, bool add) {
    /* clang-format off */
    switch (rows) {
#define ROWS(r) case r: inner(r, pairs, tile, panel, y, ldy, cols, add); break;
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11) ROWS(12) ROWS(13)
#undef ROWS
    default: inner(MR, pairs, tile, panel, y, ldy, cols, add); break;
    }
    /* clang-format on */
}

INLINE void run(lm_format format, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                int64_t ldy, void *scratch) {
    bf_scratch *s = scratch;
    for (int64_t n = n0; n < n1; n += PANELS * NR)
        for (int64_t k0 = 0; k0 < w->k; k0 += KC) {
            int64_t kc = w->k - k0 < KC ? w->k - k0 : KC, end = n1 - n < PANELS * NR ? n1 : n + PANELS * NR;
            for (int64_t at = n; at < end; at += VL)
                bp_strip(w, format, false, at, n1 - 1, k0, kc, &s->words,
                         s->panel[(at - n) / NR] + ((at - n) / VL % 2) * VL, NULL);
            for (int64_t i = 0; i < m; i += MR) {
                const uint32_t *tile = (const uint32_t *)xp + tile_words(w) * (size_t)(i / MR) + k0 / 2 * MR;
                for (int64_t p = n; p < end; p += NR)
                    tile_times_panel(m - i < MR ? m - i : MR, (kc + 1) / 2, tile, s->panel[(p - n) / NR],
                                     y + i * ldy + p, ldy, end - p < NR ? end - p : NR, k0 > 0);
            }
        }
}

#define LM_MATMAT_BF16(FORMAT, name)                                                                        \
    static void run_##name(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                           int64_t ldy, void *scratch) {                                                    \
        run(LM_FORMAT_##FORMAT, w, xp, m, n0, n1, y, ldy, scratch);                                         \
    }                                                                                                       \
    const lm_linear_impl lm_matmat_##name##__bf16 = {NR, MR, prep_bytes, prep, scratch_bytes, run_##name, 0, 0}

LM_MATMAT_BF16(BF16, bf16);
LM_MATMAT_BF16(AFFINE2, affine2);
LM_MATMAT_BF16(AFFINE3, affine3);
LM_MATMAT_BF16(AFFINE4, affine4);
LM_MATMAT_BF16(AFFINE5, affine5);
LM_MATMAT_BF16(AFFINE6, affine6);
LM_MATMAT_BF16(AFFINE8, affine8);
LM_MATMAT_BF16(MXFP4, mxfp4);
LM_MATMAT_BF16(NVFP4, nvfp4);
LM_MATMAT_BF16(MXFP8, mxfp8);
#else
typedef int lm_empty_translation_unit;
#endif
