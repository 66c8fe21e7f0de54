/* SPDX-License-Identifier: MIT
 * eval.c: the life of an evaluation: options to state, answers from outside, clean-up. */
#include "internal.h"
#include <stdlib.h>
#include <string.h>

#define LM_EVAL_VERSION "0.4.13"
#define MAX_NAMES 1000
#define MAX_REPEATS 1000
#define MAX_TOKENS (1 << 24) /* generated tokens a question */

const char *lm_version_lm_eval(void) {
    return LM_EVAL_VERSION;
}

const char *lm_eval_rules_name(lm_eval_rules rules) {
    return rules == LM_EVAL_RULES_SEED ? "seed" : rules == LM_EVAL_RULES_LM_EVAL ? "lm-eval" : "mlx-lm";
}

lm_eval_options lm_eval_options_default(void) {
    return (lm_eval_options){.limit = -1};
}

/* Template variables: the caller's object, enable_thinking as mlx-lm sets it, and none of those that lm-eval owns. */
static lm_status read_template_args(lm_eval *eval, const char *text, lm_error *err) {
    json_error_t json_err;
    eval->template_args = json_loads(text ? text : "{}", JSON_REJECT_DUPLICATES, &json_err);
    if (!eval->template_args) return lm_ev_fail(err, LM_ARG, "--chat-template-args: %s", json_err.text);
    if (!json_is_object(eval->template_args))
        return lm_ev_fail(err, LM_ARG, "--chat-template-args: expected a JSON object, found another type");
    static const char *const owned[] = {"messages", "conversation", "tokenize", "add_generation_prompt",
                                        "continue_final_message"};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        if (json_object_get(eval->template_args, owned[i]))
            return lm_ev_fail(err, LM_ARG, "--chat-template-args: '%s' is set by the evaluation itself", owned[i]);
    const char *start = NULL, *end = NULL;
    if (eval->tokenizer) lm_tokenizer_think_tokens(eval->tokenizer, &start, &end);
    if (eval->rules != LM_EVAL_RULES_LM_EVAL && !json_object_get(eval->template_args, "enable_thinking") &&
        json_object_set_new(eval->template_args, "enable_thinking", json_boolean(end != NULL)) != 0)
        return lm_ev_fail(err, LM_NOMEM, "out of memory for the template's variables");
    return LM_OK;
}

static lm_status choose_template(lm_eval *eval, lm_eval_template wanted, lm_error *err) {
    bool has = eval->tokenizer && lm_tokenizer_chat_template(eval->tokenizer) != NULL;
    if (wanted == LM_EVAL_TEMPLATE_ON && !has)
        return lm_ev_fail(err, LM_ARG, "--apply-chat-template: this tokenizer has no chat template");
    bool by_itself = has && eval->rules != LM_EVAL_RULES_LM_EVAL;
    eval->chat = wanted == LM_EVAL_TEMPLATE_AUTO ? by_itself : wanted == LM_EVAL_TEMPLATE_ON;
    return LM_OK;
}

static lm_status copy_names(lm_eval *eval, const lm_eval_options *options, lm_error *err) {
    if (options->n_tasks == 0 || options->n_tasks > MAX_NAMES)
        return lm_ev_fail(err, LM_ARG, "--tasks: expected 1 to %d names, found %zu", MAX_NAMES, options->n_tasks);
    eval->names = calloc(options->n_tasks, sizeof *eval->names);
    if (!eval->names) return lm_ev_fail(err, LM_NOMEM, "out of memory for the names of tasks");
    for (; eval->n_names < options->n_tasks; eval->n_names++) {
        const char *name = options->tasks[eval->n_names];
        if (!(eval->names[eval->n_names] = lm_ev_copy(name, strlen(name))))
            return lm_ev_fail(err, LM_NOMEM, "out of memory for the names of tasks");
    }
    if (options->data_dir && !(eval->data_dir = lm_ev_copy(options->data_dir, strlen(options->data_dir))))
        return lm_ev_fail(err, LM_NOMEM, "out of memory for the name of the data folder");
    return LM_OK;
}

static lm_status fill(lm_eval *eval, const lm_eval_options *options, lm_error *err) {
    EV_TRY(copy_names(eval, options, err));
    EV_TRY(choose_template(eval, options->chat_template, err));
    EV_TRY(read_template_args(eval, options->chat_template_args, err));
    EV_TRY(lm_ev_resolve(eval, err));
    EV_TRY(lm_ev_load(eval, err));
    eval->answers = calloc(eval->n_requests * eval->repeats, sizeof *eval->answers);
    if (!eval->answers) return lm_ev_fail(err, LM_NOMEM, "out of memory for the answers");
    return LM_OK;
}

lm_status lm_eval_create(const lm_tokenizer *tokenizer, const lm_eval_options *options, lm_eval **out, lm_error *err) {
    *out = NULL;
    if (options->limit < -1)
        return lm_ev_fail(err, LM_ARG, "--limit: expected 0 or more, found %lld", (long long)options->limit);
    if (options->max_tokens < 0 || options->max_tokens > MAX_TOKENS)
        return lm_ev_fail(err, LM_ARG, "--max-tokens: expected 1 to %d, found %lld", MAX_TOKENS,
                          (long long)options->max_tokens);
    if (options->rules == LM_EVAL_RULES_SEED && options->max_tokens)
        return lm_ev_fail(err, LM_ARG, "--max-tokens: under --rules seed the task's own cap holds");
    if (options->repeats < 0 || options->repeats > MAX_REPEATS)
        return lm_ev_fail(err, LM_ARG, "--repeats: expected 1 to %d, found %lld", MAX_REPEATS,
                          (long long)options->repeats);
    lm_eval *eval = calloc(1, sizeof *eval);
    if (!eval) return lm_ev_fail(err, LM_NOMEM, "out of memory for the evaluation");
    eval->tokenizer = tokenizer;
    eval->rules = options->rules;
    eval->repeats = options->repeats > 0 ? (size_t)options->repeats : 1;
    eval->multiturn = options->fewshot_as_multiturn;
    eval->has_num_shots = options->has_num_shots;
    eval->num_shots = options->num_shots;
    eval->limit = options->limit;
    eval->max_tokens = options->max_tokens;
    lm_status status = fill(eval, options, err);
    if (status != LM_OK) {
        lm_eval_destroy(eval);
        return status;
    }
    *out = eval;
    return LM_OK;
}

void lm_eval_destroy(lm_eval *eval) {
    if (!eval) return;
    for (size_t i = 0; eval->answers && i < eval->n_requests * eval->repeats; i++) {
        free(eval->answers[i].text);
        free(eval->answers[i].filtered);
        free(eval->answers[i].ids);
    }
    for (size_t i = 0; i < eval->n_tasks; i++) {
        json_decref(eval->tasks[i].docs);
        json_decref(eval->tasks[i].fewshot);
    }
    for (size_t i = 0; i < eval->n_names; i++) free(eval->names[i]);
    json_decref(eval->template_args);
    free(eval->answers);
    free(eval->tasks);
    free(eval->groups);
    free(eval->names);
    free(eval->data_dir);
    free(eval->note);
    free(eval->engine_text);
    free(eval);
}

void lm_eval_get_info(const lm_eval *eval, lm_eval_info *info) {
    *info = (lm_eval_info){
        .n_tasks = eval->n_tasks,
        .n_requests = eval->n_requests,
        .repeats = eval->repeats,
        .n_answered = eval->n_answered,
        .chat_template = eval->chat,
        .data_source = eval->data_dir ? eval->data_dir : "embedded",
        .data_note = eval->note,
        .test_sha256 = eval->sha256[0],
        .validation_sha256 = eval->sha256[1],
        .n_test = eval->n_rows[0],
        .n_validation = eval->n_rows[1],
    };
}

const char *lm_eval_task_name(const lm_eval *eval, size_t index) {
    return index < eval->n_tasks ? eval->tasks[index].task->name : NULL;
}

/* ---- answers from outside */

/* Finds the request of (task, doc_id). LM_OK with *skip where it isn't selected (task, limit). */
static lm_status find_request(const lm_eval *eval, const char *task, int64_t doc_id, size_t *request, bool *skip,
                              lm_error *err) {
    *skip = false;
    for (size_t i = 0; i < eval->n_tasks; i++) {
        const lm_ev_run_task *run = &eval->tasks[i];
        if (strcmp(run->task->name, task) != 0) continue;
        if (doc_id < 0 || doc_id >= run->n_docs_total)
            return lm_ev_fail(err, LM_ARG, "doc_id %lld: %s has documents 0 to %lld", (long long)doc_id, task,
                              (long long)run->n_docs_total - 1);
        *skip = doc_id >= (int64_t)run->count;
        *request = run->first + (size_t)doc_id;
        return LM_OK;
    }
    for (size_t i = 0; i < lm_ev_n_tasks; i++)
        if (strcmp(lm_ev_tasks[i].name, task) == 0) {
            *skip = true; /* a task of ours that wasn't asked for */
            return LM_OK;
        }
    return lm_ev_fail(err, LM_ARG, "task '%.200s' is not known here", task);
}

static lm_status set_answer(lm_eval *eval, const char *task, int64_t doc_id, int64_t repeat, const char *text,
                            size_t length, bool *skip, lm_error *err) {
    size_t request = 0;
    if (repeat < 0 || repeat >= (int64_t)eval->repeats)
        return lm_ev_fail(err, LM_ARG, "repeat %lld: expected 0 to %zu", (long long)repeat, eval->repeats - 1);
    EV_TRY(find_request(eval, task, doc_id, &request, skip, err));
    if (*skip) return LM_OK;
    request = request * eval->repeats + (size_t)repeat;
    if (eval->answers[request].answered)
        return lm_ev_fail(err, LM_ARG, "%s doc_id %lld is answered twice", task, (long long)doc_id);
    char *copy = lm_ev_copy(text, length);
    if (!copy) return lm_ev_fail(err, LM_NOMEM, "out of memory for an answer");
    return lm_ev_store(eval, request, copy, length, NULL, 0, 0, "given", err);
}

lm_status lm_eval_set_answer(lm_eval *eval, const char *task, int64_t doc_id, const char *text, size_t length,
                             lm_error *err) {
    bool skip;
    return set_answer(eval, task, doc_id, 0, text, length, &skip, err);
}

typedef struct answers_reader {
    lm_eval *eval;
    size_t skipped;
} answers_reader;

static lm_status read_answer(void *user, const json_t *row, lm_error *err) {
    answers_reader *r = user;
    bool skip = false;
    const json_t *task = json_object_get(row, "task"), *doc_id = json_object_get(row, "doc_id"),
                 *completion = json_object_get(row, "completion"), *repeat = json_object_get(row, "repeat");
    if (!json_is_object(row)) return lm_ev_fail(err, LM_FORMAT, "expected a JSON object");
    if (!json_is_string(task)) return lm_ev_fail(err, LM_FORMAT, "task: expected a string");
    if (!json_is_integer(doc_id)) return lm_ev_fail(err, LM_FORMAT, "doc_id: expected an integer");
    if (!json_is_string(completion)) return lm_ev_fail(err, LM_FORMAT, "completion: expected a string");
    if (repeat && !json_is_integer(repeat)) return lm_ev_fail(err, LM_FORMAT, "repeat: expected an integer");
    EV_TRY(set_answer(r->eval, json_string_value(task), json_integer_value(doc_id), json_integer_value(repeat),
                      json_string_value(completion), json_string_length(completion), &skip, err));
    r->skipped += skip;
    return LM_OK;
}

lm_status lm_eval_read_answers(lm_eval *eval, const char *name, const char *text, size_t length, size_t *n_skipped,
                               lm_error *err) {
    answers_reader r = {.eval = eval};
    EV_TRY(lm_ev_each_row(name, text, length, read_answer, &r, err));
    if (n_skipped) *n_skipped = r.skipped;
    return LM_OK;
}
