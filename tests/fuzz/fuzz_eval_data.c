/* SPDX-License-Identifier: MIT
 * fuzz_eval_data.c: question rows (--data) and answers (--answers) of an evaluation. The first byte chooses: questions,
 * whose prompts are then built, or answers, which are then scored. */
#include "eval/internal.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static lm_eval *create(void) {
    static const char *const tasks[] = {"mmlu_pro_law"};
    lm_eval_options options = lm_eval_options_default();
    options.tasks = tasks;
    options.n_tasks = 1;
    options.limit = 4;
    lm_eval *eval = NULL;
    if (lm_eval_create(NULL, &options, &eval, NULL) != LM_OK) abort();
    return eval;
}

static void try_rows(lm_eval *eval, const char *text, size_t size, lm_error *err) {
    lm_ev_run_task *run = &eval->tasks[0];
    json_t *docs = run->docs;
    run->docs = json_array();
    if (!run->docs) abort();
    if (lm_ev_parse(eval, false, "fuzz", text, size, err) != LM_OK && strchr(err->message, '\n')) abort();
    for (size_t i = 0; i < json_array_size(run->docs); i++) {
        char *prompt = NULL;
        size_t n = 0;
        if (lm_ev_prompt(eval, run, i, &prompt, &n, err) == LM_OK && strlen(prompt) != n) abort();
        free(prompt);
    }
    json_decref(run->docs);
    run->docs = docs;
}

static void try_answers(lm_eval *eval, const char *text, size_t size, lm_error *err) {
    if (lm_eval_read_answers(eval, "fuzz", text, size, NULL, err) != LM_OK && strchr(err->message, '\n')) abort();
    char *out = NULL;
    if (lm_eval_render(eval, LM_EVAL_TEXT_REPORT, &out, NULL, err) == LM_OK) lm_free(out);
    for (size_t i = 0; i < eval->n_requests; i++) { /* ready for the next input */
        free(eval->answers[i].text);
        free(eval->answers[i].filtered);
        eval->answers[i] = (lm_ev_answer){0};
    }
    eval->n_answered = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static lm_eval *eval; /* kept: loading the embedded questions is the slow part */
    if (!eval) eval = create();
    if (size == 0) return 0;
    lm_error err = {LM_OK, ""};
    if (data[0] == 'A')
        try_answers(eval, (const char *)data + 1, size - 1, &err);
    else
        try_rows(eval, (const char *)data + 1, size - 1, &err);
    return 0;
}
