/* SPDX-License-Identifier: MIT
 * test_perplexity.c: numpy's permutation, rows as mlx-lm's datasets give them (its own ids, computed with mlx-lm
 * 0.32.2), scores against full logits of a tiny checkpoint, the file of log-probabilities, percentiles. The golden
 * negative log-likelihoods of SmolLM2 where LM_TEST_SMOLLM2 names it. */
#include "eval/score_internal.h"
#include "golden/golden.h"
#include <unistd.h>

#define QWEN3(variant) golden_path("golden/checkpoints/%s/%s", "qwen3", variant)

static lm_engine *open_engine(const char *folder) {
    lm_engine_options o = lm_engine_options_default();
    lm_error err = {LM_OK, ""};
    lm_engine *e;
    o.numerics = LM_NUMERICS_F32;
    o.batch_invariant = true;
    o.threads = 1;
    if (lm_engine_open(folder, &o, &e, &err)) fail_msg("%s", err.message);
    return e;
}

/* ---------------------------------------------------------------- numpy's order */

static void test_permutation(void **state) {
    (void)state;
    static const uint32_t expected[] = {4, 0, 7, 5, 8, 3, 1, 6, 9, 2}, last[] = {382, 365, 510};
    static const uint32_t high[] = {4, 1, 0, 2, 3};
    uint32_t p[1000];
    lm_numpy_permutation(123, p, 10);
    assert_memory_equal(p, expected, sizeof expected);
    lm_numpy_permutation(4294967295u, p, 5);
    assert_memory_equal(p, high, sizeof high);
    lm_numpy_permutation(123, p, 1000);
    assert_memory_equal(p + 997, last, sizeof last);
    uint64_t sum = 0;
    for (uint64_t i = 0; i < 1000; i++) sum += p[i] * (i + 1);
    assert_true(sum == 248481531u);
    lm_numpy_permutation(1, p, 1);
    assert_int_equal(p[0], 0);
    lm_numpy_permutation(1, p, 0);
}

/* ---------------------------------------------------------------- rows */

static const char text_rows[] = "{\"text\": \"The quick brown fox\"}\n{\"text\": \"jumps over\"}\n"
                                "{\"text\": \"the lazy dog.\"}\n{\"text\": \"One more line, with numbers 12345.\"}\n"
                                "{\"text\": \"\xc3\xa9 \xc3\xbc \xe2\x80\x94 done\"}\n";
static const int32_t text_ids[] = {368, 379, 430, 506, 46,  372, 314, 376, 283, 271, 68,  11,  269,
                                   72,  387, 273, 272, 485, 220, 16,  17,  18,  19,  20,  13,  506,
                                   127, 102, 220, 127, 120, 220, 158, 222, 242, 220, 67,  278, 68,
                                   506, 289, 468, 450, 77,  439, 506, 83,  258, 478, 495, 13,  506};
static const char chat_rows[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, {\"role\": \"assistant\", \"content\": \"Hello "
    "there.\"}]}\n\n{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"}, {\"role\": \"user\", "
    "\"content\": \"2+2?\"}, {\"role\": \"assistant\", \"content\": \"4\"}]}\n";
static const int32_t chat_ids[] = {505, 82,  395, 357, 198, 33,  68,  282, 81,  72,  68,  69,  13,  506,
                                   198, 505, 392, 198, 17,  10,  17,  30,  506, 198, 505, 290, 308, 275,
                                   198, 19,  506, 198, 505, 392, 198, 39,  72,  506, 198, 505, 290, 308,
                                   275, 198, 39,  68,  370, 78,  262, 261, 13,  506, 198};
static const char completion_rows[] = "{\"prompt\": \"Name a colour.\", \"completion\": \"Blue.\"}\n"
                                      "{\"prompt\": \"And another?\", \"completion\": \"Red.\"}";
static const int32_t completion_ids[] = {505, 392, 198, 32,  77,  67,  286, 78,  83,  258, 81,  30,  506,
                                         198, 505, 290, 308, 275, 198, 49,  293, 13,  506, 198, 505, 392,
                                         198, 45,  345, 68,  256, 220, 66,  375, 304, 81,  13,  506, 198,
                                         505, 290, 308, 275, 198, 33,  75,  310, 13,  506, 198};

static void check_rows(const lm_tokenizer *t, const char *text, const int32_t *ids, size_t n, int64_t documents) {
    lm_rows_options o = lm_rows_options_default();
    lm_rows_info info;
    lm_error err = {LM_OK, ""};
    lm_rows *rows;
    o.sequence_length = 0;
    if (lm_rows_create(t, "rows", text, strlen(text), &o, &rows, &err)) fail_msg("%s", err.message);
    lm_rows_get_info(rows, &info);
    assert_int_equal(info.n_tokens, n);
    assert_memory_equal(info.ids, ids, n * sizeof *ids);
    assert_int_equal(info.n_rows, 1);
    assert_int_equal(info.n_documents, documents);
    lm_rows_destroy(rows);
    /* rows of 20, then with the rest, then no more documents than are needed */
    o.sequence_length = 20;
    assert_int_equal(lm_rows_create(t, "rows", text, strlen(text), &o, &rows, &err), LM_OK);
    lm_rows_get_info(rows, &info);
    assert_int_equal(info.n_rows, n / 20);
    assert_int_equal(info.n_scored, n / 20 * 19);
    assert_true(info.ran_out);
    lm_rows_destroy(rows);
    o.keep_rest = true;
    o.skip = 10;
    assert_int_equal(lm_rows_create(t, "rows", text, strlen(text), &o, &rows, &err), LM_OK);
    lm_rows_get_info(rows, &info);
    int64_t rest = (int64_t)n % 20 - 1 - 10;
    assert_int_equal(info.n_rows, n / 20 + 1);
    assert_int_equal(info.n_scored, (int64_t)(n / 20) * 9 + (rest > 0 ? rest : 0));
    lm_rows_destroy(rows);
    o = lm_rows_options_default();
    o.sequence_length = 10;
    o.num_samples = 1;
    assert_int_equal(lm_rows_create(t, "rows", text, strlen(text), &o, &rows, &err), LM_OK);
    lm_rows_get_info(rows, &info);
    assert_int_equal(info.n_tokens, 10);
    assert_memory_equal(info.ids, ids, 10 * sizeof *ids);
    assert_true(info.n_documents_used < documents);
    assert_false(info.ran_out);
    lm_rows_destroy(rows);
}

static void refused(const lm_tokenizer *t, const char *text, const char *expected) {
    lm_rows_options o = lm_rows_options_default();
    lm_error err = {LM_OK, ""};
    lm_rows *rows;
    o.sequence_length = 4;
    assert_int_not_equal(lm_rows_create(t, "rows", text, strlen(text), &o, &rows, &err), LM_OK);
    assert_null(rows);
    if (!strstr(err.message, expected)) fail_msg("expected '%s' in '%s'", expected, err.message);
}

static void test_rows(void **state) {
    (void)state;
    lm_tokenizer *t;
    lm_error err = {LM_OK, ""};
    if (lm_tokenizer_open(QWEN3("4bit-g64"), &t, &err)) fail_msg("%s", err.message);
    check_rows(t, text_rows, text_ids, sizeof text_ids / sizeof *text_ids, 5);
    check_rows(t, chat_rows, chat_ids, sizeof chat_ids / sizeof *chat_ids, 2);
    check_rows(t, completion_rows, completion_ids, sizeof completion_ids / sizeof *completion_ids, 2);
    refused(t, "", "no line");
    refused(t, "{\"text\": 1}", "line 1: \"text\": expected a string");
    refused(t, "{\"other\": 1}", "found none of them");
    refused(t, "[1]", "expected a JSON object");
    refused(t, "{\"text\": \"a\"}\n{\"text", "line 2: not JSON");
    refused(t, "{\"text\": \"a\"}\n{\"prompt\": \"b\"}", "line 2: \"text\": expected a string, found nothing");
    refused(t, "{\"messages\": \"a\"}", "expected an array");
    refused(t, "{\"prompt\": \"a\", \"completion\": [1]}", "\"completion\": expected a string");
    refused(t, "{\"text\": \"\"}", "nothing to score");
    lm_tokenizer_close(t);
}

/* ---------------------------------------------------------------- scores */

static const char sample[] = "It was a bright cold day in April, and the clocks were striking thirteen. The hallway "
                             "smelt of boiled cabbage and old rag mats; at one end of it a poster had been tacked.";

static lm_rows *sample_rows(lm_engine *e, int64_t length, int64_t skip) {
    lm_rows_options o = {.format = LM_ROWS_TEXT, .sequence_length = length, .num_samples = -1, .keep_rest = true};
    lm_error err = {LM_OK, ""};
    lm_rows *rows;
    o.skip = skip;
    if (lm_rows_create(lm_engine_get_tokenizer(e), "sample", sample, strlen(sample), &o, &rows, &err))
        fail_msg("%s", err.message);
    return rows;
}

/* Logits of every position of row `i` but the last id's. */
static float *direct_logits(lm_engine *e, const lm_rows *rows, size_t i, int64_t vocab) {
    size_t n = (size_t)(rows->starts[i + 1] - rows->starts[i]) - 1;
    float *logits = malloc(n * (size_t)vocab * sizeof *logits);
    uint32_t *want = malloc(n * sizeof *want);
    lm_error err = {LM_OK, ""};
    lm_seq *s;
    for (size_t k = 0; k < n; k++) want[k] = (uint32_t)k;
    assert_int_equal(lm_seq_create(e, LM_KV_AUTO, &s, &err), LM_OK);
    lm_row row = {.seq = s, .tokens = rows->ids + rows->starts[i], .n_tokens = n, .want = want, .n_want = n};
    row.logits = logits;
    if (lm_step(e, &row, 1, NULL, &err)) fail_msg("%s", err.message);
    lm_seq_destroy(s);
    free(want);
    return logits;
}

static double log_sum(const float *x, int64_t n) {
    double best = -(double)INFINITY, sum = 0;
    for (int64_t i = 0; i < n; i++) best = fmax(best, (double)x[i]);
    for (int64_t i = 0; i < n; i++) sum += exp((double)x[i] - best);
    return best + log(sum);
}

/* Position by position in double from full logits. 2e-5: 512 float exponentials and a logarithm near 15. */
static void check_scores(lm_engine *e, lm_engine *base, const lm_rows *rows, const float *nll, const float *kld) {
    lm_engine_info info;
    lm_engine_get_info(e, &info);
    int64_t v = info.vocab_size, at = 0;
    for (size_t i = 0; i < rows->n_rows; i++) {
        float *q = direct_logits(e, rows, i, v), *p = direct_logits(base, rows, i, v);
        const int32_t *ids = rows->ids + rows->starts[i];
        int64_t n = rows->starts[i + 1] - rows->starts[i] - 1;
        for (int64_t k = rows->skip; k < n; k++, at++) {
            double expected = log_sum(q + k * v, v) - (double)q[k * v + ids[k + 1]];
            assert_true(fabs((double)nll[at] - expected) < 2e-5);
            assert_true(fabs((double)kld[at] - golden_kl(p + k * v, q + k * v, v)) < 2e-5);
        }
        free(q), free(p);
    }
    assert_int_equal(at, rows->n_scored);
}

static void test_scores(void **state) {
    (void)state;
    lm_engine *e = open_engine(QWEN3("4bit-g64")), *base = open_engine(QWEN3("bf16"));
    lm_error err = {LM_OK, ""};
    static const int64_t shapes[][3] = {{16, 0, 1}, {16, 5, 3}, {0, 0, 8}, {7, 3, 100}}; /* length, skip, batch */
    for (size_t i = 0; i < 4; i++) {
        lm_rows *rows = sample_rows(e, shapes[i][0], shapes[i][1]);
        size_t bytes = (size_t)rows->n_scored * sizeof(float);
        float *nll = malloc(bytes), *kld = malloc(bytes), *plain = malloc(bytes), *small = malloc(bytes);
        lm_perplexity_options o = lm_perplexity_options_default();
        lm_perplexity a, b;
        o.batch_size = shapes[i][2];
        if (lm_perplexity_run(e, rows, &o, &a, plain, NULL, &err)) fail_msg("%s", err.message);
        assert_false(a.compared);
        o.base = base;
        if (lm_perplexity_run(e, rows, &o, &b, nll, kld, &err)) fail_msg("%s", err.message);
        check_scores(e, base, rows, nll, kld);
        assert_memory_equal(nll, plain, bytes); /* the comparison doesn't move the perplexity */
        assert_true(a.ppl.value == b.ppl.value && fabs(b.ratio.value - b.ppl.value / b.base_ppl.value) < 1e-9);
        o.batch_size = 2;
        o.logits_bytes = 3 * 512 * 4; /* three positions a step: the same bits */
        if (lm_perplexity_run(e, rows, &o, &b, small, kld, &err)) fail_msg("%s", err.message);
        assert_memory_equal(nll, small, bytes);
        o.base = e; /* against itself: exactly nothing */
        if (lm_perplexity_run(e, rows, &o, &b, nll, kld, &err)) fail_msg("%s", err.message);
        assert_true(b.kld.value == 0 && b.kld_max == 0 && b.ratio.value == 1 && b.same_top.value == 1);
        assert_true(b.rms_change.value == 0 && b.rms_change.error == 0);
        free(nll), free(kld), free(plain), free(small);
        lm_rows_destroy(rows);
    }
    lm_engine_close(e);
    lm_engine_close(base);
}

/* ---------------------------------------------------------------- the file */

static void test_file(void **state) {
    (void)state;
    lm_engine *e = open_engine(QWEN3("4bit-g64")), *base = open_engine(QWEN3("bf16"));
    lm_error err = {LM_OK, ""};
    lm_rows *rows = sample_rows(e, 16, 2), *other = sample_rows(e, 15, 2);
    char path[] = "/tmp/lm-logprobs-XXXXXX";
    close(mkstemp(path));
    lm_perplexity_options o = lm_perplexity_options_default();
    lm_perplexity live, saved, result;
    o.save = path;
    o.save_name = "the base";
    if (lm_perplexity_run(base, rows, &o, &saved, NULL, NULL, &err)) fail_msg("%s", err.message);
    o = lm_perplexity_options_default();
    o.base = base;
    float *kld = malloc(2 * (size_t)rows->n_scored * sizeof *kld), *from_file = kld + rows->n_scored;
    assert_int_equal(lm_perplexity_run(e, rows, &o, &live, NULL, kld, &err), LM_OK);
    o.base = NULL;
    if (lm_logprobs_open(path, &o.base_file, &err)) fail_msg("%s", err.message);
    lm_logprobs_info info;
    lm_logprobs_get_info(o.base_file, &info);
    assert_string_equal(info.model, "the base");
    assert_int_equal(info.n_scored, rows->n_scored);
    if (lm_perplexity_run(e, rows, &o, &result, NULL, from_file, &err)) fail_msg("%s", err.message);
    /* exact: the targets and the best ids. 16-bit codes: at most sqrt(d R) / 65534 a log-probability, R < 60 here */
    assert_true(result.base_ppl.value == live.base_ppl.value && result.base_ppl.value == saved.ppl.value);
    assert_true(result.ratio.error == live.ratio.error && result.same_top.value == live.same_top.value);
    assert_true(result.rms_change.value == live.rms_change.value);
    for (int64_t i = 0; i < rows->n_scored; i++) assert_true(fabsf(kld[i] - from_file[i]) < 60.0f / 65534);
    assert_true(fabs(result.kld.value - live.kld.value) < 1e-5);
    /* every position against the limit */
    lm_engine_info facts;
    lm_engine_get_info(base, &facts);
    int64_t v = facts.vocab_size, at = 0;
    float *all = malloc((size_t)v * sizeof *all);
    for (size_t i = 0; i < rows->n_rows; i++) {
        float *x = direct_logits(base, rows, i, v);
        int64_t n = rows->starts[i + 1] - rows->starts[i] - 1;
        for (int64_t k = rows->skip; k < n; k++, at++) {
            float target, low = INFINITY, high = -INFINITY;
            int32_t top;
            assert_int_equal(lm_logprobs_read(o.base_file, at, all, &target, &top, &err), LM_OK);
            double lse = log_sum(x + k * v, v);
            for (int64_t j = 0; j < v; j++) low = fminf(low, x[k * v + j]), high = fmaxf(high, x[k * v + j]);
            assert_true(x[k * v + top] == high);
            for (int64_t j = 0; j < v; j++) {
                double depth = (double)high - (double)x[k * v + j], range = (double)high - (double)low;
                /* half a step of the code, squared error of the half step, float rounding near 40 */
                double allowed = sqrt(depth * range) / 65534 + range / 4 / 65534 / 65534 + 1e-5;
                assert_true(fabs((double)all[j] - ((double)x[k * v + j] - lse)) < allowed);
            }
        }
        free(x);
    }
    assert_int_equal(lm_logprobs_read(o.base_file, at, all, &(float){0}, &(int32_t){0}, &err), LM_ARG);
    assert_int_equal(lm_perplexity_run(e, other, &o, &result, NULL, NULL, &err), LM_ARG);
    lm_rows_destroy(other);
    other = sample_rows(e, 16, 2);
    other->ids[3] ^= 1;
    assert_int_equal(lm_perplexity_run(e, other, &o, &result, NULL, NULL, &err), LM_ARG);
    assert_non_null(strstr(err.message, "token 3"));
    lm_logprobs_close(o.base_file);
    assert_int_equal(truncate(path, 100), 0);
    assert_int_equal(lm_logprobs_open(path, &o.base_file, &err), LM_FORMAT);
    unlink(path);
    free(all), free(kld);
    lm_rows_destroy(rows);
    lm_rows_destroy(other);
    lm_engine_close(e);
    lm_engine_close(base);
}

/* ---------------------------------------------------------------- statistics */

static void test_statistics(void **state) {
    (void)state;
    /* numpy: percentile([1, 2, 4, 8, 16], [0, 50, 90, 99, 99.9, 100]) */
    static const float x[] = {1, 2, 4, 8, 16};
    assert_true(fabs(lm_ev_percentile(x, 5, 50) - 4) < 1e-12);
    assert_true(fabs(lm_ev_percentile(x, 5, 90) - 12.8) < 1e-12);
    assert_true(fabs(lm_ev_percentile(x, 5, 99) - 15.68) < 1e-12);
    assert_true(fabs(lm_ev_percentile(x, 5, 99.9) - 15.968) < 1e-12);
    assert_true(lm_ev_percentile(x, 5, 100) == 16 && lm_ev_percentile(x, 5, 0) == 1);
    assert_true(lm_ev_percentile(x, 1, 99.9) == 1);
    /* numpy on nll a, base nll b (float32 inputs), kld = x */
    float a[] = {1.5f, 0.25f, 3, 2, 0.125f}, b[] = {1.25f, 0.5f, 3, 1, 0.25f}, k[] = {1, 2, 4, 8, 16};
    lm_ev_tally t = {.n = 5, .nll = a, .base_nll = b, .kld = k, .same_top = 3};
    lm_perplexity p;
    assert_int_equal(lm_ev_tally_result(&t, true, &p, NULL), LM_OK);
    assert_true(fabs(p.nll.value - 1.375) < 1e-12 && fabs(p.nll.error - 0.54198708472) < 1e-9);
    assert_true(fabs(p.ppl.value - 3.9550767229) < 1e-9 && fabs(p.ppl.error - 2.1436005029) < 1e-8);
    assert_true(fabs(p.log_ratio.value - 0.175) < 1e-12 && fabs(p.log_ratio.error - 0.2222048604) < 1e-9);
    assert_true(fabs(p.same_top.value - 0.6) < 1e-12 && fabs(p.same_top.error - sqrt(0.6 * 0.4 / 4)) < 1e-12);
    assert_true(fabs(p.kld.value - 6.2) < 1e-12 && p.kld_max == 16 && p.kld_min == 1 && p.kld_median == 4);
    double change[5], square = 0;
    for (int i = 0; i < 5; i++) change[i] = exp(-(double)a[i]) - exp(-(double)b[i]), square += change[i] * change[i];
    assert_true(fabs(p.rms_change.value - sqrt(square / 5)) < 1e-12);
}

/* ---------------------------------------------------------------- SmolLM2 */

static void check_text(lm_engine *e, int64_t length, const char *tensor, double mean) {
    golden_file f;
    golden_open(golden_path("golden/%s/%s", "smollm2", "text_nll.safetensors"), &f);
    int64_t n;
    float *expected = golden_copy(&f, tensor, &n, NULL);
    char *text;
    size_t bytes;
    lm_error err = {LM_OK, ""};
    if (lm_fs_read(golden_path("golden/%s/%s", "smollm2", "text.txt"), 1 << 20, &text, &bytes, &err))
        fail_msg("%s", err.message);
    lm_rows_options o = {.format = LM_ROWS_TEXT, .sequence_length = length, .num_samples = -1, .keep_rest = true};
    lm_rows *rows;
    if (lm_rows_create(lm_engine_get_tokenizer(e), "text", text, bytes, &o, &rows, &err)) fail_msg("%s", err.message);
    assert_int_equal(rows->n_scored, n);
    float *nll = malloc((size_t)n * sizeof *nll);
    lm_perplexity_options options = lm_perplexity_options_default();
    lm_perplexity p;
    if (lm_perplexity_run(e, rows, &options, &p, nll, NULL, &err)) fail_msg("%s", err.message);
    printf("%s: mean %.6f (golden %.6f), max abs of a token %.2g\n", tensor, p.nll.value, mean,
           golden_max_abs(nll, expected, n));
    assert_true(fabs(p.nll.value - mean) < 1e-4);
    assert_true(golden_max_abs(nll, expected, n) < 1e-3);
    free(nll), free(expected), free(text);
    lm_rows_destroy(rows);
    golden_close(&f);
}

static void test_smollm2(void **state) {
    (void)state;
    const char *folder = getenv("LM_TEST_SMOLLM2");
    char path[1200];
    snprintf(path, sizeof path, "%s/model.safetensors", folder ? folder : "");
    if (!folder || !lm_fs_exists(path)) {
        printf("skipped: LM_TEST_SMOLLM2 does not name a converted SmolLM2-135M-Instruct (./quickstart makes one)\n");
        skip();
    }
    lm_engine *e = open_engine(folder);
    check_text(e, 0, "nll_one_pass", 2.8312721762708857);
    check_text(e, 512, "nll_windows_of_512", 3.0393468136199946);
    lm_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation), cmocka_unit_test(test_rows),       cmocka_unit_test(test_scores),
        cmocka_unit_test(test_file),        cmocka_unit_test(test_statistics), cmocka_unit_test(test_smollm2),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
