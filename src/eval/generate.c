/* SPDX-License-Identifier: MIT
 * generate.c: runs the model over the unanswered requests: hands their prompts to the scheduler in order, so that a
 * task's common beginning stays at hand, and files what comes back. */
#include "journal.h"
#include "sched.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct run {
    lm_eval *eval;
    const lm_tokenizer *tokenizer;
    const lm_eval_run_options *options;
    size_t next; /* first answer not looked at */
    double start;
} run;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

lm_eval_run_options lm_eval_run_options_default(void) {
    return (lm_eval_run_options){.batch_size = 16,
                                 .prefill_chunk = 512,
                                 .share_prefix = true,
                                 .speculate = true,
                                 .early_stop = true,
                                 .sampler = lm_sampler_greedy(),
                                 .seed = 123};
}

static lm_status encode(const run *r, const lm_ev_run_task *task, size_t doc, int32_t **ids, size_t *n, lm_error *err) {
    char *prompt = NULL;
    size_t length = 0;
    EV_TRY(lm_ev_prompt(r->eval, task, doc, &prompt, &length, err));
    bool special = !r->eval->chat;
    if (r->eval->rules == LM_EVAL_RULES_LM_EVAL) { /* lm-eval looks whether the text has its BOS already */
        const char *bos = lm_tokenizer_bos_token(r->tokenizer);
        special = !bos || !*bos || strncmp(prompt, bos, strlen(bos)) != 0;
    }
    lm_status status = lm_tokenizer_encode(r->tokenizer, prompt, length, special, ids, n, err);
    free(prompt);
    if (status == LM_OK && *n == 0) {
        lm_free(*ids);
        *ids = NULL;
        return lm_ev_fail(err, LM_ARG, "%s doc_id %zu: the prompt has no tokens", task->task->name, doc);
    }
    return status;
}

/* ---- what the scheduler calls */

/* Answer k of question i: a stream for every pair; the first one's is what it would be without repeats. */
static uint64_t seed_of(const run *r, size_t unit) {
    uint64_t question = unit / r->eval->repeats, repeat = unit % r->eval->repeats;
    return r->options->seed + 0x9e3779b97f4a7c15u * question + 0xbf58476d1ce4e5b9u * repeat;
}

static lm_status next_work(void *user, lm_ev_work *work, bool *more, lm_error *err) {
    run *r = user;
    const lm_eval *eval = r->eval;
    while (r->next < eval->n_requests * eval->repeats && eval->answers[r->next].answered) r->next++;
    *more = r->next < eval->n_requests * eval->repeats;
    if (!*more) return LM_OK;
    size_t doc = 0, unit = r->next++;
    const lm_ev_run_task *task = lm_ev_task_of(eval, unit / eval->repeats, &doc);
    *work = (lm_ev_work){.id = unit,
                         .max_out = (size_t)lm_ev_token_cap(eval, task->task),
                         .sampler = r->options->sampler,
                         .until = task->task->family->until};
    lm_sampler_seed(&work->sampler, seed_of(r, unit));
    return encode(r, task, doc, &work->ids, &work->n_ids, err);
}

static lm_status take_done(void *user, const lm_ev_done *done, lm_error *err) {
    run *r = user;
    lm_eval *eval = r->eval;
    char *text = NULL;
    size_t length = 0;
    EV_TRY(lm_tokenizer_decode(r->tokenizer, done->out, done->n_out, false, &text, &length, err));
    int32_t *ids = malloc((done->n_out + 1) * sizeof *ids);
    if (!ids) {
        lm_free(text);
        return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu generated ids", done->n_out);
    }
    memcpy(ids, done->out, done->n_out * sizeof *ids);
    EV_TRY(lm_ev_store(eval, done->id, text, length, ids, done->n_out, done->n_ids, done->finish, err));
    if (r->options->journal) EV_TRY(lm_ev_journal_add(r->options->journal, done->id, err));
    eval->stats.score_sum += eval->answers[done->id].score;
    eval->stats.n_done++;
    return LM_OK;
}

static lm_status after_step(void *user, const lm_ev_sched_stats *s, double seconds, lm_error *err) {
    run *r = user;
    lm_eval_progress *p = &r->eval->stats;
    double end = now();
    p->prompt_tokens = s->prompt_tokens;
    p->computed_tokens = s->computed_tokens;
    p->generated_tokens = s->generated_tokens;
    p->prompt_seconds = s->prompt_seconds;
    p->steps = s->steps;
    p->decoded = s->decoded;
    p->suspended = s->suspended;
    p->anon_bytes = s->anon_bytes;
    p->file_bytes = s->file_bytes;
    p->seconds = end - r->start;
    if (r->options->progress) r->options->progress(r->options->progress_user, p);
    return r->options->journal ? lm_ev_journal_tick(r->options->journal, end, seconds, err) : LM_OK;
}

/* ---- the run */

/* Keeps the engine's facts for the report; its strings are copied, as the engine may be closed before. */
static lm_status note_engine(lm_eval *eval, lm_engine *engine, lm_error *err) {
    lm_engine_get_info(engine, &eval->engine);
    const char **texts[] = {&eval->engine.path,      &eval->engine.model_type, &eval->engine.dtype,
                            &eval->engine.precision, &eval->engine.device,     &eval->engine.numerics,
                            &eval->engine.kv_type};
    size_t n = sizeof texts / sizeof *texts, size = 0, used = 0;
    for (size_t i = 0; i < n; i++) size += (*texts[i] ? strlen(*texts[i]) : 0) + 1;
    free(eval->engine_text);
    eval->engine_text = malloc(size);
    if (!eval->engine_text) return lm_ev_fail(err, LM_NOMEM, "out of memory for the engine's facts");
    for (size_t i = 0; i < n; i++) {
        if (!*texts[i]) continue;
        size_t length = strlen(*texts[i]) + 1;
        memcpy(eval->engine_text + used, *texts[i], length);
        *texts[i] = eval->engine_text + used;
        used += length;
    }
    return LM_OK;
}

const char *lm_ev_kv_name(lm_kv_type type, const lm_engine_info *info) {
    switch (type) {
    case LM_KV_F32: return "float32";
    case LM_KV_F16: return "float16";
    case LM_KV_BF16: return "bfloat16";
    case LM_KV_AUTO:
    case LM_KV_QUANTIZED: break;
    }
    return info->kv_type ? info->kv_type : "";
}

static lm_status check(const lm_eval *eval, const lm_engine *engine, const lm_eval_run_options *o, lm_error *err) {
    if (!lm_engine_get_tokenizer(engine)) return lm_ev_fail(err, LM_ARG, "questions: the model has no tokenizer.json");
    if (o->batch_size < 1 || o->batch_size > 65536)
        return lm_ev_fail(err, LM_ARG, "--batch-size: expected 1 to 65536, found %lld", (long long)o->batch_size);
    if (o->prefill_chunk < 1) return lm_ev_fail(err, LM_ARG, "prefill chunk: expected 1 or more");
    if (eval->rules != LM_EVAL_RULES_MLX_LM && o->sampler.temp > 0)
        return lm_ev_fail(err, LM_ARG, "--temp: --rules %s are greedy", lm_eval_rules_name(eval->rules));
    if (eval->repeats > 1 && !(o->sampler.temp > 0))
        return lm_ev_fail(err, LM_ARG, "--repeats: greedy answers repeat themselves: expected a --temp above 0");
    return LM_OK;
}

static void begin(run *r) {
    lm_eval *eval = r->eval;
    const lm_eval_run_options *o = r->options;
    const size_t units = eval->n_requests * eval->repeats;
    eval->stats = (lm_eval_progress){.n_total = units - eval->n_answered, .n_before = eval->n_answered};
    for (size_t i = 0; i < units; i++)
        if (eval->answers[i].answered) eval->stats.score_sum += eval->answers[i].score;
    eval->batch_size = o->batch_size;
    eval->shared = o->share_prefix;
    eval->speculated = o->speculate;
    eval->stopped_early = o->early_stop;
    eval->engine.kv_type = lm_ev_kv_name(o->kv_type, &eval->engine);
}

lm_status lm_eval_generate(lm_eval *eval, lm_engine *engine, const lm_eval_run_options *options, lm_error *err) {
    EV_TRY(check(eval, engine, options, err));
    EV_TRY(note_engine(eval, engine, err));
    run r = {.eval = eval, .tokenizer = lm_engine_get_tokenizer(engine), .options = options, .start = now()};
    begin(&r);
    size_t left = eval->stats.n_total;
    lm_ev_sched_options o = {.batch_size = (int64_t)left < options->batch_size ? (int64_t)left : options->batch_size,
                             .chunk = options->prefill_chunk,
                             .share_prefix = options->share_prefix,
                             .speculate = options->speculate,
                             .early_stop = options->early_stop,
                             .kv_type = options->kv_type,
                             .cancel = options->cancel,
                             .user = &r,
                             .next = next_work,
                             .done = take_done,
                             .stepped = after_step};
    lm_ev_sched_stats stats;
    lm_status status = left ? lm_ev_sched_run(engine, &o, &stats, err) : LM_OK;
    if (options->journal) { /* what was answered is kept, whatever ended the run */
        bool good = status == LM_OK || status == LM_CANCELLED;
        lm_status synced = lm_ev_journal_sync(options->journal, good ? err : NULL);
        if (good && synced != LM_OK) status = synced;
    }
    if (status == LM_CANCELLED)
        lm_ev_fail(err, LM_CANCELLED, "cancelled after %zu of %zu questions", eval->n_answered,
                   eval->n_requests * eval->repeats);
    lm_memory_stats memory = {0};
    lm_engine_get_memory(engine, &memory);
    eval->peak_bytes = memory.peak;
    eval->memory_budget = memory.budget;
    eval->rss_peak = memory.rss_peak;
    eval->ran = true;
    eval->stats.seconds = now() - r.start;
    return status;
}
