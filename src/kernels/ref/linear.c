/* SPDX-License-Identifier: MIT
 * linear.c: the scalar row of MATVEC and MATMAT for every format: one weight row at a time, dequantized whole, one dot
 * product per row of activations. Products and sums are float64 and rounded once: the yardstick of the other rows. */
#include "kernels/rows.h"
#include <string.h>

static size_t padded_row(const lm_weight *w) {
    return ((size_t)w->k * sizeof(float) + 63) & ~(size_t)63;
}

static size_t prep_bytes(const lm_weight *w, int64_t m) {
    return padded_row(w) * (size_t)m;
}

static void prep(const lm_weight *w, const float *x, int64_t ldx, int64_t m0, int64_t m1, int64_t m, void *xp) {
    (void)m;
    for (int64_t i = m0; i < m1; i++)
        memcpy((char *)xp + padded_row(w) * (size_t)i, x + i * ldx, (size_t)w->k * sizeof(float));
}

static size_t scratch_bytes(const lm_weight *w, int64_t m) {
    (void)m;
    return padded_row(w);
}

static void run(const lm_weight *w, const void *xp, int64_t m, int64_t n0, int64_t n1, float *y, int64_t ldy,
                void *scratch) {
    float *row = scratch;
    for (int64_t n = n0; n < n1; n++) {
        lm_weight_row(w, n, row);
        for (int64_t i = 0; i < m; i++) {
            const float *x = (const float *)(const void *)((const char *)xp + padded_row(w) * (size_t)i);
            double sum = 0;
            for (int64_t k = 0; k < w->k; k++) sum += (double)x[k] * (double)row[k];
            y[i * ldy + n] = (float)sum;
        }
    }
}

const lm_linear_impl lm_linear__scalar = {1, 1, prep_bytes, prep, scratch_bytes, run, 0, 0};
