/* SPDX-License-Identifier: MIT
 *
 * row.c: scalar row-wise pieces, the definition of op ROW. Sums are kept in double here, so that the vector rows are
 * judged against something better than themselves. */
#include "kernels/rows.h"
#include <math.h>

static void rms_norm(const float *x, const float *w, float eps, int64_t n, float *y) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    float scale = (float)(1.0 / sqrt(sum / (double)n + (double)eps));
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale * w[i];
}

static void swiglu(const float *gate, const float *up, int64_t n, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void add(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static void axpy(float *y, float a, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += a * x[i];
}

static void rope(float *x, const float *cosine, const float *sine, int64_t half) {
    for (int64_t j = 0; j < half; j++) {
        float a = x[j], b = x[j + half];
        x[j] = a * cosine[j] - b * sine[j];
        x[j + half] = b * cosine[j] + a * sine[j];
    }
}

static void logsumexp(const float *x, int64_t n, float *max, float *sum) {
    float m = -INFINITY;
    double s = 0;
    for (int64_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
    /* All -inf (or nothing): nothing can be subtracted, the sum is 0. */
    if (m > -INFINITY)
        for (int64_t i = 0; i < n; i++) s += (double)expf(x[i] - m);
    *max = m;
    *sum = (float)s;
}

static int64_t argmax(const float *x, int64_t n) {
    int64_t best = 0;
    float value = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
        /* The first number of all wins even if it is -inf: index 0 may be NaN. */
        if (x[i] > value || (isnan(x[best]) && !isnan(x[i]))) best = i, value = x[i];
    }
    return best;
}

const lm_row_impl lm_row__scalar = {rms_norm, swiglu, add, axpy, rope, logsumexp, argmax};
