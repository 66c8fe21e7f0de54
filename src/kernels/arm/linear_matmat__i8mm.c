/* SPDX-License-Identifier: MIT
 * linear_matmat__i8mm.c: MATMAT rows of class F16 on smmla: activations as 16-bit fixed point (fixed.h) against the
 * exact codes, 2 rows x 8 inputs times 2 outputs x 8 inputs into 2 x 2 integers.
 *
 * Activations: tiles of MR rows: for every 32 inputs (in the order of codes_32) high bytes [4][MR][8], then low ones;
 * then the groups' steps and sums, [group][MR]. Weights: panels of NR outputs, codes [k/8][NR][8], KC inputs at a time.
 * A group's products with high bytes are shifted up and those with low bytes added in the same registers; they are
 * converted once and meet scale * step. Every output: one chain over the groups of KC inputs, the blocks added in
 * order; so M and the split of N leave no trace in the bits. */
#if defined(__aarch64__)
#include "kernels/arm/vec_neon.h"

#include "kernels/arm/fixed.h"

#define MR 4
#define NR 8
#define KC 256   /* a multiple of every group */
#define PANELS 8 /* unpacked together, so that a tile of activations is read from a near cache for all of them */
#define CHUNK 32 /* inputs that codes_32 takes at once */

typedef struct im_panel {
    _Alignas(64) int8_t codes[KC * NR];
    _Alignas(64) float scales[KC / CHUNK][NR], biases[KC / CHUNK][NR];
} im_panel;
typedef struct im_scratch {
    im_panel panel[PANELS];
} im_scratch;

static int64_t im_groups(const lm_weight *w) {
    return w->k / w->group;
}
static size_t im_tile_bytes(const lm_weight *w) {
    return ((size_t)w->k * 2 * MR + (size_t)im_groups(w) * 2 * MR * sizeof(float) + 63) & ~(size_t)63;
}
static size_t im_prep_bytes(const lm_weight *w, int64_t m) {
    return im_tile_bytes(w) * (size_t)((m + MR - 1) / MR);
}
static size_t im_scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return sizeof(im_scratch);
}

/* ---- activations ---- */

/* 32 bytes of one row to four rows of a tile's [4][MR][8]. */
INLINE void im_spread(const int8_t *in, int bits, int8_t *out) {
    int8_t ordered[CHUNK];
    fx_order(in, bits, ordered);
    for (int i = 0; i < 4; i++) memcpy(out + i * MR * 8, ordered + 8 * i, 8);
}
static void im_spread_row(const int8_t *in, int bits, int8_t *out) {
    switch (bits) {
    case 2: im_spread(in, 2, out); break;
    case 3: im_spread(in, 3, out); break;
    case 4: im_spread(in, 4, out); break;
    default: im_spread(in, 8, out); break;
    }
}

/* Row r of a tile; x is NULL where there is none: zeros, whose products are never stored. */
static void im_prep_row(const lm_weight *w, const float *x, int64_t r, int8_t *tile) {
    const int bits = lm_unpack_bits(w->format);
    const int64_t groups = im_groups(w);
    float *steps = (float *)(void *)(tile + w->k * 2 * MR), *sums = steps + groups * MR;
    int8_t high[128] = {0}, low[128] = {0};
    for (int64_t g = 0; g < groups; g++) {
        float step = 0, sum = 0;
        if (x) step = fx_group(x + g * w->group, w->group, high, low, &sum);
        steps[g * MR + r] = step, sums[g * MR + r] = sum;
        for (int64_t i = 0; i < w->group; i += CHUNK) {
            int8_t *to = tile + (g * w->group + i) * 2 * MR + r * 8;
            im_spread_row(high + i, bits, to);
            im_spread_row(low + i, bits, to + CHUNK * MR);
        }
    }
}

static void im_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i += MR)
        for (int64_t r = 0; r < MR; r++)
            im_prep_row(w, i + r < m1 ? x + (i + r) * ldx : NULL, r,
                        (int8_t *)xp + im_tile_bytes(w) * (size_t)(i / MR));
}

/* ---- weights ---- */

/* Column c of the panel: output n, inputs k0 .. k0 + kc. */
INLINE void im_fill(const lm_weight *w, int bits, int64_t n, int64_t k0, int64_t kc, int64_t c, im_panel *p) {
    const uint8_t *row = (const uint8_t *)w->data + (size_t)n * w->row_bytes + (size_t)(k0 / 8 * bits);
    for (int64_t k = 0; k < kc; k += CHUNK) {
        const uint8x16x2_t q = codes_32(row + k / 8 * bits, bits);
        UNROLL for (int i = 0; i < 2; i++) {
            const int8x16_t v = codes_signed(q.val[i], bits);
            int8_t *to = p->codes + (k / 8 + 2 * i) * NR * 8 + c * 8;
            vst1_s8(to, vget_low_s8(v));
            vst1_s8(to + NR * 8, vget_high_s8(v));
        }
    }
    const int64_t first = n * im_groups(w) + k0 / w->group;
    for (int64_t g = 0; g < kc / w->group; g++) {
        const float scale = lm_unpack_scale(w->scales, w->scale_type, first + g);
        const float bias = lm_unpack_scale(w->biases, w->scale_type, first + g);
        p->scales[g][c] = scale;
        p->biases[g][c] = bias + codes_zero(bits) * scale;
    }
}

/* ---- products ---- */

/* `count` times 8 inputs of one plane. */
INLINE void im_multiply(int pairs, const int8_t *a, const int8_t *b, int32x4_t sum[MR / 2][NR / 2]) {
    UNROLL for (int k = 0; k < CHUNK / 8; k++) {
        int8x16_t codes[NR / 2];
        UNROLL for (int j = 0; j < NR / 2; j++) codes[j] = vld1q_s8(b + k * NR * 8 + 16 * j);
        UNROLL for (int i = 0; i < pairs; i++) {
            const int8x16_t x = vld1q_s8(a + k * MR * 8 + 16 * i);
            UNROLL for (int j = 0; j < NR / 2; j++) sum[i][j] = vmmlaq_s32(sum[i][j], x, codes[j]);
        }
    }
}

/* What one tile and one panel share. */
typedef struct im_place {
    const int8_t *planes;      /* of the tile, at the block's first input */
    const float *steps, *sums; /* at the block's first group */
    const im_panel *panel;
    int64_t group, kc;
} im_place;

/* Group g of the block, onto out: rows 2i, 2i + 1 and outputs 2j, 2j + 1 in out[i][j]. */
INLINE void im_group(int pairs, const im_place *at, int64_t g, float32x4_t out[MR / 2][NR / 2]) {
    int32x4_t sum[MR / 2][NR / 2];
    const int64_t k0 = g * at->group;
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int j = 0; j < NR / 2; j++) sum[i][j] = vdupq_n_s32(0);
    for (int64_t k = k0; k < k0 + at->group; k += CHUNK)
        im_multiply(pairs, at->planes + k * 2 * MR, at->panel->codes + k * NR, sum);
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int j = 0; j < NR / 2; j++) sum[i][j] =
        vshlq_n_s32(sum[i][j], 8);
    for (int64_t k = k0; k < k0 + at->group; k += CHUNK)
        im_multiply(pairs, at->planes + k * 2 * MR + CHUNK * MR, at->panel->codes + k * NR, sum);
    const float32x4_t step = vld1q_f32(at->steps + g * MR), of = vld1q_f32(at->sums + g * MR);
    const float32x4_t steps[2] = {vzip1q_f32(step, step), vzip2q_f32(step, step)};
    const float32x4_t sums[2] = {vzip1q_f32(of, of), vzip2q_f32(of, of)};
    UNROLL for (int j = 0; j < NR / 2; j++) {
        const float32x2_t scale = vld1_f32(at->panel->scales[g] + 2 * j), bias = vld1_f32(at->panel->biases[g] + 2 * j);
        const float32x4_t scales = vcombine_f32(scale, scale), biases = vcombine_f32(bias, bias);
        UNROLL for (int i = 0; i < pairs; i++) {
            out[i][j] = vfmaq_f32(out[i][j], vcvtq_f32_s32(sum[i][j]), vmulq_f32(steps[i], scales));
            out[i][j] = vfmaq_f32(out[i][j], sums[i], biases);
        }
    }
}

INLINE void im_inner(int pairs, const im_place *at, int64_t rows, int64_t cols, float *y, int64_t ldy, bool add) {
    float32x4_t out[MR / 2][NR / 2];
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int j = 0; j < NR / 2; j++) out[i][j] = vdupq_n_f32(0);
    for (int64_t g = 0; g < at->kc / at->group; g++) im_group(pairs, at, g, out);
    UNROLL for (int i = 0; i < pairs; i++) {
        float line[2][NR];
        UNROLL for (int j = 0; j < NR / 2; j++) {
            vst1_f32(line[0] + 2 * j, vget_low_f32(out[i][j]));
            vst1_f32(line[1] + 2 * j, vget_high_f32(out[i][j]));
        }
        for (int64_t r = 2 * i; r < rows && r < 2 * i + 2; r++)
            for (int64_t c = 0; c < cols; c += 4) {
                float *to = y + r * ldy + c;
                const float32x4_t v = vld1q_f32(line[r - 2 * i] + c);
                vf_store_n(to, add ? vaddq_f32(vf_load_n(to, cols - c), v) : v, cols - c);
            }
    }
}

INLINE void im_run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy, void *scratch) {
    im_scratch *s = scratch;
    for (int64_t n = n0; n < n1; n += PANELS * NR)
        for (int64_t k0 = 0; k0 < w->k; k0 += KC) {
            const int64_t kc = w->k - k0 < KC ? w->k - k0 : KC, end = n1 - n < PANELS * NR ? n1 : n + PANELS * NR;
            /* columns past the last output repeat it and are never stored */
            for (int64_t at = n; at < (end + NR - 1) / NR * NR; at++)
                im_fill(w, bits, at < n1 ? at : n1 - 1, k0, kc, (at - n) % NR, &s->panel[(at - n) / NR]);
            for (int64_t i = 0; i < m; i += MR) {
                const int8_t *tile = (const int8_t *)xp + im_tile_bytes(w) * (size_t)(i / MR);
                const float *steps = (const float *)(const void *)(tile + w->k * 2 * MR) + k0 / w->group * MR;
                im_place at = {tile + k0 * 2 * MR, steps, steps + im_groups(w) * MR, NULL, w->group, kc};
                for (int64_t p = n; p < end; p += NR) {
                    const int64_t rows = m - i < MR ? m - i : MR, cols = end - p < NR ? end - p : NR;
                    at.panel = &s->panel[(p - n) / NR];
                    if (rows > 2)
                        im_inner(2, &at, rows, cols, y + i * ldy + p, ldy, k0 > 0);
                    else
                        im_inner(1, &at, rows, cols, y + i * ldy + p, ldy, k0 > 0);
                }
            }
        }
}

#define LM_MATMAT_I8MM(bits)                                                                                      \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        im_run(bits, w, xp, m, n0, n1, y, ldy, scratch);                                                          \
    }                                                                                                             \
    const lm_linear_impl lm_matmat_affine##bits##__i8mm = {                                                       \
        NR, MR, im_prep_bytes, im_prep, im_scratch_bytes, run_affine##bits, 0, 0}

LM_MATMAT_I8MM(2);
LM_MATMAT_I8MM(3);
LM_MATMAT_I8MM(4);
LM_MATMAT_I8MM(5);
LM_MATMAT_I8MM(6);
LM_MATMAT_I8MM(8);
#else
typedef int lm_empty_translation_unit;
#endif
