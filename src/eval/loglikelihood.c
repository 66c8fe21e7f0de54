/* SPDX-License-Identifier: MIT
 *
 * loglikelihood.c: lm-eval's loglikelihood and loglikelihood_rolling. Requests with one context string are a group,
 * whose context is computed once. Groups go in waves of batch_size: first their contexts, whose last logits score every
 * continuation's first id, then what follows, from forks of the contexts. */
#include "score_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_TOKENS 8192
#define STEP_TOKENS 4096
#define MIN_SHARED 32 /* a shorter common beginning isn't worth a fork */

typedef struct request_state {
    const lm_loglikelihood *r;
    size_t index;       /* in the caller's order */
    const int32_t *ids; /* [n]: the continuation's, inside `full` */
    int32_t *full;      /* lm_free */
    size_t n, n_full;
} request_state;

typedef struct context_group {
    size_t first, count; /* of the sorted requests */
    int32_t *ids;        /* lm_free */
    const int32_t *kept; /* ids without what was cut at the left */
    size_t n_ids, n;     /* all ids; those kept */
    float *logits;       /* [vocab] after the last id */
    int32_t top;
    double lse;
} context_group;

typedef struct likelihood_run {
    lm_engine *engine;
    lm_loglikelihood *out;
    const lm_score_options *o;
    request_state *requests; /* [n], those of a group together */
    size_t n, done;
    context_group *groups;
    size_t n_groups, vocab;
    lm_seq *anchor; /* the last context computed */
} likelihood_run;

lm_score_options lm_score_options_default(void) {
    return (lm_score_options){.batch_size = 8, .add_special_tokens = true, .share_prefix = true};
}

lm_status lm_ev_score_encode(lm_engine *engine, const char *text, size_t length, const lm_score_options *o,
                             int32_t **ids, size_t *n, lm_error *err) {
    const lm_tokenizer *t = lm_engine_get_tokenizer(engine);
    if (!t) return lm_ev_fail(err, LM_ARG, "requests: the model has no tokenizer.json");
    return lm_tokenizer_encode(t, text, length, o->add_special_tokens, ids, n, err);
}

size_t lm_ev_shared(const lm_seq *seq, const int32_t *ids, size_t most) {
    if (!seq) return 0;
    const int32_t *held = lm_seq_tokens(seq);
    size_t n = (size_t)lm_seq_length(seq), same = 0;
    while (same < n && same < most && held[same] == ids[same]) same++;
    return same < MIN_SHARED ? 0 : same;
}

/* ---------------------------------------------------------------- groups */

static int compare_contexts(const lm_loglikelihood *a, const lm_loglikelihood *b) {
    size_t n = a->context_length < b->context_length ? a->context_length : b->context_length;
    int order = n ? memcmp(a->context, b->context, n) : 0;
    return order ? order : (a->context_length > b->context_length) - (a->context_length < b->context_length);
}

static int by_context(const void *pa, const void *pb) {
    const request_state *a = pa, *b = pb;
    int order = compare_contexts(a->r, b->r);
    return order ? order : (a->index > b->index) - (a->index < b->index);
}

static const request_state *sorted_requests(const context_group *g, const likelihood_run *run) {
    return &run->requests[g->first];
}

/* Groups stand next to each other; a wave takes them in order of context, so that common beginnings meet. */
static lm_status make_groups(likelihood_run *run, lm_error *err) {
    run->requests = calloc(run->n, sizeof *run->requests);
    run->groups = calloc(run->n, sizeof *run->groups);
    if (!run->requests || !run->groups) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu requests", run->n);
    for (size_t i = 0; i < run->n; i++) run->requests[i] = (request_state){.r = &run->out[i], .index = i};
    qsort(run->requests, run->n, sizeof *run->requests, by_context);
    for (size_t i = 0; i < run->n; i++) {
        if (!i || compare_contexts(run->requests[i - 1].r, run->requests[i].r) != 0)
            run->groups[run->n_groups++].first = i;
        run->groups[run->n_groups - 1].count++;
    }
    return LM_OK;
}

static lm_status encode_request(likelihood_run *run, context_group *g, request_state *s, lm_ev_buf *text,
                                lm_error *err) {
    const lm_loglikelihood *r = s->r;
    text->length = 0;
    lm_ev_buf_add(text, r->context, r->context_length);
    lm_ev_buf_add(text, r->continuation, r->continuation_length);
    if (text->failed) return lm_ev_fail(err, LM_NOMEM, "request %zu: out of memory for its text", s->index);
    EV_TRY(
        lm_ev_score_encode(run->engine, text->data ? text->data : "", text->length, run->o, &s->full, &s->n_full, err));
    if (s->n_full <= g->n_ids)
        return lm_ev_fail(err, LM_ARG,
                          "request %zu: the continuation adds no token: expected more than the context's %zu, found "
                          "%zu with it",
                          s->index, g->n_ids, s->n_full);
    s->ids = s->full + g->n_ids;
    s->n = s->n_full - g->n_ids;
    return LM_OK;
}

/* Ids of a group's context and of its continuations; what is too long is cut at the left of the context. */
static lm_status encode_group(likelihood_run *run, context_group *g, lm_error *err) {
    const lm_loglikelihood *r = sorted_requests(g, run)->r;
    EV_TRY(lm_ev_score_encode(run->engine, r->context, r->context_length, run->o, &g->ids, &g->n_ids, err));
    lm_ev_buf text = {0};
    lm_status status = LM_OK;
    size_t longest = 0, limit = (size_t)(run->o->max_tokens > 0 ? run->o->max_tokens : DEFAULT_MAX_TOKENS);
    for (size_t i = g->first; status == LM_OK && i < g->first + g->count; i++) {
        status = encode_request(run, g, &run->requests[i], &text, err);
        if (run->requests[i].n_full > longest) longest = run->requests[i].n_full;
    }
    lm_ev_buf_free(&text);
    size_t cut = longest > limit + 1 ? longest - limit - 1 : 0;
    if (cut > g->n_ids) cut = g->n_ids;
    g->kept = g->ids + cut;
    g->n = g->n_ids - cut;
    return status;
}

static void free_group(likelihood_run *run, context_group *g) {
    lm_free(g->ids);
    free(g->logits);
    g->ids = NULL;
    g->logits = NULL;
    for (size_t i = g->first; i < g->first + g->count; i++) {
        lm_free(run->requests[i].full);
        run->requests[i].full = NULL;
    }
}

/* ---------------------------------------------------------------- contexts */

/* log of the sum of exponentials, and the likeliest id: for all first ids of a group's continuations. */
static lm_status read_logits(context_group *g, size_t vocab, lm_error *err) {
    float best = -INFINITY;
    for (size_t i = 0; i < vocab; i++)
        if (g->logits[i] > best) best = g->logits[i], g->top = (int32_t)i;
    if (!isfinite(best)) return lm_ev_fail(err, LM_BACKEND, "loglikelihood: the largest logit is not finite");
    double sum = 0;
    for (size_t i = 0; i < vocab; i++)
        if (!isnan(g->logits[i])) sum += (double)expf(g->logits[i] - best);
    g->lse = (double)best + log(sum);
    return LM_OK;
}

/* Computes the contexts of groups [from, to); their sequences stay in jobs. */
static lm_status run_contexts(likelihood_run *run, size_t from, size_t to, lm_ev_job *jobs, lm_error *err) {
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        context_group *g = &run->groups[i];
        if (!g->n) continue;
        g->logits = malloc(run->vocab * sizeof *g->logits);
        if (!g->logits) return lm_ev_fail(err, LM_NOMEM, "out of memory for a row of logits");
        size_t shared = run->o->share_prefix ? lm_ev_shared(run->anchor, g->kept, g->n - 1) : 0;
        jobs[n++] = (lm_ev_job){.from = shared ? run->anchor : NULL,
                                .keep = (int64_t)shared,
                                .tokens = g->kept + shared,
                                .n_tokens = g->n - shared,
                                .want = g->n - shared - 1,
                                .last_logits = g->logits,
                                .keep_seq = true};
    }
    EV_TRY(lm_ev_jobs_run(run->engine, jobs, n, (size_t)run->o->batch_size, STEP_TOKENS, run->o->cancel, err));
    for (size_t i = from; i < to; i++)
        if (run->groups[i].n) EV_TRY(read_logits(&run->groups[i], run->vocab, err));
    return LM_OK;
}

/* ---------------------------------------------------------------- continuations */

static void score_first(likelihood_run *run, const context_group *g) {
    for (size_t i = g->first; i < g->first + g->count; i++) {
        const request_state *s = &run->requests[i];
        lm_loglikelihood *r = &run->out[s->index];
        r->n_tokens = (int64_t)s->n;
        r->logprob = g->n ? (double)(float)((double)g->logits[s->ids[0]] - g->lse) : -(double)INFINITY;
        r->greedy = g->n && s->ids[0] == g->top;
    }
}

/* What follows the first ids, of one wave. */
typedef struct follow {
    lm_ev_job *jobs;
    const request_state **owner;
    float *logprob;
    int32_t *top;
    size_t n;
} follow;

static lm_status make_follow(likelihood_run *run, size_t from, size_t to, const lm_ev_job *contexts, follow *f,
                             lm_error *err) {
    size_t n = 0, ids = 0, at = 0, context = 0;
    for (size_t i = from; i < to; i++) {
        const context_group *g = &run->groups[i];
        for (size_t k = g->first; g->n && k < g->first + g->count; k++)
            if (run->requests[k].n > 1) n++, ids += run->requests[k].n - 1;
    }
    if (!n) return LM_OK;
    f->jobs = calloc(n, sizeof *f->jobs);
    f->owner = malloc(n * sizeof *f->owner);
    f->logprob = malloc(ids * sizeof *f->logprob);
    f->top = malloc(ids * sizeof *f->top);
    if (!f->jobs || !f->owner || !f->logprob || !f->top)
        return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu continuations", n);
    for (size_t i = from; i < to; i++) {
        const context_group *g = &run->groups[i];
        if (!g->n) continue;
        const lm_seq *seq = contexts[context++].seq;
        for (size_t k = g->first; k < g->first + g->count; k++) {
            const request_state *s = &run->requests[k];
            if (s->n < 2) continue;
            f->owner[f->n] = s;
            f->jobs[f->n++] = (lm_ev_job){.from = seq,
                                          .keep = lm_seq_length(seq),
                                          .tokens = s->ids,
                                          .n_tokens = s->n - 1,
                                          .targets = s->ids + 1,
                                          .target_logprob = f->logprob + at,
                                          .top = f->top + at};
            at += s->n - 1;
        }
    }
    return LM_OK;
}

static lm_status run_follow(likelihood_run *run, follow *f, lm_error *err) {
    if (!f->n) return LM_OK;
    EV_TRY(lm_ev_jobs_run(run->engine, f->jobs, f->n, (size_t)run->o->batch_size, STEP_TOKENS, run->o->cancel, err));
    for (size_t i = 0; i < f->n; i++) {
        const lm_ev_job *j = &f->jobs[i];
        lm_loglikelihood *r = &run->out[f->owner[i]->index];
        for (size_t k = 0; k < j->n_tokens; k++) {
            r->logprob += (double)j->target_logprob[k];
            r->greedy = r->greedy && j->top[k] == j->targets[k];
        }
    }
    return LM_OK;
}

static void free_follow(follow *f) {
    free(f->jobs);
    free(f->owner);
    free(f->logprob);
    free(f->top);
}

/* ---------------------------------------------------------------- waves */

/* The wave's last context serves the next wave; the others end. */
static void keep_anchor(likelihood_run *run, lm_ev_job *jobs, size_t n) {
    for (size_t i = n; i-- > 0;) {
        if (!jobs[i].seq) continue;
        if (run->o->share_prefix && jobs[i].seq != run->anchor) {
            lm_seq_destroy(run->anchor);
            run->anchor = jobs[i].seq;
            jobs[i].seq = NULL;
        }
        break;
    }
    for (size_t i = 0; i < n; i++) lm_seq_destroy(jobs[i].seq);
}

static lm_status run_wave(likelihood_run *run, size_t from, size_t to, lm_error *err) {
    lm_ev_job *jobs = calloc(to - from, sizeof *jobs);
    follow f = {0};
    lm_status status = jobs ? LM_OK : lm_ev_fail(err, LM_NOMEM, "out of memory for %zu contexts", to - from);
    for (size_t i = from; status == LM_OK && i < to; i++) status = encode_group(run, &run->groups[i], err);
    if (status == LM_OK) status = run_contexts(run, from, to, jobs, err);
    for (size_t i = from; status == LM_OK && i < to; i++) score_first(run, &run->groups[i]);
    if (status == LM_OK) status = make_follow(run, from, to, jobs, &f, err);
    if (status == LM_OK) status = run_follow(run, &f, err);
    free_follow(&f);
    if (jobs) keep_anchor(run, jobs, to - from);
    free(jobs);
    for (size_t i = from; i < to; i++) {
        run->done += run->groups[i].count;
        free_group(run, &run->groups[i]);
    }
    if (status == LM_OK && run->o->progress) run->o->progress(run->o->progress_user, run->done, run->n);
    return status;
}

/* The first wave is one group, so that the others find its context. */
static lm_status run_waves(likelihood_run *run, lm_error *err) {
    size_t batch = (size_t)run->o->batch_size;
    for (size_t from = 0; from < run->n_groups;) {
        size_t n = from == 0 && run->o->share_prefix ? 1 : batch;
        if (n > run->n_groups - from) n = run->n_groups - from;
        EV_TRY(run_wave(run, from, from + n, err));
        from += n;
    }
    return LM_OK;
}

static lm_status check_options(lm_engine *engine, const lm_score_options *o, size_t *vocab, lm_error *err) {
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    *vocab = (size_t)info.vocab_size;
    if (!*vocab) return lm_ev_fail(err, LM_ARG, "requests: the engine was opened without weights");
    if (o->batch_size >= 1 && o->max_tokens >= 0) return LM_OK;
    return lm_ev_fail(err, LM_ARG, "requests: expected a batch size of at least 1 and no negative token limit");
}

lm_status lm_score_loglikelihood(lm_engine *engine, lm_loglikelihood *requests, size_t n,
                                 const lm_score_options *options, lm_error *err) {
    likelihood_run run = {.engine = engine, .out = requests, .o = options, .n = n};
    EV_TRY(check_options(engine, options, &run.vocab, err));
    if (!n) return LM_OK;
    for (size_t i = 0; i < n; i++) /* before hours of work */
        if (!requests[i].continuation_length)
            return lm_ev_fail(err, LM_ARG, "request %zu: the continuation is empty: expected at least one token", i);
    lm_status status = make_groups(&run, err);
    if (status == LM_OK) status = run_waves(&run, err);
    lm_seq_destroy(run.anchor);
    free(run.requests);
    free(run.groups);
    return status;
}

/* ---------------------------------------------------------------- rolling */

/* Texts [0, n) of one batch. ids[i] are freed by the caller. */
static lm_status roll_batch(lm_engine *engine, lm_loglikelihood_rolling *r, size_t n, int32_t **ids, lm_ev_job *jobs,
                            const lm_score_options *o, lm_error *err) {
    size_t total = 0, n_jobs = 0, at = 0;
    for (size_t i = 0; i < n; i++) {
        size_t length = 0;
        EV_TRY(lm_ev_score_encode(engine, r[i].text, r[i].length, o, &ids[i], &length, err));
        r[i].n_tokens = (int64_t)length;
        r[i].logprob = 0;
        if (length > 1) total += length - 1;
    }
    if (!total) return LM_OK;
    float *logprob = malloc(total * sizeof *logprob);
    if (!logprob) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu log-probabilities", total);
    for (size_t i = 0; i < n; i++) {
        if (r[i].n_tokens < 2) continue;
        size_t length = (size_t)r[i].n_tokens - 1;
        jobs[n_jobs++] =
            (lm_ev_job){.tokens = ids[i], .n_tokens = length, .targets = ids[i] + 1, .target_logprob = logprob + at};
        at += length;
    }
    lm_status status = lm_ev_jobs_run(engine, jobs, n_jobs, (size_t)o->batch_size, STEP_TOKENS, o->cancel, err);
    at = 0;
    for (size_t i = 0; status == LM_OK && i < n; i++)
        for (int64_t k = 1; k < r[i].n_tokens; k++) r[i].logprob += (double)logprob[at++];
    free(logprob);
    return status;
}

lm_status lm_score_loglikelihood_rolling(lm_engine *engine, lm_loglikelihood_rolling *requests, size_t n,
                                         const lm_score_options *options, lm_error *err) {
    size_t vocab, batch = (size_t)options->batch_size;
    EV_TRY(check_options(engine, options, &vocab, err));
    if (batch > n) batch = n ? n : 1;
    int32_t **ids = calloc(batch, sizeof *ids);
    lm_ev_job *jobs = calloc(batch, sizeof *jobs);
    lm_status status = LM_OK;
    if (!ids || !jobs) status = lm_ev_fail(err, LM_NOMEM, "out of memory for %zu texts", batch);
    for (size_t from = 0; status == LM_OK && from < n; from += batch) {
        size_t count = n - from < batch ? n - from : batch;
        status = roll_batch(engine, requests + from, count, ids, jobs, options, err);
        for (size_t i = 0; i < count; i++) {
            lm_free(ids[i]);
            ids[i] = NULL;
        }
        if (status == LM_OK && options->progress) options->progress(options->progress_user, from + count, n);
    }
    free(ids);
    free(jobs);
    return status;
}
