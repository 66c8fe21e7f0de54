/* SPDX-License-Identifier: MIT
 * panel.h: what the MATMAT algorithms share (matmat.h and the bf16 row): words of VL weight rows transposed while still
 * packed, their scales and biases by group, one code of every lane. The vector header is included before. */
#ifndef LM_X86_PANEL_H
#define LM_X86_PANEL_H
#include "kernels/rows.h"
#include "kernels/unpack.h"
#include "kernels/x86/unroll.h"

#define NR (2 * VL)  /* outputs of a panel */
#define PANELS 4     /* dequantized together, so that a tile of activations is read from L1 for all of them */
#define MM_GROUPS 16 /* groups in a block of inputs, at most */

typedef struct mm_groups {
    _Alignas(64) float scales[MM_GROUPS][VL], biases[MM_GROUPS][VL];
#if VL != 16
    _Alignas(64) uint16_t halves[2][MM_GROUPS][VL];
#endif
} mm_groups;

/* words[j * stride + lane] = 32-bit word j of row lane, `bytes` of each row. Rows past the last repeat it. */
INLINE void mm_words(const uint8_t *const row[VL], int64_t bytes, uint32_t *words, int stride) {
    for (int64_t at = 0; at < bytes; at += 4 * VL) {
        vi t[VL];
        UNROLL for (int i = 0; i < VL; i++) t[i] = vi_load_n(row[i] + at, bytes - at);
        vi_transpose(t);
        UNROLL for (int i = 0; i < VL; i++) vi_store(words + (at / 4 + i) * stride, t[i]);
    }
}

/* scales and biases of the strip's groups from g0 on: [group][lane]. */
#if VL == 16
static inline void mm_scales(const lm_weight *w, int64_t n, int64_t n_last, int64_t g0, int64_t groups, mm_groups *s) {
    const int64_t all = w->k / w->group;
    const bool bf16 = w->scale_type == LM_DTYPE_BF16;
    vi t[VL];
    if (w->scale_type == LM_DTYPE_F32) {
        for (int part = 0; part < 2; part++) {
            for (int i = 0; i < VL; i++)
                t[i] = vi_load_n((const float *)(part ? w->biases : w->scales) +
                                     (n + i < n_last ? n + i : n_last) * all + g0,
                                 4 * groups);
            vi_transpose(t);
            for (int64_t g = 0; g < groups; g++) vi_store(part ? s->biases[g] : s->scales[g], t[g]);
        }
        return;
    }
    /* of every lane, pairs of scales, then pairs of biases */
    const __mmask16 there = vf_mask(groups);
    for (int i = 0; i < VL; i++) {
        const size_t at = 2 * (size_t)((n + i < n_last ? n + i : n_last) * all + g0);
        t[i] =
            _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi16(there, (const uint8_t *)w->scales + at)),
                               _mm256_maskz_loadu_epi16(there, (const uint8_t *)w->biases + at), 1);
    }
    vi_transpose(t);
    for (int64_t g = 0; g < groups; g += 2)
        for (int part = 0; part < 2; part++) {
            const vi v = t[8 * part + g / 2];
            float(*to)[VL] = (part ? s->biases : s->scales) + g; /* one group too many fits: MM_GROUPS is even */
            vf_store(to[0], bf16 ? vf_bits(vi_shl(v, 16)) : vf_low_halves(v));
            vf_store(to[1], bf16 ? vf_bits(vi_and(v, vi_set1(0xffff0000u))) : vf_low_halves(vi_shr(v, 16)));
        }
}
#else
static void mm_scales(const lm_weight *w, int64_t n, int64_t n_last, int64_t g0, int64_t groups, mm_groups *s) {
    const int64_t all = w->k / w->group;
    if (w->scale_type == LM_DTYPE_F32) {
        for (int i = 0; i < VL; i++) {
            int64_t at = (n + i < n_last ? n + i : n_last) * all + g0;
            for (int64_t g = 0; g < groups; g++) {
                s->scales[g][i] = lm_unpack_scale(w->scales, LM_DTYPE_F32, at + g);
                s->biases[g][i] = lm_unpack_scale(w->biases, LM_DTYPE_F32, at + g);
            }
        }
        return;
    }
    for (int i = 0; i < VL; i++) {
        int64_t at = (n + i < n_last ? n + i : n_last) * all + g0;
        const uint8_t *scales = (const uint8_t *)w->scales + 2 * at, *biases = (const uint8_t *)w->biases + 2 * at;
        for (int64_t g = 0; g < groups; g++) {
            s->halves[0][g][i] = lm_load_u16(scales + 2 * g);
            s->halves[1][g][i] = lm_load_u16(biases + 2 * g);
        }
    }
    bool bf16 = w->scale_type == LM_DTYPE_BF16;
    for (int64_t g = 0; g < groups; g++) {
        vf_store(s->scales[g], bf16 ? vf_load_bf16(s->halves[0][g]) : vf_load_f16(s->halves[0][g]));
        vf_store(s->biases[g], bf16 ? vf_load_bf16(s->halves[1][g]) : vf_load_f16(s->halves[1][g]));
    }
}
#endif

/* Code i of 32 in `bits` words. */
INLINE vi mm_code(const vi words[8], int bits, int i) {
    const int word = i * bits / 32, shift = i * bits % 32;
    vi q = vi_shr(words[word], shift);
    if (shift + bits > 32) q = vi_or(q, vi_shl(words[word + 1], 32 - shift));
    return shift + bits == 32 ? q : vi_and(q, vi_set1((1u << bits) - 1));
}
#endif
