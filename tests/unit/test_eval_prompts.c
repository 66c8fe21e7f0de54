/* SPDX-License-Identifier: MIT
 * test_eval_prompts.c: every MMLU-Pro request against lm-eval 0.4.13's (hash, length in characters, and every 997th
 * text), plain and through Qwen3's template, and the scores of known completions to the last digit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "eval/internal.h"
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef LM_TEST_DATA
#define LM_TEST_DATA "."
#endif
#define N_REQUESTS 11962

static char *data_path(const char *name) {
    const char *root = getenv("LM_TEST_DATA");
    size_t size = strlen(name) + strlen(root ? root : LM_TEST_DATA) + 2;
    char *path = malloc(size);
    assert_non_null(path);
    snprintf(path, size, "%s/%s", root ? root : LM_TEST_DATA, name);
    FILE *file = fopen(path, "rb");
    if (file) {
        fclose(file);
        return path;
    }
    print_message("skipped: %s is not here\n", path);
    free(path);
    return NULL;
}

static lm_eval *create(const lm_tokenizer *tokenizer, int64_t limit) {
    static const char *const tasks[] = {"mmlu_pro"};
    lm_eval_options options = lm_eval_options_default();
    options.tasks = tasks;
    options.n_tasks = 1;
    options.limit = limit;
    lm_eval *eval = NULL;
    lm_error err = {LM_OK, ""};
    if (lm_eval_create(tokenizer, &options, &eval, &err) != LM_OK) fail_msg("%s", err.message);
    return eval;
}

static size_t count_characters(const char *text, size_t length) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) n += ((unsigned char)text[i] & 0xc0) != 0x80;
    return n;
}

static void check_line(const lm_eval *eval, size_t index, const char *line) {
    json_error_t json_err;
    json_t *row = json_loads(line, 0, &json_err);
    assert_non_null(row);
    lm_eval_request request;
    lm_error err = {LM_OK, ""};
    if (lm_eval_get_request(eval, index, &request, &err) != LM_OK) fail_msg("request %zu: %s", index, err.message);
    char hex[65];
    lm_ev_sha256(request.prompt, request.prompt_length, hex);
    hex[24] = 0;
    assert_string_equal(request.task, json_string_value(json_array_get(row, 0)));
    if (json_array_size(row) > 4) assert_string_equal(request.prompt, json_string_value(json_array_get(row, 4)));
    assert_string_equal(hex, json_string_value(json_array_get(row, 2)));
    assert_int_equal(count_characters(request.prompt, request.prompt_length),
                     json_integer_value(json_array_get(row, 3)));
    lm_free(request.prompt);
    json_decref(row);
}

static void check_requests(const lm_tokenizer *tokenizer, const char *golden) {
    char *path = data_path(golden);
    if (!path) return;
    char command[4096];
    assert_null(strchr(path, '\''));
    snprintf(command, sizeof command, "xz -dc '%s'", path);
    FILE *file = popen(command, "r");
    assert_non_null(file);
    lm_eval *eval = create(tokenizer, -1);
    lm_eval_info info;
    lm_eval_get_info(eval, &info);
    assert_int_equal(info.n_requests, N_REQUESTS);
    assert_int_equal(info.chat_template, tokenizer != NULL);
    char *line = NULL;
    size_t capacity = 0, n = 0;
    for (; getline(&line, &capacity, file) > 0; n++) check_line(eval, n, line);
    assert_int_equal(pclose(file), 0); /* xz is missing or the file is damaged */
    assert_int_equal(n, N_REQUESTS);
    print_message("%zu requests equal %s\n", n, golden);
    free(line);
    free(path);
    lm_eval_destroy(eval);
}

static void test_plain(void **state) {
    (void)state;
    check_requests(NULL, "golden/mmlu_pro/qwen3_shots5_none.jsonl.xz");
}

static void test_chat(void **state) {
    (void)state;
    char *file = data_path("tokenizers/qwen3/tokenizer.json");
    if (!file) return;
    *strrchr(file, '/') = 0;
    lm_tokenizer *tokenizer = NULL;
    lm_error err = {LM_OK, ""};
    if (lm_tokenizer_open(file, &tokenizer, &err) != LM_OK) fail_msg("%s", err.message);
    check_requests(tokenizer, "golden/mmlu_pro/qwen3_shots5_chat.jsonl.xz");
    lm_tokenizer_close(tokenizer);
    free(file);
}

/* Numbers of lm-eval 0.4.13 for completions that cycle through the letters. */
static void test_scores(void **state) {
    (void)state;
    lm_eval *eval = create(NULL, -1);
    lm_error err = {LM_OK, ""};
    size_t i = 0;
    for (size_t t = 0; t < eval->n_tasks; t++)
        for (size_t doc = 0; doc < eval->tasks[t].count; doc++, i++) {
            char text[40];
            snprintf(text, sizeof text, "the answer is (%c)", "ABCDEFGHIJ"[i % 10]);
            assert_int_equal(
                lm_eval_set_answer(eval, eval->tasks[t].task->name, (int64_t)doc, text, strlen(text), &err), LM_OK);
        }
    char *text = NULL;
    assert_int_equal(lm_eval_render(eval, LM_EVAL_TEXT_FILE, &text, NULL, &err), LM_OK);
    static const char *const expected[] = {
        "    \"mmlu_pro\": {\n        \"alias\": \"mmlu_pro\",\n        \"name\": \"mmlu_pro\",\n"
        "        \"sample_len\": 11962,\n        \"exact_match,custom-extract\": 0.0978933288747701,\n",
        "\"alias\": \"biology\",\n        \"sample_len\": 712,\n        \"exact_match,custom-extract\": "
        "0.10674157303370786,\n",
        "\"exact_match,custom-extract\": 0.10583941605839416,\n",
        "\"exact_match,custom-extract\": 0.10178306092124814,\n",
        "        \"sample_count\": {\n            \"exact_match,custom-extract\": 11962\n        }\n    }\n}"};
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) assert_non_null(strstr(text, expected[k]));
    lm_free(text);
    lm_eval_destroy(eval);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
