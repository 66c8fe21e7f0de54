/* SPDX-License-Identifier: MIT
 * stream.c: see stream.h. The prompt goes in chunks that want no logits; its last token never is in a chunk, it is the
 * first decoding step, as in mlx-lm. */
#include "stream.h"
#include <string.h>

#define BURST_MAX 64

static bool is_stop(const stream_request *r, int32_t id) {
    for (size_t i = 0; i < r->n_stop; i++)
        if (r->stop[i] == id) return true;
    return false;
}

static lm_status prefill(lm_engine *engine, const stream_request *r, lm_seq *seq, int32_t *first, lm_error *err) {
    const volatile int *cancel = cli_cancel();
    size_t done = 0;
    lm_status status;
    if (r->progress) cli_progress_start(r->progress, "Prompt", "tokens", (int64_t)r->n_prompt);
    while (r->n_prompt - done > 1) {
        size_t chunk = r->n_prompt - done - 1;
        if (chunk > (size_t)r->prefill_step_size) chunk = (size_t)r->prefill_step_size;
        lm_row row = {.seq = seq, .tokens = r->prompt + done, .n_tokens = chunk};
        if ((status = lm_step(engine, &row, 1, cancel, err)) != LM_OK) return status;
        done += chunk;
        if (r->progress) cli_progress_update(r->progress, (int64_t)done);
    }
    const uint32_t want = 0;
    lm_row row = {.seq = seq, .tokens = r->prompt + done, .n_tokens = 1, .want = &want, .n_want = 1};
    row.sampler = r->sampler;
    row.sampled = first;
    status = lm_step(engine, &row, 1, cancel, err);
    if (r->progress) cli_progress_end(r->progress);
    return status;
}

/* Counts a token and hands it on; false at the end of the stream. */
static bool take_token(const stream_request *r, stream_stats *stats, int32_t id) {
    stats->generation_tokens++;
    stats->stopped = is_stop(r, id);
    if (r->on_token && !r->on_token(r->user, id, stats->stopped)) return false;
    return !stats->stopped && stats->generation_tokens < r->max_tokens;
}

static lm_status decode(lm_engine *engine, const stream_request *r, lm_seq *seq, int32_t token, stream_stats *stats,
                        lm_error *err) {
    const volatile int *cancel = cli_cancel();
    int32_t out[BURST_MAX];
    bool more = take_token(r, stats, token);
    while (more) {
        if (*cancel) return cli_error(err, LM_CANCELLED, "cancelled");
        int64_t n = r->max_tokens - stats->generation_tokens;
        if (n > r->burst) n = r->burst;
        if (n > BURST_MAX) n = BURST_MAX;
        lm_decode_row row = {.seq = seq, .token = token, .sampler = r->sampler, .out = out};
        lm_status status = lm_decode(engine, &row, 1, (size_t)n, r->stop, r->n_stop, cancel, err);
        if (status != LM_OK) return status;
        for (size_t i = 0; i < row.n_out && more; i++) more = take_token(r, stats, out[i]);
        token = row.token;
    }
    return LM_OK;
}

lm_status stream_run(lm_engine *engine, const stream_request *request, stream_stats *stats, lm_error *err) {
    memset(stats, 0, sizeof *stats);
    stats->prompt_tokens = (int64_t)request->n_prompt;
    if (request->n_prompt == 0) return cli_error(err, LM_ARG, "the prompt is empty: expected at least one token");
    double start = cli_now();
    lm_seq *seq = NULL;
    int32_t first = 0;
    lm_status status = lm_seq_create(engine, LM_KV_AUTO, &seq, err);
    if (status == LM_OK && request->kv_type != LM_KV_AUTO)
        status = lm_seq_quantize(seq, request->kv_type, request->quantized_start, err);
    if (status == LM_OK && request->on_start) request->on_start(request->user);
    if (status == LM_OK) status = prefill(engine, request, seq, &first, err);
    double begun = cli_now();
    stats->prompt_seconds = begun - start;
    if (status == LM_OK) status = decode(engine, request, seq, first, stats, err);
    stats->generation_seconds = cli_now() - begun;
    lm_seq_destroy(seq);
    return status;
}

double stream_prompt_tps(const stream_stats *stats) {
    return stats->prompt_seconds > 0 ? (double)stats->prompt_tokens / stats->prompt_seconds : 0;
}

double stream_generation_tps(const stream_stats *stats) {
    return stats->generation_seconds > 0 ? (double)stats->generation_tokens / stats->generation_seconds : 0;
}
