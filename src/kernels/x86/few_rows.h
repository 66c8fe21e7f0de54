/* SPDX-License-Identifier: MIT
 * few_rows.h: the parts of linear_matmat__vnni.c for up to LM_FEW_ROWS rows of activations, compiled apart because they
 * keep activations in planes of bytes and not in words. They are no rows of the table of their own: the bits are the
 * same, and who picks is the row itself. */
#ifndef LM_X86_FEW_ROWS_H
#define LM_X86_FEW_ROWS_H
#include "kernels/kernel.h"

#define LM_FEW_ROWS 32

extern const lm_linear_impl lm_matmat_few2__vnni, lm_matmat_few3__vnni, lm_matmat_few4__vnni, lm_matmat_few5__vnni,
    lm_matmat_few6__vnni, lm_matmat_few8__vnni;

/* Row `name` of the table: up to `most` rows of activations (at most LM_FEW_ROWS) those, else the file's own
 * prep_bytes, prep and run, with `bytes` of scratch. */
#define LM_MATMAT_WITH_FEW(name, bits, most, bytes)                                                            \
    static size_t prep_bytes##bits(const lm_weight *w, int64_t m) {                                            \
        return m <= (most) ? lm_matmat_few##bits##__vnni.prep_bytes(w, m) : prep_bytes(w, m);                  \
    }                                                                                                          \
    static void prep##bits(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, \
                           void *xp) {                                                                         \
        (m <= (most) ? lm_matmat_few##bits##__vnni.prep : prep)(w, x, ldx, m0, m1, m, xp);                     \
    }                                                                                                          \
    static size_t scratch_bytes##bits(const lm_weight *w, int64_t m) {                                         \
        return m <= (most) ? lm_matmat_few##bits##__vnni.scratch_bytes(w, m) : ((bytes) + 63) & ~(size_t)63;   \
    }                                                                                                          \
    static void run##bits(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y,     \
                          int64_t ldy, void *scratch) {                                                        \
        if (m <= (most))                                                                                       \
            lm_matmat_few##bits##__vnni.run(w, xp, m, n0, n1, y, ldy, scratch);                                \
        else                                                                                                   \
            run(bits, w, xp, m, n0, n1, y, ldy, scratch);                                                      \
    }                                                                                                          \
    const lm_linear_impl name = {NR, 1, prep_bytes##bits, prep##bits, scratch_bytes##bits, run##bits, 0, 0}
#endif
