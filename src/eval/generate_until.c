/* SPDX-License-Identifier: MIT
 *
 * generate_until.c: lm-eval's generate_until as a call of its own. Requests go to the scheduler in order of their
 * contexts, so that common beginnings meet. */
#include "sched.h"
#include "score_internal.h"
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_TOKENS 8192
#define STEP_TOKENS 512

typedef struct gen_run {
    lm_engine *engine;
    const lm_tokenizer *tokenizer;
    const lm_score_options *o;
    const lm_sampler *sampler;
    const char *think_end;
    lm_generate_until *requests;
    lm_ev_order *order;
    size_t n, next, done;
} gen_run;

static const char *const no_until[] = {NULL};

static const char *const *until_of(const lm_generate_until *r) {
    return r->until ? r->until : no_until;
}

static lm_status next_work(void *user, lm_ev_work *work, bool *more, lm_error *err) {
    gen_run *run = user;
    *more = run->next < run->n;
    if (!*more) return LM_OK;
    size_t i = run->order[run->next++].index;
    const lm_generate_until *r = &run->requests[i];
    *work = (lm_ev_work){.id = i,
                         .max_out = r->max_tokens > 0 ? (size_t)r->max_tokens : DEFAULT_MAX_TOKENS,
                         .sampler = run->sampler ? *run->sampler : lm_sampler_greedy(),
                         .until = until_of(r)};
    if (run->o->max_tokens > 0) work->max_out = (size_t)run->o->max_tokens;
    uint64_t key = (uint64_t)work->sampler.key[0] << 32 | work->sampler.key[1];
    if (run->sampler) lm_sampler_seed(&work->sampler, key + 0x9e3779b97f4a7c15u * (uint64_t)i);
    EV_TRY(lm_ev_score_encode(run->engine, r->context, r->context_length, run->o, &work->ids, &work->n_ids, err));
    if (work->n_ids) return LM_OK;
    lm_free(work->ids);
    return lm_ev_fail(err, LM_ARG, "request %zu: the context has no tokens: expected at least one", i);
}

static lm_status take_done(void *user, const lm_ev_done *done, lm_error *err) {
    gen_run *run = user;
    lm_generate_until *r = &run->requests[done->id];
    char *text = NULL;
    size_t length = 0, begin = 0;
    EV_TRY(lm_tokenizer_decode(run->tokenizer, done->out, done->n_out, false, &text, &length, err));
    length = lm_ev_cut_until(text, length, until_of(r));
    if (run->think_end && *run->think_end) {
        size_t n = strlen(run->think_end), at = lm_ev_find(text, length, run->think_end, n);
        if (at < length) begin = at + n;
    }
    r->text = lm_ev_copy(text + begin, length - begin);
    lm_free(text);
    if (!r->text) return lm_ev_fail(err, LM_NOMEM, "out of memory for an answer of %zu bytes", length);
    r->length = length - begin;
    r->finish = done->finish;
    r->n_tokens = (int64_t)done->n_out;
    run->done++;
    if (run->o->progress) run->o->progress(run->o->progress_user, run->done, run->n);
    return LM_OK;
}

static lm_status run_all(gen_run *run, lm_error *err) {
    const lm_score_options *o = run->o;
    run->order = malloc(run->n * sizeof *run->order);
    if (!run->order) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu requests", run->n);
    for (size_t i = 0; i < run->n; i++)
        run->order[i] = (lm_ev_order){run->requests[i].context, run->requests[i].context_length, i};
    lm_ev_sort(run->order, run->n);
    lm_ev_sched_options options = {.batch_size = (int64_t)run->n < o->batch_size ? (int64_t)run->n : o->batch_size,
                                   .chunk = STEP_TOKENS,
                                   .share_prefix = o->share_prefix,
                                   .speculate = o->speculate,
                                   .early_stop = true,
                                   .cancel = o->cancel,
                                   .user = run,
                                   .next = next_work,
                                   .done = take_done};
    lm_ev_sched_stats stats;
    lm_status status = lm_ev_sched_run(run->engine, &options, &stats, err);
    free(run->order);
    return status;
}

lm_status lm_score_generate_until(lm_engine *engine, lm_generate_until *requests, size_t n, const lm_sampler *sampler,
                                  const lm_score_options *options, lm_error *err) {
    gen_run run = {.engine = engine, .o = options, .sampler = sampler, .requests = requests, .n = n};
    const char *think_start;
    if (options->batch_size < 1 || options->max_tokens < 0)
        return lm_ev_fail(err, LM_ARG, "requests: expected a batch size of at least 1 and no negative token limit");
    run.tokenizer = lm_engine_get_tokenizer(engine);
    if (!run.tokenizer) return lm_ev_fail(err, LM_ARG, "requests: the model has no tokenizer.json");
    lm_tokenizer_think_tokens(run.tokenizer, &think_start, &run.think_end);
    for (size_t i = 0; i < n; i++) {
        requests[i].text = NULL;
        requests[i].length = 0;
    }
    lm_status status = n ? run_all(&run, err) : LM_OK;
    for (size_t i = 0; status != LM_OK && i < n; i++) {
        lm_free(requests[i].text);
        requests[i].text = NULL;
    }
    return status;
}
