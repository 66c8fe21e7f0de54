/* SPDX-License-Identifier: MIT
 * sampler.h: one token from one row of logits, as mlx-lm's make_sampler chain does it (host code). */
#ifndef LM_BACKEND_SAMPLER_H
#define LM_BACKEND_SAMPLER_H
#include "base/status.h"
/** Samples from logits [vocab] (not changed); the sampler's random key advances where mlx's would. `logprob` (may be
 *  NULL) gets the untempered log-probability of the id. */
lm_status lm_sample_row(lm_sampler *sampler, const float *logits, int64_t vocab, int32_t *id, float *logprob,
                        lm_error *err);
#endif
