/* SPDX-License-Identifier: MIT
 * fixed_bytes.h: panel_fixed.h on two planes of bytes, and what the kernels on them share. */
#ifndef LM_X86_FIXED_BYTES_H
#define LM_X86_FIXED_BYTES_H
#define FX_BYTES
#include "kernels/x86/panel_fixed.h"

/* sum += codes times x, four inputs a lane. Written out: around gcc 12's intrinsic sums travel through memory. */
INLINE vi multiply_add(vi sum, vi codes, vi x) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(codes), "v"(x));
    return sum;
}

INLINE vi four_inputs(const int8_t *x) {
    uint32_t four;
    memcpy(&four, x, 4);
    return vi_set1(four);
}

/* y += (256 high + low) step scale + all bias */
INLINE void add_group(vi high, vi low, vf scale, vf bias, vf step, vf all, float *y) {
    const vf d = vf_from_int(_mm512_add_epi32(vi_shl(high, 8), low));
    vf_store(y, vf_fma(bias, all, vf_fma(d, vf_mul(scale, step), vf_load(y))));
}

/* sums = y, or zeros; and back. */
static inline void begin_sums(int64_t rows, float *sums, const float *y, int64_t ldy, int64_t cols, bool add) {
    for (int64_t r = 0; r < rows; r++) {
        vf_store(sums + r * NR, add ? vf_load_n(y + r * ldy, cols) : vf_zero());
        vf_store(sums + r * NR + VL, add && cols > VL ? vf_load_n(y + r * ldy + VL, cols - VL) : vf_zero());
    }
}
static inline void end_sums(int64_t rows, const float *sums, float *y, int64_t ldy, int64_t cols) {
    for (int64_t r = 0; r < rows; r++) {
        vf_store_n(y + r * ldy, vf_load(sums + r * NR), cols);
        if (cols > VL) vf_store_n(y + r * ldy + VL, vf_load(sums + r * NR + VL), cols - VL);
    }
}
#endif
