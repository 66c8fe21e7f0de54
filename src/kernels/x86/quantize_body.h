/* SPDX-License-Identifier: MIT
 * quantize_body.h: op QUANT over the vector of vec_avx2.h or vec_avx512.h. The including file defines, on top of that:
 * qv_min, qv_max (the second operand where the first is NaN), qv_least, qv_most (of all lanes), qv_rint, qv_trunc,
 * qv_round_f16, qv_to_int and qv_store_codes. Group scales come from quant_group.h; the elements follow its functions
 * lane by lane with the same operations, so that the bytes are equal; codes are gathered as bytes and packed eight at a
 * time. */
#include "kernels/quant_group.h"
#include "kernels/rows.h"
#include "kernels/x86/unroll.h"

/* Bits of x; comparisons give masks of all ones or none: as unsigned numbers, so that nothing overflows. */
INLINE vu qv_bits(vf x) {
    return (vu)x;
}
INLINE vu qv_all(uint32_t x) {
    return (vu)vi_set1(x);
}
INLINE vu qv_pick(vu mask, vu a, vu b) {
    return (mask & a) | (~mask & b);
}
INLINE vf qv_abs(vf x) {
    return (vf)(qv_bits(x) & qv_all(0x7fffffffu));
}
INLINE vu qv_number(vf x) {
    return (vu)(x == x);
}

/* Eight codes of `bits`, a byte each, moved together. */
INLINE uint64_t qv_gather(uint64_t x, int bits) {
#if defined(__x86_64__)
    return _pext_u64(x, (uint64_t)0x0101010101010101u * ((1u << bits) - 1));
#else
    const uint64_t byte = 0x00ff00ff00ff00ffu, half = 0x0000ffff0000ffffu;
    x = (x & byte) | (x & ~byte) >> (8 - bits);
    x = (x & half) | (x & ~half) >> (16 - 2 * bits);
    return (x & 0xffffffffu) | (x >> 32) << (4 * bits);
#endif
}

/* n codes, a multiple of 8, to n * bits bits. */
INLINE void qv_pack(const uint8_t *codes, int n, int bits, uint8_t *out) {
    for (int i = 0; i < n; i += 8, out += bits) {
        uint64_t eight = qv_gather(lm_load_u64(codes + i), bits);
        memcpy(out, &eight, (size_t)bits);
    }
}

/* ---- affine ---- */

INLINE vf qv_round(vf x, lm_quant_rule rule) {
    if (rule == LM_QUANT_RULE_CPU) return qv_rint(x);
    vf t = qv_trunc(x);
    vu one = (qv_bits(x) & qv_all(0x80000000u)) | qv_all(0x3f800000u);
    return (vf)qv_pick((vu)(qv_abs(x - t) >= vf_set1(0.5f)), qv_bits(t + (vf)one), qv_bits(t));
}

INLINE void qv_affine_group(int bits, int group, lm_quant_rule rule, const float *w, float *scale, float *bias,
                            uint8_t *out) {
    uint8_t codes[128];
    vf lo = vf_set1(lm_quant_min_start(rule)), hi = vf_set1(lm_quant_max_start(rule));
    const vf top = vf_set1((float)((1 << bits) - 1));
    for (int i = 0; i < group; i += VL) {
        vf x = vf_load(w + i);
        lo = qv_min(x, lo);
        hi = qv_max(x, hi);
    }
    lm_quant_affine(qv_least(lo), qv_most(hi), bits, rule, scale, bias);
    const vf s = vf_set1(*scale), b = vf_set1(*bias);
    for (int i = 0; i < group; i += VL) {
        vf q = qv_round((vf_load(w + i) - b) / s, rule);
        qv_store_codes(codes + i, qv_to_int(qv_min(qv_max(q, vf_zero()), top)));
    }
    qv_pack(codes, group, bits, out);
}

INLINE void qv_affine(int bits, lm_quant_rule rule, const lm_quant_spec *spec, const float *w, lm_dtype dtype,
                      int64_t groups, uint8_t *packed, void *scales, void *biases) {
    const int group = spec->group;
    for (int64_t g = 0; g < groups; g++) {
        float scale, bias;
        qv_affine_group(bits, group, rule, w + g * group, &scale, &bias, packed + g * (group * bits / 8));
        lm_quant_store(scales, g, scale, dtype);
        lm_quant_store(biases, g, bias, dtype);
    }
}

INLINE void qv_affine_bits(lm_quant_rule rule, const lm_quant_spec *spec, const float *w, lm_dtype dtype,
                           int64_t groups, uint8_t *packed, void *scales, void *biases) {
    switch (spec->bits) {
    case 2: qv_affine(2, rule, spec, w, dtype, groups, packed, scales, biases); break;
    case 3: qv_affine(3, rule, spec, w, dtype, groups, packed, scales, biases); break;
    case 4: qv_affine(4, rule, spec, w, dtype, groups, packed, scales, biases); break;
    case 5: qv_affine(5, rule, spec, w, dtype, groups, packed, scales, biases); break;
    case 6: qv_affine(6, rule, spec, w, dtype, groups, packed, scales, biases); break;
    default: qv_affine(8, rule, spec, w, dtype, groups, packed, scales, biases); break;
    }
}

/* ---- mxfp4, nvfp4, mxfp8 ---- */

/* lm_quant_round; NaN stays NaN. */
INLINE vf qv_round_to(vf x, lm_dtype dtype) {
    if (dtype == LM_DTYPE_F32) return x;
    if (dtype == LM_DTYPE_F16) return qv_round_f16(x);
    vu u = qv_bits(x), rounded = (u + 0x7fff + (u >> 16 & 1)) & 0xffff0000u;
    return (vf)qv_pick(qv_number(x), rounded, u);
}

/* lm_quant_e4m3 */
INLINE vu qv_e4m3(vf x) {
    vu u = qv_bits(x), sign = u >> 24 & 0x80, a = u & 0x7fffffffu;
    vu low = qv_bits((vf)a + vf_set1(0x1p14f)) - 0x46800000u;
    vu high = (a + 0x7ffff + (a >> 20 & 1) - 0x3c000000u) >> 20;
    vu code = qv_pick((vu)(a < 0x3c800000u), low, high);
    code = qv_pick((vu)(a < 0x43e00000u), code, qv_all(0x7e));
    return qv_pick(qv_number(x), code, qv_all(0x7f)) | sign;
}

/* 1 where a > least, or where a >= least */
INLINE vu qv_above(vf a, float least) {
    return (vu)(a > vf_set1(least)) & 1;
}
INLINE vu qv_from(vf a, float least) {
    return (vu)(a >= vf_set1(least)) & 1;
}

/* lm_quant_e2m1_first up to a magnitude of 2^20 (all differences count there), or lm_quant_e2m1_even */
INLINE vu qv_e2m1(vf x, lm_quant_rule rule) {
    const vf a = qv_abs(x);
    const vu sign = qv_bits(x) >> 28 & 8;
    vu code = qv_above(a, 0.25f) + qv_above(a, 1.25f) + qv_above(a, 2.5f) + qv_above(a, 5);
    if (rule == LM_QUANT_RULE_CPU) {
        code += qv_above(a, 0.75f) + qv_above(a, 1.75f) + qv_above(a, 3.5f);
        return code | (sign & (vu)(code != 0));
    }
    code += qv_from(a, 0.75f) + qv_from(a, 1.75f) + qv_from(a, 3.5f);
    return code | (sign & qv_number(x));
}

INLINE void qv_float_group(const lm_quant_spec *spec, int bits, int group, lm_quant_rule rule, const float *w,
                           lm_dtype dtype, uint8_t *scale, uint8_t *out) {
    uint8_t codes[32];
    vf largest = vf_zero();
    float divisor;
    for (int i = 0; i < group; i += VL) largest = qv_max(qv_abs(vf_load(w + i)), largest);
    const float most = qv_most(largest);
    *scale = lm_quant_scale(spec, most, dtype, &divisor);
    if (divisor == 0) {
        for (int i = 0; i < group; i++) codes[i] = (uint8_t)lm_quant_undivided(spec, w[i]);
        if (bits == 8)
            memcpy(out, codes, (size_t)group);
        else
            qv_pack(codes, group, 4, out);
        return;
    }
    const vf d = vf_set1(divisor), reciprocal = vf_set1(1 / divisor);
    const bool huge = !(most / divisor < 0x1p20f);
    for (int i = 0; i < group; i += VL) {
        vf x = rule == LM_QUANT_RULE_CPU ? vf_load(w + i) / d : vf_load(w + i) * reciprocal;
        if (rule == LM_QUANT_RULE_CPU) x = qv_round_to(x, dtype);
        if (bits == 4 && rule == LM_QUANT_RULE_CPU && huge) {
            float lane[VL];
            vf_store(lane, x);
            for (int j = 0; j < VL; j++) codes[i + j] = (uint8_t)lm_quant_e2m1_first(lane[j]);
        } else {
            qv_store_codes(codes + i, (vi)(bits == 8 ? qv_e4m3(x) : qv_e2m1(x, rule)));
        }
    }
    if (bits == 8)
        memcpy(out, codes, (size_t)group);
    else
        qv_pack(codes, group, 4, out);
}

INLINE void qv_float(const lm_quant_spec *spec, int bits, int group, lm_quant_rule rule, const float *w, lm_dtype dtype,
                     int64_t groups, uint8_t *packed, uint8_t *scales) {
    for (int64_t g = 0; g < groups; g++)
        qv_float_group(spec, bits, group, rule, w + g * group, dtype, scales + g, packed + g * (group * bits / 8));
}

INLINE void qv_rule(lm_quant_rule rule, const lm_quant_spec *spec, const float *w, lm_dtype dtype, int64_t groups,
                    void *packed, void *scales, void *biases) {
    switch (spec->mode) {
    case LM_QUANT_AFFINE: qv_affine_bits(rule, spec, w, dtype, groups, packed, scales, biases); break;
    case LM_QUANT_MXFP4: qv_float(spec, 4, 32, rule, w, dtype, groups, packed, scales); break;
    case LM_QUANT_NVFP4: qv_float(spec, 4, 16, rule, w, dtype, groups, packed, scales); break;
    case LM_QUANT_MXFP8: qv_float(spec, 8, 32, rule, w, dtype, groups, packed, scales); break;
    }
}

static void qv_rows(const lm_quant_spec *spec, const float *w, lm_dtype dtype, int64_t n, int64_t k, void *packed,
                    void *scales, void *biases) {
    const int64_t groups = n * (k / spec->group);
    if (spec->rule == LM_QUANT_RULE_CPU)
        qv_rule(LM_QUANT_RULE_CPU, spec, w, dtype, groups, packed, scales, biases);
    else
        qv_rule(LM_QUANT_RULE_GPU, spec, w, dtype, groups, packed, scales, biases);
}
