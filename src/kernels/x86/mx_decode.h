/* SPDX-License-Identifier: MIT
 * mx_decode.h: small floats in lanes: e2m1 by a table in a register, e4m3 and e8m0 by moving bits. Over the vector of
 * vec_avx2.h or vec_avx512.h; the same numbers as unpack.h. */
#ifndef LM_X86_MX_DECODE_H
#define LM_X86_MX_DECODE_H
#include "kernels/unpack.h"
#include "kernels/x86/unroll.h"

/* Code i of every lane's eight. */
INLINE vf mx_e2m1(vi v, int i) {
#if VL == 16
    const vf values = _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6);
    return vf_permute(values, vi_shr(v, 4 * i)); /* by the low 4 bits of each lane */
#elif VL == 8
    const vf values = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
    vi sign = vi_and(vi_shl(v, 28 - 4 * i), vi_set1(0x80000000u));
    return vf_bits(vi_or((vi)vf_permute(values, vi_shr(v, 4 * i)), sign)); /* by the low 3 bits of each lane */
#else
    /* The high bytes of float16, which has all sixteen values with nothing in the low one; of odd or even codes at
     * once: the compiler keeps the two tables' results over the calls for one v. */
    const uint8x16_t values = {0,    0x38, 0x3c, 0x3e, 0x40, 0x42, 0x44, 0x46,
                               0x80, 0xb8, 0xbc, 0xbe, 0xc0, 0xc2, 0xc4, 0xc6};
    const vu codes = ((vu)v >> (uint32_t)(4 * (i & 1))) & 0x0f0f0f0fu;
    const vu bytes = (vu)vqtbl1q_u8(values, (uint8x16_t)codes) >> (uint32_t)(8 * (i >> 1));
    return vcvt_f32_f16(vreinterpret_f16_u16(vshl_n_u16(vmovn_u32((uint32x4_t)bytes), 8)));
#endif
}

/* The low 8 bits of every lane (v has no others): exponent and mantissa in place. Subnormal ones get the exponent of 1
 * and lose the 1 again, so that no float32 subnormal slows the pipeline. 0x7f and 0xff are NaN. */
INLINE vf mx_e4m3(vi v) {
    const vu u = (vu)v, a = u & 0x7f, tiny = (vu)(a < 8), one = tiny & 0x3c800000u;
    const vf value = vf_bits((vi)((a << 20) + 0x3c000000u + (tiny & 0x00800000u))) - vf_bits((vi)one);
    return vf_bits((vi)((vu)value | u >> 7 << 31 | (vu)(a == 0x7f)));
}

#if VL == 16
/* Byte i of every lane, none of them NaN: moved to where float32 has exponent and mantissa, it is 2^-120 of the number,
 * subnormal ones too. */
INLINE vf mx_e4m3_number(vi v, int i) {
    const vi top = i == 3 ? v : vi_shl(v, 24 - 8 * i);
    return vf_mul(vf_bits(vi_and(_mm512_srai_epi32(top, 4), vi_set1(0x87f00000u))), vf_set1(0x1p120f));
}
INLINE int mx_e4m3_no_nan(vi v) {
    return !_mm512_cmpeq_epi8_mask(vi_and(v, vi_set1(0x7f7f7f7f)), vi_set1(0x7f7f7f7f));
}
#endif

/* 2^(v - 127), 0: 2^-127, 255: NaN. */
INLINE vf mx_e8m0(vi v) {
    const vu u = (vu)v, bits = u << 23, none = (vu)(u == 0);
    return vf_bits((vi)(bits | (none & 0x00400000u) | (vu)(u == 255)));
}

INLINE vf mx_scale(lm_format format, vi v) {
    return format == LM_FORMAT_NVFP4 ? mx_e4m3(v) : mx_e8m0(v);
}

/* Element i of every lane's 32 / bits. */
INLINE vf mx_value(vi v, int bits, int i) {
    return bits == 4 ? mx_e2m1(v, i) : mx_e4m3(vi_and(vi_shr(v, 8 * i), vi_set1(0xff)));
}

INLINE int mx_group(lm_format format) {
    return format == LM_FORMAT_NVFP4 ? 16 : 32;
}
#endif
