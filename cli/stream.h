/* SPDX-License-Identifier: MIT
 * stream.h: one prompt answered token by token, timed as mlx-lm's stream_generate times it. generate and benchmark
 * share it, so that the benchmark measures what users run. */
#ifndef LM_CLI_STREAM_H
#define LM_CLI_STREAM_H
#include "common.h"

typedef struct stream_request {
    const int32_t *prompt; /* [n_prompt], at least one id */
    size_t n_prompt;
    int64_t max_tokens;        /* > 0 */
    int64_t prefill_step_size; /* > 0 */
    lm_kv_type kv_type;        /* AUTO; else what the sequence becomes from quantized_start positions on */
    int64_t quantized_start;
    lm_sampler *sampler;
    const int32_t *stop; /* [n_stop]: a stop id ends the stream; it is passed to on_token as well */
    size_t n_stop;
    int64_t burst; /* tokens decoded between two calls of on_token: 1 for streaming */
    /** Called once the sequence can be had, before the first step; may be NULL. */
    void (*on_start)(void *user);
    /** Called for every new token in order; may be NULL. False ends the stream. */
    bool (*on_token)(void *user, int32_t id, bool stop);
    void *user;
    cli_progress *progress; /* NULL: no bar while the prompt is read */
} stream_request;

typedef struct stream_stats {
    int64_t prompt_tokens, generation_tokens;
    double prompt_seconds;     /* start to the first sampled token */
    double generation_seconds; /* first token to the last */
    bool stopped;              /* by a stop id */
} stream_stats;

/** On LM_CANCELLED `stats` holds what was done until then. */
lm_status stream_run(lm_engine *engine, const stream_request *request, stream_stats *stats, lm_error *err);
/** Tokens a second as mlx-lm counts: all generated tokens over the time since the first. */
double stream_prompt_tps(const stream_stats *stats);
double stream_generation_tps(const stream_stats *stats);
#endif
