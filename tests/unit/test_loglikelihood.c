/* SPDX-License-Identifier: MIT
 * test_loglikelihood.c: lm-eval's three request types on a tiny checkpoint, against full logits computed in one piece:
 * values, the greedy flag, truncation, what is refused, and the same bits for any batch size and sharing. */
#include "golden/golden.h"
#include "lm/score.h"

#define N_REQUESTS 11

static lm_engine *open_engine(void) {
    lm_engine_options o = lm_engine_options_default();
    lm_error err = {LM_OK, ""};
    lm_engine *e;
    o.numerics = LM_NUMERICS_F32;
    o.batch_invariant = true;
    o.threads = 1;
    if (lm_engine_open(golden_path("golden/checkpoints/%s/%s", "qwen3", "4bit-g64"), &o, &e, &err))
        fail_msg("%s", err.message);
    return e;
}

static const char shared_text[] = "The following are questions with their answers, one after another, and each of them "
                                  "is followed by a blank line. Question: ";

/* Two groups of four and three, whose contexts begin alike, one alone, and three of the first group again. */
static void make_requests(lm_loglikelihood *r, char contexts[3][400]) {
    static const char *const texts[N_REQUESTS][2] = {{"0", " Paris"},
                                                     {"1", " blue and green"},
                                                     {"0", " London is a city"},
                                                     {"2", "x"},
                                                     {"1", "."},
                                                     {"0", " a"},
                                                     {"1", " red"},
                                                     {"0", "\n\n"},
                                                     {"0", " Paris"},
                                                     {"0", " b c"},
                                                     {"0", "!"}};
    snprintf(contexts[0], 400, "%sWhat is the capital of France?", shared_text);
    snprintf(contexts[1], 400, "%sWhich colour is the sky?", shared_text);
    snprintf(contexts[2], 400, "A");
    for (size_t i = 0; i < N_REQUESTS; i++) {
        const char *context = contexts[texts[i][0][0] - '0'];
        r[i] = (lm_loglikelihood){.context = context,
                                  .context_length = strlen(context),
                                  .continuation = texts[i][1],
                                  .continuation_length = strlen(texts[i][1])};
    }
}

static int32_t *encode(lm_engine *e, const char *a, const char *b, size_t *n) {
    char text[1000];
    int32_t *ids;
    lm_error err = {LM_OK, ""};
    snprintf(text, sizeof text, "%s%s", a, b);
    if (lm_tokenizer_encode(lm_engine_get_tokenizer(e), text, strlen(text), true, &ids, n, &err))
        fail_msg("%s", err.message);
    return ids;
}

/* Sum of log p of ids[from..n) given those before, in double, from one pass over all of them. */
static double direct(lm_engine *e, const int32_t *ids, size_t from, size_t n, bool *greedy) {
    lm_engine_info info;
    lm_engine_get_info(e, &info);
    size_t v = (size_t)info.vocab_size;
    float *logits = malloc(n * v * sizeof *logits);
    uint32_t *want = malloc(n * sizeof *want);
    lm_error err = {LM_OK, ""};
    lm_seq *s;
    for (size_t k = 0; k < n; k++) want[k] = (uint32_t)k;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    lm_row row = {.seq = s, .tokens = ids, .n_tokens = n, .want = want, .n_want = n, .logits = logits};
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    double sum = 0;
    *greedy = true;
    for (size_t k = from; k < n; k++) {
        const float *x = logits + (k - 1) * v;
        double best = -(double)INFINITY, total = 0;
        size_t top = 0;
        for (size_t j = 0; j < v; j++)
            if ((double)x[j] > best) best = (double)x[j], top = j;
        for (size_t j = 0; j < v; j++) total += exp((double)x[j] - best);
        sum += (double)x[ids[k]] - best - log(total);
        *greedy = *greedy && top == (size_t)ids[k];
    }
    lm_seq_destroy(s);
    free(logits), free(want);
    return sum;
}

static void test_values(void **state) {
    (void)state;
    lm_engine *e = open_engine();
    lm_loglikelihood r[N_REQUESTS];
    char contexts[3][400];
    make_requests(r, contexts);
    lm_score_options o = lm_score_options_default();
    lm_error err = {LM_OK, ""};
    if (lm_score_loglikelihood(e, r, N_REQUESTS, &o, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < N_REQUESTS; i++) {
        size_t n_context, n;
        bool greedy;
        int32_t *context = encode(e, r[i].context, "", &n_context),
                *all = encode(e, r[i].context, r[i].continuation, &n);
        /* the continuation's ids are those past the context's number, the context's are its own */
        memcpy(all, context, n_context * sizeof *all);
        double expected = direct(e, all, n_context, n, &greedy);
        assert_int_equal(r[i].n_tokens, n - n_context);
        assert_true(fabs(r[i].logprob - expected) < 2e-5 * (double)(n - n_context));
        assert_int_equal(r[i].greedy, greedy);
        lm_free(context), lm_free(all);
    }
    assert_true(r[0].logprob == r[8].logprob);
    lm_engine_close(e);
}

/* The model's own choices after a context must come back as greedy. */
static void test_greedy(void **state) {
    (void)state;
    lm_engine *e = open_engine();
    lm_generate_until g = {.context = shared_text, .context_length = strlen(shared_text), .max_tokens = 6};
    lm_score_options o = lm_score_options_default();
    lm_error err = {LM_OK, ""};
    if (lm_score_generate_until(e, &g, 1, NULL, &o, &err)) fail_msg("%s", err.message);
    assert_string_equal(g.finish, "length");
    assert_int_equal(g.n_tokens, 6);
    lm_loglikelihood r[2] = {{.context = shared_text, .context_length = strlen(shared_text)}};
    r[1] = r[0];
    r[0].continuation = g.text;
    r[0].continuation_length = g.length;
    r[1].continuation = " something else";
    r[1].continuation_length = strlen(r[1].continuation);
    if (lm_score_loglikelihood(e, r, 2, &o, &err)) fail_msg("%s", err.message);
    size_t n, n_context;
    bool greedy;
    int32_t *ids = encode(e, shared_text, g.text, &n), *context = encode(e, shared_text, "", &n_context);
    memcpy(ids, context, n_context * sizeof *ids);
    direct(e, ids, n_context, n, &greedy);
    assert_int_equal(r[0].greedy, greedy);
    assert_false(r[1].greedy);
    lm_free(ids), lm_free(context), lm_free(g.text);
    lm_engine_close(e);
}

static void test_same_bits(void **state) {
    (void)state;
    static const struct {
        int64_t batch;
        bool share;
    } runs[] = {{1, true},  {2, true},   {3, false},  {7, true}, {7, false},
                {32, true}, {32, false}, {100, true}, {1, false}};
    lm_engine *e = open_engine();
    lm_loglikelihood first[N_REQUESTS], r[N_REQUESTS];
    char contexts[3][400];
    lm_error err = {LM_OK, ""};
    lm_score_options o = lm_score_options_default();
    make_requests(first, contexts);
    assert_int_equal(lm_score_loglikelihood(e, first, N_REQUESTS, &o, &err), LM_OK);
    for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
        make_requests(r, contexts);
        o.batch_size = runs[k].batch;
        o.share_prefix = runs[k].share;
        if (lm_score_loglikelihood(e, r, N_REQUESTS, &o, &err)) fail_msg("%s", err.message);
        for (size_t i = 0; i < N_REQUESTS; i++) {
            assert_memory_equal(&r[i].logprob, &first[i].logprob, sizeof(double));
            assert_int_equal(r[i].greedy, first[i].greedy);
        }
    }
    lm_engine_close(e);
}

static void test_limits(void **state) {
    (void)state;
    lm_engine *e = open_engine();
    lm_error err = {LM_OK, ""};
    lm_score_options o = lm_score_options_default();
    size_t n_context, n;
    int32_t *context = encode(e, shared_text, "", &n_context), *all = encode(e, shared_text, " yes", &n);
    lm_loglikelihood r = {.context = shared_text,
                          .context_length = strlen(shared_text),
                          .continuation = " yes",
                          .continuation_length = 4};
    /* M = 20: what is longer than M + 1 is cut at the left of the context */
    o.max_tokens = 20;
    assert_int_equal(lm_score_loglikelihood(e, &r, 1, &o, &err), LM_OK);
    bool greedy;
    size_t cut = n - 20 - 1;
    memcpy(all, context, n_context * sizeof *all);
    double expected = direct(e, all + cut, n_context - cut, n - cut, &greedy);
    assert_true(fabs(r.logprob - expected) < 2e-5 * (double)(n - n_context));
    /* nothing of the context is left */
    r.continuation = shared_text;
    r.continuation_length = strlen(shared_text);
    assert_int_equal(lm_score_loglikelihood(e, &r, 1, &o, &err), LM_OK);
    assert_true(isinf(r.logprob) && r.logprob < 0 && !r.greedy);
    o.max_tokens = 0;
    r.context_length = 0; /* this tokenizer adds no beginning-of-text id */
    assert_int_equal(lm_score_loglikelihood(e, &r, 1, &o, &err), LM_OK);
    assert_true(isinf(r.logprob) && r.logprob < 0);
    r.context_length = strlen(shared_text);
    r.continuation_length = 0;
    assert_int_equal(lm_score_loglikelihood(e, &r, 1, &o, &err), LM_ARG);
    assert_non_null(strstr(err.message, "request 0: the continuation is empty"));
    r.continuation_length = 4;
    o.batch_size = 0;
    assert_int_equal(lm_score_loglikelihood(e, &r, 1, &o, &err), LM_ARG);
    o.batch_size = 1;
    assert_int_equal(lm_score_loglikelihood(e, &r, 0, &o, &err), LM_OK);
    volatile int stop = 1;
    o.cancel = &stop;
    assert_int_equal(lm_score_loglikelihood(e, &r, 1, &o, &err), LM_CANCELLED);
    lm_free(context), lm_free(all);
    lm_engine_close(e);
}

static void test_rolling(void **state) {
    (void)state;
    static const char *const texts[] = {"A first text, short.", "", "x", shared_text, "Another one of some length."};
    lm_engine *e = open_engine();
    lm_error err = {LM_OK, ""};
    double first[5];
    for (int64_t batch = 1; batch <= 7; batch += 2) {
        lm_loglikelihood_rolling r[5];
        lm_score_options o = lm_score_options_default();
        for (int i = 0; i < 5; i++) r[i] = (lm_loglikelihood_rolling){.text = texts[i], .length = strlen(texts[i])};
        o.batch_size = batch;
        if (lm_score_loglikelihood_rolling(e, r, 5, &o, &err)) fail_msg("%s", err.message);
        for (int i = 0; i < 5; i++) {
            size_t n;
            bool greedy;
            int32_t *ids = encode(e, texts[i], "", &n);
            double expected = n > 1 ? direct(e, ids, 1, n, &greedy) : 0;
            assert_int_equal(r[i].n_tokens, n);
            assert_true(fabs(r[i].logprob - expected) <= 2e-5 * (double)n);
            if (batch > 1) assert_memory_equal(&r[i].logprob, &first[i], sizeof(double));
            first[i] = r[i].logprob;
            lm_free(ids);
        }
    }
    lm_engine_close(e);
}

/* Greedy tokens of one context by lm_decode, decoded. */
static char *direct_text(lm_engine *e, const char *context, int32_t *out, size_t most, size_t *n_out) {
    lm_engine_info info;
    lm_engine_get_info(e, &info);
    lm_error err = {LM_OK, ""};
    lm_seq *s;
    size_t n;
    int32_t *ids = encode(e, context, "", &n);
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    lm_row row = {.seq = s, .tokens = ids, .n_tokens = n - 1};
    if (n > 1) assert_int_equal(lm_step(e, &row, 1, NULL, &err), LM_OK);
    lm_sampler greedy = lm_sampler_greedy();
    lm_decode_row d = {.seq = s, .token = ids[n - 1], .sampler = &greedy, .out = out};
    assert_int_equal(lm_decode(e, &d, 1, most, info.stop_ids, info.n_stop_ids, NULL, &err), LM_OK);
    *n_out = d.n_out;
    for (size_t i = 0; i < info.n_stop_ids; i++)
        if (d.n_out && out[d.n_out - 1] == info.stop_ids[i]) (*n_out)--;
    char *text;
    assert_int_equal(lm_tokenizer_decode(lm_engine_get_tokenizer(e), out, *n_out, false, &text, NULL, &err), LM_OK);
    lm_seq_destroy(s);
    lm_free(ids);
    return text;
}

static void test_generate(void **state) {
    (void)state;
    lm_engine *e = open_engine();
    lm_error err = {LM_OK, ""};
    char contexts[3][400];
    lm_loglikelihood unused[N_REQUESTS];
    make_requests(unused, contexts);
    for (int64_t batch = 1; batch <= 33; batch += batch < 7 ? 2 : 26) {
        lm_generate_until r[5];
        lm_score_options o = lm_score_options_default();
        o.batch_size = batch;
        o.share_prefix = batch != 3;
        o.speculate = batch != 5;
        char *expected[5];
        size_t n[5];
        for (int i = 0; i < 5; i++) {
            int32_t out[24];
            const char *context = contexts[i % 3];
            r[i] = (lm_generate_until){.context = context, .context_length = strlen(context), .max_tokens = 8 + 4 * i};
            expected[i] = direct_text(e, context, out, (size_t)(8 + 4 * i), &n[i]);
        }
        if (lm_score_generate_until(e, r, 5, NULL, &o, &err)) fail_msg("%s", err.message);
        for (int i = 0; i < 5; i++) {
            assert_string_equal(r[i].text, expected[i]);
            assert_int_equal(r[i].n_tokens, n[i]);
            lm_free(r[i].text);
        }
        /* an `until` from the middle of the text cuts there and ends the row early */
        size_t length = strlen(expected[4]);
        char mark[3] = {expected[4][length / 2], expected[4][length / 2 + 1], 0};
        const char *until[] = {"never there", mark, NULL};
        r[4].until = until;
        if (lm_score_generate_until(e, r + 4, 1, NULL, &o, &err)) fail_msg("%s", err.message);
        size_t at = (size_t)(strstr(expected[4], mark) - expected[4]);
        assert_int_equal(r[4].length, at);
        assert_memory_equal(r[4].text, expected[4], at);
        assert_string_equal(r[4].finish, "until");
        assert_true(r[4].n_tokens < (int64_t)n[4]);
        lm_free(r[4].text);
        for (int i = 0; i < 5; i++) lm_free(expected[i]);
    }
    lm_engine_close(e);
}

/* A request's samples depend on its number and the key, not on the batch. */
static void test_sampled(void **state) {
    (void)state;
    lm_engine *e = open_engine();
    lm_error err = {LM_OK, ""};
    char *first[4] = {NULL};
    for (int64_t batch = 1; batch <= 4; batch += 3) {
        lm_generate_until r[4];
        lm_score_options o = lm_score_options_default();
        lm_sampler sampler = lm_sampler_greedy();
        sampler.temp = 1;
        lm_sampler_seed(&sampler, 7);
        o.batch_size = batch;
        for (int i = 0; i < 4; i++)
            r[i] = (lm_generate_until){.context = shared_text, .context_length = strlen(shared_text), .max_tokens = 12};
        if (lm_score_generate_until(e, r, 4, &sampler, &o, &err)) fail_msg("%s", err.message);
        assert_string_not_equal(r[0].text, r[1].text);
        for (int i = 0; i < 4; i++) {
            if (first[i]) assert_string_equal(r[i].text, first[i]);
            lm_free(first[i]);
            first[i] = r[i].text;
        }
    }
    for (int i = 0; i < 4; i++) lm_free(first[i]);
    lm_generate_until empty = {.context = "", .max_tokens = 1};
    lm_score_options o = lm_score_options_default();
    assert_int_equal(lm_score_generate_until(e, &empty, 1, NULL, &o, &err), LM_ARG);
    assert_null(empty.text);
    lm_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),  cmocka_unit_test(test_greedy),  cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_limits),  cmocka_unit_test(test_rolling), cmocka_unit_test(test_generate),
        cmocka_unit_test(test_sampled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
