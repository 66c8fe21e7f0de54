/* SPDX-License-Identifier: MIT
 * matvec.h: MATVEC rows over the vector of vec_avx2.h or vec_avx512.h, which the including file picks.
 *
 * Weights stream once, straight from the file, for up to MV_ROWS rows of activations. Affine: a block of VL lanes, each
 * with E whole codes; activations are permuted in prep so that code i of every lane meets its x in one load, divided by
 * the power of two that masking without a shift leaves on the code. No lane spans two groups, so a block's lane sums
 * are multiplied by their scale once. Biases meet the groups' sums of x, which prep makes. */
#include "kernels/x86/matvec_parts.h"

#define MV_OUTS 2 /* outputs taken together when there is one row: x is loaded once for both */

INLINE int mv_group_shift(const lm_weight *w) {
    return w->group == 32 ? 5 : w->group == 64 ? 6 : 7;
}

static size_t mv_scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return 0;
}

/* ---- affine ---------------------------------------------------------------------------------------------------- */

/* Floats of the permuted part of a prepared row, and of the whole of it, with the groups' sums. */
static int64_t mv_permuted(const lm_weight *w) {
    return mv_up(w->k, VL * mv_lane_codes(lm_unpack_bits(w->format)));
}
static int64_t mv_floats(const lm_weight *w) {
    return mv_up(mv_permuted(w) + mv_up(w->k / w->group, VL), 16);
}

static size_t mv_prep_bytes(const lm_weight *w, int64_t m) {
    return (size_t)(mv_floats(w) * m) * sizeof(float);
}

/* out[block][i][lane] = x[block][lane][i] / 2^shift(i) */
INLINE void mv_permute(const float *x, int64_t k, int bits, float *out) {
    const int e = mv_lane_codes(bits);
    float factor[16];
    for (int i = 0; i < e; i++) factor[i] = 1.0f / (float)(1u << vf_code_shift(bits, i));
    int64_t k0 = 0;
    for (; k0 + VL * e <= k; k0 += VL * e)
        for (int i = 0; i < e; i++)
            for (int j = 0; j < VL; j++) out[k0 + i * VL + j] = x[k0 + j * e + i] * factor[i];
    if (k0 == k) return;
    for (int i = 0; i < e; i++)
        for (int j = 0; j < VL; j++) out[k0 + i * VL + j] = k0 + j * e + i < k ? x[k0 + j * e + i] * factor[i] : 0;
}

static void mv_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    const int64_t groups = w->k / w->group;
    for (int64_t i = m0; i < m1; i++) {
        const float *from = x + i * ldx;
        float *out = (float *)xp + i * mv_floats(w), *sums = out + mv_permuted(w);
        switch (lm_unpack_bits(w->format)) {
        case 2: mv_permute(from, w->k, 2, out); break;
        case 3: mv_permute(from, w->k, 3, out); break;
        case 4: mv_permute(from, w->k, 4, out); break;
        case 5: mv_permute(from, w->k, 5, out); break;
        case 6: mv_permute(from, w->k, 6, out); break;
        default: mv_permute(from, w->k, 8, out); break;
        }
        for (int64_t g = 0; g < groups; g++) {
            vf sum = vf_load(from + g * w->group);
            for (int64_t k = VL; k < w->group; k += VL) sum = vf_add(sum, vf_load(from + g * w->group + k));
            sums[g] = vf_sum(sum);
        }
        for (int64_t g = groups; g < mv_up(groups, VL); g++) sums[g] = 0;
    }
}

/* What does not change from output to output. */
typedef struct mv_shape {
    int64_t groups, block, block_bytes, stride, permuted, block_groups;
    size_t ahead; /* bytes from a block to what is asked for with it */
    bool two;     /* outputs at once; leaves no trace in the bits */
    int shift;    /* log2 of the group */
    vi lane_group;
} mv_shape;

INLINE mv_shape mv_shape_of(const lm_weight *w, int bits) {
    mv_shape s = {.groups = w->k / w->group, .block = VL * mv_lane_codes(bits)};
    s.shift = w->group == 32 ? 5 : w->group == 64 ? 6 : 7;
    s.block_bytes = s.block * bits / 8;
    /* Two outputs share the loads of x: worth it where x leaves L1, or rows are so short that they break off often.
     * Then requests go whole pairs of rows ahead, else they would fall on the neighbour that is being read just now. */
    s.two = w->k > 4096 || w->row_bytes < 512;
    const size_t pair = 2 * w->row_bytes;
    s.ahead = s.two ? (MV_AHEAD + pair - 1) / pair * pair : MV_AHEAD;
    s.stride = mv_floats(w), s.permuted = mv_permuted(w);
    s.block_groups = s.block < w->group ? 1 : s.block >> s.shift;
    int32_t lane_group[VL];
    for (int j = 0; j < VL; j++) lane_group[j] = s.block < w->group ? 0 : j * mv_lane_codes(bits) >> s.shift;
    s.lane_group = vi_load(lane_group);
    return s;
}

/* One block at input k: lane sums of codes times x, times their scales, onto sum. `there` inputs of it exist. */
INLINE void mv_block(int bits, int rows, int outs, const lm_weight *w, const mv_shape *s, const float *xp, int64_t n,
                     int64_t k, int64_t there, vf sum[MV_OUTS][MV_ROWS]) {
    vi codes[MV_OUTS];
    vf part[MV_OUTS][MV_ROWS];
    const int64_t g = k >> s->shift;
    const bool whole = there >= s->block;
    UNROLL for (int o = 0; o < outs; o++) {
        const uint8_t *p = (const uint8_t *)w->data + (size_t)(n + o) * w->row_bytes + k * bits / 8;
        v_prefetch((const void *)((uintptr_t)p + s->ahead));
        codes[o] = vi_load_codes(p, bits, whole ? s->block_bytes : there * bits / 8);
    }
    UNROLL for (int i = 0; i < mv_lane_codes(bits); i++) UNROLL for (int o = 0; o < outs; o++) {
        vf q = vf_code(codes[o], bits, i);
        UNROLL for (int r = 0; r < rows; r++) {
            vf x = vf_load(xp + r * s->stride + k + i * VL);
            part[o][r] = i ? vf_fma(q, x, part[o][r]) : vf_mul(q, x);
        }
    }
    UNROLL for (int o = 0; o < outs; o++) {
        vf scale = mv_load_scales(w, w->scales, (n + o) * s->groups + g, whole ? s->block_groups : s->groups - g);
        scale = vf_permute(scale, s->lane_group);
        UNROLL for (int r = 0; r < rows; r++) sum[o][r] = vf_fma(scale, part[o][r], sum[o][r]);
    }
}

/* Outputs n..n+outs of `rows` rows. */
INLINE void mv_outs(int bits, int rows, int outs, const lm_weight *w, const mv_shape *s, const float *xp, int64_t n,
                    float *y, int64_t ldy) {
    vf sum[MV_OUTS][MV_ROWS], bias_sum[MV_OUTS][MV_ROWS];
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) sum[o][r] = bias_sum[o][r] = vf_zero();
    for (int64_t g = 0; g < s->groups; g += VL) UNROLL for (int o = 0; o < outs; o++) {
            vf b = mv_load_scales(w, w->biases, (n + o) * s->groups + g, s->groups - g);
            UNROLL for (int r = 0; r < rows; r++) bias_sum[o][r] =
                vf_fma(b, vf_load(xp + r * s->stride + s->permuted + g), bias_sum[o][r]);
        }
    int64_t k = 0;
    for (; k + s->block <= w->k; k += s->block) mv_block(bits, rows, outs, w, s, xp, n, k, s->block, sum);
    if (k < w->k) mv_block(bits, rows, outs, w, s, xp, n, k, w->k - k, sum);
    UNROLL for (int o = 0; o < outs; o++) UNROLL for (int r = 0; r < rows; r++) y[r * ldy + n + o] =
        vf_sum(vf_add(sum[o][r], bias_sum[o][r]));
}

INLINE void mv_rows(int bits, int rows, int outs, const lm_weight *w, const mv_shape *s, const float *xp, int64_t n0,
                    int64_t n1, float *y, int64_t ldy) {
    int64_t n = n0;
    for (; n + outs <= n1; n += outs) mv_outs(bits, rows, outs, w, s, xp, n, y, ldy);
    for (; n < n1; n++) mv_outs(bits, rows, 1, w, s, xp, n, y, ldy);
}

INLINE void mv_run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy) {
    const mv_shape s = mv_shape_of(w, bits);
    for (int64_t i = 0; i < m; i += MV_ROWS) {
        const float *x = (const float *)xp + i * s.stride;
        float *to = y + i * ldy;
#define ROWS(rows)                                         \
    if (rows < 3 && s.two)                                 \
        mv_rows(bits, rows, 2, w, &s, x, n0, n1, to, ldy); \
    else                                                   \
        mv_rows(bits, rows, 1, w, &s, x, n0, n1, to, ldy)
        MV_NEXT_ROWS(m - i, ROWS)
#undef ROWS
    }
}

/* ---- floats: 4 vectors a step, each with its own sum ----------------------------------------------------------- */

static int64_t mvf_floats(const lm_weight *w) {
    return mv_up(w->k, 4 * VL > 16 ? 4 * VL : 16);
}

static size_t mvf_prep_bytes(const lm_weight *w, int64_t m) {
    return (size_t)(mvf_floats(w) * m) * sizeof(float);
}

static void mvf_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i++)
        for (int64_t k = 0; k < mvf_floats(w); k += VL)
            vf_store((float *)xp + i * mvf_floats(w) + k, k < w->k ? vf_load_n(x + i * ldx + k, w->k - k) : vf_zero());
}

INLINE vf mvf_load(lm_format format, const uint8_t *row, int64_t k, int64_t n) {
    if (format == LM_FORMAT_F32) return vf_load_n((const float *)(const void *)(row + 4 * k), n);
    return format == LM_FORMAT_F16 ? vf_load_f16_n(row + 2 * k, n) : vf_load_bf16_n(row + 2 * k, n);
}

INLINE void mvf_rows(lm_format format, int rows, const lm_weight *w, const float *x, int64_t n0, int64_t n1, float *y,
                     int64_t ldy) {
    const int64_t stride = mvf_floats(w);
    for (int64_t n = n0; n < n1; n++) {
        const uint8_t *row = (const uint8_t *)w->data + (size_t)n * w->row_bytes;
        vf sum[MV_ROWS][4];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int j = 0; j < 4; j++) sum[r][j] = vf_zero();
        int64_t k = 0;
        for (; k + 4 * VL <= w->k; k += 4 * VL) UNROLL for (int j = 0; j < 4; j++) {
                vf v = mvf_load(format, row, k + j * VL, VL);
                UNROLL for (int r = 0; r < rows; r++) sum[r][j] =
                    vf_fma(v, vf_load(x + r * stride + k + j * VL), sum[r][j]);
            }
        UNROLL for (int j = 0; j < 4; j++) if (k + j * VL < w->k) {
            vf v = mvf_load(format, row, k + j * VL, w->k - k - j * VL);
            UNROLL for (int r = 0; r < rows; r++) sum[r][j] =
                vf_fma(v, vf_load(x + r * stride + k + j * VL), sum[r][j]);
        }
        UNROLL for (int r = 0; r < rows; r++) y[r * ldy + n] =
            vf_sum(vf_add(vf_add(sum[r][0], sum[r][1]), vf_add(sum[r][2], sum[r][3])));
    }
}

INLINE void mvf_run(lm_format format, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                    int64_t ldy) {
    for (int64_t i = 0; i < m; i += MV_ROWS) {
        const float *x = (const float *)xp + i * mvf_floats(w);
        float *to = y + i * ldy;
#define ROWS(rows) mvf_rows(format, rows, w, x, n0, n1, to, ldy)
        MV_NEXT_ROWS(m - i, ROWS)
#undef ROWS
    }
}

#define LM_MATVEC_FLOAT(FORMAT, name, isa)                                                                  \
    static void run_##name(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                           int64_t ldy, void *scratch) {                                                    \
        (void)scratch;                                                                                      \
        mvf_run(LM_FORMAT_##FORMAT, w, xp, m, n0, n1, y, ldy);                                              \
    }                                                                                                       \
    const lm_linear_impl lm_matvec_##name##isa = {1, 1, mvf_prep_bytes, mvf_prep, mv_scratch_bytes, run_##name, 0, 0}

#define LM_MATVEC_AFFINE(bits, isa)                                                                               \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        (void)scratch;                                                                                            \
        mv_run(bits, w, xp, m, n0, n1, y, ldy);                                                                   \
    }                                                                                                             \
    const lm_linear_impl lm_matvec_affine##bits##isa = {                                                          \
        1, 1, mv_prep_bytes, mv_prep, mv_scratch_bytes, run_affine##bits, 0, 0}
