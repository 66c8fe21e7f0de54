/* SPDX-License-Identifier: MIT
 * test_eval_score.c: pieces of a score: Python's numbers and strip(), until, think-strip, filter, metric, standard
 * errors, result texts (expected texts are lm-eval 0.4.13's), and what hostile data and answers are answered with. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "eval/internal.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_float(void **state) {
    (void)state;
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0.0"},
                 {1, "1.0"},
                 {-2.5, "-2.5"},
                 {0.1, "0.1"},
                 {1.0 / 3, "0.3333333333333333"},
                 {0.0978933288747701, "0.0978933288747701"},
                 {1e-4, "0.0001"},
                 {1.5e-5, "1.5e-05"},
                 {1e15, "1000000000000000.0"},
                 {1e16, "1e+16"},
                 {123456789.125, "123456789.125"},
                 {2e100, "2e+100"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lm_ev_buf buf = {0};
        lm_ev_buf_double(&buf, cases[i].value);
        assert_string_equal(buf.data, cases[i].text);
        lm_ev_buf_free(&buf);
    }
}

static void test_strip(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", ""},
        {"  \t\n", ""},
        {" a b ", "a b"},
        {"\xc2\xa0x\xe2\x80\x83\xe3\x80\x80", "x"},
        {"\x1cq\x1f", "q"},
        {"\xe2\x80\x8bz", "\xe2\x80\x8bz"}, /* a zero-width space is no white space */
        {"\xc3\xa9", "\xc3\xa9"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *text = cases[i][0];
        size_t length = strlen(text);
        lm_ev_strip(&text, &length);
        assert_int_equal(length, strlen(cases[i][1]));
        assert_memory_equal(text, cases[i][1], length);
    }
}

static void test_sha256(void **state) {
    (void)state;
    char hex[65];
    lm_ev_sha256("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    lm_ev_sha256("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    lm_ev_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

static void test_until(void **state) {
    (void)state;
    static const char *const one[] = {"Question:", NULL}, *const two[] = {"abcd", "c", NULL}, *const none[] = {NULL};
    assert_int_equal(lm_ev_cut_until("ab Question: Question:", 22, one), 3);
    assert_int_equal(lm_ev_cut_until("ab Question", 11, one), 11);
    assert_int_equal(lm_ev_cut_until("ab", 2, none), 2);
    assert_true(lm_ev_until_complete("x Question:", 11, one));
    assert_false(lm_ev_until_complete("x Question", 10, one));
    assert_false(lm_ev_until_complete("xabc", 4, two)); /* "abcd" may still come and starts earlier */
    assert_true(lm_ev_until_complete("xabcx", 5, two));
    assert_true(lm_ev_until_complete("xabcd", 5, two));
}

static void test_filter(void **state) {
    (void)state;
    const lm_ev_family *family = lm_ev_tasks[0].family;
    static const char *const cases[][2] = {
        {"so the answer is (C).", "C"},
        {"the answer is D", "D"},
        {"the answer is **B**", "[invalid]"},
        {"answer is: B", "[invalid]"},
        {"Answer: B", "[invalid]"},
        {"the answer is Apple", "A"},
        {"the answer is (A)? no, the answer is (B)", "A"},
        {"The Answer Is (B)", "[invalid]"},
        {"the answer is (K)", "[invalid]"},
        {"Question: the answer is (A)", "[invalid]"},
        {"<think>the answer is (A)</think>the answer is (B)", "B"},
        {"<think>the answer is (A) Question:</think>the answer is (B)", "A"}, /* until cuts before think does */
        {"", "[invalid]"},
        {"\xf0\x9f\x98\x80 answer is (J)", "J"},
        {"\xff\xfe answer is (J)", "J"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *filtered = NULL;
        lm_error err;
        assert_int_equal(lm_ev_filter_answer(family, "</think>", cases[i][0], strlen(cases[i][0]), &filtered, &err),
                         LM_OK);
        assert_string_equal(filtered, cases[i][1]);
        free(filtered);
    }
}

/* group_select -1 and several groups, as rows of other tasks will have them. */
static void test_filter_last(void **state) {
    (void)state;
    lm_ev_family family = {
        .filter = {"flexible-extract", {{EV_FILTER_REGEX, "(-?[$0-9.,]{2,})|(-?[0-9]+)", "[invalid]", -1}}}};
    char *filtered = NULL;
    lm_error err;
    assert_int_equal(lm_ev_filter_answer(&family, NULL, "3 and 1,200 or 7", 16, &filtered, &err), LM_OK);
    assert_string_equal(filtered, "7");
    free(filtered);
    assert_int_equal(lm_ev_filter_answer(&family, NULL, "7 or 1,200", 10, &filtered, &err), LM_OK);
    assert_string_equal(filtered, "1,200");
    free(filtered);
}

static void test_metric(void **state) {
    (void)state;
    lm_ev_metric metric = {"exact_match", lm_ev_exact_match, EV_IGNORE_CASE | EV_IGNORE_PUNCTUATION, true};
    assert_true(lm_ev_exact_match(&metric, "a", "A") > 0);
    assert_true(lm_ev_exact_match(&metric, "(A).", "A") > 0);
    assert_true(lm_ev_exact_match(&metric, "[invalid]", "invalid") > 0);
    assert_false(lm_ev_exact_match(&metric, "[invalid]", "A") > 0);
    assert_false(lm_ev_exact_match(&metric, "A", "AB") > 0);
    assert_true(lm_ev_exact_match(&metric, "", "") > 0);
    double values[] = {1, 0, 1};
    assert_true(lm_ev_mean(values, 3) == 0.6666666666666666);
    assert_true(lm_ev_mean_stderr(values, 3) == 0.33333333333333337);
    double errors[] = {0.1, 0.2};
    int64_t sizes[] = {10, 30};
    assert_true(lm_ev_group_mean(values, sizes, 2, true) == 0.25);
    assert_true(lm_ev_group_mean(values, sizes, 2, false) == 0.5);
    /* numbers of lm-eval's pooled_sample_stderr and unweighted_mean_stderr */
    assert_true(lm_ev_group_stderr(errors, sizes, 2, true) == 0.15325417483795722);
    assert_true(lm_ev_group_stderr(errors, sizes, 2, false) == 0.1118033988749895);
}

static lm_eval *create(const char *task, int64_t limit, const char *data, lm_error *err) {
    const char *const tasks[] = {task};
    lm_eval_options options = lm_eval_options_default();
    options.tasks = tasks;
    options.n_tasks = 1;
    options.limit = limit;
    options.data_dir = data;
    lm_eval *eval = NULL;
    lm_eval_create(NULL, &options, &eval, err);
    return eval;
}

static void test_table(void **state) {
    (void)state;
    lm_error err;
    lm_eval *eval = create("mmlu_pro_p*", 3, NULL, &err);
    assert_non_null(eval);
    for (size_t i = 0; i < 9; i++) {
        lm_eval_request r;
        assert_int_equal(lm_eval_get_request(eval, i, &r, &err), LM_OK);
        char text[40];
        snprintf(text, sizeof text, i % 3 ? "answer is %s" : "?", r.target);
        assert_int_equal(lm_eval_set_answer(eval, r.task, r.doc_id, text, strlen(text), &err), LM_OK);
        lm_free(r.prompt);
    }
    char *text = NULL;
    assert_int_equal(lm_eval_render(eval, LM_EVAL_TEXT_TABLE, &text, NULL, &err), LM_OK);
    assert_non_null(strstr(
        text, "|  Tasks   |Version|    Filter    |n-shot|  Metric   |   |Value |   |Stderr|\n"
              "|----------|------:|--------------|-----:|-----------|---|-----:|---|-----:|\n"
              "|philosophy|    3.1|custom-extract|     5|exact_match|\xe2\x86\x91  |0.6667|\xc2\xb1  |0.3333|\n"));
    assert_non_null(strstr(text, "stand-ins"));
    lm_free(text);
    lm_eval_destroy(eval);
}

/* Writes one question set and expects what creating an evaluation says. */
static void expect_data(const char *test_row, const char *message) {
    char dir[] = "/tmp/lm_eval_XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    static const char good[] = "{\"question\": \"q\", \"options\": [\"a\"], \"answer\": \"A\", \"cot_content\": \"\", "
                               "\"category\": \"law\"}\n";
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, i ? "validation.jsonl" : "test.jsonl");
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        for (int k = 0; k < 5; k++) fputs(good, file);
        if (!i) fputs(test_row, file);
        fclose(file);
    }
    lm_error err = {LM_OK, ""};
    lm_eval *eval = create("mmlu_pro_law", -1, dir, &err);
    if (message) {
        assert_null(eval);
        if (!strstr(err.message, message)) fail_msg("got: %s", err.message);
        assert_null(strchr(err.message, '\n'));
    } else {
        assert_non_null(eval);
    }
    lm_eval_destroy(eval);
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, i ? "validation.jsonl" : "test.jsonl");
        unlink(path);
    }
    rmdir(dir);
}

static void test_hostile_data(void **state) {
    (void)state;
#define ROW(options)                                                                                           \
    "{\"question\": \"q\", \"options\": " options ", \"answer\": \"A\", \"cot_content\": \"\", \"category\": " \
    "\"law\"}\n"
    expect_data("\n\n", NULL);
    expect_data(ROW("[\"a\", \"b\"]"), NULL);
    expect_data(ROW("[]"), "test.jsonl:6: options: expected 1 to 10 of them, found 0");
    expect_data(ROW("[1]"), "test.jsonl:6: options[0]: expected a string");
    expect_data(ROW("{}"), "test.jsonl:6: options: expected an array");
    expect_data(ROW("[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\",\"10\",\"11\"]"), "found 11");
    expect_data("[1, 2]\n", "test.jsonl:6: expected a JSON object");
    expect_data("{\"question\": 1}\n", "test.jsonl:6: question: expected a string");
    expect_data("{\"question\": \"q\"}\n", "test.jsonl:6: answer: expected a string, found nothing");
    expect_data("{\"question\": \"q\", \"question\": \"r\"}\n", "test.jsonl:6:");
    expect_data("{\"question\": \"q\\u0000\"}\n", "test.jsonl:6:");
    expect_data("{\"question\": \"\xff\"}\n", "test.jsonl:6:");
    expect_data("{\"que", "test.jsonl:6:");
    lm_error err = {LM_OK, ""};
    assert_null(create("mmlu_pro_law", -1, "/nonexistent", &err));
    assert_non_null(strstr(err.message, "/nonexistent/test.jsonl: cannot be opened: No such file or directory"));
}

static void test_answers(void **state) {
    (void)state;
    lm_error err = {LM_OK, ""};
    lm_eval *eval = create("mmlu_pro_law", 2, NULL, &err);
    assert_non_null(eval);
    static const char *const bad[][2] = {
        {"{\"task\": \"x\", \"doc_id\": 0, \"completion\": \"\"}", "f:1: task 'x' is not known"},
        {"\n[1]", "f:2: expected a JSON object"},
        {"{\"task\": \"mmlu_pro_law\", \"doc_id\": \"0\", \"completion\": \"\"}", "f:1: doc_id: expected an integer"},
        {"{\"task\": \"mmlu_pro_law\", \"doc_id\": -1, \"completion\": \"\"}", "f:1: doc_id -1"},
        {"{\"task\": \"mmlu_pro_law\", \"doc_id\": 99999, \"completion\": \"\"}", "f:1: doc_id 99999"},
        {"{\"task\": \"mmlu_pro_law\", \"doc_id\": 0}", "f:1: completion: expected a string"},
        {"{\"task\": \"a\\u001b[2Jb\\u009bc\", \"doc_id\": 0, \"completion\": \"\"}", "task 'a?[2Jb?\?c' is not known"},
        {"nonsense", "f:1:"}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_not_equal(lm_eval_read_answers(eval, "f", bad[i][0], strlen(bad[i][0]), NULL, &err), LM_OK);
        if (!strstr(err.message, bad[i][1])) fail_msg("got: %s", err.message);
    }
    static const char good[] = "{\"task\": \"mmlu_pro_law\", \"doc_id\": 1, \"completion\": \"a\\u0000b\"}\n"
                               "{\"task\": \"mmlu_pro_law\", \"doc_id\": 7, \"completion\": \"\"}\n";
    size_t skipped = 0;
    assert_int_equal(lm_eval_read_answers(eval, "f", good, sizeof good - 1, &skipped, &err), LM_OK);
    assert_int_equal(skipped, 1);
    assert_int_not_equal(lm_eval_read_answers(eval, "f", good, sizeof good - 1, NULL, &err), LM_OK);
    assert_non_null(strstr(err.message, "answered twice"));
    char *text = NULL;
    assert_int_equal(lm_eval_render(eval, LM_EVAL_TEXT_FILE, &text, NULL, &err), LM_OK);
    assert_string_equal(text,
                        "{\n    \"mmlu_pro_law\": {\n        \"name\": \"mmlu_pro_law\",\n        \"alias\": \"law\",\n"
                        "        \"sample_len\": 1,\n        \"exact_match,custom-extract\": 0.0,\n"
                        "        \"exact_match_stderr,custom-extract\": \"N/A\"\n    }\n}");
    lm_free(text);
    char *name = NULL;
    assert_int_equal(lm_eval_file_name(eval, "a/b", &name, &err), LM_OK);
    assert_string_equal(name, "eval_a_b_0.4.13_mmlu_pro_law");
    lm_free(name);
    lm_eval_destroy(eval);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_float),        cmocka_unit_test(test_strip),
                                       cmocka_unit_test(test_sha256),       cmocka_unit_test(test_until),
                                       cmocka_unit_test(test_filter),       cmocka_unit_test(test_filter_last),
                                       cmocka_unit_test(test_metric),       cmocka_unit_test(test_table),
                                       cmocka_unit_test(test_hostile_data), cmocka_unit_test(test_answers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
