/* SPDX-License-Identifier: MIT
 * panel_words.h: affine weights as 16-bit fixed point for AMX tiles of bytes: one step for every output and block of
 * inputs. Unlike panel_fixed.h, whose codes are exact and whose sums are scaled for every group, a block of up to
 * WD_INPUTS inputs is one sum of integers. docs/kernels.md argues why that is no looser than float16.
 *
 * w = step * (256 * high + low), high a signed and low an unsigned byte; step = bound / FX_TOP, where no weight that
 * the block's scales and biases allow exceeds `bound`, so that codes needn't be looked at before.
 * A strip: 16 outputs; per 64 inputs a tile of high bytes, then one of low bytes, four inputs of an output a lane. */
#ifndef LM_X86_PANEL_WORDS_H
#define LM_X86_PANEL_WORDS_H
#include "kernels/x86/fixed16.h"
#include "kernels/x86/panel.h"

#define WD_INPUTS 384 /* of a block, at most: sums of products and their joins stay below 2^31 */
#define WD_STEP 64    /* inputs of a tile */
#define WD_TILE 256   /* lanes of a tile */

typedef struct wd_scratch {
    _Alignas(64) uint32_t words[WD_INPUTS / 4 * VL];
    mm_groups groups;
} wd_scratch;
_Static_assert(WD_INPUTS / 32 <= MM_GROUPS, "a block's scales come in one call");

/* Inputs of a block, the last of which may be shorter: blocks of about the same length, of whole groups and tiles. */
static int64_t wd_block(const lm_weight *w) {
    const int64_t unit = w->group > WD_STEP ? w->group : WD_STEP, most = WD_INPUTS / unit * unit;
    const int64_t blocks = (w->k + most - 1) / most;
    return ((w->k + blocks - 1) / blocks + unit - 1) / unit * unit;
}

/* Where the bits of mask are set a, else b. */
INLINE vi wd_select(vi mask, vi a, vi b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xca);
}

/* Four inputs of 16 outputs, as floats 2^16 + 2^15 + w / step + 1/2: the bits below the topmost 16 of the mantissa are
 * cut off, those 16 are w / step + 2^15. To a lane's four bytes each. */
INLINE void wd_put(const vf v[4], uint32_t *out) {
    const vi halves = vi_set1(0xffff), bytes = vi_set1(0x00ff00ff), sign = vi_set1(0x80808080);
    vi q[2];
    UNROLL for (int i = 0; i < 2; i++) q[i] =
        wd_select(halves, vi_shr(_mm512_castps_si512(v[i]), 7), vi_shl(_mm512_castps_si512(v[i + 2]), 9));
    vi_store(out, _mm512_xor_si512(wd_select(bytes, vi_shr(q[0], 8), q[1]), sign));
    vi_store(out + WD_TILE, wd_select(bytes, q[0], vi_shl(q[1], 8)));
}

/* 32 codes of every lane: code * factor + start. 2, 4 and 8 bits: factor and start are for 1 + code / 2^bits, a code
 * being the topmost bits of a mantissa. */
INLINE void wd_expand(const uint32_t *words, int bits, vf factor, vf start, uint32_t *out) {
    const vi one = vi_set1(0x3f800000), mask = vi_set1(((1u << bits) - 1) << (23 - bits));
    const bool mantissa = 32 % bits == 0;
    vi v[8];
    UNROLL for (int j = 0; j < bits; j++) v[j] = vi_load(words + j * VL);
    UNROLL for (int i = 0; i < 32; i += 4) {
        vf f[4];
        UNROLL for (int j = 0; j < 4; j++) {
            if (mantissa) {
                const int left = 23 - bits - bits * (i + j) % 32;
                const vi at = v[bits * (i + j) / 32], code = left >= 0 ? vi_shl(at, left) : vi_shr(at, -left);
                f[j] = vf_bits(_mm512_ternarylogic_epi32(code, mask, one, 0xea)); /* code & mask | one */
            } else {
                f[j] = vf_from_int(mm_code(v, bits, i + j));
            }
            f[j] = vf_fma(f[j], factor, start);
        }
        wd_put(f, out + i / 4 * VL);
    }
}

/* Where a tile ends within a group of 32: the second half of it is zeros, as activations' are. */
INLINE void wd_clear(uint32_t *out) {
    UNROLL for (int i = 0; i < 8; i++) {
        vi_store(out + i * VL, vi_zero());
        vi_store(out + WD_TILE + i * VL, vi_zero());
    }
}

/* Asks for what wd_strip will read: 16 rows side by side are no stream that the processor would foresee. */
INLINE void wd_ask(int bits, const lm_weight *w, int64_t n, int64_t n_last, int64_t k0, int64_t kc) {
    const int64_t all = w->k / w->group, size = w->scale_type == LM_DTYPE_F32 ? 4 : 2;
    for (int64_t i = n; i < n + VL && i <= n_last; i++) {
        const uintptr_t row = (uintptr_t)w->data + (uintptr_t)i * w->row_bytes + (uintptr_t)(k0 * bits / 8);
        for (int64_t at = 0; at < kc * bits / 8; at += 64)
            _mm_prefetch((const char *)(row + (uintptr_t)at), _MM_HINT_T0);
        const uintptr_t at = (uintptr_t)((i * all + k0 / w->group) * size);
        _mm_prefetch((const char *)((uintptr_t)w->scales + at), _MM_HINT_T0);
        _mm_prefetch((const char *)((uintptr_t)w->biases + at), _MM_HINT_T0);
    }
}

/* Outputs n..n+VL (those past n_last repeat it), inputs k0..k0+kc, to tiles at `out` and steps[VL]. */
INLINE void wd_strip(int bits, const lm_weight *w, int64_t n, int64_t n_last, int64_t k0, int64_t kc, wd_scratch *s,
                     uint32_t *out, float *steps) {
    const int groups = (int)(kc / w->group);
    const uint8_t *row[VL];
    for (int i = 0; i < VL; i++)
        row[i] = (const uint8_t *)w->data + (size_t)(n + i < n_last ? n + i : n_last) * w->row_bytes +
                 (size_t)(k0 * bits / 8);
    mm_words(row, kc * bits / 8, s->words, VL);
    mm_scales(w, n, n_last, k0 / w->group, groups, &s->groups);
    const vf codes = vf_set1((float)(1 << bits)), most = vf_set1((float)((1 << bits) - 1));
    const vi magnitude = vi_set1(0x7fffffff);
    vi top = vi_zero(); /* magnitudes compare as integers, NaN above all */
    for (int g = 0; g < groups; g++) {
        const vf bias = vf_load(s->groups.biases[g]), other = vf_fma(vf_load(s->groups.scales[g]), most, bias);
        top = _mm512_max_epi32(top, vi_and(_mm512_castps_si512(bias), magnitude));
        top = _mm512_max_epi32(top, vi_and(_mm512_castps_si512(other), magnitude));
    }
    const vf bound = vf_bits(top), whole = vf_set1((float)FX_TOP);
    const __mmask16 tiny = _mm512_cmp_ps_mask(bound, vf_set1(0x1p-60f), _CMP_LT_OQ); /* else 1 / step would overflow */
    const __mmask16 some = _mm512_cmp_ps_mask(bound, vf_zero(), _CMP_NEQ_UQ);
    const vf up = _mm512_mask_blend_ps(tiny, vf_set1(1.0f), vf_set1(0x1p64f)), raised = vf_mul(bound, up);
    const vf inverse = _mm512_maskz_div_ps(some, whole, raised);
    vf_store(steps, _mm512_div_ps(_mm512_div_ps(raised, whole), up));
    const vf middle = vf_set1(98304.5f);
    for (int g = 0; g < groups; g++) {
        vf factor = vf_mul(vf_mul(vf_load(s->groups.scales[g]), up), inverse);
        vf start = vf_mul(vf_mul(vf_load(s->groups.biases[g]), up), inverse);
        if (32 % bits == 0) {
            factor = vf_mul(factor, codes);
            start = _mm512_sub_ps(start, factor);
        }
        start = vf_add(start, middle);
        for (int64_t k = g * w->group; k < (g + 1) * w->group; k += 32)
            wd_expand(s->words + k / 32 * bits * VL, bits, factor, start,
                      out + k / WD_STEP * 2 * WD_TILE + k % WD_STEP / 4 * VL);
    }
    if (kc % WD_STEP) wd_clear(out + kc / WD_STEP * 2 * WD_TILE + WD_TILE / 2);
}
#endif
