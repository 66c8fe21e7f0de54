/* SPDX-License-Identifier: MIT
 * stats.c: intervals, McNemar's exact test, Holm's adjustment, the paired bootstrap. Checked against scipy and
 * statsmodels on random tables (tools/make_stats_oracle.py). */
#include "stats.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define Z95 1.959963984540054 /* 0.975 quantile of the normal distribution */

lm_ev_interval lm_ev_wilson(double right, double n) {
    double p = right / n, z2 = Z95 * Z95, scale = 1 + z2 / n;
    double center = (p + z2 / (2 * n)) / scale, half = Z95 * sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / scale;
    /* the ends are 0 and 1 exactly where nothing or all is right; rounding must not move them */
    return (lm_ev_interval){right > 0 ? center - half : 0, right < n ? center + half : 1};
}

lm_ev_interval lm_ev_normal(double mean, double se) {
    return (lm_ev_interval){mean - Z95 * se, mean + Z95 * se};
}

static double log_factorial(int64_t n) {
    int sign;
    return lgamma_r((double)n + 1, &sign);
}

/* Twice the lower tail of Binomial(b + c, 1/2) up to the smaller count, at most 1. The largest term comes from
 * logarithms; the others follow from it by ratios, so that the sum is as exact as that term. */
double lm_ev_mcnemar(int64_t b, int64_t c) {
    int64_t n = b + c, k = b < c ? b : c;
    if (b == c) return 1;
    double term = exp(log_factorial(n) - log_factorial(k) - log_factorial(n - k) - (double)n * 0.693147180559945309417);
    double sum = 0;
    for (int64_t i = k; i >= 0 && term > 0; i--) {
        double before = sum;
        sum += term;
        if (sum == before) break;
        term *= (double)i / (double)(n - i + 1);
    }
    return 2 * sum < 1 ? 2 * sum : 1;
}

typedef struct ranked {
    double p;
    size_t index;
} ranked;

static int by_p(const void *a, const void *b) {
    const ranked *x = a, *y = b;
    if (x->p != y->p) return x->p < y->p ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

lm_status lm_ev_holm(const double *p, size_t n, double *adjusted, lm_error *err) {
    ranked *order = calloc(n ? n : 1, sizeof *order);
    if (!order) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu p values", n);
    for (size_t i = 0; i < n; i++) order[i] = (ranked){p[i], i};
    qsort(order, n, sizeof *order, by_p);
    double most = 0;
    for (size_t i = 0; i < n; i++) {
        double value = order[i].p * (double)(n - i);
        if (value > most) most = value;
        adjusted[order[i].index] = most < 1 ? most : 1;
    }
    free(order);
    return LM_OK;
}

double lm_ev_quantile(const double *sorted, size_t n, double q) {
    double at = q * (double)(n - 1);
    size_t low = (size_t)at;
    if (low + 1 >= n) return sorted[n - 1];
    double part = at - (double)low, step = sorted[low + 1] - sorted[low];
    return part < 0.5 ? sorted[low] + step * part : sorted[low + 1] - step * (1 - part);
}

/* ---- random numbers */

void lm_ev_rng_seed(lm_ev_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) { /* splitmix64 */
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        rng->s[i] = z ^ (z >> 31);
    }
}

static uint64_t rotl(uint64_t x, int n) {
    return (x << n) | (x >> (64 - n));
}

uint64_t lm_ev_rng_next(lm_ev_rng *rng) {
    uint64_t *s = rng->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* The high word of a product with n; draws whose low word falls into the part that doesn't divide evenly are redrawn.
 */
uint64_t lm_ev_rng_below(lm_ev_rng *rng, uint64_t n) {
    unsigned __int128 product = (unsigned __int128)lm_ev_rng_next(rng) * n;
    if ((uint64_t)product < n) {
        uint64_t uneven = (0 - n) % n;
        while ((uint64_t)product < uneven) product = (unsigned __int128)lm_ev_rng_next(rng) * n;
    }
    return (uint64_t)(product >> 64);
}

/* ---- bootstrap */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

lm_status lm_ev_bootstrap(const double *differences, const size_t *sizes, size_t n_strata, size_t draws, uint64_t seed,
                          lm_ev_interval *out, lm_error *err) {
    size_t n = 0;
    for (size_t i = 0; i < n_strata; i++) n += sizes[i];
    if (!n || !draws) return lm_ev_fail(err, LM_ARG, "bootstrap: nothing to draw from");
    double *means = malloc(draws * sizeof *means);
    if (!means) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu resamples", draws);
    lm_ev_rng rng;
    lm_ev_rng_seed(&rng, seed);
    for (size_t d = 0; d < draws; d++) {
        double sum = 0;
        const double *stratum = differences;
        for (size_t i = 0; i < n_strata; stratum += sizes[i++])
            for (size_t k = 0; k < sizes[i]; k++) sum += stratum[lm_ev_rng_below(&rng, sizes[i])];
        means[d] = sum / (double)n;
    }
    qsort(means, draws, sizeof *means, by_value);
    *out = (lm_ev_interval){lm_ev_quantile(means, draws, 0.025), lm_ev_quantile(means, draws, 0.975)};
    free(means);
    return LM_OK;
}
