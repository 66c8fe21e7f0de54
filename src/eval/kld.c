/* SPDX-License-Identifier: MIT
 *
 * kld.c: how far one distribution is from another at a position, and what many positions amount to: means with standard
 * errors, percentiles, agreement. */
#include "score_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- one position */

bool lm_ev_dist_set(lm_ev_dist *d, const float *x, size_t vocab) {
    float best = -INFINITY;
    size_t top = 0;
    for (size_t i = 0; i < vocab; i++)
        if (x[i] > best) best = x[i], top = i; /* NaN never wins */
    if (!isfinite(best)) return false;
    double sum = 0;
    for (size_t i = 0; i < vocab; i++) {
        float w = isnan(x[i]) ? 0 : expf(x[i] - best);
        d->weights[i] = w;
        sum += (double)w;
    }
    d->x = x;
    d->best = best;
    d->top = (int32_t)top;
    d->lse = (double)best + log(sum);
    return true;
}

double lm_ev_kl(const lm_ev_dist *p, const lm_ev_dist *q, size_t vocab) {
    double scale = exp((double)p->best - p->lse), shift = q->lse - p->lse, sum = 0;
    for (size_t i = 0; i < vocab; i++) {
        double w = (double)p->weights[i];
        if (w > 0) sum += w * ((double)p->x[i] - (double)q->x[i] + shift);
    }
    return sum * scale;
}

/* ---------------------------------------------------------------- many */

/* Mean and its standard error of n values; error 0 for a single one. */
static lm_estimate estimate(const double *x, int64_t n) {
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / (double)n;
    for (int64_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    return (lm_estimate){mean, n > 1 ? sqrt(squares / (double)(n - 1) / (double)n) : 0};
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

double lm_ev_percentile(const float *sorted, int64_t n, double q) {
    double at = q / 100 * (double)(n - 1);
    int64_t low = (int64_t)at;
    if (low + 1 >= n) return (double)sorted[n - 1];
    double part = at - (double)low, a = (double)sorted[low], b = (double)sorted[low + 1];
    return part == 0 ? a : a + (b - a) * part;
}

static lm_status divergence(const lm_ev_tally *t, lm_perplexity *out, lm_error *err) {
    float *sorted = malloc((size_t)t->n * sizeof *sorted);
    if (!sorted) return lm_ev_fail(err, LM_NOMEM, "out of memory for %lld divergences", (long long)t->n);
    memcpy(sorted, t->kld, (size_t)t->n * sizeof *sorted);
    qsort(sorted, (size_t)t->n, sizeof *sorted, ascending);
    out->kld_min = (double)sorted[0];
    out->kld_median = lm_ev_percentile(sorted, t->n, 50);
    out->kld_90 = lm_ev_percentile(sorted, t->n, 90);
    out->kld_99 = lm_ev_percentile(sorted, t->n, 99);
    out->kld_999 = lm_ev_percentile(sorted, t->n, 99.9);
    out->kld_max = (double)sorted[t->n - 1];
    free(sorted);
    return LM_OK;
}

/* Change of the text's own tokens' probabilities: its mean and its root mean square, whose error follows from that of
 * the mean square: d sqrt(m) = dm / (2 sqrt(m)). */
static void change(const lm_ev_tally *t, double *x, lm_perplexity *out) {
    for (int64_t i = 0; i < t->n; i++) x[i] = exp(-(double)t->nll[i]) - exp(-(double)t->base_nll[i]);
    out->mean_change = estimate(x, t->n);
    for (int64_t i = 0; i < t->n; i++) x[i] *= x[i];
    lm_estimate square = estimate(x, t->n);
    double rms = sqrt(square.value);
    out->rms_change = (lm_estimate){rms, rms > 0 ? square.error / (2 * rms) : 0};
}

static lm_estimate exponential(lm_estimate mean) {
    double value = exp(mean.value);
    return (lm_estimate){value, value * mean.error};
}

lm_status lm_ev_tally_result(const lm_ev_tally *t, bool compared, lm_perplexity *out, lm_error *err) {
    *out = (lm_perplexity){.n = t->n, .compared = compared};
    double *x = calloc((size_t)t->n, sizeof *x);
    if (!x) return lm_ev_fail(err, LM_NOMEM, "out of memory for %lld values", (long long)t->n);
    for (int64_t i = 0; i < t->n; i++) x[i] = (double)t->nll[i];
    out->nll = estimate(x, t->n);
    out->ppl = exponential(out->nll);
    lm_status status = LM_OK;
    if (compared) {
        for (int64_t i = 0; i < t->n; i++) x[i] = (double)t->base_nll[i];
        out->base_nll = estimate(x, t->n);
        out->base_ppl = exponential(out->base_nll);
        for (int64_t i = 0; i < t->n; i++) x[i] = (double)t->nll[i] - (double)t->base_nll[i];
        out->log_ratio = estimate(x, t->n);
        out->ratio = exponential(out->log_ratio);
        for (int64_t i = 0; i < t->n; i++) x[i] = (double)t->kld[i];
        out->kld = estimate(x, t->n);
        double same = (double)t->same_top / (double)t->n;
        out->same_top = (lm_estimate){same, t->n > 1 ? sqrt(same * (1 - same) / (double)(t->n - 1)) : 0};
        change(t, x, out);
        status = divergence(t, out, err);
    }
    free(x);
    return status;
}
