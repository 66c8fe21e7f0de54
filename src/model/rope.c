/* SPDX-License-Identifier: MIT
 * rope.c: rotation frequencies and tables, in double; rounded to float32 once. */
#include "model/model.h"
#include <math.h>

static double llama3_frequency(const lm_hparams *h, double f) {
    const double two_pi = 6.283185307179586;
    double wavelength = two_pi * f, original = h->rope_original_positions;
    double low = original / h->rope_low_freq, high = original / h->rope_high_freq;
    if (wavelength > low) return f * h->rope_factor;
    if (wavelength <= high) return f;
    double smooth = (original / wavelength - h->rope_low_freq) / (h->rope_high_freq - h->rope_low_freq);
    return f / ((1 - smooth) / h->rope_factor + smooth);
}

void lm_rope_frequencies(const lm_hparams *h, double *inv_freq) {
    for (int64_t j = 0; j < h->head_dim / 2; j++) {
        double f = pow(h->rope_theta, 2.0 * (double)j / (double)h->head_dim);
        if (h->rope_kind == LM_ROPE_LLAMA3) f = llama3_frequency(h, f);
        inv_freq[j] = 1.0 / f;
        if (h->rope_kind == LM_ROPE_LINEAR) inv_freq[j] /= h->rope_factor;
    }
}

void lm_rope_table(const double *inv_freq, int64_t half, const int64_t *pos, int64_t n, float *cos_out,
                   float *sin_out) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < half; j++) {
            double angle = (double)pos[i] * inv_freq[j];
            cos_out[i * half + j] = (float)cos(angle);
            sin_out[i * half + j] = (float)sin(angle);
        }
}
