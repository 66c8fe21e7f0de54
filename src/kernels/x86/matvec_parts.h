/* SPDX-License-Identifier: MIT
 * matvec_parts.h: what matvec.h and linear_matvec__vnni.c share, over the vector that the including file picks. */
#ifndef LM_X86_MATVEC_PARTS_H
#define LM_X86_MATVEC_PARTS_H
#include "kernels/rows.h"
#include "kernels/unpack.h"
#include "kernels/x86/unroll.h"

#define MV_ROWS 4
#define MV_AHEAD 2048 /* bytes of weights that are asked for in advance, at least */

/* CALL(rows) with rows a constant, 1 to MV_ROWS, for the next of `left` rows. */
#define MV_NEXT_ROWS(left, CALL) \
    switch (left) {              \
    case 1: CALL(1); break;      \
    case 2: CALL(2); break;      \
    case 3: CALL(3); break;      \
    default: CALL(4); break;     \
    }

INLINE int64_t mv_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}
/* E: whole codes in a lane of vi_load_codes. */
INLINE int mv_lane_codes(int bits) {
    return bits == 2 ? 16 : bits < 5 ? 8 : 4;
}
INLINE vf mv_load_scales(const lm_weight *w, const void *p, int64_t at, int64_t n) {
    if (w->scale_type == LM_DTYPE_F16) return vf_load_f16_n((const uint8_t *)p + 2 * at, n);
    if (w->scale_type == LM_DTYPE_BF16) return vf_load_bf16_n((const uint8_t *)p + 2 * at, n);
    return vf_load_n((const float *)(const void *)((const uint8_t *)p + 4 * at), n);
}
#endif
