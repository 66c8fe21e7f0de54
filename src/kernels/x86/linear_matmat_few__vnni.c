/* SPDX-License-Identifier: MIT
 * linear_matmat_few__vnni.c: few_rows.h: one or two rows by stream_fixed.h, up to LM_FEW_ROWS by panel_few.h, both with
 * vpdpbusd on planes of bytes. */
#if defined(__x86_64__)
#include "kernels/x86/few_rows.h"
#include "kernels/x86/panel_few.h"
#include "kernels/x86/stream_fixed.h"

_Static_assert(FEW_ROWS == LM_FEW_ROWS, "sums are kept for as many rows as are served");

static size_t scratch_bytes(const lm_weight *w, int64_t m) {
    return st_serves(w, m) ? st_scratch_bytes(w, m) : (sizeof(few_scratch) + 63) & ~(size_t)63;
}
static size_t any_prep_bytes(const lm_weight *w, int64_t m) {
    return st_serves(w, m) ? qv_prep_bytes(w, m) : prep_bytes(w, m);
}
static void any_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    st_serves(w, m) ? qv_prep(w, x, ldx, m0, m1, m, xp) : prep(w, x, ldx, m0, m1, m, xp);
}

INLINE void run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, int64_t ldy,
                void *scratch) {
    if (st_serves(w, m)) {
        st_run(bits, w, xp, m, n0, n1, y, ldy, scratch);
        return;
    }
    for (int64_t n = n0; n < n1; n += NR)
        few_outputs(bits, w, xp, m, n, n1 - n < NR ? n1 - n : NR, n1 - 1, y, ldy, scratch);
}

#define LM_MATMAT_FEW(bits)                                                                                       \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        run(bits, w, xp, m, n0, n1, y, ldy, scratch);                                                             \
    }                                                                                                             \
    const lm_linear_impl lm_matmat_few##bits##__vnni = {                                                          \
        NR, 1, any_prep_bytes, any_prep, scratch_bytes, run_affine##bits, 0, 0}

LM_MATMAT_FEW(2);
LM_MATMAT_FEW(3);
LM_MATMAT_FEW(4);
LM_MATMAT_FEW(5);
LM_MATMAT_FEW(6);
LM_MATMAT_FEW(8);
#else
typedef int lm_empty_translation_unit;
#endif
