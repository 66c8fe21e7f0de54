/* SPDX-License-Identifier: MIT
 * linear_matvec__vnni.c: MATVEC rows of class F16: activations in two planes of bytes (fixed16.h) against the exact
 * codes by vpdpbusd. run: a block of 16 lanes times E codes (as in matvec.h); sums of codes times high and times low
 * bytes are joined as integers, converted once, and multiplied by scale * step. Scales and biases are taken for 16
 * groups at a time. Every output: one chain over blocks and one over biases, whatever runs beside it. */
#if defined(__x86_64__)
#include "kernels/x86/planes.h"

#define QV_OUTS 4           /* outputs together, at most, which share the loads of x */
#define QV_SHORT 1024       /* below this K a row of weights is over before memory has answered */
#define QV_LONG 6144        /* where K is larger, planes crowd the first-level cache */
#define QV_AHEAD 4096       /* bytes of weights that are asked for in advance, at least */
#define QV_SCALES_AHEAD 256 /* bytes of scales and of biases that are asked for in advance */
#define QV_PASS 16          /* outputs of one pass where there are several */

typedef struct qv_shape {
    int64_t groups, block;
    int64_t planes, stride; /* bytes of a prepared row's planes, and of all of it */
    size_t ahead;
    int shift, outs; /* outs: outputs together for one row of x */
    vi lane_group;
} qv_shape;

static size_t qv_scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return 0;
}

/* ---- products --------------------------------------------------------------------------------------------------- */

INLINE qv_shape qv_shape_of(const lm_weight *w, int bits) {
    qv_shape s = {.groups = w->k / w->group, .block = VL * mv_lane_codes(bits)};
    s.shift = w->group == 32 ? 5 : w->group == 64 ? 6 : 7;
    s.planes = qv_planes(w), s.stride = qv_stride(w);
    /* One run of memory comes fastest; where the arithmetic is what takes time, outputs side by side spare some. */
    s.outs = w->k > QV_LONG ? 2 : bits % 4 || w->k < QV_SHORT ? QV_OUTS : 1;
    /* two: requests go whole sets of rows ahead, else they would fall on a neighbour that is being read just now */
    const size_t set = (size_t)s.outs * w->row_bytes;
    s.ahead = s.outs == 1 ? QV_AHEAD : s.outs == 2 ? (QV_AHEAD + set - 1) / set * set : QV_AHEAD + set - w->row_bytes;
    int32_t lane_group[VL];
    for (int j = 0; j < VL; j++) lane_group[j] = s.block < w->group ? 0 : j * mv_lane_codes(bits) >> s.shift;
    s.lane_group = vi_load(lane_group);
    return s;
}

/* Asks for weights ahead of a block of outputs n..n+outs at input k. Four rows that are read side by side are asked for
 * as one stream: memory gives most when it is asked in the order in which it lies. */
INLINE void qv_ask(int bits, int outs, const lm_weight *w, const qv_shape *s, int64_t n, int64_t k) {
    const uintptr_t at = (uintptr_t)w->data + (uintptr_t)n * w->row_bytes + s->ahead;
    if (outs < QV_OUTS) {
        UNROLL for (int o = 0; o < outs; o++)
            _mm_prefetch((const char *)(at + (uintptr_t)o * w->row_bytes + (uintptr_t)(k * bits / 8)), _MM_HINT_T0);
        return;
    }
    const int bytes = outs * VL * mv_lane_codes(bits) * bits / 8;
    UNROLL for (int i = 0; i < bytes; i += 64)
        _mm_prefetch((const char *)(at + (uintptr_t)(outs * k * bits / 8 + i)), _MM_HINT_T0);
}

/* One block at input k: joined lane sums times scale and step, onto sum. */
INLINE void qv_add_block(int bits, int rows, int outs, const lm_weight *w, const qv_shape *s, const char *xp, int64_t n,
                         int64_t k, int64_t there, vi index, vf scale[QV_OUTS][MV_ROWS], vf sum[QV_OUTS][MV_ROWS]) {
    qv_ask(bits, outs, w, s, n, k);
    UNROLL for (int o = 0; o < outs; o++) {
        const uint8_t *p = (const uint8_t *)w->data + (size_t)(n + o) * w->row_bytes + k * bits / 8;
        const vi v = fx_load(p, bits, there * bits / 8);
        vi high[MV_ROWS], low[MV_ROWS];
        UNROLL for (int r = 0; r < rows; r++) high[r] = low[r] = vi_zero();
        UNROLL for (int part = 0; part < mv_lane_codes(bits) / 4; part++) {
            const vi q = fx_codes(v, bits, part);
            UNROLL for (int r = 0; r < rows; r++) {
                const char *x = xp + r * s->stride + 2 * k + 128 * part;
                high[r] = _mm512_dpbusd_epi32(high[r], q, vi_load(x));
                low[r] = _mm512_dpbusd_epi32(low[r], q, vi_load(x + 64));
            }
        }
        UNROLL for (int r = 0; r < rows; r++) {
            vf d = vf_from_int(_mm512_add_epi32(vi_shl(high[r], 8), low[r]));
            sum[o][r] = vf_fma(d, vf_permute(scale[o][r], index), sum[o][r]);
        }
    }
}

/* Outputs n..n+outs of `rows` rows. */
INLINE void qv_outs(int bits, int rows, int outs, const lm_weight *w, const qv_shape *s, const char *xp, int64_t n,
                    float *y, int64_t ldy) {
    vf sum[QV_OUTS][MV_ROWS], bias_sum[QV_OUTS][MV_ROWS], scale[QV_OUTS][MV_ROWS];
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) sum[o][r] = bias_sum[o][r] = vf_zero();
    const int64_t block = VL * mv_lane_codes(bits);
    const size_t scale_bytes = w->scale_type == LM_DTYPE_F32 ? 4 : 2;
    for (int64_t g = 0; g < s->groups; g += VL) {
        UNROLL for (int o = 0; o < outs; o++) {
            const int64_t at = (n + o) * s->groups + g, left = s->groups - g;
            const uintptr_t ahead = (uintptr_t)at * scale_bytes + QV_SCALES_AHEAD;
            _mm_prefetch((const char *)((uintptr_t)w->scales + ahead), _MM_HINT_T0);
            _mm_prefetch((const char *)((uintptr_t)w->biases + ahead), _MM_HINT_T0);
            const vf a = mv_load_scales(w, w->scales, at, left), b = mv_load_scales(w, w->biases, at, left);
            UNROLL for (int r = 0; r < rows; r++) {
                const float *steps = (const float *)(const void *)(xp + r * s->stride + s->planes);
                const float *sums = steps + mv_up(s->groups, VL);
                scale[o][r] = vf_mul(a, vf_load(steps + g));
                bias_sum[o][r] = vf_fma(b, vf_load(sums + g), bias_sum[o][r]);
            }
        }
        const int64_t end = (g + VL) << s->shift < w->k ? (g + VL) << s->shift : w->k;
        int64_t k = g << s->shift;
        vi index = s->lane_group;
        const vi next = vi_set1((uint32_t)(s->block >> s->shift));
        for (; k + block <= end; k += block) {
            if (s->block < w->group) index = vi_set1((uint32_t)((k >> s->shift) - g));
            qv_add_block(bits, rows, outs, w, s, xp, n, k, block, index, scale, sum);
            index = _mm512_add_epi32(index, next);
        }
        if (k < end) qv_add_block(bits, rows, outs, w, s, xp, n, k, end - k, index, scale, sum);
    }
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) y[r * ldy + n + o] =
        vf_sum(vf_add(sum[o][r], bias_sum[o][r]));
}

INLINE void qv_rows(int bits, int rows, int outs, const lm_weight *w, const qv_shape *s, const char *xp, int64_t n0,
                    int64_t n1, float *y, int64_t ldy) {
    int64_t n = n0;
    for (; n + outs <= n1; n += outs) qv_outs(bits, rows, outs, w, s, xp, n, y, ldy);
    for (; n < n1; n++) qv_outs(bits, rows, 1, w, s, xp, n, y, ldy);
}

/* Up to MV_ROWS rows against outputs n0..n1. */
INLINE void qv_some(int bits, const lm_weight *w, const qv_shape *s, const char *x, int64_t m, int64_t n0, int64_t n1,
                    float *y, int64_t ldy) {
#define ROWS(rows)                                             \
    if (rows == 1 && s->outs == QV_OUTS)                       \
        qv_rows(bits, rows, QV_OUTS, w, s, x, n0, n1, y, ldy); \
    else if (rows == 1 && s->outs == 2)                        \
        qv_rows(bits, rows, 2, w, s, x, n0, n1, y, ldy);       \
    else                                                       \
        qv_rows(bits, rows, 1, w, s, x, n0, n1, y, ldy)
    MV_NEXT_ROWS(m, ROWS)
#undef ROWS
}

INLINE void qv_run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy) {
    const qv_shape s = qv_shape_of(w, bits);
    /* more rows than one pass takes: all passes over a few outputs, whose weights then come from a cache */
    const int64_t each = m > MV_ROWS ? QV_PASS : n1 - n0;
    for (int64_t n = n0; n < n1; n += each)
        for (int64_t i = 0; i < m; i += MV_ROWS)
            qv_some(bits, w, &s, (const char *)xp + i * s.stride, m - i, n, n1 - n < each ? n1 : n + each, y + i * ldy,
                    ldy);
}

#define LM_MATVEC_VNNI(bits)                                                                                      \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        (void)scratch;                                                                                            \
        qv_run(bits, w, xp, m, n0, n1, y, ldy);                                                                   \
    }                                                                                                             \
    const lm_linear_impl lm_matvec_affine##bits##__vnni = {                                                       \
        1, 1, qv_prep_bytes, qv_prep, qv_scratch_bytes, run_affine##bits, 0, 0}

LM_MATVEC_VNNI(2);
LM_MATVEC_VNNI(3);
LM_MATVEC_VNNI(4);
LM_MATVEC_VNNI(5);
LM_MATVEC_VNNI(6);
LM_MATVEC_VNNI(8);
#else
typedef int lm_empty_translation_unit;
#endif
