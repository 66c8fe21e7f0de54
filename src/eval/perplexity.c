/* SPDX-License-Identifier: MIT
 *
 * perplexity.c: token rows through a model. Without a comparison only the targets' log-probabilities leave the engine.
 * With one, logits come in slices of bounded size: the base model takes the same steps beside the model, or its
 * log-probabilities are read from a file. */
#include "score_internal.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_LOGITS ((int64_t)64 << 20)
#define STEP_TOKENS 8192 /* of a step that computes targets only */

typedef struct scoring {
    const lm_rows *rows;
    const lm_perplexity_options *o;
    lm_ev_pack model, base;
    lm_ev_job *jobs, *base_jobs; /* one a row with predictions */
    int64_t *first;              /* [n_jobs] index of a job's first scored position */
    size_t n_jobs, vocab;
    lm_ev_tally tally;
    lm_ev_dist p, q; /* of the base, of the model */
    float *base_x;   /* [vocab] of the file */
    lm_ev_logprobs_writer *writer;
    bool compare, logits;
} scoring;

lm_perplexity_options lm_perplexity_options_default(void) {
    return (lm_perplexity_options){.batch_size = 8};
}

/* ---------------------------------------------------------------- memory */

static lm_status make_jobs(scoring *s, lm_error *err) {
    const lm_rows *rows = s->rows;
    s->jobs = calloc(rows->n_rows, sizeof *s->jobs);
    s->base_jobs = calloc(rows->n_rows, sizeof *s->base_jobs);
    s->first = malloc(rows->n_rows * sizeof *s->first);
    s->tally.nll = malloc((size_t)rows->n_scored * sizeof(float));
    if (!s->jobs || !s->base_jobs || !s->first || !s->tally.nll)
        return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu rows", rows->n_rows);
    int64_t scored = 0;
    for (size_t i = 0; i < rows->n_rows; i++) {
        int64_t n = lm_ev_row_scored(rows, i);
        if (!n) continue;
        const int32_t *ids = rows->ids + rows->starts[i];
        lm_ev_job *j = &s->jobs[s->n_jobs];
        s->first[s->n_jobs++] = scored;
        j->tokens = ids;
        j->n_tokens = (size_t)(rows->starts[i + 1] - rows->starts[i] - 1);
        j->want = (size_t)rows->skip;
        j->targets = ids + 1 + rows->skip;
        j->target_logprob = s->tally.nll + scored; /* negated at the end */
        scored += n;
    }
    s->tally.n = rows->n_scored;
    return LM_OK;
}

static float *floats(size_t n) {
    return malloc(n * sizeof(float));
}

static lm_status make_buffers(scoring *s, size_t positions, lm_error *err) {
    size_t n = (size_t)s->rows->n_scored;
    bool ok = (s->model.logits = floats(positions * s->vocab)) && (s->q.weights = floats(s->vocab));
    if (ok && s->compare)
        ok = (s->tally.base_nll = floats(n)) && (s->tally.kld = floats(n)) && (s->p.weights = floats(s->vocab));
    if (ok && s->o->base) ok = (s->base.logits = floats(positions * s->vocab)) != NULL;
    if (ok && s->o->base_file) ok = (s->base_x = floats(s->vocab)) != NULL;
    return ok ? LM_OK : lm_ev_fail(err, LM_NOMEM, "out of memory for %zu rows of logits", positions);
}

static void free_all(scoring *s) {
    free(s->jobs);
    free(s->base_jobs);
    free(s->first);
    free(s->tally.nll);
    free(s->tally.base_nll);
    free(s->tally.kld);
    free(s->model.logits);
    free(s->base.logits);
    free(s->p.weights);
    free(s->q.weights);
    free(s->base_x);
}

/* ---------------------------------------------------------------- one position */

static lm_status compare_position(scoring *s, int64_t at, const float *base_logits, lm_error *err) {
    int32_t top = 0;
    if (s->o->base_file) {
        EV_TRY(lm_logprobs_read(s->o->base_file, at, s->base_x, &s->tally.base_nll[at], &top, err));
        base_logits = s->base_x;
    }
    if (!lm_ev_dist_set(&s->p, base_logits, s->vocab))
        return lm_ev_fail(err, LM_BACKEND, "position %lld: the base's largest logit is not finite", (long long)at);
    if (!s->o->base_file) top = s->p.top;
    s->tally.kld[at] = (float)lm_ev_kl(&s->p, &s->q, s->vocab);
    s->tally.same_top += top == s->q.top;
    return LM_OK;
}

static lm_status score_position(scoring *s, int64_t at, const float *logits, const float *base_logits, lm_error *err) {
    if (!lm_ev_dist_set(&s->q, logits, s->vocab))
        return lm_ev_fail(err, LM_BACKEND, "position %lld: the largest logit is not finite", (long long)at);
    if (s->writer) EV_TRY(lm_ev_logprobs_write(s->writer, at, logits, s->q.lse, s->tally.nll[at], s->q.top, err));
    return s->compare ? compare_position(s, at, base_logits, err) : LM_OK;
}

/* ---------------------------------------------------------------- steps */

static lm_status one_step(scoring *s, lm_error *err) {
    EV_TRY(lm_ev_pack_step(&s->model, err));
    if (!s->logits) return LM_OK;
    if (s->o->base) EV_TRY(lm_ev_pack_step(&s->base, err));
    size_t row = 0;
    for (size_t r = 0; r < s->model.n_parts; r++) {
        const lm_ev_part *part = &s->model.parts[r];
        for (size_t i = 0; i < part->n_want; i++, row++) {
            size_t want = part->want + i;
            const float *base = s->o->base ? s->base.logits + row * s->vocab : NULL;
            EV_TRY(score_position(s, s->first[part->job] + (int64_t)want, s->model.logits + row * s->vocab, base, err));
        }
    }
    return LM_OK;
}

static void tell(const scoring *s, size_t *told) {
    size_t batch = s->o->batch_size > 0 ? (size_t)s->o->batch_size : 1, done = s->model.next;
    if (!s->o->progress) return;
    if (done < s->n_jobs) done -= done % batch;
    if (done == *told) return;
    *told = done;
    s->o->progress(s->o->progress_user, done, s->n_jobs);
}

static lm_status run_steps(scoring *s, lm_error *err) {
    size_t told = 0;
    while (!lm_ev_pack_done(&s->model)) {
        EV_TRY(one_step(s, err));
        tell(s, &told);
    }
    for (int64_t i = 0; i < s->tally.n; i++) {
        s->tally.nll[i] = -s->tally.nll[i];
        if (s->compare) s->tally.base_nll[i] = -s->tally.base_nll[i];
        if (isnan(s->tally.nll[i]))
            return lm_ev_fail(err, LM_BACKEND, "position %lld: the log-likelihood is not a number", (long long)i);
    }
    return LM_OK;
}

static lm_status check_base(scoring *s, int64_t vocab, lm_error *err) {
    const lm_perplexity_options *o = s->o;
    if (o->base && o->base_file) return lm_ev_fail(err, LM_ARG, "perplexity: a base model and a base file: give one");
    if (o->base_file) return lm_ev_logprobs_match(o->base_file, s->rows, vocab, err);
    if (!o->base) return LM_OK;
    lm_engine_info base;
    lm_engine_get_info(o->base, &base);
    if (base.vocab_size == vocab) return LM_OK;
    return lm_ev_fail(err, LM_ARG, "%s: expected the model's vocabulary of %lld, found %lld", base.path,
                      (long long)vocab, (long long)base.vocab_size);
}

/* Rows whose keys and values fit into three quarters of what the engine's limit leaves, at most `rows`. Both engines of
 * a comparison take the same steps, so this is settled before the first. */
static size_t rows_that_fit(const scoring *s, lm_engine *engine, size_t rows) {
    lm_memory_stats m;
    int64_t longest = 0;
    lm_engine_get_memory(engine, &m);
    for (size_t i = 0; i < s->n_jobs; i++)
        if ((int64_t)s->jobs[i].n_tokens > longest) longest = (int64_t)s->jobs[i].n_tokens;
    int64_t each = lm_engine_plan_kv(engine, longest, LM_KV_AUTO), room = (m.limit - m.total) / 4 * 3;
    if (!m.limit || each <= 0 || room / each >= (int64_t)rows) return rows;
    return room < each ? 1 : (size_t)(room / each);
}

/* Sets up both packs; the base's takes the very same steps. */
static lm_status prepare(scoring *s, lm_engine *engine, lm_error *err) {
    lm_engine_info info;
    lm_engine_get_info(engine, &info);
    s->vocab = (size_t)info.vocab_size;
    if (!s->vocab) return lm_ev_fail(err, LM_ARG, "perplexity: the engine was opened without weights");
    EV_TRY(check_base(s, info.vocab_size, err));
    EV_TRY(make_jobs(s, err));
    size_t positions = STEP_TOKENS;
    if (s->logits) {
        int64_t bytes = s->o->logits_bytes > 0 ? s->o->logits_bytes : DEFAULT_LOGITS;
        positions = (size_t)bytes / (s->vocab * sizeof(float));
        if (positions < 1) positions = 1;
        if (positions > STEP_TOKENS) positions = STEP_TOKENS;
        EV_TRY(make_buffers(s, positions, err));
    }
    s->model.engine = engine;
    s->model.jobs = s->jobs;
    s->model.n_jobs = s->n_jobs;
    s->model.max_rows = s->o->batch_size > 0 ? (size_t)s->o->batch_size : 1;
    s->model.max_rows = rows_that_fit(s, engine, s->model.max_rows);
    if (s->o->base) s->model.max_rows = rows_that_fit(s, s->o->base, s->model.max_rows);
    s->model.max_tokens = positions;
    s->model.vocab = s->vocab;
    s->model.cancel = s->o->cancel;
    EV_TRY(lm_ev_pack_create(&s->model, err));
    if (s->o->base) {
        float *logits = s->base.logits;
        s->base = s->model;
        s->base.engine = s->o->base;
        s->base.jobs = s->base_jobs;
        memcpy(s->base_jobs, s->jobs, s->n_jobs * sizeof *s->jobs);
        for (size_t i = 0; i < s->n_jobs; i++) s->base_jobs[i].target_logprob = s->tally.base_nll + s->first[i];
        s->base.logits = logits;
        EV_TRY(lm_ev_pack_create(&s->base, err));
    }
    const char *name = s->o->save_name ? s->o->save_name : info.path;
    return s->o->save ? lm_ev_logprobs_create(s->o->save, name, &info, s->rows, &s->writer, err) : LM_OK;
}

lm_status lm_perplexity_run(lm_engine *engine, const lm_rows *rows, const lm_perplexity_options *options,
                            lm_perplexity *out, float *nll, float *kld, lm_error *err) {
    scoring s = {.rows = rows, .o = options, .compare = options->base || options->base_file};
    s.logits = s.compare || options->save;
    memset(out, 0, sizeof *out);
    lm_status status = prepare(&s, engine, err);
    if (status == LM_OK) status = run_steps(&s, err);
    lm_ev_pack_destroy(&s.model);
    if (options->base) lm_ev_pack_destroy(&s.base);
    if (status == LM_OK) status = lm_ev_tally_result(&s.tally, s.compare, out, err);
    if (status == LM_OK && s.writer)
        status = lm_ev_logprobs_commit(s.writer, err);
    else
        lm_ev_logprobs_abandon(s.writer);
    size_t n = (size_t)rows->n_scored;
    if (status == LM_OK && nll) memcpy(nll, s.tally.nll, n * sizeof *nll);
    if (status == LM_OK && kld && s.compare) memcpy(kld, s.tally.kld, n * sizeof *kld);
    free_all(&s);
    return status;
}
