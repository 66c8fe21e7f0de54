/* SPDX-License-Identifier: MIT
 * linear_matvec__dotprod.c: MATVEC rows of class F16: activations as 16-bit fixed point (fixed.h) against the exact
 * codes by sdot. docs/kernels.md argues why that is no looser than float16.
 *
 * prep, per row: for every 32 inputs 32 high bytes, then 32 low ones, in the order of codes_32; then the groups' steps
 * and sums. run: a group's sums of codes times high and times low bytes are joined as integers, converted once, and
 * multiplied by scale * step. Scales and biases are taken for 4 groups at a time. Every output: one chain over groups
 * and one over biases, whatever runs beside it. */
#if defined(__aarch64__)
#include "kernels/arm/fixed.h"

#define QD_ROWS 4           /* rows of activations that weights stream once for */
#define QD_OUTS 2           /* outputs together where there is one row: they share the loads of x */
#define QD_AHEAD 2048       /* bytes of weights that are asked for in advance */
#define QD_SCALES_AHEAD 256 /* bytes of scales and of biases that are asked for in advance */
#define QD_PASS 16          /* outputs of one pass where there are several */

static int64_t qd_groups(const lm_weight *w) {
    return (w->k / w->group + 3) & ~(int64_t)3;
}
/* Bytes of a prepared row. */
static int64_t qd_stride(const lm_weight *w) {
    return (2 * w->k + 2 * qd_groups(w) * (int64_t)sizeof(float) + 63) & ~(int64_t)63;
}
static size_t qd_prep_bytes(const lm_weight *w, int64_t m) {
    return (size_t)(qd_stride(w) * m);
}
static size_t qd_scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return 0;
}

static void qd_order(const int8_t *in, int bits, int8_t *out) {
    switch (bits) {
    case 2: fx_order(in, 2, out); break;
    case 3: fx_order(in, 3, out); break;
    case 4: fx_order(in, 4, out); break;
    default: fx_order(in, 8, out); break;
    }
}

static void qd_prep_row(const lm_weight *w, const float *x, int8_t *out) {
    const int bits = lm_unpack_bits(w->format);
    const int64_t groups = w->k / w->group;
    float *steps = (float *)(void *)(out + 2 * w->k), *sums = steps + qd_groups(w);
    int8_t high[128], low[128];
    for (int64_t g = 0; g < groups; g++) {
        steps[g] = fx_group(x + g * w->group, w->group, high, low, &sums[g]);
        for (int64_t i = 0; i < w->group; i += 32) {
            qd_order(high + i, bits, out + 2 * (g * w->group + i));
            qd_order(low + i, bits, out + 2 * (g * w->group + i) + 32);
        }
    }
    for (int64_t g = groups; g < qd_groups(w); g++) steps[g] = sums[g] = 0;
}

static void qd_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i++) qd_prep_row(w, x + i * ldx, (int8_t *)xp + i * qd_stride(w));
}

/* What outputs n..n+outs of `rows` rows have in common. */
typedef struct qd_place {
    const lm_weight *w;
    const int8_t *x;
    int64_t n, stride;
} qd_place;

/* Group g: sums of codes times the fixed-point numbers, times scale and step, onto sum. */
INLINE void qd_group(int bits, int rows, int outs, const qd_place *at, int64_t g, const float32x4_t scale[][QD_ROWS],
                     int lane, float32x4_t sum[][QD_ROWS]) {
    const int64_t k0 = g * at->w->group;
    int32x4_t high[QD_OUTS][QD_ROWS], low[QD_OUTS][QD_ROWS];
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) high[o][r] = low[o][r] = vdupq_n_s32(0);
    for (int64_t k = k0; k < k0 + at->w->group; k += 32) {
        uint8x16x2_t q[QD_OUTS];
        UNROLL for (int o = 0; o < outs; o++) {
            const uint8_t *p = (const uint8_t *)at->w->data + (size_t)(at->n + o) * at->w->row_bytes + k / 8 * bits;
            __builtin_prefetch((const void *)((uintptr_t)p + QD_AHEAD), 0, 3);
            q[o] = codes_32(p, bits);
        }
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < 2; i++) {
            const int8_t *x = at->x + r * at->stride + 2 * k + 16 * i;
            const int8x16_t a = vld1q_s8(x), b = vld1q_s8(x + 32);
            UNROLL for (int o = 0; o < outs; o++) {
                const int8x16_t code = codes_signed(q[o].val[i], bits);
                high[o][r] = vdotq_s32(high[o][r], code, a);
                low[o][r] = vdotq_s32(low[o][r], code, b);
            }
        }
    }
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) {
        const float32x4_t d = vcvtq_f32_s32(vaddq_s32(vshlq_n_s32(high[o][r], 8), low[o][r]));
        sum[o][r] = vfmaq_n_f32(sum[o][r], d, scale[o][r][lane]);
    }
}

INLINE void qd_outs(int bits, int rows, int outs, const qd_place *at, float *y, int64_t ldy) {
    const lm_weight *w = at->w;
    const int64_t groups = w->k / w->group, padded = qd_groups(w);
    const size_t size = w->scale_type == LM_DTYPE_F32 ? 4 : 2;
    float32x4_t sum[QD_OUTS][QD_ROWS], bias_sum[QD_OUTS][QD_ROWS], scale[QD_OUTS][QD_ROWS];
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) sum[o][r] = bias_sum[o][r] =
        vdupq_n_f32(0);
    for (int64_t g = 0; g < groups; g += 4) {
        UNROLL for (int o = 0; o < outs; o++) {
            const int64_t from = (at->n + o) * groups + g, left = groups - g;
            const uintptr_t ahead = (uintptr_t)from * size + QD_SCALES_AHEAD;
            __builtin_prefetch((const void *)((uintptr_t)w->scales + ahead), 0, 3);
            __builtin_prefetch((const void *)((uintptr_t)w->biases + ahead), 0, 3);
            const float32x4_t a = fx_scales(w, w->scales, from, left);
            const float32x4_t b = vfmaq_n_f32(fx_scales(w, w->biases, from, left), a, codes_zero(bits));
            UNROLL for (int r = 0; r < rows; r++) {
                const float *steps = (const float *)(const void *)(at->x + r * at->stride + 2 * w->k) + g;
                scale[o][r] = vmulq_f32(a, vld1q_f32(steps));
                bias_sum[o][r] = vfmaq_f32(bias_sum[o][r], b, vld1q_f32(steps + padded));
            }
        }
        UNROLL for (int lane = 0; lane < 4; lane++) {
            if (g + lane == groups) break;
            qd_group(bits, rows, outs, at, g + lane, (const float32x4_t(*)[QD_ROWS])scale, lane, sum);
        }
    }
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) {
        const float32x4_t s = vaddq_f32(sum[o][r], bias_sum[o][r]);
        const float32x2_t half = vadd_f32(vget_low_f32(s), vget_high_f32(s));
        y[r * ldy + at->n + o] = vget_lane_f32(half, 0) + vget_lane_f32(half, 1);
    }
}

INLINE void qd_rows(int bits, int rows, int outs, const lm_weight *w, const int8_t *x, int64_t n0, int64_t n1, float *y,
                    int64_t ldy) {
    qd_place at = {w, x, n0, qd_stride(w)};
    for (; at.n + outs <= n1; at.n += outs) qd_outs(bits, rows, outs, &at, y, ldy);
    for (; at.n < n1; at.n++) qd_outs(bits, rows, 1, &at, y, ldy);
}

INLINE void qd_run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy) {
    /* more rows than one pass takes: all passes over a few outputs, whose weights then come from a cache */
    const int64_t each = m > QD_ROWS ? QD_PASS : n1 - n0;
    for (int64_t n = n0; n < n1; n += each)
        for (int64_t i = 0; i < m; i += QD_ROWS) {
            const int8_t *x = (const int8_t *)xp + i * qd_stride(w);
            const int64_t end = n1 - n < each ? n1 : n + each;
            switch (m - i) {
            case 1: qd_rows(bits, 1, QD_OUTS, w, x, n, end, y + i * ldy, ldy); break;
            case 2: qd_rows(bits, 2, 1, w, x, n, end, y + i * ldy, ldy); break;
            case 3: qd_rows(bits, 3, 1, w, x, n, end, y + i * ldy, ldy); break;
            default: qd_rows(bits, 4, 1, w, x, n, end, y + i * ldy, ldy); break;
            }
        }
}

#define LM_MATVEC_DOTPROD(bits)                                                                                   \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        (void)scratch;                                                                                            \
        qd_run(bits, w, xp, m, n0, n1, y, ldy);                                                                   \
    }                                                                                                             \
    const lm_linear_impl lm_matvec_affine##bits##__dotprod = {                                                    \
        1, 1, qd_prep_bytes, qd_prep, qd_scratch_bytes, run_affine##bits, 0, 0}

LM_MATVEC_DOTPROD(2);
LM_MATVEC_DOTPROD(3);
LM_MATVEC_DOTPROD(4);
LM_MATVEC_DOTPROD(5);
LM_MATVEC_DOTPROD(6);
LM_MATVEC_DOTPROD(8);
#else
typedef int lm_empty_translation_unit;
#endif
