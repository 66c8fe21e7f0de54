/* SPDX-License-Identifier: MIT
 * matvec_mx.h: MATVEC rows of mxfp4, nvfp4 and mxfp8 over the vector of vec_avx2.h or vec_avx512.h. As the affine rows
 * of matvec.h: a block is a vector of words, each lane with 32 / bits whole codes of one group; activations are
 * permuted in prep so that code i of every lane meets its x in one load; a block's lane sums meet their scales once. */
#include "kernels/x86/matvec_parts.h"
#include "kernels/x86/mx_decode.h"

static int64_t mx_floats(const lm_weight *w) {
    const int64_t block = VL * (32 / lm_unpack_bits(w->format));
    return ((w->k + block - 1) / block * block + 15) & ~(int64_t)15;
}

static size_t mx_prep_bytes(const lm_weight *w, int64_t m) {
    return (size_t)(mx_floats(w) * m) * sizeof(float);
}

static size_t mx_scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return 0;
}

/* out[block][i][lane] = x[block][lane][i], zeros past k. */
INLINE void mx_permute(const float *x, int64_t k, int codes, float *out) {
    for (int64_t k0 = 0; k0 < k; k0 += VL * codes)
        for (int i = 0; i < codes; i++)
            for (int j = 0; j < VL; j++) {
                int64_t at = k0 + j * codes + i;
                out[k0 + i * VL + j] = at < k ? x[at] : 0;
            }
}

static void mx_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i++)
        if (lm_unpack_bits(w->format) == 4)
            mx_permute(x + i * ldx, w->k, 8, (float *)xp + i * mx_floats(w));
        else
            mx_permute(x + i * ldx, w->k, 4, (float *)xp + i * mx_floats(w));
}

/* part (+)= code i of every lane times its x. */
INLINE void mx_part(int rows, int i, vf value, const float *x, int64_t stride, vf part[MV_ROWS]) {
    UNROLL for (int r = 0; r < rows; r++) {
        const vf xv = vf_load(x + r * stride);
        part[r] = i ? vf_fma(value, xv, part[r]) : vf_mul(value, xv);
    }
}

/* The block at input k of output row n; `there` inputs of it exist. */
INLINE void mx_block(lm_format format, int rows, const lm_weight *w, int64_t n, int64_t k, int64_t there, bool whole,
                     vi lane_group, const float *x, int64_t stride, vf sum[MV_ROWS]) {
    const int bits = lm_unpack_bits(format), codes = 32 / bits, group = mx_group(format), block = VL * codes;
    const uint8_t *p = (const uint8_t *)w->data + (size_t)n * w->row_bytes + k * bits / 8;
    const uint8_t *s = (const uint8_t *)w->scales + n * (w->k / group) + k / group;
    uint64_t bytes = 0;
    vf part[MV_ROWS];
    v_prefetch((const void *)((uintptr_t)p + MV_AHEAD));
    const vi v = whole ? vi_load(p) : vi_load_n(p, there * bits / 8);
    if (whole)
        memcpy(&bytes, s, (size_t)(block > group ? block / group : 1));
    else
        memcpy(&bytes, s, (size_t)(there > group ? there / group : 1));
#if VL == 16
    if (bits == 8 && mx_e4m3_no_nan(v)) {
        UNROLL for (int i = 0; i < codes; i++) mx_part(rows, i, mx_e4m3_number(v, i), x + k + i * VL, stride, part);
    } else
#endif
    {
        UNROLL for (int i = 0; i < codes; i++) mx_part(rows, i, mx_value(v, bits, i), x + k + i * VL, stride, part);
    }
    const vf scale = vf_permute(mx_scale(format, vi_from_bytes(bytes)), lane_group);
    UNROLL for (int r = 0; r < rows; r++) sum[r] = vf_fma(scale, part[r], sum[r]);
}

INLINE void mx_rows(lm_format format, int rows, const lm_weight *w, const float *x, int64_t n0, int64_t n1, float *y,
                    int64_t ldy) {
    const int codes = 32 / lm_unpack_bits(format), block = VL * codes;
    const int64_t stride = mx_floats(w);
    int32_t group_of[VL];
    for (int j = 0; j < VL; j++) group_of[j] = j * codes / mx_group(format);
    const vi lane_group = vi_load(group_of);
    for (int64_t n = n0; n < n1; n++) {
        vf sum[MV_ROWS];
        int64_t k = 0;
        UNROLL for (int r = 0; r < rows; r++) sum[r] = vf_zero();
        for (; k + block <= w->k; k += block) mx_block(format, rows, w, n, k, block, true, lane_group, x, stride, sum);
        if (k < w->k) mx_block(format, rows, w, n, k, w->k - k, false, lane_group, x, stride, sum);
        UNROLL for (int r = 0; r < rows; r++) y[r * ldy + n] = vf_sum(sum[r]);
    }
}

INLINE void mx_run(lm_format format, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                   int64_t ldy) {
    for (int64_t i = 0; i < m; i += MV_ROWS) {
        const float *x = (const float *)xp + i * mx_floats(w);
        float *to = y + i * ldy;
#define ROWS(rows) mx_rows(format, rows, w, x, n0, n1, to, ldy)
        MV_NEXT_ROWS(m - i, ROWS)
#undef ROWS
    }
}

#define LM_MATVEC_MX(FORMAT, name, isa)                                                                     \
    static void run_##name(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                           int64_t ldy, void *scratch) {                                                    \
        (void)scratch;                                                                                      \
        mx_run(LM_FORMAT_##FORMAT, w, xp, m, n0, n1, y, ldy);                                               \
    }                                                                                                       \
    const lm_linear_impl lm_matvec_##name##isa = {1, 1, mx_prep_bytes, mx_prep, mx_scratch_bytes, run_##name, 0, 0}
