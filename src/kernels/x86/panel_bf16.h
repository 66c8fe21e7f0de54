/* SPDX-License-Identifier: MIT
 * panel_bf16.h: panels of bfloat16 pairs, [k/2][NR] 32-bit words, which vdpbf16ps and AMX tiles take alike. With a
 * second panel for what rounding left over (value = high + low to 2^-17), products lose no more than float16 inputs
 * would. */
#ifndef LM_X86_PANEL_BF16_H
#define LM_X86_PANEL_BF16_H
#include "kernels/x86/vec_avx512.h"

#include "kernels/x86/panel_mx.h"

#define BP_KC 512 /* inputs that bp_strip takes at once, at most */

typedef struct bp_words {
    _Alignas(64) uint32_t words[BP_KC / 2 * VL];
    _Alignas(64) float scales[BP_KC / 32][VL], biases[BP_KC / 32][VL];
    mm_groups groups;
} bp_words;

/* 32 floats to 32 bfloat16, in order, to nearest even. */
INLINE vi to_bf16(vf low, vf high) {
    return (vi)_mm512_cvtne2ps_pbh(high, low);
}

/* What is left of 32 floats beyond their bfloat16 `rounded`, as bfloat16. */
INLINE vi bf16_rest(vf low, vf high, vi rounded) {
    vf a = vf_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(rounded)), 16));
    vf b = vf_bits(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(rounded, 1)), 16));
    return to_bf16(_mm512_sub_ps(low, a), _mm512_sub_ps(high, b));
}

/* Inputs k and k+1 of 16 outputs as one row of pairs; `rest` may be NULL. */
INLINE void bp_pair(vf even, vf odd, vi interleave, uint32_t *out, uint32_t *rest) {
    vi rounded = to_bf16(even, odd);
    vi_store(out, _mm512_permutexvar_epi16(interleave, rounded));
    if (rest) vi_store(rest, _mm512_permutexvar_epi16(interleave, bf16_rest(even, odd, rounded)));
}

INLINE vi bp_interleave(void) {
    uint16_t order[32];
    for (int j = 0; j < 16; j++) order[2 * j] = (uint16_t)j, order[2 * j + 1] = (uint16_t)(16 + j);
    return vi_load(order);
}

/* 32 codes of every lane to 16 rows of pairs. */
INLINE void bp_expand32(const uint32_t *words, int bits, vf scale, vf bias, uint32_t *out, uint32_t *rest) {
    const vi interleave = bp_interleave();
    vi v[8];
    UNROLL for (int j = 0; j < bits; j++) v[j] = vi_load(words + j * VL);
    UNROLL for (int i = 0; i < 32; i += 2) bp_pair(vf_fma(vf_from_int(mm_code(v, bits, i)), scale, bias),
                                                   vf_fma(vf_from_int(mm_code(v, bits, i + 1)), scale, bias),
                                                   interleave, out + i / 2 * NR, rest ? rest + i / 2 * NR : NULL);
}

/* As bp_expand32 for 4 and 8 bits, without a conversion: a code becomes a mantissa's topmost bits, 1 + q / 2^bits,
 * which one multiply-add turns into the weight. With scales and biases of few bits both are exact, so that weights
 * round alike. */
INLINE void bp_expand32_mantissa(const uint32_t *words, int bits, vf scale, vf bias, uint32_t *out) {
    const vi one = vi_set1(0x3f800000), mask = vi_set1(((1u << bits) - 1) << (23 - bits)), interleave = bp_interleave();
    const vf codes = vf_set1((float)(1 << bits)), factor = vf_mul(scale, codes);
    const vf start = _mm512_fnmadd_ps(scale, codes, bias);
    UNROLL for (int j = 0; j < bits; j++) {
        const vi v = vi_load(words + j * VL);
        vf f[8];
        UNROLL for (int i = 0; i < 32 / bits; i++) {
            const int left = 23 - bits - bits * i;
            const vi code = left >= 0 ? vi_shl(v, left) : vi_shr(v, -left);
            f[i] = vf_fma(vf_bits(_mm512_ternarylogic_epi32(code, mask, one, 0xea)), factor,
                          start); /* code & mask | one */
        }
        UNROLL for (int i = 0; i < 32 / bits; i += 2)
            bp_pair(f[i], f[i + 1], interleave, out + (j * 32 / bits + i) / 2 * NR, NULL);
    }
}

/* Inputs k0..k0+kc of an mx format. Elements times their scale are exact in bfloat16, but for the smallest scales. */
INLINE void bp_expand_mx(const lm_weight *w, lm_format format, int64_t n, int64_t n_last, int64_t k0, int64_t kc,
                         bp_words *s, uint32_t *out) {
    const int bits = lm_unpack_bits(format), group = mx_group(format), codes = 32 / bits;
    const int64_t block = (int64_t)MM_GROUPS * group;
    const vi interleave = bp_interleave();
    for (int64_t k = 0; k < kc; k += group) {
        if (k % block == 0)
            mx_scales(w, format, n, n_last, (k0 + k) / group, (kc - k < block ? kc - k : block) / group, &s->groups);
        const vf scale = vf_load(s->groups.scales[k % block / group]);
        for (int j = 0; j < group; j += codes) {
            const vi v = vi_load(s->words + (k + j) / codes * VL);
            UNROLL for (int i = 0; i < codes; i += 2)
                bp_pair(vf_mul(mx_value(v, bits, i), scale), vf_mul(mx_value(v, bits, i + 1), scale), interleave,
                        out + (k + j + i) / 2 * NR, NULL);
        }
    }
    for (int64_t k = kc; k % 32; k += 2) vi_store(out + k / 2 * NR, vi_zero());
}

/* Outputs n..n+VL (those past n_last repeat it), inputs k0..k0+kc, to rows of pairs at `out` (stride NR), and what
 * rounding left at `rest` unless NULL (mx formats: NULL). Rows up to a multiple of 32 inputs are written, zeros past K.
 * `mantissa`: 4 and 8 bits without conversions, which is the faster way on Intel's cores. */
INLINE void bp_strip(const lm_weight *w, lm_format format, bool mantissa, int64_t n, int64_t n_last, int64_t k0,
                     int64_t kc, bp_words *s, uint32_t *out, uint32_t *rest) {
    const int bits = lm_unpack_bits(format);
    const uint8_t *row[VL];
    for (int i = 0; i < VL; i++)
        row[i] = (const uint8_t *)w->data + (size_t)(n + i < n_last ? n + i : n_last) * w->row_bytes +
                 (size_t)(k0 * bits / 8);
    if (format == LM_FORMAT_BF16) {
        mm_words(row, 2 * kc, out, NR);
        return;
    }
    mm_words(row, kc * bits / 8, s->words, VL);
    if (lm_format_is_mx(format)) {
        bp_expand_mx(w, format, n, n_last, k0, kc, s, out);
        return;
    }
    if (format == LM_FORMAT_F16) {
        const vi interleave = bp_interleave();
        for (int64_t k = 0; k < ((kc + 31) & ~(int64_t)31); k += 2) {
            vi v = vi_load(s->words + k / 2 * VL);
            bp_pair(vf_low_halves(v), vf_low_halves(vi_shr(v, 16)), interleave, out + k / 2 * NR,
                    rest ? rest + k / 2 * NR : NULL);
        }
        return;
    }
    const int64_t groups = (kc + w->group - 1) / w->group;
    for (int64_t g = 0; g < groups; g += MM_GROUPS) {
        int64_t count = groups - g < MM_GROUPS ? groups - g : MM_GROUPS;
        mm_scales(w, n, n_last, k0 / w->group + g, count, &s->groups);
        for (int64_t i = 0; i < count; i++) {
            vf_store(s->scales[g + i], vf_load(s->groups.scales[i]));
            vf_store(s->biases[g + i], vf_load(s->groups.biases[i]));
        }
    }
    for (int64_t k = 0; k < kc; k += 32) {
        int64_t g = k / w->group;
        if (mantissa && (bits == 4 || bits == 8))
            bp_expand32_mantissa(s->words + k / 32 * bits * VL, bits, vf_load(s->scales[g]), vf_load(s->biases[g]),
                                 out + k / 2 * NR);
        else
            bp_expand32(s->words + k / 32 * bits * VL, bits, vf_load(s->scales[g]), vf_load(s->biases[g]),
                        out + k / 2 * NR, rest ? rest + k / 2 * NR : NULL);
    }
}
#endif
