/* SPDX-License-Identifier: MIT
 *
 * generate_until.c: lm-eval's generate_until as a call of its own: continuous batching over lm_step, contexts that
 * begin alike share what is computed of the beginning. (generate.c does the same for whole evaluations.) */
#include "score_internal.h"
#include <stdlib.h>
#include <string.h>

#define DEFAULT_MAX_TOKENS 8192
#define STEP_TOKENS 4096
#define UNTIL_SLACK 16 /* tokens looked at beyond the bytes of the longest `until` */

typedef struct gen_slot {
    lm_generate_until *r; /* NULL: free */
    lm_seq *seq;
    int32_t *prompt; /* lm_free */
    size_t n_prompt;
    int32_t *out;
    size_t n_out, capacity, cap;
    lm_sampler sampler;
    int32_t token, sampled;
} gen_slot;

typedef struct gen_run {
    lm_engine *engine;
    const lm_tokenizer *tokenizer;
    const lm_score_options *o;
    const lm_sampler *sampler;
    const char *think_end;
    lm_generate_until *requests;
    size_t n, next, done, n_slots;
    gen_slot *slots;
    lm_ev_job *jobs;
    gen_slot **fresh; /* whose prompt is being read */
    lm_row *rows;
    gen_slot **owner;
    lm_engine_info info;
    lm_seq *anchor; /* the prompt read last */
} gen_run;

static const char *const no_until[] = {NULL};

static const char *const *until_of(const lm_generate_until *r) {
    return r->until ? r->until : no_until;
}

/* ---------------------------------------------------------------- beginning and end of a request */

static void free_slot(gen_slot *s) {
    lm_seq_destroy(s->seq);
    lm_free(s->prompt);
    free(s->out);
    memset(s, 0, sizeof *s);
}

static lm_status start(gen_run *run, gen_slot *s, lm_error *err) {
    size_t i = run->next++;
    lm_generate_until *r = &run->requests[i];
    s->r = r;
    EV_TRY(lm_ev_score_encode(run->engine, r->context, r->context_length, run->o, &s->prompt, &s->n_prompt, err));
    if (!s->n_prompt)
        return lm_ev_fail(err, LM_ARG, "request %zu: the context has no tokens: expected at least one", i);
    s->cap = DEFAULT_MAX_TOKENS;
    if (r->max_tokens > 0) s->cap = (size_t)r->max_tokens;
    if (run->o->max_tokens > 0) s->cap = (size_t)run->o->max_tokens;
    s->token = s->prompt[s->n_prompt - 1];
    s->sampler = run->sampler ? *run->sampler : lm_sampler_greedy();
    uint64_t key = (uint64_t)s->sampler.key[0] << 32 | s->sampler.key[1];
    if (run->sampler) lm_sampler_seed(&s->sampler, key + 0x9e3779b97f4a7c15u * (uint64_t)i);
    return LM_OK;
}

static bool is_stop(const gen_run *run, int32_t id) {
    for (size_t i = 0; i < run->info.n_stop_ids; i++)
        if (run->info.stop_ids[i] == id) return true;
    return false;
}

static lm_status finish(gen_run *run, gen_slot *s, const char *why, lm_error *err) {
    char *text = NULL;
    size_t length = 0, begin = 0;
    EV_TRY(lm_tokenizer_decode(run->tokenizer, s->out, s->n_out, false, &text, &length, err));
    length = lm_ev_cut_until(text, length, until_of(s->r));
    if (run->think_end && *run->think_end) {
        size_t n = strlen(run->think_end), at = lm_ev_find(text, length, run->think_end, n);
        if (at < length) begin = at + n;
    }
    s->r->text = lm_ev_copy(text + begin, length - begin);
    lm_free(text);
    if (!s->r->text) return lm_ev_fail(err, LM_NOMEM, "out of memory for an answer of %zu bytes", length);
    s->r->length = length - begin;
    s->r->finish = why;
    s->r->n_tokens = (int64_t)s->n_out;
    free_slot(s);
    run->done++;
    if (run->o->progress) run->o->progress(run->o->progress_user, run->done, run->n);
    return LM_OK;
}

/* ---------------------------------------------------------------- prompts */

/* Reads all but the last id of the fresh slots' prompts. */
static lm_status read_prompts(gen_run *run, size_t n, lm_error *err) {
    size_t n_jobs = 0;
    for (size_t i = 0; i < n; i++) {
        gen_slot *s = run->fresh[i];
        if (s->n_prompt == 1) {
            EV_TRY(lm_seq_create(run->engine, LM_KV_AUTO, &s->seq, err));
            continue;
        }
        size_t most = s->n_prompt - 1, shared = run->o->share_prefix ? lm_ev_shared(run->anchor, s->prompt, most) : 0;
        if (shared == most) {
            EV_TRY(lm_seq_fork(run->anchor, (int64_t)most, &s->seq, err));
            continue;
        }
        run->fresh[n_jobs] = s; /* n_jobs <= i */
        run->jobs[n_jobs++] = (lm_ev_job){.from = shared ? run->anchor : NULL,
                                          .keep = (int64_t)shared,
                                          .tokens = s->prompt + shared,
                                          .n_tokens = most - shared,
                                          .want = most - shared,
                                          .keep_seq = true};
    }
    if (!n_jobs) return LM_OK;
    EV_TRY(lm_ev_jobs_run(run->engine, run->jobs, n_jobs, n_jobs, STEP_TOKENS, run->o->cancel, err));
    for (size_t i = 0; i < n_jobs; i++) run->fresh[i]->seq = run->jobs[i].seq;
    if (!run->o->share_prefix) return LM_OK;
    lm_seq *last = run->fresh[n_jobs - 1]->seq, *anchor = NULL;
    EV_TRY(lm_seq_fork(last, lm_seq_length(last), &anchor, err));
    lm_seq_destroy(run->anchor);
    run->anchor = anchor;
    return LM_OK;
}

/* Gives free slots their next requests. Nothing to share yet: the first request goes alone. */
static lm_status refill(gen_run *run, lm_error *err) {
    while (run->next < run->n) {
        size_t n = 0, room = run->o->share_prefix && run->next == 0 ? 1 : run->n_slots;
        for (size_t i = 0; i < run->n_slots && n < room && run->next < run->n; i++) {
            if (run->slots[i].r) continue;
            EV_TRY(start(run, &run->slots[i], err));
            run->fresh[n++] = &run->slots[i];
        }
        if (!n) return LM_OK;
        EV_TRY(read_prompts(run, n, err));
    }
    return LM_OK;
}

/* ---------------------------------------------------------------- decoding */

/* True as soon as an `until` string is complete. Only the end of the text is decoded each time; the whole decides. */
static lm_status reached_until(const gen_run *run, const gen_slot *s, bool *reached, lm_error *err) {
    const char *const *until = until_of(s->r);
    size_t longest = 0;
    *reached = false;
    for (size_t i = 0; until[i]; i++)
        if (strlen(until[i]) > longest) longest = strlen(until[i]);
    if (!longest) return LM_OK;
    size_t tail = longest + UNTIL_SLACK, first = s->n_out > tail ? s->n_out - tail : 0;
    for (;; first = 0) {
        char *text = NULL;
        size_t length = 0;
        EV_TRY(lm_tokenizer_decode(run->tokenizer, s->out + first, s->n_out - first, false, &text, &length, err));
        *reached = lm_ev_until_complete(text, length, until);
        lm_free(text);
        if (!*reached || !first) return LM_OK;
    }
}

static lm_status take_token(gen_run *run, gen_slot *s, lm_error *err) {
    if (is_stop(run, s->sampled)) return finish(run, s, "stop", err);
    if (s->n_out == s->capacity) {
        size_t capacity = s->capacity ? 2 * s->capacity : 64;
        int32_t *more = realloc(s->out, capacity * sizeof *more);
        if (!more) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu tokens", capacity);
        s->out = more;
        s->capacity = capacity;
    }
    s->out[s->n_out++] = s->token = s->sampled;
    bool reached = false;
    EV_TRY(reached_until(run, s, &reached, err));
    if (reached) return finish(run, s, "until", err);
    return s->n_out >= s->cap ? finish(run, s, "length", err) : LM_OK;
}

static lm_status decode_step(gen_run *run, lm_error *err) {
    static const uint32_t first = 0;
    size_t n = 0;
    for (size_t i = 0; i < run->n_slots; i++) {
        gen_slot *s = &run->slots[i];
        if (!s->r) continue;
        run->owner[n] = s;
        run->rows[n++] = (lm_row){.seq = s->seq,
                                  .tokens = &s->token,
                                  .n_tokens = 1,
                                  .want = &first,
                                  .n_want = 1,
                                  .sampler = &s->sampler,
                                  .sampled = &s->sampled};
    }
    EV_TRY(lm_step(run->engine, run->rows, n, run->o->cancel, err));
    for (size_t i = 0; i < n; i++) EV_TRY(take_token(run, run->owner[i], err));
    return LM_OK;
}

/* ---------------------------------------------------------------- all of it */

static lm_status make_room(gen_run *run, lm_error *err) {
    size_t n = (size_t)run->o->batch_size;
    run->n_slots = n < run->n ? n : run->n;
    if (run->n_slots > 1024) run->n_slots = 1024;
    run->slots = calloc(run->n_slots, sizeof *run->slots);
    run->jobs = calloc(run->n_slots, sizeof *run->jobs);
    run->fresh = calloc(run->n_slots, sizeof(gen_slot *));
    run->rows = calloc(run->n_slots, sizeof *run->rows);
    run->owner = calloc(run->n_slots, sizeof(gen_slot *));
    if (run->slots && run->jobs && run->fresh && run->rows && run->owner) return LM_OK;
    return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu sequences", run->n_slots);
}

lm_status lm_score_generate_until(lm_engine *engine, lm_generate_until *requests, size_t n, const lm_sampler *sampler,
                                  const lm_score_options *options, lm_error *err) {
    gen_run run = {.engine = engine, .o = options, .sampler = sampler, .requests = requests, .n = n};
    const char *think_start;
    if (options->batch_size < 1 || options->max_tokens < 0)
        return lm_ev_fail(err, LM_ARG, "requests: expected a batch size of at least 1 and no negative token limit");
    lm_engine_get_info(engine, &run.info);
    run.tokenizer = lm_engine_get_tokenizer(engine);
    if (!run.tokenizer) return lm_ev_fail(err, LM_ARG, "requests: the model has no tokenizer.json");
    lm_tokenizer_think_tokens(run.tokenizer, &think_start, &run.think_end);
    for (size_t i = 0; i < n; i++) {
        requests[i].text = NULL;
        requests[i].length = 0;
    }
    if (!n) return LM_OK;
    lm_status status = make_room(&run, err);
    while (status == LM_OK && run.done < n) {
        status = refill(&run, err);
        if (status == LM_OK) status = decode_step(&run, err);
    }
    for (size_t i = 0; run.slots && i < run.n_slots; i++) free_slot(&run.slots[i]);
    lm_seq_destroy(run.anchor);
    free(run.slots);
    free(run.jobs);
    free(run.fresh);
    free(run.rows);
    free(run.owner);
    for (size_t i = 0; status != LM_OK && i < n; i++) {
        lm_free(requests[i].text);
        requests[i].text = NULL;
    }
    return status;
}
