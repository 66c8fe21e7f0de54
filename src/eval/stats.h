/* SPDX-License-Identifier: MIT
 * stats.h: what can be said about scores: intervals, paired tests, resampling. Every function is a pure function of its
 * arguments; the random ones take a seed and give the same numbers everywhere. */
#ifndef LM_EVAL_STATS_H
#define LM_EVAL_STATS_H
#include "internal.h"

typedef struct lm_ev_interval {
    double low, high;
} lm_ev_interval;

/** Wilson's 95 % score interval of `right` out of n (n > 0). */
lm_ev_interval lm_ev_wilson(double right, double n);
/** mean ± 1.96 se: the normal 95 % interval. */
lm_ev_interval lm_ev_normal(double mean, double se);
/** McNemar's exact two-sided p: of b + c questions that only one side got right, b and c were each side's. */
double lm_ev_mcnemar(int64_t b, int64_t c);
/** Holm's step-down adjustment of n p values; `adjusted` may not overlap `p`. LM_NOMEM is the only failure. */
lm_status lm_ev_holm(const double *p, size_t n, double *adjusted, lm_error *err);
/** numpy.quantile's linear interpolation in ascending values, n > 0. */
double lm_ev_quantile(const double *sorted, size_t n, double q);

/** xoshiro256**, its state filled by splitmix64 from a seed. */
typedef struct lm_ev_rng {
    uint64_t s[4];
} lm_ev_rng;
void lm_ev_rng_seed(lm_ev_rng *rng, uint64_t seed);
uint64_t lm_ev_rng_next(lm_ev_rng *rng);
/** Uniform in [0, n), n > 0, without bias. */
uint64_t lm_ev_rng_below(lm_ev_rng *rng, uint64_t n);

/** Percentile 95 % interval of a mean over `draws` resamples of the n differences. Resampling is within strata:
 *  stratum i holds sizes[i] consecutive differences. */
lm_status lm_ev_bootstrap(const double *differences, const size_t *sizes, size_t n_strata, size_t draws, uint64_t seed,
                          lm_ev_interval *out, lm_error *err);
#endif
