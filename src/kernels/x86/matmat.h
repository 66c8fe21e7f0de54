/* SPDX-License-Identifier: MIT
 * matmat.h: MATMAT rows over the vector of vec_avx2.h or vec_avx512.h, which the including file picks, with MR.
 *
 * Activations are packed in tiles of MR rows, [k][MR]. A panel of NR = 2 vectors of outputs is dequantized, KC inputs
 * at a time, into [k][NR] in scratch: words are transposed while still packed (few shuffles per weight), then expanded
 * lane by lane. The inner kernel keeps MR x NR sums in registers. Every output: one chain of FMAs per block of KC
 * inputs, the blocks added in order; so M, the tile and the split of N leave no trace in the bits. */
#include "kernels/x86/panel_mx.h"

#define KC 128 /* a multiple of every group; shorter chains of additions round less */

typedef struct mm_scratch {
    _Alignas(64) float panel[PANELS][KC * NR];
    _Alignas(64) uint32_t words[KC * VL];
    mm_groups groups;
} mm_scratch;

static size_t mm_tile_floats(const lm_weight *w) {
    return ((size_t)w->k * MR + 15) & ~(size_t)15;
}

static size_t mm_prep_bytes(const lm_weight *w, int64_t m) {
    return mm_tile_floats(w) * sizeof(float) * (size_t)((m + MR - 1) / MR);
}

static size_t mm_scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return (sizeof(mm_scratch) + 63) & ~(size_t)63;
}

/* Tile [k][MR] of rows x[0..rows): rows that are missing are neither written nor ever read. */
static void mm_prep_tile(const float *x, int64_t ldx, int64_t rows, int64_t k, float *out) {
    for (int64_t k0 = 0; k0 < k; k0 += VL)
        for (int64_t r0 = 0; r0 < rows; r0 += VL) {
            vi t[VL];
            for (int i = 0; i < VL; i++)
                t[i] = r0 + i < rows ? vi_load_n(x + (r0 + i) * ldx + k0, 4 * (k - k0)) : vi_zero();
            vi_transpose(t);
            for (int i = 0; i < VL && k0 + i < k; i++) vf_store_n(out + (k0 + i) * MR + r0, vf_bits(t[i]), rows - r0);
        }
}

static void mm_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i += MR)
        mm_prep_tile(x + i * ldx, ldx, m1 - i < MR ? m1 - i : MR, w->k,
                     (float *)xp + mm_tile_floats(w) * (size_t)(i / MR));
}

/* ---- dequantizing a strip: VL outputs x kc inputs -> out[k * NR + lane] --------------------------------------- */

/* 32 codes of every lane from `bits` words. */
INLINE void mm_expand32(const uint32_t *words, int bits, vf scale, vf bias, float *out) {
    vi v[8];
    UNROLL for (int j = 0; j < bits; j++) v[j] = vi_load(words + j * VL);
    UNROLL for (int i = 0; i < 32; i++) vf_store(out + i * NR, vf_fma(vf_from_int(mm_code(v, bits, i)), scale, bias));
}

INLINE void mm_expand_affine(const lm_weight *w, int bits, int64_t kc, const mm_scratch *s, float *out) {
    for (int64_t k = 0; k < kc; k += 32) {
        int64_t g = k / w->group;
        mm_expand32(s->words + k / 32 * bits * VL, bits, vf_load(s->groups.scales[g]), vf_load(s->groups.biases[g]),
                    out + k * NR);
    }
}

INLINE void mm_expand_mx(lm_format format, int64_t kc, const mm_scratch *s, float *out) {
    const int bits = lm_unpack_bits(format), group = mx_group(format), codes = 32 / bits;
    for (int64_t k = 0; k < kc; k += group) {
        const vf scale = vf_load(s->groups.scales[k / group]);
        for (int j = 0; j < group; j += codes) {
            const vi v = vi_load(s->words + (k + j) / codes * VL);
            UNROLL for (int i = 0; i < codes; i++)
                vf_store(out + (k + j + i) * NR, vf_mul(mx_value(v, bits, i), scale));
        }
    }
}

INLINE void mm_expand_float(lm_format format, int64_t kc, const mm_scratch *s, float *out) {
    if (format == LM_FORMAT_F32) {
        for (int64_t k = 0; k < kc; k++) vi_store(out + k * NR, vi_load(s->words + k * VL));
        return;
    }
    for (int64_t k = 0; k < kc; k += 2) { /* an odd kc leaves one row too many, within the panel */
        vi v = vi_load(s->words + k / 2 * VL);
        vf low = format == LM_FORMAT_BF16 ? vf_bits(vi_shl(v, 16)) : vf_low_halves(v);
        vf high = format == LM_FORMAT_BF16 ? vf_bits(vi_and(v, vi_set1(0xffff0000u))) : vf_low_halves(vi_shr(v, 16));
        vf_store(out + k * NR, low);
        vf_store(out + (k + 1) * NR, high);
    }
}

/* Outputs n..n+VL (those past n_last repeat it), inputs k0..k0+kc. */
INLINE void mm_strip(const lm_weight *w, lm_format format, int64_t n, int64_t n_last, int64_t k0, int64_t kc,
                     mm_scratch *s, float *out) {
    const int bits = lm_unpack_bits(format);
    const uint8_t *row[VL];
    for (int i = 0; i < VL; i++)
        row[i] = (const uint8_t *)w->data + (size_t)(n + i < n_last ? n + i : n_last) * w->row_bytes +
                 (size_t)(k0 * bits / 8);
    mm_words(row, kc * bits / 8, s->words, VL);
    if (lm_format_is_mx(format)) {
        mx_scales(w, format, n, n_last, k0 / w->group, kc / w->group, &s->groups);
        mm_expand_mx(format, kc, s, out);
        return;
    }
    if (!lm_format_is_affine(format)) {
        mm_expand_float(format, kc, s, out);
        return;
    }
    mm_scales(w, n, n_last, k0 / w->group, (kc + w->group - 1) / w->group, &s->groups);
    mm_expand_affine(w, bits, kc, s, out);
}

/* ---- the inner kernel ------------------------------------------------------------------------------------------ */

/* y[rows, cols] (+)= tile[kc][MR] x panel[kc][NR] */
INLINE void mm_inner(int rows, int64_t kc, const float *tile, const float *panel, float *y, int64_t ldy, int64_t cols,
                     bool add) {
    vf sum[MR][2];
    UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = vf_zero();
    for (int64_t k = 0; k < kc; k++) {
        vf w0 = vf_load(panel + k * NR), w1 = vf_load(panel + k * NR + VL);
        UNROLL for (int r = 0; r < rows; r++) {
            vf x = vf_set1(tile[k * MR + r]);
            sum[r][0] = vf_fma(x, w0, sum[r][0]);
            sum[r][1] = vf_fma(x, w1, sum[r][1]);
        }
    }
    if (cols == NR) {
        UNROLL for (int r = 0; r < rows; r++) {
            float *to = y + r * ldy;
            vf_store(to, add ? vf_add(vf_load(to), sum[r][0]) : sum[r][0]);
            vf_store(to + VL, add ? vf_add(vf_load(to + VL), sum[r][1]) : sum[r][1]);
        }
        return;
    }
    UNROLL for (int r = 0; r < rows; r++) {
        float *to = y + r * ldy;
        vf_store_n(to, add ? vf_add(vf_load_n(to, cols), sum[r][0]) : sum[r][0], cols);
        if (cols > VL)
            vf_store_n(to + VL, add ? vf_add(vf_load_n(to + VL, cols - VL), sum[r][1]) : sum[r][1], cols - VL);
    }
}

static void mm_tile(int64_t rows, int64_t kc, const float *tile, const float *panel, float *y, int64_t ldy,
                    int64_t cols, bool add) {
    /* clang-format off */
    switch (rows) {
#define ROWS(r) case r: mm_inner(r, kc, tile, panel, y, ldy, cols, add); break;
    ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5)
#if MR > 6
    ROWS(6) ROWS(7) ROWS(8) ROWS(9) ROWS(10) ROWS(11)
#endif
#if MR > 12
    ROWS(12) ROWS(13)
#endif
#undef ROWS
    default: mm_inner(MR, kc, tile, panel, y, ldy, cols, add); break;
    }
    /* clang-format on */
}

INLINE void mm_run(lm_format format, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy, void *scratch) {
    mm_scratch *s = scratch;
    const size_t tile_floats = mm_tile_floats(w);
    for (int64_t n = n0; n < n1; n += PANELS * NR)
        for (int64_t k0 = 0; k0 < w->k; k0 += KC) {
            int64_t kc = w->k - k0 < KC ? w->k - k0 : KC, end = n1 - n < PANELS * NR ? n1 : n + PANELS * NR;
            for (int64_t strip = n; strip < end; strip += VL)
                mm_strip(w, format, strip, n1 - 1, k0, kc, s, s->panel[(strip - n) / NR] + ((strip - n) / VL % 2) * VL);
            for (int64_t i = 0; i < m; i += MR) {
                const float *tile = (const float *)xp + tile_floats * (size_t)(i / MR) + k0 * MR;
                for (int64_t p = n; p < end; p += NR)
                    mm_tile(m - i < MR ? m - i : MR, kc, tile, s->panel[(p - n) / NR], y + i * ldy + p, ldy,
                            end - p < NR ? end - p : NR, k0 > 0);
            }
        }
}

#define LM_MATMAT(FORMAT, name, isa)                                                                        \
    static void run_##name(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                           int64_t ldy, void *scratch) {                                                    \
        mm_run(LM_FORMAT_##FORMAT, w, xp, m, n0, n1, y, ldy, scratch);                                      \
    }                                                                                                       \
    const lm_linear_impl lm_matmat_##name##isa = {NR, MR, mm_prep_bytes, mm_prep, mm_scratch_bytes, run_##name, 0, 0}
