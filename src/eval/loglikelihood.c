/* SPDX-License-Identifier: MIT
 *
 * loglikelihood.c: lm-eval's loglikelihood and loglikelihood_rolling. Every request is a row of the scheduler: context
 * and continuation, of which the continuation's ids are scored. Requests go in order of their contexts, so the first
 * row of a context computes it and the others begin where it ends. */
#include "sched.h"
#include "score_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_TOKENS 8192
#define STEP_TOKENS 4096

lm_score_options lm_score_options_default(void) {
    return (lm_score_options){.batch_size = 8, .add_special_tokens = true, .share_prefix = true, .speculate = true};
}

lm_status lm_ev_score_encode(lm_engine *engine, const char *text, size_t length, const lm_score_options *o,
                             int32_t **ids, size_t *n, lm_error *err) {
    const lm_tokenizer *t = lm_engine_get_tokenizer(engine);
    if (!t) return lm_ev_fail(err, LM_ARG, "requests: the model has no tokenizer.json");
    return lm_tokenizer_encode(t, text, length, o->add_special_tokens, ids, n, err);
}

static int by_text(const void *pa, const void *pb) {
    const lm_ev_order *a = pa, *b = pb;
    size_t n = a->length < b->length ? a->length : b->length;
    int order = n ? memcmp(a->text, b->text, n) : 0;
    if (!order) order = (a->length > b->length) - (a->length < b->length);
    return order ? order : (a->index > b->index) - (a->index < b->index);
}

void lm_ev_sort(lm_ev_order *order, size_t n) {
    qsort(order, n, sizeof *order, by_text);
}

typedef struct likelihood_run {
    lm_engine *engine;
    lm_loglikelihood *requests; /* or */
    lm_loglikelihood_rolling *rolling;
    const lm_score_options *o;
    lm_ev_order *order;
    size_t n, next, done;
    int32_t *context; /* ids of the context looked at last, which is order[context_of]'s; lm_free */
    size_t n_context, context_of;
} likelihood_run;

static void tell(likelihood_run *run) {
    run->done++;
    if (run->o->progress) run->o->progress(run->o->progress_user, run->done, run->n);
}

static lm_status check_options(lm_engine *engine, const lm_score_options *o, lm_error *err) {
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    if (!info.vocab_size) return lm_ev_fail(err, LM_ARG, "requests: the engine was opened without weights");
    if (o->batch_size >= 1 && o->max_tokens >= 0) return LM_OK;
    return lm_ev_fail(err, LM_ARG, "requests: expected a batch size of at least 1 and no negative token limit");
}

static lm_status run_all(likelihood_run *run, lm_status (*next)(void *, lm_ev_work *, bool *, lm_error *),
                         lm_status (*done)(void *, const lm_ev_done *, lm_error *), lm_error *err) {
    const lm_score_options *o = run->o;
    lm_ev_sched_options options = {.batch_size = (int64_t)run->n < o->batch_size ? (int64_t)run->n : o->batch_size,
                                   .chunk = STEP_TOKENS,
                                   .share_prefix = o->share_prefix,
                                   .cancel = o->cancel,
                                   .user = run,
                                   .next = next,
                                   .done = done};
    lm_ev_sched_stats stats;
    return run->n ? lm_ev_sched_run(run->engine, &options, &stats, err) : LM_OK;
}

/* ---------------------------------------------------------------- loglikelihood */

/* Ids of the context of order[at]: requests of one context follow each other and share them. */
static lm_status encode_context(likelihood_run *run, size_t at, lm_error *err) {
    const lm_ev_order *now = &run->order[at], *last = &run->order[run->context_of];
    if (run->context && now->length == last->length && memcmp(now->text, last->text, now->length) == 0) return LM_OK;
    lm_free(run->context);
    run->context = NULL;
    run->context_of = at;
    return lm_ev_score_encode(run->engine, now->text, now->length, run->o, &run->context, &run->n_context, err);
}

/* Context ids, then those ids of context + continuation that are past their number. */
static lm_status encode_request(likelihood_run *run, const lm_loglikelihood *r, size_t index, int32_t **ids, size_t *n,
                                lm_error *err) {
    lm_ev_buf text = {0};
    lm_ev_buf_add(&text, r->context, r->context_length);
    lm_ev_buf_add(&text, r->continuation, r->continuation_length);
    lm_status status = text.failed ? lm_ev_fail(err, LM_NOMEM, "request %zu: out of memory for its text", index)
                                   : lm_ev_score_encode(run->engine, text.data, text.length, run->o, ids, n, err);
    lm_ev_buf_free(&text);
    EV_TRY(status);
    if (*n > run->n_context) {
        if (run->n_context) memcpy(*ids, run->context, run->n_context * sizeof **ids);
        return LM_OK;
    }
    lm_free(*ids);
    return lm_ev_fail(err, LM_ARG,
                      "request %zu: the continuation adds no token: expected more than the context's %zu, found %zu "
                      "with it",
                      index, run->n_context, *n);
}

/* The next request with something left of its context; those without are -infinity at once. */
static lm_status next_request(void *user, lm_ev_work *work, bool *more, lm_error *err) {
    likelihood_run *run = user;
    const size_t limit = (size_t)(run->o->max_tokens > 0 ? run->o->max_tokens : DEFAULT_MAX_TOKENS);
    for (*more = false; !*more && run->next < run->n;) {
        size_t at = run->next++, i = run->order[at].index, n = 0;
        lm_loglikelihood *r = &run->requests[i];
        int32_t *ids = NULL;
        EV_TRY(encode_context(run, at, err));
        EV_TRY(encode_request(run, r, i, &ids, &n, err));
        size_t cut = n > limit + 1 ? n - limit - 1 : 0; /* too long an input loses its beginning */
        r->n_tokens = (int64_t)(n - run->n_context);
        r->logprob = 0;
        r->greedy = true;
        *more = cut < run->n_context;
        if (*more) {
            if (cut) memmove(ids, ids + cut, (n - cut) * sizeof *ids);
            *work =
                (lm_ev_work){.id = i, .ids = ids, .n_ids = n - cut, .scored = run->n_context - cut, .want_top = true};
        } else {
            lm_free(ids);
            r->logprob = -(double)INFINITY;
            r->greedy = false;
            tell(run);
        }
    }
    return LM_OK;
}

static lm_status take_request(void *user, const lm_ev_done *done, lm_error *err) {
    likelihood_run *run = user;
    lm_loglikelihood *r = &run->requests[done->id];
    const int32_t *ids = done->ids + done->n_ids - done->n_scored;
    for (size_t i = 0; i < done->n_scored; i++) {
        if (isnan(done->logprob[i]))
            return lm_ev_fail(err, LM_BACKEND, "request %zu: the log-likelihood is not a number", done->id);
        r->logprob += (double)done->logprob[i];
        r->greedy = r->greedy && done->top[i] == ids[i];
    }
    tell(run);
    return LM_OK;
}

lm_status lm_score_loglikelihood(lm_engine *engine, lm_loglikelihood *requests, size_t n,
                                 const lm_score_options *options, lm_error *err) {
    likelihood_run run = {.engine = engine, .requests = requests, .o = options, .n = n};
    EV_TRY(check_options(engine, options, err));
    if (!n) return LM_OK;
    for (size_t i = 0; i < n; i++) /* before hours of work */
        if (!requests[i].continuation_length)
            return lm_ev_fail(err, LM_ARG, "request %zu: the continuation is empty: expected at least one token", i);
    run.order = malloc(n * sizeof *run.order);
    if (!run.order) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu requests", n);
    for (size_t i = 0; i < n; i++) run.order[i] = (lm_ev_order){requests[i].context, requests[i].context_length, i};
    lm_ev_sort(run.order, n);
    lm_status status = run_all(&run, next_request, take_request, err);
    lm_free(run.context);
    free(run.order);
    return status;
}

/* ---------------------------------------------------------------- rolling */

static lm_status next_text(void *user, lm_ev_work *work, bool *more, lm_error *err) {
    likelihood_run *run = user;
    for (*more = false; !*more && run->next < run->n;) {
        size_t i = run->next++, n = 0;
        lm_loglikelihood_rolling *r = &run->rolling[i];
        int32_t *ids = NULL;
        EV_TRY(lm_ev_score_encode(run->engine, r->text, r->length, run->o, &ids, &n, err));
        r->n_tokens = (int64_t)n;
        r->logprob = 0;
        *more = n > 1;
        if (*more) {
            *work = (lm_ev_work){.id = i, .ids = ids, .n_ids = n, .scored = 1};
        } else {
            lm_free(ids);
            tell(run);
        }
    }
    return LM_OK;
}

static lm_status take_text(void *user, const lm_ev_done *done, lm_error *err) {
    likelihood_run *run = user;
    lm_loglikelihood_rolling *r = &run->rolling[done->id];
    for (size_t i = 0; i < done->n_scored; i++) r->logprob += (double)done->logprob[i];
    if (isnan(r->logprob)) return lm_ev_fail(err, LM_BACKEND, "text %zu: the log-likelihood is not a number", done->id);
    tell(run);
    return LM_OK;
}

lm_status lm_score_loglikelihood_rolling(lm_engine *engine, lm_loglikelihood_rolling *requests, size_t n,
                                         const lm_score_options *options, lm_error *err) {
    likelihood_run run = {.engine = engine, .rolling = requests, .o = options, .n = n};
    EV_TRY(check_options(engine, options, err));
    return run_all(&run, next_text, take_text, err);
}
