/* SPDX-License-Identifier: MIT
 * generate.c: runs the model over the unanswered requests. Continuous batching over lm_step: each slot holds one
 * question; rows that decode and rows that still read their prompt share a step; a finished question's slot is refilled
 * before the next step. The questions of a task begin alike (exemplars), so a task's common prefix is computed once, in
 * a base sequence that its questions fork from. */
#include "journal.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MIN_SHARED 32  /* a shorter common prefix isn't worth a sequence of its own */
#define MIN_CHUNK 64   /* prompt tokens a step when memory is short */
#define UNTIL_SLACK 16 /* tokens looked at beyond the bytes of the longest `until` */

typedef struct slot {
    bool active;
    size_t request;
    const lm_ev_run_task *task;
    lm_seq *seq; /* NULL while the base is still being read */
    int32_t *prompt;
    size_t n_prompt, fed; /* prompt tokens that seq holds */
    int32_t *out;
    size_t n_out, max_out;
    lm_sampler sampler;
    int32_t sampled;
} slot;

/* Common prefix of one task's prompts: of its first two, which later ones may share less of. It lives from the task's
 * first question until the last one has forked from it. */
typedef struct base {
    lm_seq *seq;
    int32_t *ids;
    size_t n, fed;
    size_t left; /* questions of the task that have no sequence yet */
    bool started;
} base;

typedef struct run {
    lm_eval *eval;
    lm_engine *engine;
    const lm_tokenizer *tokenizer;
    const lm_eval_run_options *options;
    slot *slots;
    size_t n_slots, allowed; /* allowed < n_slots after memory ran short */
    size_t *again;           /* requests put back, taken first */
    size_t n_again, next;    /* next: first request not looked at */
    base *bases;             /* one a task */
    bool share;
    size_t chunk; /* prompt tokens a step; smaller after memory ran short */
    lm_row *rows;
    struct { /* what each row of the step is for */
        slot *slot;
        base *base;
    } * owner;
    uint32_t *want;
    double start;
} run;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

lm_eval_run_options lm_eval_run_options_default(void) {
    return (lm_eval_run_options){
        .batch_size = 8, .prefill_chunk = 512, .share_prefix = true, .sampler = lm_sampler_greedy(), .seed = 123};
}

static bool cancelled(const run *r) {
    return r->options->cancel && *r->options->cancel;
}

static void drop_base(base *b) {
    lm_seq_destroy(b->seq);
    free(b->ids);
    b->seq = NULL;
    b->ids = NULL;
    b->n = b->fed = 0;
}

static void drop_slot(slot *s) {
    lm_seq_destroy(s->seq);
    lm_free(s->prompt);
    free(s->out);
    *s = (slot){0};
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

static size_t common(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b) {
    size_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) n++;
    return n;
}

static base *base_of(const run *r, const lm_ev_run_task *task) {
    return &r->bases[task - r->eval->tasks];
}

/* Starts the base of a task from the prompt at hand and the next unanswered document's. */
/* Element type of keys and values: the engine's own, but float32 for float16 checkpoints. Rounding them to float16
 * moves a logit of SmolLM2 by up to 0.04, enough to turn a greedy answer; float32 keeps answers equal to a float32
 * run's. */
static lm_kv_type kv_type(const run *r) {
    lm_engine_info info;
    lm_engine_get_info(r->engine, &info);
    return strcmp(info.dtype, "float16") == 0 ? LM_KV_F32 : LM_KV_AUTO;
}

static lm_status start_base(run *r, const lm_ev_run_task *task, size_t doc, const int32_t *ids, size_t n_ids,
                            lm_error *err) {
    base *b = base_of(r, task);
    if (b->started || !r->share) return LM_OK;
    b->started = true;
    size_t other = doc + 1;
    while (other < task->count && r->eval->answers[task->first + other].answered) other++;
    if (other >= task->count) return LM_OK;
    int32_t *next = NULL;
    size_t n_next = 0;
    EV_TRY(encode(r, task, other, &next, &n_next, err));
    size_t n = common(ids, n_ids - 1, next, n_next); /* the last token belongs to the question's own row */
    lm_free(next);
    if (n < MIN_SHARED) return LM_OK;
    b->ids = malloc(n * sizeof *ids);
    if (!b->ids) return lm_ev_fail(err, LM_NOMEM, "out of memory for a shared prefix");
    memcpy(b->ids, ids, n * sizeof *ids);
    b->n = n;
    return lm_seq_create(r->engine, kv_type(r), &b->seq, err);
}

/* Takes the next request: those put back first. False when none is left. */
static bool next_request(run *r, size_t *request) {
    if (r->n_again) {
        *request = r->again[--r->n_again];
        return true;
    }
    while (r->next < r->eval->n_requests && r->eval->answers[r->next].answered) r->next++;
    if (r->next >= r->eval->n_requests) return false;
    *request = r->next++;
    return true;
}

static lm_status start_slot(run *r, slot *s, size_t request, lm_error *err) {
    size_t doc = 0;
    s->active = true;
    s->request = request;
    s->task = lm_ev_task_of(r->eval, request, &doc);
    EV_TRY(encode(r, s->task, doc, &s->prompt, &s->n_prompt, err));
    EV_TRY(start_base(r, s->task, doc, s->prompt, s->n_prompt, err));
    s->max_out = (size_t)lm_ev_token_cap(r->eval, s->task->task);
    s->out = malloc((s->max_out ? s->max_out : 1) * sizeof *s->out);
    if (!s->out) return lm_ev_fail(err, LM_NOMEM, "out of memory for %zu generated ids", s->max_out);
    s->sampler = r->options->sampler;
    lm_sampler_seed(&s->sampler, r->options->seed + 0x9e3779b97f4a7c15u * (uint64_t)request);
    r->eval->stats.prompt_tokens += (int64_t)s->n_prompt - 1;
    return LM_OK;
}

/* Gives a slot its sequence once the base it forks from is complete (or isn't wanted). */
static lm_status open_slot(run *r, slot *s, lm_error *err) {
    base *b = base_of(r, s->task);
    size_t shared = b->seq ? common(b->ids, b->n, s->prompt, s->n_prompt - 1) : 0;
    if (shared >= MIN_SHARED && b->fed < b->n) return LM_OK; /* wait */
    if (shared < MIN_SHARED) {
        EV_TRY(lm_seq_create(r->engine, kv_type(r), &s->seq, err));
    } else {
        EV_TRY(lm_seq_fork(b->seq, (int64_t)shared, &s->seq, err));
        s->fed = shared;
    }
    if (b->left && --b->left == 0) drop_base(b);
    return LM_OK;
}

static lm_status fill_slots(run *r, size_t *active, lm_error *err) {
    *active = 0;
    for (size_t i = 0; i < r->n_slots; i++) *active += r->slots[i].active;
    for (size_t i = 0; i < r->n_slots; i++) {
        slot *s = &r->slots[i];
        size_t request;
        if (!s->active && *active < r->allowed && next_request(r, &request)) {
            EV_TRY(start_slot(r, s, request, err));
            ++*active;
        }
        if (s->active && !s->seq) EV_TRY(open_slot(r, s, err));
    }
    return LM_OK;
}

/* One step's rows: all that decode, then at most prefill_chunk prompt tokens, shared prefixes first. */
static size_t make_rows(run *r, size_t *n_prefill, size_t *n_decode) {
    size_t n = 0, budget = r->chunk;
    *n_prefill = *n_decode = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        slot *s = &r->slots[i];
        if (!s->active || !s->seq || s->n_out == 0) continue;
        r->want[n] = 0;
        r->owner[n].slot = s;
        r->owner[n].base = NULL;
        r->rows[n] = (lm_row){.seq = s->seq,
                              .tokens = &s->out[s->n_out - 1],
                              .n_tokens = 1,
                              .want = &r->want[n],
                              .n_want = 1,
                              .sampler = &s->sampler,
                              .sampled = &s->sampled};
        n++;
        ++*n_decode;
    }
    for (size_t i = 0; i < r->eval->n_tasks && budget; i++) {
        base *b = &r->bases[i];
        if (!b->seq || b->fed >= b->n) continue;
        size_t chunk = b->n - b->fed < budget ? b->n - b->fed : budget;
        r->owner[n].slot = NULL;
        r->owner[n].base = b;
        r->rows[n++] = (lm_row){.seq = b->seq, .tokens = b->ids + b->fed, .n_tokens = chunk};
        *n_prefill += chunk;
        budget -= chunk;
    }
    for (size_t i = 0; i < r->n_slots && budget; i++) {
        slot *s = &r->slots[i];
        if (!s->active || !s->seq || s->n_out) continue;
        size_t left = s->n_prompt - s->fed, chunk = left < budget ? left : budget;
        r->owner[n].slot = s;
        r->owner[n].base = NULL;
        r->rows[n] = (lm_row){.seq = s->seq, .tokens = s->prompt + s->fed, .n_tokens = chunk};
        if (chunk == left) {
            r->want[n] = (uint32_t)(chunk - 1);
            r->rows[n].want = &r->want[n];
            r->rows[n].n_want = 1;
            r->rows[n].sampler = &s->sampler;
            r->rows[n].sampled = &s->sampled;
        }
        n++;
        *n_prefill += chunk;
        budget -= chunk;
    }
    return n;
}

static bool is_stop(const run *r, int32_t id) {
    for (size_t i = 0; i < r->eval->engine.n_stop_ids; i++)
        if (r->eval->engine.stop_ids[i] == id) return true;
    return false;
}

/* True as soon as an `until` string is complete. Only the end of the text is decoded each time; the whole decides. */
static lm_status reached_until(const run *r, const slot *s, bool *reached, lm_error *err) {
    const char *const *until = s->task->task->family->until;
    size_t longest = 0;
    for (size_t i = 0; until[i]; i++)
        if (strlen(until[i]) > longest) longest = strlen(until[i]);
    *reached = false;
    if (!longest) return LM_OK;
    size_t window = longest + UNTIL_SLACK, from = s->n_out > window ? s->n_out - window : 0;
    for (int whole = 0; whole < 2; whole++) {
        char *text = NULL;
        size_t length = 0;
        size_t first = whole ? 0 : from;
        EV_TRY(lm_tokenizer_decode(r->tokenizer, s->out + first, s->n_out - first, false, &text, &length, err));
        *reached = lm_ev_until_complete(text, length, until);
        lm_free(text);
        if (!*reached || first == 0) break;
    }
    return LM_OK;
}

static lm_status finish_slot(run *r, slot *s, const char *finish, lm_error *err) {
    char *text = NULL;
    size_t length = 0;
    EV_TRY(lm_tokenizer_decode(r->tokenizer, s->out, s->n_out, false, &text, &length, err));
    int32_t *ids = s->out;
    s->out = NULL;
    EV_TRY(lm_ev_store(r->eval, s->request, text, length, ids, s->n_out, s->n_prompt, finish, err));
    if (r->options->journal) EV_TRY(lm_ev_journal_add(r->options->journal, s->request, err));
    r->eval->stats.score_sum += r->eval->answers[s->request].score;
    r->eval->stats.n_done++;
    drop_slot(s);
    return LM_OK;
}

static lm_status take_token(run *r, slot *s, lm_error *err) {
    r->eval->stats.generated_tokens++;
    if (is_stop(r, s->sampled)) return finish_slot(r, s, "stop", err);
    s->out[s->n_out++] = s->sampled;
    bool reached = false;
    EV_TRY(reached_until(r, s, &reached, err));
    if (reached) return finish_slot(r, s, "until", err);
    if (s->n_out >= s->max_out) return finish_slot(r, s, "length", err);
    return LM_OK;
}

/* Memory ran short: steps get smaller, then the youngest question waits until fewer are in flight, then prefixes aren't
 * shared. False if one question alone doesn't fit. (The base
 * of its task may be gone by then; the question reads its whole prompt then.) */
static bool make_room(run *r) {
    slot *youngest = NULL;
    size_t active = 0;
    for (size_t i = 0; i < r->n_slots; i++) {
        slot *s = &r->slots[i];
        active += s->active;
        if (s->active && (!youngest || s->n_out < youngest->n_out ||
                          (s->n_out == youngest->n_out && s->request > youngest->request)))
            youngest = s;
    }
    if (r->chunk > MIN_CHUNK) { /* costs least: scratch grows with a step's tokens */
        r->chunk /= 2;
        return true;
    }
    if (active < 2) { /* then the shared prefixes go */
        bool had = r->share;
        r->share = false;
        for (size_t i = 0; i < r->eval->n_tasks; i++) drop_base(&r->bases[i]);
        return had && active;
    }
    if (youngest->seq) base_of(r, youngest->task)->left++;
    r->again[r->n_again++] = youngest->request;
    r->eval->stats.prompt_tokens -= (int64_t)youngest->n_prompt - 1;
    r->eval->stats.generated_tokens -= (int64_t)youngest->n_out;
    drop_slot(youngest);
    r->allowed = active - 1;
    return true;
}

static lm_status take_rows(run *r, size_t n, lm_error *err) {
    for (size_t i = 0; i < n; i++) {
        if (r->owner[i].base) {
            r->owner[i].base->fed += r->rows[i].n_tokens;
            continue;
        }
        slot *s = r->owner[i].slot;
        if (s->n_out == 0) s->fed += r->rows[i].n_tokens;
        if (r->rows[i].n_want) EV_TRY(take_token(r, s, err));
    }
    return LM_OK;
}

static void report(run *r, double step_start, size_t n_prefill, size_t n_decode) {
    lm_eval_progress *s = &r->eval->stats;
    double end = now();
    s->computed_tokens += (int64_t)n_prefill;
    if (n_prefill) /* a mixed step's time is split by its tokens */
        s->prompt_seconds += (end - step_start) * (double)n_prefill / (double)(n_prefill + n_decode);
    s->seconds = end - r->start;
    if (r->options->progress) r->options->progress(r->options->progress_user, s);
}

static lm_status one_step(run *r, bool *done, lm_error *err) {
    size_t active = 0, n_prefill = 0, n_decode = 0;
    lm_status status = fill_slots(r, &active, err);
    size_t n = 0;
    *done = status == LM_OK && active == 0;
    if (*done) return LM_OK;
    double start = now();
    if (status == LM_OK) {
        n = make_rows(r, &n_prefill, &n_decode);
        status = lm_step(r->engine, r->rows, n, r->options->cancel, err);
    }
    if ((status == LM_BUDGET || status == LM_NOMEM) && make_room(r)) return LM_OK;
    EV_TRY(status);
    EV_TRY(take_rows(r, n, err));
    report(r, start, n_prefill, n_decode);
    if (!r->options->journal) return LM_OK;
    double end = now();
    return lm_ev_journal_tick(r->options->journal, end, end - start, err);
}

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

static lm_status run_all(run *r, lm_error *err) {
    bool done = false;
    while (!done) {
        if (cancelled(r))
            return lm_ev_fail(err, LM_CANCELLED, "cancelled after %zu of %zu questions", r->eval->n_answered,
                              r->eval->n_requests);
        EV_TRY(one_step(r, &done, err));
    }
    return LM_OK;
}

lm_status lm_eval_generate(lm_eval *eval, lm_engine *engine, const lm_eval_run_options *options, lm_error *err) {
    if (options->batch_size < 1 || options->batch_size > 65536)
        return lm_ev_fail(err, LM_ARG, "--batch-size: expected 1 to 65536, found %lld", (long long)options->batch_size);
    if (options->prefill_chunk < 1) return lm_ev_fail(err, LM_ARG, "prefill chunk: expected 1 or more");
    if (eval->rules != LM_EVAL_RULES_MLX_LM && options->sampler.temp > 0)
        return lm_ev_fail(err, LM_ARG, "--temp: --rules %s are greedy", lm_eval_rules_name(eval->rules));
    EV_TRY(note_engine(eval, engine, err));
    size_t n_rows,
        slots = (size_t)options->batch_size < eval->n_requests ? (size_t)options->batch_size : eval->n_requests;
    run r = {.eval = eval,
             .engine = engine,
             .tokenizer = lm_engine_get_tokenizer(engine),
             .options = options,
             .n_slots = slots,
             .allowed = slots,
             .share = options->share_prefix,
             .chunk = (size_t)options->prefill_chunk,
             .start = now()};
    n_rows = slots + eval->n_tasks;
    r.slots = calloc(slots, sizeof *r.slots);
    r.rows = calloc(n_rows, sizeof *r.rows);
    r.owner = calloc(n_rows, sizeof *r.owner);
    r.want = calloc(n_rows, sizeof *r.want);
    r.again = calloc(slots, sizeof *r.again);
    r.bases = calloc(eval->n_tasks, sizeof *r.bases);
    for (size_t i = 0; r.bases && i < eval->n_tasks; i++)
        for (size_t k = 0; k < eval->tasks[i].count; k++)
            r.bases[i].left += !eval->answers[eval->tasks[i].first + k].answered;
    eval->stats = (lm_eval_progress){.n_total = eval->n_requests - eval->n_answered, .n_before = eval->n_answered};
    for (size_t i = 0; i < eval->n_requests; i++)
        if (eval->answers[i].answered) eval->stats.score_sum += eval->answers[i].score;
    eval->batch_size = options->batch_size;
    lm_status status = LM_OK;
    if (!r.slots || !r.rows || !r.owner || !r.want || !r.again || !r.bases)
        status = lm_ev_fail(err, LM_NOMEM, "out of memory for %zu questions in flight", slots);
    else
        status = run_all(&r, err);
    if (options->journal) { /* what was answered is kept, whatever ended the run */
        bool good = status == LM_OK || status == LM_CANCELLED;
        lm_status synced = lm_ev_journal_sync(options->journal, good ? err : NULL);
        if (good && synced != LM_OK) status = synced;
    }
    if (status == LM_CANCELLED)
        lm_ev_fail(err, LM_CANCELLED, "cancelled after %zu of %zu questions", eval->n_answered, eval->n_requests);
    for (size_t i = 0; r.slots && i < slots; i++) drop_slot(&r.slots[i]);
    for (size_t i = 0; r.bases && i < eval->n_tasks; i++) drop_base(&r.bases[i]);
    free(r.bases);
    free(r.slots);
    free(r.rows);
    free(r.owner);
    free(r.want);
    free(r.again);
    lm_memory_stats memory = {0};
    lm_engine_get_memory(engine, &memory);
    eval->peak_bytes = memory.peak;
    eval->ran = true;
    eval->stats.seconds = now() - r.start;
    return status;
}
