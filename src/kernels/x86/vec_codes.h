/* SPDX-License-Identifier: MIT
 * vec_codes.h: the words of vec_*.h that are the same for every width; each of them includes this at its end. */
#ifndef LM_KERNELS_X86_VEC_CODES_H
#define LM_KERNELS_X86_VEC_CODES_H

static inline vi vi_shr(vi v, int bits) {
    return (vi)((vu)v >> (uint32_t)bits);
}
static inline vi vi_shl(vi v, int bits) {
    return (vi)((vu)v << (uint32_t)bits);
}

/* Code i of every lane (vi_load_codes) times 2^shift, shift = vf_code_shift(bits, i): masked in place and converted,
 * which spares a shift; prep divides x by as much. The topmost code would turn negative: it is shifted. */
static inline int vf_code_shift(int bits, int i) {
    return bits * i + bits == 32 ? 0 : bits * i;
}
static inline vf vf_code(vi v, int bits, int i) {
    if (bits * i + bits == 32) return vf_from_int(vi_shr(v, bits * i));
    return vf_from_int(vi_and(v, vi_set1(((1u << bits) - 1) << (bits * i))));
}
#endif
