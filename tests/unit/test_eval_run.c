/* SPDX-License-Identifier: MIT
 * test_eval_run.c: the scheduler against a fake engine (this file defines the functions of lm.h that it uses, so that
 * the library's own stay out). A token is a byte, 256 ends a text. The fake model's answer is a function of the prompt,
 * so that every schedule must give the same answers; the fake step checks what rows promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "lm/eval.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STOP 256
#define MAX_SEQS 64

struct lm_seq {
    int32_t *tokens;
    size_t n;
    struct lm_engine *engine;
};
struct lm_engine {
    int live, steps, most_rows, fail_at, cancel_at, budget; /* budget: sequences that fit */
    int64_t computed;
    size_t chunk, rows;
    volatile int *cancel;
};

/* ---- the fake text */

void lm_tokenizer_think_tokens(const lm_tokenizer *t, const char **start, const char **end) {
    (void)t;
    *start = *end = NULL;
}
const char *lm_tokenizer_chat_template(const lm_tokenizer *t) {
    (void)t;
    return NULL;
}
const char *lm_tokenizer_bos_token(const lm_tokenizer *t) {
    (void)t;
    return NULL;
}
lm_status lm_chat_render(const lm_tokenizer *t, const char *text, const char *json, char **out, size_t *n,
                         lm_error *err) {
    (void)t, (void)text, (void)json, (void)out, (void)n, (void)err;
    return LM_UNSUPPORTED;
}
lm_status lm_tokenizer_encode(const lm_tokenizer *t, const char *text, size_t length, bool special, int32_t **ids,
                              size_t *n, lm_error *err) {
    (void)t, (void)err;
    assert_true(special); /* no template: special tokens are added */
    *ids = malloc((length + 1) * sizeof **ids);
    for (size_t i = 0; i < length; i++) (*ids)[i] = (unsigned char)text[i];
    *n = length;
    return LM_OK;
}
lm_status lm_tokenizer_decode(const lm_tokenizer *t, const int32_t *ids, size_t n, bool skip, char **text,
                              size_t *length, lm_error *err) {
    (void)t, (void)err;
    assert_false(skip);
    *text = malloc(n + 1);
    for (size_t i = 0; i < n; i++) (*text)[i] = (char)ids[i];
    (*text)[n] = 0;
    if (length) *length = n;
    return LM_OK;
}

/* ---- the fake engine */

const lm_tokenizer *lm_engine_get_tokenizer(const lm_engine *engine) {
    return (const lm_tokenizer *)(const void *)engine; /* there is one; nobody looks into it */
}
void lm_engine_get_info(const lm_engine *engine, lm_engine_info *info) {
    (void)engine;
    static const int32_t stop[] = {STOP};
    *info =
        (lm_engine_info){.path = "/fake", .model_type = "fake", .dtype = "bfloat16", .stop_ids = stop, .n_stop_ids = 1};
}
void lm_engine_get_memory(const lm_engine *engine, lm_memory_stats *stats) {
    (void)engine;
    *stats = (lm_memory_stats){.peak = 1000};
}
lm_sampler lm_sampler_greedy(void) {
    return (lm_sampler){.top_p = 1};
}
void lm_sampler_seed(lm_sampler *sampler, uint64_t seed) {
    sampler->key[0] = (uint32_t)(seed >> 32);
    sampler->key[1] = (uint32_t)seed;
}
lm_status lm_seq_create(lm_engine *engine, lm_kv_type type, lm_seq **out, lm_error *err) {
    (void)type;
    if (engine->budget && engine->live >= engine->budget) {
        if (err) snprintf(err->message, sizeof err->message, "no room");
        return LM_BUDGET;
    }
    *out = calloc(1, sizeof **out);
    (*out)->engine = engine;
    (*out)->tokens = malloc(100000 * sizeof(int32_t));
    engine->live++;
    return LM_OK;
}
void lm_seq_destroy(lm_seq *seq) {
    if (!seq) return;
    seq->engine->live--;
    free(seq->tokens);
    free(seq);
}
lm_status lm_seq_trim(lm_seq *seq, int64_t n, lm_error *err) {
    (void)err;
    assert_true(n >= 0 && (size_t)n <= seq->n);
    seq->n = (size_t)n;
    return LM_OK;
}
const int32_t *lm_seq_tokens(const lm_seq *seq) {
    return seq->tokens;
}
int64_t lm_engine_plan_kv(const lm_engine *engine, int64_t n, lm_kv_type type) {
    (void)engine, (void)type;
    return n;
}
lm_status lm_seq_fork(const lm_seq *seq, int64_t n, lm_seq **out, lm_error *err) {
    assert_true((size_t)n <= seq->n);
    lm_status status = lm_seq_create(seq->engine, LM_KV_AUTO, out, err);
    if (status != LM_OK) return status;
    memcpy((*out)->tokens, seq->tokens, (size_t)n * sizeof *seq->tokens);
    (*out)->n = (size_t)n;
    return LM_OK;
}

/* The answer to a prompt: its letter and its kind of ending come from a hash. */
static void answer_of(const int32_t *prompt, size_t n, char *text, size_t size, bool *stops) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < n; i++) h = (h ^ (uint32_t)prompt[i]) * 16777619u;
    char letter = "ABCDEFGHIJ"[h % 10];
    unsigned kind = h / 10 % 4;
    *stops = kind < 3;
    if (kind == 0)
        snprintf(text, size, "x");
    else if (kind == 1)
        snprintf(text, size, "We think for %u. The answer is (%c).", h % 1000, letter);
    else if (kind == 2)
        snprintf(text, size, "answer is %c\n\nQuestion:\nmore", letter);
    else
        snprintf(text, size, "and so on ");
}

/* Next token after what a sequence holds: the prompt ends with "step by step." of the question that isn't answered. */
static int32_t next_token(const lm_seq *seq) {
    static const char end[] = "Answer: Let's think step by step.";
    size_t m = sizeof end - 1, at = seq->n;
    for (;; at--) {
        assert_true(at >= m);
        size_t k = 0;
        while (k < m && seq->tokens[at - m + k] == (unsigned char)end[k]) k++;
        if (k == m) break;
    }
    char text[100];
    bool stops;
    answer_of(seq->tokens, at, text, sizeof text, &stops);
    size_t n = strlen(text), done = seq->n - at;
    if (stops) return done < n ? (unsigned char)text[done] : STOP;
    return (unsigned char)text[done % n];
}

lm_status lm_step(lm_engine *engine, lm_row *rows, size_t n_rows, const volatile int *cancel, lm_error *err) {
    assert_true(n_rows > 0);
    engine->steps++;
    if ((int)n_rows > engine->most_rows) engine->most_rows = (int)n_rows;
    if (engine->cancel_at == engine->steps) *engine->cancel = 1;
    if (cancel && *cancel) return LM_CANCELLED;
    if (engine->fail_at == engine->steps) {
        snprintf(err->message, sizeof err->message, "broken");
        return LM_BACKEND;
    }
    size_t prompt = 0;
    engine->rows += n_rows;
    for (size_t i = 0; i < n_rows; i++) {
        lm_row *r = &rows[i];
        for (size_t k = 0; k < i; k++) assert_true(rows[k].seq != r->seq);
        assert_true(r->n_tokens > 0);
        memcpy(r->seq->tokens + r->seq->n, r->tokens, r->n_tokens * sizeof *r->tokens);
        engine->computed += (int64_t)r->n_tokens;
        if (r->n_want < r->n_tokens) prompt += r->n_tokens;
        for (size_t k = 0; k < r->n_want; k++) { /* the last position, or all of a token with what is tried after it */
            assert_int_equal(r->want[k], r->n_tokens - r->n_want + k);
            assert_true(r->n_want == 1 || r->n_want == r->n_tokens);
            lm_seq part = {r->seq->tokens, r->seq->n + r->want[k] + 1, engine};
            r->sampled[k] = next_token(&part);
        }
        r->seq->n += r->n_tokens;
    }
    assert_true(prompt <= engine->chunk);
    return LM_OK;
}

/* ---- tests */

static lm_eval *create(const char *task, int64_t limit, int64_t max_tokens) {
    const char *const tasks[] = {task};
    lm_eval_options options = lm_eval_options_default();
    options.tasks = tasks;
    options.n_tasks = 1;
    options.limit = limit;
    options.max_tokens = max_tokens;
    lm_eval *eval = NULL;
    lm_error err = {LM_OK, ""};
    if (lm_eval_create(NULL, &options, &eval, &err) != LM_OK) fail_msg("%s", err.message);
    return eval;
}

static char *samples(const lm_eval *eval) {
    char *all = calloc(1, 1);
    size_t size = 0;
    for (size_t i = 0; lm_eval_task_name(eval, i); i++) {
        char *text = NULL;
        size_t n = 0;
        assert_int_equal(lm_eval_samples(eval, i, &text, &n, NULL), LM_OK);
        all = realloc(all, size + n + 1);
        memcpy(all + size, text, n + 1);
        size += n;
        lm_free(text);
    }
    return all;
}

/* Runs and returns the samples' text. */
static char *run_guessing(lm_engine *engine, const char *task, int64_t limit, int64_t max_tokens, int64_t batch,
                          int64_t chunk, bool share, bool speculate) {
    lm_eval *eval = create(task, limit, max_tokens);
    lm_eval_run_options options = lm_eval_run_options_default();
    options.batch_size = batch;
    options.prefill_chunk = chunk;
    options.share_prefix = share;
    options.speculate = speculate;
    engine->chunk = (size_t)chunk;
    lm_error err = {LM_OK, ""};
    if (lm_eval_generate(eval, engine, &options, &err) != LM_OK) fail_msg("%s", err.message);
    assert_int_equal(engine->live, 0);
    lm_eval_info info;
    lm_eval_get_info(eval, &info);
    assert_int_equal(info.n_answered, info.n_requests);
    char *text = samples(eval);
    lm_eval_destroy(eval);
    return text;
}

static char *run(lm_engine *engine, const char *task, int64_t limit, int64_t max_tokens, int64_t batch, int64_t chunk,
                 bool share) {
    return run_guessing(engine, task, limit, max_tokens, batch, chunk, share, true);
}

static void test_schedules(void **state) {
    (void)state;
    lm_engine plain = {0};
    char *want = run_guessing(&plain, "mmlu_pro", 4, 60, 1, 100000, false, false);
    assert_non_null(strstr(want, "\"finish\": \"until\""));
    assert_non_null(strstr(want, "\"finish\": \"stop\""));
    assert_non_null(strstr(want, "\"finish\": \"length\""));
    static const int64_t batches[] = {1, 2, 5, 8, 100}, chunks[] = {7, 512, 100000};
    for (size_t b = 0; b < 5; b++)
        for (size_t c = 0; c < 3; c++) {
            lm_engine engine = {0};
            char *got = run(&engine, "mmlu_pro", 4, 60, batches[b], chunks[c], true);
            assert_string_equal(got, want);
            assert_true(engine.computed < plain.computed); /* prefixes were shared */
            free(got);
        }
    free(want);
}

/* Ends: the stop id is no part of the ids, a length end is; an until row ends with the token that completed it. */
static void test_ends(void **state) {
    (void)state;
    lm_engine engine = {0};
    char *text = run(&engine, "mmlu_pro_law", 40, 60, 8, 512, true);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *finish = strstr(line, "\"finish\": \""), *ids = strstr(line, "\"ids\": [");
        assert_non_null(finish);
        assert_non_null(ids);
        size_t n = 1;
        for (const char *c = ids; *c; c++) n += *c == ',';
        if (strncmp(finish + 11, "length", 6) == 0) assert_int_equal(n, 60);
        if (strncmp(finish + 11, "until", 5) == 0) {
            assert_non_null(strstr(line, "Question:\", \"filtered\": "));
            assert_null(strstr(line, "more"));
        }
        assert_null(strstr(ids, "256"));
    }
    free(text);
}

/* Guesses change the number of steps, not the answers. */
static void test_guesses(void **state) {
    (void)state;
    lm_engine with = {0}, without = {0};
    char *a = run_guessing(&with, "mmlu_pro_law", 30, 200, 4, 512, true, true),
         *b = run_guessing(&without, "mmlu_pro_law", 30, 200, 4, 512, true, false);
    assert_string_equal(a, b);
    print_message("rows computed: %zu guessing, %zu not\n", with.rows, without.rows);
    assert_true(2 * with.rows < without.rows); /* a fourth of the answers are loops */
    free(a);
    free(b);
}

static void test_sharing(void **state) {
    (void)state;
    lm_engine with = {0}, without = {0};
    free(run(&with, "mmlu_pro_history", 30, 20, 4, 512, true));
    free(run(&without, "mmlu_pro_history", 30, 20, 4, 512, false));
    print_message("positions computed: %lld shared, %lld alone\n", (long long)with.computed,
                  (long long)without.computed);
    assert_true(with.computed * 2 < without.computed);
}

/* Memory for three sequences only: fewer questions in flight, the same answers; for none: a clear failure. */
static void test_budget(void **state) {
    (void)state;
    lm_engine roomy = {0};
    char *want = run(&roomy, "mmlu_pro_law", 12, 40, 8, 512, true);
    for (int budget = 1; budget <= 5; budget++) {
        lm_engine engine = {.budget = budget};
        char *got = run(&engine, "mmlu_pro_law", 12, 40, 8, 512, true);
        assert_string_equal(got, want);
        free(got);
    }
    free(want);
}

static void test_failure(void **state) {
    (void)state;
    lm_engine engine = {.fail_at = 30, .chunk = 512};
    lm_eval *eval = create("mmlu_pro_law", 20, 40);
    lm_eval_run_options options = lm_eval_run_options_default();
    lm_error err = {LM_OK, ""};
    assert_int_equal(lm_eval_generate(eval, &engine, &options, &err), LM_BACKEND);
    assert_string_equal(err.message, "broken");
    assert_int_equal(engine.live, 0);
    lm_eval_destroy(eval);
}

/* Cancelled midway, what is answered stays and a second call answers the rest: the same as one run. */
static void test_cancel(void **state) {
    (void)state;
    lm_engine whole = {0};
    char *want = run(&whole, "mmlu_pro_p*", 10, 40, 4, 512, true);
    volatile int cancel = 0;
    lm_engine engine = {.cancel_at = 90, .cancel = &cancel, .chunk = 512};
    lm_eval *eval = create("mmlu_pro_p*", 10, 40);
    lm_eval_run_options options = lm_eval_run_options_default();
    options.batch_size = 4;
    options.cancel = &cancel;
    lm_error err = {LM_OK, ""};
    assert_int_equal(lm_eval_generate(eval, &engine, &options, &err), LM_CANCELLED);
    assert_int_equal(engine.live, 0);
    lm_eval_info info;
    lm_eval_get_info(eval, &info);
    assert_true(info.n_answered > 0 && info.n_answered < info.n_requests);
    assert_non_null(strstr(err.message, "cancelled after"));
    cancel = 0;
    assert_int_equal(lm_eval_generate(eval, &engine, &options, &err), LM_OK);
    char *got = samples(eval);
    assert_string_equal(got, want);
    free(got);
    free(want);
    lm_eval_destroy(eval);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules), cmocka_unit_test(test_ends),   cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_guesses),   cmocka_unit_test(test_budget), cmocka_unit_test(test_failure),
        cmocka_unit_test(test_cancel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
