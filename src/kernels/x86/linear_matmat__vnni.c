/* SPDX-License-Identifier: MIT
 * linear_matmat__vnni.c: MATMAT rows of class F16 for affine weights: panel_fixed.h with vpdpbusd alone;
 * stream_fixed.h for a few rows. */
#if defined(__x86_64__)
#include "kernels/x86/panel_few.h"
#include "kernels/x86/stream_fixed.h"

typedef struct fx_scratch {
    fx_panel panel[PANELS];
    _Alignas(64) float sums[MR * NR];
    mm_groups groups;
} fx_scratch;

static size_t scratch_bytes(const lm_weight *w, int64_t m) {
    const size_t all = sizeof(fx_scratch), few = sizeof(few_scratch), bytes = all > few ? all : few;
    return st_serves(w, m) ? st_scratch_bytes(w, m) : (bytes + 63) & ~(size_t)63;
}

INLINE void run(int bits, const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, int64_t ldy,
                void *scratch) {
    if (st_serves(w, m)) {
        st_run(bits, w, xp, m, n0, n1, y, ldy, scratch);
        return;
    }
    if (m <= FEW_ROWS) {
        for (int64_t n = n0; n < n1; n += NR)
            few_outputs(bits, w, xp, m, n, n1 - n < NR ? n1 - n : NR, n1 - 1, y, ldy, scratch);
        return;
    }
    fx_scratch *s = scratch;
    const int quads = w->group / 4;
    const int64_t tiles = (m + MR - 1) / MR;         /* of about the same height */
    const int64_t wide = m <= MR ? NR : PANELS * NR; /* one tile of rows: panels needn't wait for each other */
    for (int64_t n = n0; n < n1; n += wide)
        for (int64_t k0 = 0; k0 < w->k; k0 += KC) {
            const int64_t kc = w->k - k0 < KC ? w->k - k0 : KC, end = n1 - n < wide ? n1 : n + wide;
            const fx_row *x = (const fx_row *)xp + k0 / KC * m;
            unpack(bits, w, n, end, n1 - 1, k0, kc, s->panel, &s->groups);
            for (int64_t t = 0; t < tiles; t++) {
                const int64_t i = m * t / tiles, rows = m * (t + 1) / tiles - i;
                for (int64_t p = n; p < end; p += NR) {
                    const int64_t cols = end - p < NR ? end - p : NR;
                    begin_sums(rows, s->sums, y + i * ldy + p, ldy, cols, k0 > 0);
                    few_rows(rows, (int)(kc / w->group), quads, x + i, &s->panel[(p - n) / NR], s->sums);
                    end_sums(rows, s->sums, y + i * ldy + p, ldy, cols);
                }
            }
        }
}

static size_t any_prep_bytes(const lm_weight *w, int64_t m) {
    return st_serves(w, m) ? qv_prep_bytes(w, m) : prep_bytes(w, m);
}
static void any_prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    st_serves(w, m) ? qv_prep(w, x, ldx, m0, m1, m, xp) : prep(w, x, ldx, m0, m1, m, xp);
}

#define LM_MATMAT_VNNI(bits)                                                                                      \
    static void run_affine##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, \
                                 int64_t ldy, void *scratch) {                                                    \
        run(bits, w, xp, m, n0, n1, y, ldy, scratch);                                                             \
    }                                                                                                             \
    const lm_linear_impl lm_matmat_affine##bits##__vnni = {                                                       \
        NR, 1, any_prep_bytes, any_prep, scratch_bytes, run_affine##bits, 0}

LM_MATMAT_VNNI(2);
LM_MATMAT_VNNI(3);
LM_MATMAT_VNNI(4);
LM_MATMAT_VNNI(5);
LM_MATMAT_VNNI(6);
LM_MATMAT_VNNI(8);
#else
typedef int lm_empty_translation_unit;
#endif
