/* SPDX-License-Identifier: MIT
 * linear_matmat__bf16.c: MATMAT rows of class BF16 on bfmmla: activations and dequantized weights rounded to bfloat16,
 * 2 rows x 4 inputs times 2 outputs x 4 inputs into 2 x 2 float32.
 *
 * Activations: tiles of MR rows, [k/4][MR][4] bfloat16; weights: panels of NR outputs, [k/4][NR][4], dequantized along
 * each row, KC inputs at a time. Affine codes come in the order of codes_32, and activations lie in the same one. Every
 * output: one chain per block of KC inputs, the blocks added in order; so M and the split of N leave no trace in the
 * bits. The instruction's own rounding (to odd, subnormals are zero) is below that of its inputs. */
#if defined(__aarch64__)
#include "kernels/arm/vec_neon.h"

#include "kernels/arm/codes.h"
#include "kernels/arm/fixed.h"
#include "kernels/x86/mx_decode.h"

#define MR 8
#define NR 8
#define KC 256
#define PANELS 8 /* dequantized together, so that a tile of activations is read from a near cache for all of them */
#define QUAD 4   /* inputs of one instruction */

typedef struct bf_scratch {
    _Alignas(64) uint16_t panel[PANELS][KC * NR];
} bf_scratch;

static size_t tile_halves(const lm_weight *w) {
    return (size_t)((w->k + QUAD - 1) / QUAD) * MR * QUAD;
}
static size_t prep_bytes(const lm_weight *w, int64_t m) {
    return tile_halves(w) * 2 * (size_t)((m + MR - 1) / MR);
}
static size_t scratch_bytes(const lm_weight *w, int64_t m) {
    (void)w, (void)m;
    return sizeof(bf_scratch);
}

INLINE uint16x4_t to_bf16(float32x4_t v) {
    return vreinterpret_u16_bf16(vcvt_bf16_f32(v));
}

/* ---- activations ---- */

/* Row r of a tile; x is NULL where there is none: zeros, whose products are never stored. */
static void prep_row(const float *x, int64_t k, const uint8_t order[32], uint16_t *out) {
    uint16_t half[32];
    for (int64_t k0 = 0; k0 < k; k0 += 32) {
        const int there = k - k0 < 32 ? (int)(k - k0) : 32;
        for (int i = 0; i < 32; i += QUAD)
            vst1_u16(half + i, x && i < there ? to_bf16(vf_load_n(x + k0 + i, there - i)) : vdup_n_u16(0));
        for (int i = 0; i < there; i += QUAD) {
            uint16_t *to = out + (k0 + i) * MR;
            for (int j = 0; j < QUAD; j++) to[j] = half[order[i + j]];
        }
    }
}

static void prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    uint8_t order[32];
    const int bits = lm_format_is_affine(w->format) ? lm_unpack_bits(w->format) : 8;
    for (int p = 0; p < 32; p++) order[p] = (uint8_t)codes_order(bits, p);
    (void)m;
    for (int64_t i = m0; i < m1; i += MR)
        for (int64_t r = 0; r < MR; r++)
            prep_row(i + r < m1 ? x + (i + r) * ldx : NULL, w->k, order,
                     (uint16_t *)xp + tile_halves(w) * (size_t)(i / MR) + r * QUAD);
}

/* ---- weights: inputs k0 .. k0 + kc of one output, quads NR * QUAD halves apart ---- */

INLINE void put_quad(uint16_t *out, int64_t k, float32x4_t v) {
    vst1_u16(out + k * NR, to_bf16(v));
}

/* 16 codes from input k on. */
INLINE void put_codes(uint16_t *out, int64_t k, uint8x16_t q, float32x4_t scale, float32x4_t bias) {
    const uint16x8_t half[2] = {vmovl_u8(vget_low_u8(q)), vmovl_u8(vget_high_u8(q))};
    UNROLL for (int i = 0; i < 2; i++) {
        const float32x4_t low = vcvtq_f32_u32(vmovl_u16(vget_low_u16(half[i])));
        const float32x4_t high = vcvtq_f32_u32(vmovl_u16(vget_high_u16(half[i])));
        put_quad(out, k + 8 * i, vfmaq_f32(bias, low, scale));
        put_quad(out, k + 8 * i + 4, vfmaq_f32(bias, high, scale));
    }
}

INLINE void fill_affine(const lm_weight *w, int bits, int64_t n, int64_t k0, int64_t kc, const uint8_t *row,
                        uint16_t *out) {
    const int64_t groups = n * (w->k / w->group);
    for (int64_t k = 0; k < kc; k += w->group) {
        const int64_t g = groups + (k0 + k) / w->group;
        const float32x4_t scale = vdupq_n_f32(lm_unpack_scale(w->scales, w->scale_type, g));
        const float32x4_t bias = vdupq_n_f32(lm_unpack_scale(w->biases, w->scale_type, g));
        for (int64_t i = k; i < k + w->group; i += 32) {
            const uint8x16x2_t q = codes_32(row + i / 8 * bits, bits);
            put_codes(out, i, q.val[0], scale, bias);
            put_codes(out, i + 16, q.val[1], scale, bias);
        }
    }
}

/* Sixteen e2m1 codes of 8 bytes, in order, as the high bytes of float16. */
INLINE uint8x16_t e2m1_16(const uint8_t *p) {
    const uint8x16_t values = {0,    0x38, 0x3c, 0x3e, 0x40, 0x42, 0x44, 0x46,
                               0x80, 0xb8, 0xbc, 0xbe, 0xc0, 0xc2, 0xc4, 0xc6};
    const uint8x8_t v = vld1_u8(p);
    const uint8x8x2_t q = vzip_u8(vand_u8(v, vdup_n_u8(15)), vshr_n_u8(v, 4));
    return vqtbl1q_u8(values, vcombine_u8(q.val[0], q.val[1]));
}

INLINE void fill_mx(const lm_weight *w, lm_format format, int64_t n, int64_t k0, int64_t kc, const uint8_t *row,
                    uint16_t *out) {
    const int group = mx_group(format);
    const uint8_t *scales = (const uint8_t *)w->scales + n * (w->k / group) + k0 / group;
    for (int64_t k = 0; k < kc; k += 16) {
        const float32x4_t scale = mx_scale(format, vi_set1(scales[k / group]));
        if (format == LM_FORMAT_MXFP8) {
            UNROLL for (int i = 0; i < 16; i += QUAD) {
                const float32x4_t v = mx_e4m3(vi_from_bytes(lm_load_u32(row + k + i)));
                put_quad(out, k + i, vmulq_f32(v, scale));
            }
        } else {
            const uint8x16_t v = e2m1_16(row + k / 2), none = vdupq_n_u8(0);
            const uint8x16_t half[2] = {vzip1q_u8(none, v), vzip2q_u8(none, v)};
            UNROLL for (int i = 0; i < 2; i++) {
                const float16x8_t h = vreinterpretq_f16_u8(half[i]);
                put_quad(out, k + 8 * i, vmulq_f32(vcvt_f32_f16(vget_low_f16(h)), scale));
                put_quad(out, k + 8 * i + 4, vmulq_f32(vcvt_high_f32_f16(h), scale));
            }
        }
    }
}

static void fill_bf16(const uint8_t *row, int64_t kc, uint16_t *out) {
    int64_t k = 0;
    for (; k + QUAD <= kc; k += QUAD) memcpy(out + k * NR, row + 2 * k, 2 * QUAD);
    if (k == kc) return;
    memset(out + k * NR, 0, 2 * QUAD);
    memcpy(out + k * NR, row + 2 * k, 2 * (size_t)(kc - k));
}

/* Output n, inputs k0 .. k0 + kc, up to a whole quad. */
INLINE void fill(const lm_weight *w, lm_format format, int64_t n, int64_t k0, int64_t kc, uint16_t *out) {
    const int bits = lm_unpack_bits(format);
    const uint8_t *row = (const uint8_t *)w->data + (size_t)n * w->row_bytes + (size_t)(k0 * bits / 8);
    if (lm_format_is_mx(format))
        fill_mx(w, format, n, k0, kc, row, out);
    else if (lm_format_is_affine(format))
        fill_affine(w, bits, n, k0, kc, row, out);
    else
        fill_bf16(row, kc, out);
}

/* ---- products ---- */

INLINE bfloat16x8_t load8(const uint16_t *p) {
    return vreinterpretq_bf16_u16(vld1q_u16(p));
}

/* Rows 2i, 2i + 1 of the result: to y where there are rows and columns. */
INLINE void put_pair(const float32x4_t sum[NR / 2], int64_t rows, int64_t cols, float *y, int64_t ldy, bool add) {
    const float32x4_t out[2][2] = {{vcombine_f32(vget_low_f32(sum[0]), vget_low_f32(sum[1])),
                                    vcombine_f32(vget_low_f32(sum[2]), vget_low_f32(sum[3]))},
                                   {vcombine_f32(vget_high_f32(sum[0]), vget_high_f32(sum[1])),
                                    vcombine_f32(vget_high_f32(sum[2]), vget_high_f32(sum[3]))}};
    for (int64_t r = 0; r < rows && r < 2; r++)
        for (int64_t c = 0; c < cols; c += 4) {
            float *to = y + r * ldy + c;
            const float32x4_t v = out[r][c / 4];
            vf_store_n(to, add ? vaddq_f32(vf_load_n(to, cols - c), v) : v, cols - c);
        }
}

INLINE void inner(int pairs, int64_t quads, const uint16_t *tile, const uint16_t *panel, int64_t rows, int64_t cols,
                  float *y, int64_t ldy, bool add) {
    float32x4_t sum[MR / 2][NR / 2];
    UNROLL for (int i = 0; i < pairs; i++) UNROLL for (int j = 0; j < NR / 2; j++) sum[i][j] = vdupq_n_f32(0);
    for (int64_t k = 0; k < quads; k++, tile += MR * QUAD, panel += NR * QUAD) {
        bfloat16x8_t b[NR / 2];
        UNROLL for (int j = 0; j < NR / 2; j++) b[j] = load8(panel + 8 * j);
        UNROLL for (int i = 0; i < pairs; i++) {
            const bfloat16x8_t a = load8(tile + 8 * i);
            UNROLL for (int j = 0; j < NR / 2; j++) sum[i][j] = vbfmmlaq_f32(sum[i][j], a, b[j]);
        }
    }
    UNROLL for (int i = 0; i < pairs; i++) put_pair(sum[i], rows - 2 * i, cols, y + 2 * i * ldy, ldy, add);
}

static void tile_times_panel(int64_t rows, int64_t quads, const uint16_t *tile, const uint16_t *panel, int64_t cols,
                             float *y, int64_t ldy, bool add) {
    switch ((rows + 1) / 2) {
    case 1: inner(1, quads, tile, panel, rows, cols, y, ldy, add); break;
    case 2: inner(2, quads, tile, panel, rows, cols, y, ldy, add); break;
    case 3: inner(3, quads, tile, panel, rows, cols, y, ldy, add); break;
    default: inner(4, quads, tile, panel, rows, cols, y, ldy, add); break;
    }
}

INLINE void run(lm_format format, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,
                int64_t ldy, void *scratch) {
    bf_scratch *s = scratch;
    for (int64_t n = n0; n < n1; n += PANELS * NR)
        for (int64_t k0 = 0; k0 < w->k; k0 += KC) {
            const int64_t kc = w->k - k0 < KC ? w->k - k0 : KC, end = n1 - n < PANELS * NR ? n1 : n + PANELS * NR;
            /* columns past the last output repeat it and are never stored */
            for (int64_t at = n; at < (end + NR - 1) / NR * NR; at++)
                fill(w, format, at < n1 ? at : n1 - 1, k0, kc, s->panel[(at - n) / NR] + (at - n) % NR * QUAD);
            for (int64_t i = 0; i < m; i += MR) {
                const uint16_t *tile = (const uint16_t *)xp + tile_halves(w) * (size_t)(i / MR) + k0 * MR;
                for (int64_t p = n; p < end; p += NR)
                    tile_times_panel(m - i < MR ? m - i : MR, (kc + QUAD - 1) / QUAD, tile, s->panel[(p - n) / NR],
                                     end - p < NR ? end - p : NR, y + i * ldy + p, ldy, k0 > 0);
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
