/* SPDX-License-Identifier: MIT
 * test_eval_rules.c: where the three sets of rules differ: option texts, versions, names, caps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "eval/internal.h"
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

static lm_eval *create(lm_eval_rules rules) {
    static const char *const tasks[] = {"mmlu_pro_chemistry"};
    lm_eval_options options = lm_eval_options_default();
    options.tasks = tasks;
    options.n_tasks = 1;
    options.rules = rules;
    lm_eval *eval = NULL;
    lm_error err = {LM_OK, ""};
    if (lm_eval_create(NULL, &options, &eval, &err) != LM_OK) fail_msg("%s", err.message);
    return eval;
}

/* All questions: the seed's prompt is ours with the options as the file has them. */
static void test_options(void **state) {
    (void)state;
    lm_eval *now = create(LM_EVAL_RULES_MLX_LM), *file = create(LM_EVAL_RULES_LM_EVAL),
            *seed = create(LM_EVAL_RULES_SEED);
    size_t padded = 0, differ = 0;
    for (size_t i = 0; i < now->n_requests; i++) {
        json_t *options = json_object_get(json_array_get(seed->tasks[0].docs, i), "options"), *option;
        size_t k, spaces = 0;
        json_array_foreach(options, k, option) {
            const char *text = json_string_value(option);
            size_t n = json_string_length(option), whole = n;
            lm_ev_strip(&text, &n);
            spaces += whole - n;
        }
        lm_eval_request a, b, c;
        assert_int_equal(lm_eval_get_request(now, i, &a, NULL), LM_OK);
        assert_int_equal(lm_eval_get_request(file, i, &b, NULL), LM_OK);
        assert_int_equal(lm_eval_get_request(seed, i, &c, NULL), LM_OK);
        assert_string_equal(a.prompt, b.prompt);
        padded += spaces > 0;
        differ += c.prompt_length != a.prompt_length;
        if (strncmp(c.prompt, a.prompt, 200) == 0 && c.prompt_length < a.prompt_length + spaces)
            fail_msg("question %zu: expected %zu more characters", i, spaces);
        lm_free(a.prompt);
        lm_free(b.prompt);
        lm_free(c.prompt);
    }
    print_message("%zu of %zu questions have padded options\n", padded, now->n_requests);
    assert_int_equal(padded, 194);
    assert_int_equal(differ, 194);
    lm_eval_destroy(now);
    lm_eval_destroy(file);
    lm_eval_destroy(seed);
}

static void test_settings(void **state) {
    (void)state;
    static const char *const names[] = {"eval_m_0.4.13_mmlu_pro_chemistry",
                                        "eval_m_0.4.13_mmlu_pro_chemistry_rules-lm-eval",
                                        "eval_m_0.4.13_mmlu_pro_chemistry_rules-seed"};
    for (int i = 0; i < 3; i++) {
        lm_eval *eval = create((lm_eval_rules)i);
        char *name = NULL, *report = NULL;
        assert_int_equal(lm_eval_file_name(eval, "m", &name, NULL), LM_OK);
        assert_string_equal(name, names[i]);
        lm_ev_family other = *eval->tasks[0].task->family;
        lm_ev_task task = {.name = "x", .family = &other};
        assert_int_equal(lm_ev_token_cap(eval, &task), 2048);
        other.max_gen_toks = 0;
        assert_int_equal(lm_ev_token_cap(eval, &task), i == LM_EVAL_RULES_SEED ? 8912 : 8192);
        assert_int_equal(lm_eval_set_answer(eval, "mmlu_pro_chemistry", 0, "x", 1, NULL), LM_OK);
        assert_int_equal(lm_eval_render(eval, LM_EVAL_TEXT_REPORT, &report, NULL, NULL), LM_OK);
        assert_non_null(strstr(report, lm_eval_rules_name((lm_eval_rules)i)));
        lm_free(name);
        lm_free(report);
        lm_eval_destroy(eval);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_options), cmocka_unit_test(test_settings)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
