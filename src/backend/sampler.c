/* SPDX-License-Identifier: MIT
 *
 * sampler.c: one token from one row of logits: argmax, or the chain of filters of mlx-lm's make_sampler (top-p, min-p,
 * XTC, top-k) and a categorical draw. Filters mark tokens by -infinity; a token that one filter dropped stays dropped.
 */
#include "backend/sampler.h"
#include "base/rng.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

lm_sampler lm_sampler_greedy(void) {
    return (lm_sampler){.top_p = 1.0f, .xtc_threshold = 0.1f, .min_tokens_to_keep = 1};
}

static int64_t argmax(const float *x, int64_t n) {
    float best = -INFINITY;
    int64_t at = -1;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > best) best = x[i], at = i; /* NaN never wins */
    return at;
}

/* ln of the sum of e^x; best is the largest of x. Summed in double: 150,000 terms. */
static float log_sum_exp(const float *x, int64_t n, float best) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(x[i])) sum += (double)expf(x[i] - best);
    return best + (float)log(sum);
}

/* ---------------------------------------------------------------- largest values */

static void sift_down(float *heap, int64_t n, int64_t at) {
    float v = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && heap[child + 1] > heap[child]) child++;
        if (!(heap[child] > v)) break;
        heap[at] = heap[child];
    }
    heap[at] = v;
}

/* Makes a heap of the values in (least, most] and returns how many they are. */
static int64_t make_heap(const float *x, int64_t n, float least, float most, float *heap) {
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > least && x[i] <= most) heap[count++] = x[i];
    for (int64_t i = count / 2 - 1; i >= 0; i--) sift_down(heap, count, i);
    return count;
}

/* Takes the largest value out; *n counts what is left. */
static float pop_heap(float *heap, int64_t *n) {
    float top = heap[0];
    heap[0] = heap[--*n];
    if (*n > 1) sift_down(heap, *n, 0);
    return top;
}

/* Value of rank k (1: the largest), 1 <= k <= n. The heap holds the k largest seen so far, negated: its top is the
 * least of them, which nearly every further value fails to beat. */
static float kth_largest(const float *x, int64_t n, int64_t k, float *heap) {
    for (int64_t i = 0; i < k; i++) heap[i] = -x[i];
    for (int64_t i = k / 2 - 1; i >= 0; i--) sift_down(heap, k, i);
    for (int64_t i = k; i < n; i++) {
        if (!(-x[i] < heap[0])) continue;
        heap[0] = -x[i];
        sift_down(heap, k, 0);
    }
    return -heap[0];
}

/* ---------------------------------------------------------------- filters: x [n] log-probabilities, changed in place
 */

#define LIKELY -4.0f
#define UNLIKELY -60.0f

/* Keeps the smallest set of likeliest tokens whose mass reaches p of the whole, and all that tie with its last. */
static void filter_top_p(float *x, int64_t n, float p, float *heap) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)expf(x[i]);
    float wanted = p * (float)sum, above = 0, threshold = -INFINITY;
    /* Values come out in falling order, from slices: the first ones nearly always hold the mass, the rest stays
     * unsorted */
    float most = INFINITY;
    for (float least = LIKELY; above < wanted; most = least, least = least < UNLIKELY ? -INFINITY : 2 * least) {
        int64_t left = make_heap(x, n, least, most, heap);
        while (left > 0 && above < wanted) {
            threshold = pop_heap(heap, &left);
            above += expf(threshold);
        }
        if (least == -INFINITY) break;
    }
    for (int64_t i = 0; i < n; i++)
        if (x[i] < threshold) x[i] = -INFINITY;
}

/* Drops what is less likely than min_p times the best, but never the `keep` best. */
static void filter_min_p(float *x, int64_t n, float min_p, int64_t keep, float *heap) {
    int64_t top = argmax(x, n);
    if (top < 0) return;
    float least = x[top] + (float)log((double)min_p), kept = INFINITY;
    int64_t ties = 0; /* how many of value `kept` may stay */
    if (keep > 1) {
        if (keep > n) keep = n;
        kept = kth_largest(x, n, keep, heap);
        ties = keep;
        for (int64_t i = 0; i < n; i++) ties -= x[i] > kept;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!(x[i] < least) || x[i] > kept) continue;
        if (x[i] == kept && ties-- > 0) continue;
        x[i] = -INFINITY;
    }
}

/* With a chance of P: drops every token likelier than the least likely one above the threshold. */
static void filter_xtc(lm_sampler *s, float *x, int64_t n) {
    float u;
    lm_rng_uniform(s->key, 1, &u);
    int64_t top = argmax(x, n);
    if (u > s->xtc_probability || top < 0) return;
    float lse = log_sum_exp(x, n, x[top]), least = INFINITY;
    for (int64_t i = 0; i < n; i++) {
        float p = expf(x[i] - lse);
        if (p > s->xtc_threshold && p < least) least = p;
    }
    for (int64_t i = 0; i < n; i++) {
        if (!(expf(x[i] - lse) > least)) continue;
        bool special = false;
        for (size_t j = 0; j < s->n_xtc_special && !special; j++) special = s->xtc_special[j] == i;
        if (!special) x[i] = -INFINITY;
    }
}

/* Keeps the k likeliest; the lowest ids of those that tie for the last places. */
static void filter_top_k(float *x, int64_t n, int64_t k, float *heap) {
    float last = kth_largest(x, n, k, heap);
    int64_t ties = k;
    for (int64_t i = 0; i < n; i++) ties -= x[i] > last;
    for (int64_t i = 0; i < n; i++) {
        if (x[i] > last || (x[i] == last && ties-- > 0)) continue;
        x[i] = -INFINITY;
    }
}

/* ---------------------------------------------------------------- public */

static lm_status check_sampler(const lm_sampler *s, int64_t vocab, lm_error *err) {
    if (!(s->temp > 0) || isinf(s->temp))
        return lm_fail(err, LM_ARG, "temp: expected a number >= 0, found %g", (double)s->temp);
    if (!(s->min_p >= 0 && s->min_p <= 1))
        return lm_fail(err, LM_ARG, "min_p: expected a number in [0, 1], found %g", (double)s->min_p);
    if (s->min_p > 0 && s->min_tokens_to_keep < 1)
        return lm_fail(err, LM_ARG, "min_tokens_to_keep: expected at least 1, found %d", s->min_tokens_to_keep);
    if (s->xtc_probability > 0 && !(s->xtc_probability <= 1 && s->xtc_threshold >= 0 && s->xtc_threshold <= 0.5f))
        return lm_fail(err, LM_ARG,
                       "xtc: expected a probability in [0, 1] and a threshold in [0, 0.5], found %g and %g",
                       (double)s->xtc_probability, (double)s->xtc_threshold);
    if (s->top_k > 0 && s->top_k >= vocab)
        return lm_fail(err, LM_ARG, "top_k: expected less than the vocabulary's %lld, found %d", (long long)vocab,
                       s->top_k);
    return LM_OK;
}

lm_status lm_sample_row(lm_sampler *s, const float *logits, int64_t vocab, int32_t *id, float *logprob, lm_error *err) {
    int64_t top = argmax(logits, vocab);
    if (top < 0 || isinf(logits[top]))
        return lm_fail(err, LM_BACKEND, "sampling: the largest of the logits is not a finite number");
    if (s->temp == 0) {
        *id = (int32_t)top;
        if (logprob) *logprob = logits[top] - log_sum_exp(logits, vocab, logits[top]);
        return LM_OK;
    }
    LM_TRY(check_sampler(s, vocab, err));
    size_t bytes = 2 * (size_t)vocab * sizeof(float);
    float *x = malloc(bytes);
    if (!x) return lm_fail_nomem(err, bytes, "sampling");
    float *heap = x + vocab, lse = log_sum_exp(logits, vocab, logits[top]);
    for (int64_t i = 0; i < vocab; i++) x[i] = isnan(logits[i]) ? -INFINITY : logits[i] - lse;
    if (s->top_p > 0 && s->top_p < 1) filter_top_p(x, vocab, s->top_p, heap);
    if (s->min_p > 0) filter_min_p(x, vocab, s->min_p, s->min_tokens_to_keep, heap);
    if (s->xtc_probability > 0) filter_xtc(s, x, vocab);
    if (s->top_k > 0) filter_top_k(x, vocab, s->top_k, heap);
    float scale = (float)(1.0 / (double)s->temp);
    for (int64_t i = 0; i < vocab; i++) x[i] *= scale;
    lm_rng_categorical(s->key, x, 1, (size_t)vocab, id);
    if (logprob) *logprob = logits[*id] - lse;
    free(x);
    return LM_OK;
}
